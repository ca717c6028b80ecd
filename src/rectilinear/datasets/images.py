"""Labelled images of one split, from folders and from arrays of any common layout; masks."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, pad

from rectilinear.checks import check_finite
from rectilinear.datasets.label_file import read_labels
from rectilinear.datasets.near_copies import near_copies
from rectilinear.datasets.read_image import (
    all_read,
    image_files,
    is_grey,
    read_image,
    warn_of_loss,
)
from rectilinear.errors import ConfigError, DataError, DtypeError, ShapeError
from rectilinear.notebook import short_repr


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images of one split; unpacks as ``images, labels``.

    Attributes:
        images: float32 ``(n, c, h, w)`` in ``[0, 1]``.
        labels: int64 ``(n,)``, indices into ``classes``.
        classes: the name of each class.
        name: the name of the data set.

    Example:
        >>> import torch
        >>> data = Images(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), ("a", "b"), "two")
        >>> images, labels = data
        >>> images.shape, labels.tolist()
        (torch.Size([2, 1, 8, 8]), [0, 1])
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str

    __repr__ = short_repr

    @property
    def shape(self) -> tuple[int, ...]:
        """``(c, h, w)`` of one image."""
        return tuple(self.images.shape[1:])

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Tensor]:
        yield self.images
        yield self.labels


def fit(images: Tensor, size: int | None) -> Tensor:
    """Square images ``(n, c, s, s)``: padded with zeros, or shrunk by antialiased interpolation.

    A border keeps every pixel as it is, where interpolation would make neighbours linearly
    dependent.

    Raises:
        ConfigError: if ``size`` is not positive.

    Example:
        >>> import torch
        >>> fit(torch.ones(1, 1, 28, 28), 32).sum().item() == 28 * 28
        True
    """
    check_size(size)
    side = images.shape[-1]
    if size is None or size == side:
        return images
    if size < side:
        return interpolate(images, size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)
    before = (size - side) // 2
    after = size - side - before
    return pad(images, (before, after, before, after))


def check_size(size: int | None) -> None:
    """Raise ConfigError unless ``size`` is None or positive."""
    if size is not None and size < 1:
        raise ConfigError(
            f"size = {size}",
            "a positive number of pixels",
            "Leave it out for the size of the files.",
        )


_ROUNDING = 1e-3  # how far outside [0, 1] a value may be


def images_from_array(array: Tensor, shape: tuple[int, int, int], name: str = "images") -> Tensor:
    """The array as float32 images ``(n, c, h, w)`` in ``[0, 1]`` of the ``shape`` ``(c, h, w)``.

    Bytes are divided by 255; other numbers must lie in ``[0, 1]`` already. Layouts are ``(n, c, h,
    w)`` or ``(n, h, w, c)``, for one channel ``(n, h, w)``, and a single image without its first
    axis. Where an array fits two of them, channels come first.

    Raises:
        ShapeError: for another shape, or no image.
        DtypeError: for whole numbers that are no bytes, and for complex ones.
        NonFiniteError: for NaN or infinity.
        DataError: for values outside of ``[0, 1]``.

    Example:
        >>> array = torch.full((2, 4, 5, 3), 51, dtype=torch.uint8)
        >>> images_from_array(array, (3, 4, 5)).shape
        torch.Size([2, 3, 4, 5])
    """
    images = _unit_range(_channels_first(array, shape, name), name)
    if not len(images):
        raise ShapeError(
            f"{name} of shape {tuple(array.shape)}",
            "at least one image",
            "Pass an array that is not empty.",
        )
    return images


def mask_from_array(
    array: Tensor, shape: tuple[int, int, int, int], name: str = "the mask"
) -> Tensor:
    """A boolean mask of images of ``shape`` ``(n, c, h, w)``: True where the array is not 0.

    Layouts are ``(h, w)`` for all images, ``(n, h, w)`` for each of them, and ``(n or 1, c or 1, h,
    w)``.

    Raises:
        ShapeError: for another shape.
        NonFiniteError: for NaN or infinity.
        DataError: if an image has no observed pixel.

    Example:
        >>> mask_from_array(torch.eye(2), (3, 1, 2, 2)).sum().item()
        6
    """
    n, c, h, w = shape
    layouts = {
        2: ((h, w),),
        3: ((n, h, w), (1, h, w)),
        4: tuple((i, j, h, w) for i in (n, 1) for j in (c, 1)),
    }
    if tuple(array.shape) not in layouts.get(array.ndim, ()):
        raise ShapeError(
            f"a mask of shape {tuple(array.shape)}",
            f"({h}, {w}), or one for each of {n}",
            "Resize the mask.",
        )
    check_finite(array, name)
    observed = (array != 0).reshape(array.shape if array.ndim == 4 else (-1, 1, h, w)).expand(shape)
    if not bool(observed.flatten(1).any(1).all()):
        raise DataError(
            f"{name}, by which no pixel is observed",
            "a mask that is not 0 where pixels are observed",
        )
    return observed


def _channels_first(array: Tensor, shape: tuple[int, int, int], name: str) -> Tensor:
    c, h, w = shape
    if tuple(array.shape[-3:]) == shape and array.ndim in (3, 4):
        return array.reshape(-1, *shape)
    if c == 1 and tuple(array.shape[-2:]) == (h, w) and array.ndim in (2, 3):
        return array.reshape(-1, *shape)
    if tuple(array.shape[-3:]) == (h, w, c) and array.ndim in (3, 4):
        return array.reshape(-1, h, w, c).permute(0, 3, 1, 2)
    grey = f" or (n, {h}, {w})" if c == 1 else ""
    raise ShapeError(
        got=f"{name} of shape {tuple(array.shape)}",
        expected=f"(n, {c}, {h}, {w}) or (n, {h}, {w}, {c}){grey}",
        fix="Resize the images; grey ones are repeated for three channels with numpy.repeat.",
    )


def _unit_range(images: Tensor, name: str) -> Tensor:
    if images.dtype == torch.uint8:
        return images.float() / 255
    if images.dtype == torch.bool:
        return images.float()
    if not images.is_floating_point():
        raise DtypeError(
            f"{name} of dtype {images.dtype}",
            "bytes (uint8) from 0 to 255, or floats from 0 to 1",
            "Convert them with .astype(numpy.uint8) or divide by their range.",
        )
    check_finite(images, name)
    images = images.double() if images.dtype == torch.float64 else images.float()
    low, high = (images.min().item(), images.max().item()) if images.numel() else (0.0, 0.0)
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise DataError(
            got=f"{name} with values from {low:.4g} to {high:.4g}",
            expected="floats from 0 to 1, or bytes (uint8) from 0 to 255",
            fix="Scale them to [0, 1]; where noise leads outside, clip them.",
        )
    return images.clamp(0, 1).float()


_MEASURED = 100  # images whose size is read to choose one for all
TEST_EVERY = 10  # of the images in a folder without splits, one in so many is for testing
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
"""The split that a sub-folder of this name holds, in lower case."""


def folder(
    root: Path,
    split: Literal["train", "test"],
    size: int | None = None,
    labels: Path | None = None,
) -> Images:
    """The labelled images under ``root``, grey if all of them are, else RGB.

    Each is read by :func:`~.read_image.read_image`. A sub-folder is a class. If ``root`` has
    sub-folders "train" and "test" (or "training" and "testing", in letters of any case), these are
    the splits; otherwise every tenth image in order of name, from the first, is for testing, and
    files of the same bytes, and images that are nearly the same, are in the same split, unless
    all are such. A single file is one image, in either split.

    Args:
        root: the folder; hidden files and other kinds of file are passed over.
        split: ``"train"`` or ``"test"``.
        size: images are scaled so that the shorter side has ``size`` pixels, and cropped at the
            centre. Without it all must have the same size.
        labels: table of the class of each file, instead of sub-folders; see
            :func:`~.label_file.read_labels`.

    Raises:
        DataError: if there is no image, one cannot be read, a split has none, sizes differ, also
            between the splits, and no ``size`` is given, or labels do not fit the files.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for i in range(11):
        ...     Image.new("RGB", (20, 16), (20 * i, 0, 0)).save(root / f"{i:02}.png")
        >>> folder(root, "train", size=8).images.shape, len(folder(root, "test", size=8))
        (torch.Size([9, 3, 8, 8]), 2)
    """
    check_size(size)
    files = split_files(root)
    chosen, every = _of(split, files, root), [file for part in files.values() for file in part]
    if labels is None:
        classes = {file: _class(file, root) for file in every}
    else:
        classes = read_labels(labels, every, root)
    names = tuple(sorted(set(classes.values())))
    images = read_images(
        chosen, None if size is None else (size, size), grey=all(all_read(every, is_grey))
    )
    if size is None:
        for other in files.values():
            _check_shape(read_image(other[0], grey=True), images.shape[2:], other[0])
    return Images(
        images, torch.tensor([names.index(classes[file]) for file in chosen]), names, _name(root)
    )


def usual_side(root: Path, most: int) -> int:
    """The median of the shorter sides of the images under ``root``, even, from 2 to ``most``.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for i, side in enumerate((16, 17, 17)):
        ...     Image.new("L", (20, side)).save(root / f"{i}.png")
        >>> usual_side(root, 64)
        16
    """
    files = image_files(root)
    some = files[:: -(-len(files) // _MEASURED)]
    sides = sorted(all_read(some, lambda file: min(read_image(file, grey=True).shape[:2])))
    side = min(most, sides[len(sides) // 2])
    return max(2, side - side % 2)


def split_files(root: Path) -> dict[str, list[Path]]:
    """The image files of each split of a folder; see :func:`folder`.

    Raises:
        DataError: if there is no image.
    """
    if root.is_file():
        return {"train": [root], "test": [root]}
    if own := _split_folders(root):
        return {split: image_files(path) for split, path in own.items()}
    files = image_files(root)
    copies = _distinct(files)
    leading = near_copies([same[0] for same in copies])
    by_first = {same[0]: same for same in copies}
    distinct = [[file for first in group for file in by_first[first]] for group in leading]
    if len(distinct) == 1:
        distinct = copies if len(copies) > 1 else [[file] for file in files]
    found: dict[str, list[Path]] = {"train": [], "test": []}
    for i, group in enumerate(distinct):
        found["train" if i % TEST_EVERY else "test"] += group
    return {split: sorted(paths) for split, paths in found.items() if paths}


def read_images(
    paths: Sequence[Path], size: tuple[int, int] | None = None, *, grey: bool | None = None
) -> Tensor:
    """The images in files, ``(n, c, h, w)`` in ``[0, 1]``; see :func:`~.read_image.read_image`.

    Args:
        paths: the files, at least one.
        size: height and width; without it all must have the same.
        grey: one channel, or three; one where all files are grey if None.

    Raises:
        DataError: if one cannot be read, or sizes differ and no ``size`` is given.
    """
    grey = all(all_read(paths, is_grey)) if grey is None else grey
    images = all_read(paths, lambda path: read_image(path, grey=grey, size=size))
    warn_of_loss(paths)
    for path, image in zip(paths, images, strict=True):
        _check_shape(image, images[0].shape, path)
    pixels = np.stack(images)
    del images  # floats follow, four times as many bytes
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255


def _check_shape(image: NDArray[np.uint8], shape: Sequence[int], path: Path) -> None:
    """Raise DataError unless the image has this height and width."""
    h, w = shape[:2]
    if image.shape[:2] != (h, w):
        raise DataError(
            got=f"{path} of {image.shape[1]} x {image.shape[0]} pixels",
            expected=f"{w} x {h}, as other images",
            fix="Name a size (size=64, on the command line --set size=64), and all are scaled and "
            "cropped to it.",
        )


def _split_folders(root: Path) -> dict[str, Path]:
    """The sub-folders that are splits."""
    own: dict[str, Path] = {}
    for path in sorted(path for path in root.iterdir() if path.is_dir()):
        split = SPLITS.get(path.name.lower())
        if split in own:
            raise DataError(
                f"two folders {own[split]} and {path}",
                "one folder for each split",
                "Move or rename one of them.",
            )
        if split is not None:
            own[split] = path
    return own


def _of(split: str, files: dict[str, list[Path]], root: Path) -> list[Path]:
    """The files of a split, or a DataError that there is none."""
    if split in files:
        return files[split]
    if own := _split_folders(root):
        ((_, there),) = own.items()
        raise DataError(
            got=f"a folder '{there.name}' and none '{split}' in {root}",
            expected="both, or neither: then every tenth image is for testing",
            fix=f"Add the folder, or name {there} itself.",
        )
    raise DataError(
        got=f"1 image in {root}, which is for testing",
        expected="two or more: every tenth, from the first, is for testing",
        fix="Add images.",
    )


def _distinct(files: Sequence[Path]) -> list[list[Path]]:
    """The files in lists of those that hold the same bytes, in order of the first of each list."""
    sizes: dict[int, list[Path]] = defaultdict(list)
    for file in files:
        if file.is_file():  # a link may lead nowhere
            sizes[file.stat().st_size].append(file)
    alike = {file for same in sizes.values() if len(same) > 1 for file in same}
    found: dict[object, list[Path]] = defaultdict(list)
    for file in files:
        found[hashlib.sha256(file.read_bytes()).digest() if file in alike else file].append(file)
    return list(found.values())


def _class(file: Path, root: Path) -> str:
    """The sub-folder of ``root``, or of its split, that a file is in, else the name of ``root``."""
    parts = file.relative_to(root).parts if file != root else ()
    if len(parts) > 1 and parts[0].lower() in SPLITS:
        parts = parts[1:]
    return parts[0] if len(parts) > 1 else _name(root)


def _name(root: Path) -> str:
    return root.resolve().stem if root.is_file() else root.resolve().name
