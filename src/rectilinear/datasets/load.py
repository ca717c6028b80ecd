"""Image data sets by name or by path: ``load``, and sets made from installed packages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageFont
from torch import Tensor
from torch.nn.functional import interpolate

from rectilinear.datasets import mnist
from rectilinear.datasets.images import Images, check_size, fit, folder
from rectilinear.errors import ConfigError, DataError
from rectilinear.random import generator

NAMES = ("digits", "photos", *mnist.FAMILIES)
"""The data sets that have a name; all else is the path of an image or of a folder of images."""


def load(
    name: str | Path,
    split: Literal["train", "test"] = "train",
    data_dir: str | Path | None = None,
    size: int | None = None,
    labels: str | Path | None = None,
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
        labels: CSV file of the class of each image of a folder, instead of its sub-folders; see
            :func:`~.label_file.read_labels`.

    Returns:
        images float32 ``(n, c, h, w)`` in ``[0, 1]`` and labels int64 ``(n,)``, with ``classes``
        and ``name``.

    Raises:
        ConfigError: for another split, a size that is not positive, or labels of a named set.
        DataError: if files are missing, truncated, tampered with or unreadable.

    Example:
        >>> images, labels = load("digits", "test")
        >>> images.shape, images.max().item(), len(load("digits"))
        (torch.Size([297, 1, 8, 8]), 1.0, 1500)
    """
    if split not in ("train", "test"):
        raise ConfigError(f"split = {split!r}", "'train' or 'test'")
    if name == "":
        raise DataError(
            "data ''", f"one of {', '.join(NAMES)}, or a folder of images", "Give a name or a path."
        )
    root = data_root(data_dir)
    key = str(name).replace("-", "_")
    if key in NAMES and labels is not None:
        raise ConfigError(
            f"labels for '{name}'", "labels for a folder of images", "This set has its own."
        )
    if key == "digits":
        data = digits(split)
    elif key == "photos":
        return photos(split, size)
    elif key in mnist.FAMILIES:
        data = mnist.mnist(key, split, root)
    else:
        table = None if labels is None else Path(labels).expanduser()
        return folder(_existing(Path(name), root), split, size, table)
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


TRAIN_DIGITS = 1500  # the other 297 are for testing
_LOOK_LIKE_DIGITS = "BDGIJOQSZbgijloqsz"
FONT_FAMILIES = ("DejaVuSans", "DejaVuSerif", "STIXGeneral")
_OVERSAMPLING = 8  # letters are drawn so much larger, then averaged: the grey of a scan
LETTERS = tuple(
    c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in _LOOK_LIKE_DIGITS
)
TILE_PIXELS = 32  # side of a tile, where no size is given
COVERED_PIXELS = (64, 106)  # of the photograph, that the side of a tile may cover
CELL_PIXELS = 106  # side of the squares of which every fourth is for testing
STRIDES = {"train": 4, "test": 8}  # tiles move by one of so many parts of their side
PHOTOS = ("china", "flower")


def digits(split: Literal["train", "test"]) -> Images:
    """The 1,797 handwritten digits of scikit-learn, 8 x 8 pixels, split into 1,500 and 297.

    Reference: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository,
    1998.

    Example:
        >>> (digits("test").images * 16).frac().abs().max().item()
        0.0
    """
    from sklearn.datasets import load_digits  # takes a second to import

    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(pixels), generator=generator(0))
    chosen = order[:TRAIN_DIGITS] if split == "train" else order[TRAIN_DIGITS:]
    images = torch.as_tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return Images(
        images[chosen],
        torch.as_tensor(labels, dtype=torch.int64)[chosen],
        tuple("0123456789"),
        "digits",
    )


def letters(size: int = 8, fill: float = 1.0) -> Images:
    """Printed letters, white on black: in every face of the DejaVu and STIX fonts of matplotlib.

    Those that are easily taken for a digit, such as O, I and S, are left out.

    Args:
        size: side of the images in pixels.
        fill: share of it that the longer side of a letter takes: 1 for the digits of scikit-learn,
            0.72 for MNIST's.

    Raises:
        ConfigError: if the size is not positive, or the share not above 0 and up to 1.

    Example:
        >>> images, labels = letters(8)
        >>> images.shape[1:], len(images) == len(labels) > 400, images.max().item() > 0.7
        (torch.Size([1, 8, 8]), True, True)
    """
    import matplotlib as mpl
    from PIL import ImageFont

    check_size(size)
    if not 0 < fill <= 1:
        raise ConfigError(f"fill = {fill}", "above 0 and up to 1")
    fonts = sorted(Path(mpl.get_data_path(), "fonts", "ttf").glob("*.ttf"))
    faces = [
        path for path in fonts if path.stem.startswith(FONT_FAMILIES) and "Display" not in path.stem
    ]
    drawn = []
    for face in faces:
        font = ImageFont.truetype(str(face), _OVERSAMPLING * size)
        drawn += [
            _drawn(letter, font, size, round(fill * _OVERSAMPLING * size)) for letter in LETTERS
        ]
    images = torch.from_numpy(np.stack(drawn))[:, None]
    labels = torch.arange(len(LETTERS)).repeat(len(faces))
    return Images(images, labels, LETTERS, "letters")


