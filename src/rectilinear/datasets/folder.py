"""Folders of images: classes, splits, and one shape for all."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rectilinear.datasets.images import Images, check_size
from rectilinear.datasets.read_image import image_files, is_grey, read_image
from rectilinear.errors import DataError

TEST_EVERY = 10  # of the images in a folder without splits, one in so many is for testing
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
"""The split that a sub-folder of this name holds, in lower case."""


def folder(root: Path, split: Literal["train", "test"], size: int | None = None) -> Images:
    """The labelled images under ``root``, grey if all of them are, else RGB.

    Each is read by :func:`~.read_image.read_image`. A sub-folder is a class. If ``root`` has
    sub-folders "train" and "test" (or "training" and "testing", in letters of any case), these are
    the splits; otherwise every tenth image in order of name, from the first, is for testing, and
    files of the same bytes are in the same split, unless all are such. A single file is one image,
    in either split.

    Args:
        root: the folder; hidden files and other kinds of file are passed over.
        split: ``"train"`` or ``"test"``.
        size: images are scaled so that the shorter side has ``size`` pixels, and cropped at the
            centre. Without it all must have the same size.

    Raises:
        DataError: if there is no image, one cannot be read, a split has none, or sizes differ, also
            between the splits, and no ``size`` is given.

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
    classes = {file: _class(file, root) for file in every}
    names = tuple(sorted(set(classes.values())))
    images = read_images(
        chosen, None if size is None else (size, size), grey=all(map(is_grey, every))
    )
    if size is None:
        for other in files.values():
            _check_shape(read_image(other[0], grey=True), images.shape[2:], other[0])
    return Images(
        images, torch.tensor([names.index(classes[file]) for file in chosen]), names, _name(root)
    )


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
    distinct = _distinct(files)
    if len(distinct) == 1:
        distinct = [[file] for file in files]
    found: dict[str, list[Path]] = {"train": [], "test": []}
    for i, copies in enumerate(distinct):
        found["train" if i % TEST_EVERY else "test"] += copies
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
    grey = all(map(is_grey, paths)) if grey is None else grey
    first = read_image(paths[0], grey=grey, size=size)
    pixels = np.empty((len(paths), *first.shape), dtype=np.uint8)
    for i, path in enumerate(paths):
        image = read_image(path, grey=grey, size=size) if i else first
        _check_shape(image, first.shape, path)
        pixels[i] = image
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
                f"two folders {own[split]} and {path}", "one for each split", "Take one elsewhere."
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
