"""Image data sets by name or by path: one function, ``load``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from rectilinear.datasets import mnist
from rectilinear.datasets.images import Images, fit, folder
from rectilinear.datasets.packaged import digits, photos
from rectilinear.errors import ConfigError, DataError

NAMES = ("digits", "photos", *mnist.FAMILIES)
"""The data sets that have a name; all else is the path of an image or of a folder of images."""


def load(
    name: str | Path,
    split: Literal["train", "test"] = "train",
    data_dir: str | Path | None = None,
    size: int | None = None,
) -> Images:
    """The images and labels of one split of ``name``.

    ``"digits"`` (8 x 8, 1,500 and 297 images) and ``"photos"`` (coloured tiles of two photographs,
    32 x 32 if no size is named) come with scikit-learn. ``"mnist"`` and ``"fashion_mnist"`` are
    read from IDX files, plain or ``.gz``, in the folder of that name under ``data_dir`` (default
    ``$RECTILINEAR_DATA``, then ``./data``) or in that folder itself, and their content is checked.
    Any other name is a folder of images, or one image.

    Args:
        name: one of :data:`NAMES`, or a folder or an image, absolute or under ``data_dir``.
        split: ``"train"`` or ``"test"``.
        data_dir: where the files lie.
        size: side of the square images. Named sets get a border of zeros (or shrink); images of a
            folder are scaled so that the shorter side fits, and cropped at the centre.

    Returns:
        images float32 ``(n, c, h, w)`` in ``[0, 1]`` and labels int64 ``(n,)``, with ``classes``
        and ``name``.

    Raises:
        ConfigError: for another split or a size that is not positive.
        DataError: if files are missing, truncated, tampered with or unreadable.

    Example:
        >>> images, labels = load("digits", "test")
        >>> images.shape, images.max().item(), len(load("digits"))
        (torch.Size([297, 1, 8, 8]), 1.0, 1500)
    """
    if split not in ("train", "test"):
        raise ConfigError(f"split = {split!r}", "'train' or 'test'", "Correct the split.")
    if name == "":
        raise DataError("data ''", f"one of {', '.join(NAMES)}, or a folder of images", "Name it.")
    root = data_root(data_dir)
    key = str(name).replace("-", "_")
    if key == "digits":
        data = digits(split)
    elif key == "photos":
        return photos(split, size)
    elif key in mnist.FAMILIES:
        data = mnist.mnist(key, split, root)
    else:
        return folder(_existing(Path(name), root), split, size)
    return Images(fit(data.images, size), data.labels, data.classes, data.name)


def data_root(data_dir: str | Path | None = None) -> Path:
    """The folder that holds data sets: ``data_dir``, else ``$RECTILINEAR_DATA``, else ``./data``.

    Example:
        >>> data_root("photographs").name
        'photographs'
    """
    return Path(data_dir or os.environ.get("RECTILINEAR_DATA") or "data").expanduser()


def located(name: str | Path, data_dir: str | Path | None = None) -> Path | None:
    """The absolute path of the image or folder ``name``; None for the name of a data set.

    Raises:
        DataError: if there is none.

    Example:
        >>> located("digits") is None, located(".").is_absolute()
        (True, True)
    """
    if str(name).replace("-", "_") in NAMES:
        return None
    return _existing(Path(name), data_root(data_dir)).absolute()


def _existing(path: Path, root: Path) -> Path:
    for candidate in (path.expanduser(), root / path):
        if candidate.is_dir() or candidate.is_file():
            return candidate
    raise DataError(
        got=f"no data set, folder or image '{path}'",
        expected=f"one of {', '.join(NAMES)}, or a folder of images",
        fix=f"Check the spelling; folders and images are looked for here and in {root}.",
    )
