"""A folder of images of any kind and size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from rectilinear.datasets.images import Images, check_size
from rectilinear.datasets.read_image import image_files, is_grey, list_images, read_image
from rectilinear.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

TEST_EVERY = 10


def folder(root: Path, split: Literal["train", "test"], size: int | None = None) -> Images:
    """The images under ``root``, grey if all of them are, else RGB; see :func:`~.read_image.read_image`.

    A sub-folder is a class. If ``root`` has sub-folders "train" and "test", these are the splits; otherwise every tenth
    image in order of name, from the first, is for testing. A single file is one image, in either split.

    Args:
        root: the folder; hidden files and other kinds of file are passed over.
        split: ``"train"`` or ``"test"``.
        size: images are scaled so that the shorter side has ``size`` pixels, and cropped at the centre. Without it
            all must have the same size.

    Raises:
        DataError: if there is no image, one cannot be read, one of the two splits lacks its sub-folder, or sizes
            differ and no ``size`` is given.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for i in range(11): Image.new("RGB", (20, 16), (255, 0, 0)).save(root / f"{i:02}.png")
        >>> folder(root, "train", size=8).images.shape, len(folder(root, "test", size=8))
        (torch.Size([9, 3, 8, 8]), 2)
    """
    check_size(size)
    files, classes = _split(root, split)
    names = tuple(sorted(set(classes.values())))
    images = read_images(files, None if size is None else (size, size))
    return Images(images, torch.tensor([names.index(classes[file]) for file in files]), names, _name(root))


def read_images(paths: Sequence[Path], size: tuple[int, int] | None = None, *, grey: bool | None = None) -> Tensor:
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
        if image.shape != first.shape:
            raise DataError(
                got=f"{path} of {image.shape[1]} x {image.shape[0]} pixels",
                expected=f"{first.shape[1]} x {first.shape[0]}, as the images before it",
                fix="Name a size, and all are scaled and cropped to it.",
            )
        pixels[i] = image
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255


def _split(root: Path, split: Literal["train", "test"]) -> tuple[list[Path], dict[Path, str]]:
    """The files of the split, and the class of each file of both."""
    if root.is_file():
        return [root], {root: _name(root)}
    own = {name: root / name for name in ("train", "test") if (root / name).is_dir()}
    if own and split not in own:
        (there,) = own
        raise DataError(
            got=f"a folder '{there}' and none '{split}' in {root}",
            expected="both, or neither: then every tenth image is for testing",
            fix=f"Add the folder, or name {own[there]} itself.",
        )
    if own:
        classes = {file: _class(file, path, root) for path in own.values() for file in list_images(path)}
        return image_files(own[split]), classes
    files = image_files(root)
    chosen = [file for i, file in enumerate(files) if (i % TEST_EVERY == 0) == (split == "test")]
    if not chosen:
        raise DataError(
            got=f"{len(files)} image in {root}, which is for testing",
            expected="two or more: every tenth, from the first, is for testing",
            fix="Add images.",
        )
    return chosen, {file: _class(file, root, root) for file in files}


def _class(file: Path, base: Path, root: Path) -> str:
    """The sub-folder of ``base`` that a file is in; the name of ``root`` where it is in none."""
    parts = file.relative_to(base).parts
    return parts[0] if len(parts) > 1 else _name(root)


def _name(root: Path) -> str:
    return root.resolve().stem if root.is_file() else root.resolve().name
