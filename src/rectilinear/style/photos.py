"""Photos for styles: read at one scale, painted by a teacher, or paired with paintings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rectilinear.datasets.images import split_files
from rectilinear.datasets.read_image import (
    all_read,
    image_files,
    is_grey,
    read_image,
    warn_of_loss,
)
from rectilinear.errors import ConfigError, DataError
from rectilinear.progress import Progress
from rectilinear.style.lessons import Lessons, check_bytes, to_bytes
from rectilinear.style.style_map import LEVELS
from rectilinear.style.teachers import Teacher

Split = Literal["train", "test"]
T = TypeVar("T")
SHORT_SIDE = 224
HELD_OUT = 0.25  # of the width of the two photographs that are built in


def read_photos(
    source: Path | str, split: Split = "train", side: int | None = SHORT_SIDE
) -> list[Tensor]:
    """The whole photos of one split, bytes ``(c, h, w)``, each of its own shape.

    Larger ones are scaled down until their shorter side has ``side`` pixels; nothing is cropped.

    Args:
        source: a folder or an image, split as :func:`rectilinear.datasets.load` does; or
            ``"photos"``, the two photographs of scikit-learn, of which the right quarter is for
            testing.
        split: ``"train"`` or ``"test"``.
        side: in pixels; the size of the files where None.

    Raises:
        ConfigError: if ``side`` is not positive.
        DataError: if there is no photo in the split, or one cannot be read.

    Example:
        >>> [tuple(photo.shape) for photo in read_photos("photos", "test", side=120)]
        [(3, 120, 45), (3, 120, 45)]
    """
    _check_side(side)
    if str(source) == "photos":
        return [_part(_scaled(image, side), split) for image in _built_in()]
    files = _of(Path(source), split)
    grey = all(all_read(files, is_grey))
    photos = all_read(files, lambda path: _scaled(read_image(path, grey=grey), side))
    warn_of_loss(files)
    return photos


def paint(
    photos: Sequence[Tensor], styles: Sequence[str], teach: Teacher, *, progress: bool = True
) -> Lessons:
    """The photos, each painted whole in each style by a teacher.

    Args:
        photos: bytes ``(c, h, w)``.
        styles: names that the teacher knows.
        teach: the teacher.
        progress: show how far it is, on standard error.

    Example:
        >>> from rectilinear.style import filtered
        >>> photos = read_photos("photos", side=64)
        >>> paint(photos, ["ink", "soft"], filtered, progress=False).styles
        ('ink', 'soft')
    """
    if len(set(styles)) != len(styles) or not styles:
        raise ConfigError(
            f"styles {', '.join(styles) or 'of no name'}",
            "different names, at least one",
            "Name each once.",
        )
    check_bytes(photos)
    paintings: dict[str, list[Tensor]] = {name: [] for name in styles}
    jobs = [(name, photo) for photo in photos for name in styles]
    with Progress("painting photos", len(jobs), shown=progress) as display:
        for name, photo in display.of(jobs):
            (painted,) = teach(photo[None].float() / LEVELS, {name: 1.0})
            paintings[name].append(to_bytes(painted))
    return Lessons(photos, paintings)


def pairs(
    photos: Path | str,
    paintings: dict[str, Path],
    split: Split | None = "train",
    side: int | None = SHORT_SIDE,
) -> Lessons:
    """Photos in a folder, and the same photos in each style in a folder of its own.

    Files of one name are one image, whatever their suffixes. Images keep their aspect; a painting
    is scaled to the size of its photo.

    Args:
        photos: the folder of the photos.
        paintings: the folder of each style by its name.
        split: ``"train"`` or ``"test"``, that of the photos; all of them where None.
        side: as for :func:`read_photos`.

    Example:
        >>> pairs("nowhere", {"ink": Path("there")})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rectilinear.errors.DataError: Got no folder nowhere; ...
    """
    _check_side(side)
    root = Path(photos)
    named = {folder: _by_name(folder) for folder in (root, *paintings.values())}
    for folder, files in named.items():
        if odd := sorted(files.keys() ^ named[root].keys()):
            raise DataError(
                f"'{odd[0]}', which is not in both {folder} and {root}",
                "the same names in the folder of every style",
                "Remove the images that have no partner.",
            )
    chosen = [
        _name(path, root) for path in (image_files(root) if split is None else _of(root, split))
    ]
    grey = all(is_grey(path) for files in named.values() for path in files.values())
    originals = [_scaled(read_image(named[root][name], grey=grey), side) for name in chosen]
    return Lessons(
        originals,
        {
            style: [
                _fitted(named[folder][name], photo, grey=grey)
                for name, photo in zip(chosen, originals, strict=True)
            ]
            for style, folder in paintings.items()
        },
    )


def _fitted(path: Path, photo: Tensor, *, grey: bool) -> Tensor:
    """The painting in a file at the size of its photo."""
    painting = read_image(path, grey=grey)
    (h, w), (height, width) = photo.shape[1:], painting.shape[:2]
    if abs(height * w / (h * width) - 1) > 0.02 + 1 / min(h, w, height, width):
        raise DataError(
            f"{path} of {width} x {height} pixels, a painting of a photo of {w} x {h}",
            "the aspect of its photo",
            "Crop it as the photo is.",
        )
    return _resized(painting, (w, h))


def _check_side(side: int | None) -> None:
    if side is not None and side < 1:
        raise ConfigError(f"size = {side}", "a positive number of pixels")


def _of(root: Path, split: Split) -> list[Path]:
    if not root.exists():
        raise DataError(f"no file or folder {root}", "a folder of photos")
    files = split_files(root)
    if not files.get(split):
        raise DataError(
            f"no photo for '{split}' in {root}", "two photos or more", "Add photos to the folder."
        )
    return files[split]


def _by_name(folder: Path) -> dict[str, Path]:
    """The images under a folder by their paths without suffixes."""
    if not folder.is_dir():
        raise DataError(f"no folder {folder}", "a folder of images for each style")
    found: dict[str, Path] = {}
    for path in image_files(folder):
        if (name := _name(path, folder)) in found:
            raise DataError(
                f"{found[name]} and {path}",
                "one image of a name",
                "Remove or rename one of them.",
            )
        found[name] = path
    return found


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _scaled(pixels: np.ndarray, side: int | None) -> Tensor:
    """Pixels ``(h, w, c)`` as bytes ``(c, h, w)``, scaled down to a shorter side of ``side``."""
    h, w = pixels.shape[:2]
    scale = 1.0 if side is None else min(1.0, side / min(h, w))
    return _resized(pixels, (max(1, round(w * scale)), max(1, round(h * scale))))


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> Tensor:
    if (pixels.shape[1], pixels.shape[0]) != size:
        image = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[..., 0])
        pixels = np.atleast_3d(np.asarray(image.resize(size, Image.Resampling.LANCZOS)))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()


def _built_in() -> list[np.ndarray]:
    """The photographs of a temple and of a flower that come with scikit-learn (CC BY 2.0)."""
    from sklearn.datasets import load_sample_image  # takes a second to import

    return [load_sample_image(f"{name}.jpg") for name in ("china", "flower")]


def _part(photo: Tensor, split: Split) -> Tensor:
    cut = photo.shape[2] - round(HELD_OUT * photo.shape[2])
    return photo[:, :, :cut] if split == "train" else photo[:, :, cut:]