def photos(split: Literal["train", "test"], size: int | None = None) -> Images:
    """Square tiles of two photographs, of a temple and of a flower, each 64 to 106 pixels wide.

    Of the 4 x 6 squares of 106 pixels that fill a photograph, six are for testing. The photographs
    are shrunk by whole factors; tiles for testing lie inside these squares, those for training
    share no pixel with them, and neighbours of a kind overlap.

    Args:
        split: ``"train"`` or ``"test"``.
        size: side of the tiles, 32 if not given.

    Reference: the photographs are by danielbuechele and vultilion, CC BY 2.0, as scikit-learn ships
    them.

    Example:
        >>> images, labels = photos("test")
        >>> images.shape[1:], float(images.min()) >= 0, float(images.max()) <= 1
        (torch.Size([3, 32, 32]), True, True)
    """
    from sklearn.datasets import load_sample_image  # takes a second to import

    check_size(size)
    side = size or TILE_PIXELS
    if not 4 <= side <= COVERED_PIXELS[1]:
        raise ConfigError(
            f"size = {side}", f"4 to {COVERED_PIXELS[1]} pixels for these photographs"
        )
    parts: list[Tensor] = []
    labels: list[int] = []
    for label, name in enumerate(PHOTOS):
        photo = (
            torch.from_numpy(load_sample_image(f"{name}.jpg").copy()).permute(2, 0, 1).float() / 255
        )
        for scale in range(-(-COVERED_PIXELS[0] // side), COVERED_PIXELS[1] // side + 1):
            h, w = photo.shape[1] // scale, photo.shape[2] // scale
            small = interpolate(photo[None, :, : h * scale, : w * scale], size=(h, w), mode="area")[
                0
            ]
            corners = _corners(split, h, w, side, scale)
            parts += [small[:, y : y + side, x : x + side] for y, x in corners.tolist()]
            labels += [label] * len(corners)
    return Images(torch.stack(parts), torch.tensor(labels), PHOTOS, "photos")


def _drawn(
    letter: str, font: ImageFont.FreeTypeFont, size: int, longest: int
) -> NDArray[np.float32]:
    """One letter in the middle, its longer side ``longest`` fine pixels, averaged to ``size``."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = (round(edge) for edge in font.getbbox(letter))
    ink = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(ink).text((-left, -top), letter, fill=255, font=font)
    scale = longest / max(ink.size)
    ink = ink.resize(
        (max(1, round(scale * ink.width)), max(1, round(scale * ink.height))),
        Image.Resampling.BILINEAR,
    )
    sheet = Image.new("L", (_OVERSAMPLING * size, _OVERSAMPLING * size))
    sheet.paste(ink, ((sheet.width - ink.width) // 2, (sheet.height - ink.height) // 2))
    return np.asarray(
        sheet.resize((size, size), Image.Resampling.BOX), dtype=np.float32
    ) / np.float32(255)


def _corners(split: str, height: int, width: int, side: int, scale: int) -> Tensor:
    """Upper left corners ``(n, 2)`` of the tiles in a photograph of ``height x width``."""
    stride = max(1, side // STRIDES[split])
    corners = torch.cartesian_prod(
        *(torch.arange(0, n - side + 1, stride) for n in (height, width))
    )
    cells = torch.cartesian_prod(*(torch.arange(n * scale // CELL_PIXELS) for n in (height, width)))
    held_out = CELL_PIXELS * cells[(2 * cells[:, 0] + cells[:, 1]) % 4 == 0]
    first, last = scale * corners[:, None], scale * (corners[:, None] + side)
    if split == "test":
        return corners[((first >= held_out) & (last <= held_out + CELL_PIXELS)).all(-1).any(-1)]
    return corners[~((first < held_out + CELL_PIXELS) & (last > held_out)).all(-1).any(-1)]
