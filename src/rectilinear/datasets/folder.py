"""A folder of pictures of any kind and size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from PIL import Image, ImageOps

from rectilinear.datasets.images import Images, check_size
from rectilinear.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

EXTENSIONS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L"}
TEST_EVERY = 10
# what Pillow raises for files that are not, or no longer, pictures
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def folder(root: Path, split: Literal["train", "test"], size: int | None = None) -> Images:
    """The pictures under ``root``, grey if all of them are, else RGB; transparency lies on white.

    A subfolder is a class. If ``root`` has a subfolder of the split's name, that is the split; otherwise every tenth
    picture in order of name, from the first, is for testing.

    Args:
        root: the folder; hidden files and other kinds of file are passed over.
        split: ``"train"`` or ``"test"``.
        size: pictures are scaled so that the shorter side has ``size`` pixels, and cropped at the centre. Without it
            all must have the same size.

    Raises:
        DataError: if there is no picture, one cannot be read, or sizes differ and no ``size`` is given.

    Example:
        >>> import pathlib, tempfile
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for i in range(11): Image.new("RGB", (20, 16), (255, 0, 0)).save(root / f"{i:02}.png")
        >>> folder(root, "train", size=8).images.shape, len(folder(root, "test", size=8))
        (torch.Size([9, 3, 8, 8]), 2)
    """
    check_size(size)
    own = root / split
    root, ready = (own, True) if own.is_dir() else (root, False)
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in EXTENSIONS and not _hidden(p, root))
    if not ready:
        paths = [p for i, p in enumerate(paths) if (i % TEST_EVERY == 0) == (split == "test")]
    if not paths:
        raise DataError(
            got=f"no picture for {split} in {root}",
            expected=f"files that end in {', '.join(sorted(EXTENSIONS))}",
            fix="Check the folder; without subfolders train and test, every tenth picture is for testing.",
        )
    grey = all(_mode(path) in GREY_MODES for path in paths)
    first = _read(paths[0], grey, size)
    pixels = np.empty((len(paths), *first.shape), dtype=np.uint8)
    for i, path in enumerate(paths):
        picture = _read(path, grey, size)
        if picture.shape != first.shape:
            raise DataError(
                got=f"{path} of {picture.shape[1]} x {picture.shape[0]} pixels",
                expected=f"{first.shape[1]} x {first.shape[0]}, as the pictures before it",
                fix="Name a size, and all are scaled and cropped to it.",
            )
        pixels[i] = picture
    names = [p.relative_to(root).parts for p in paths]
    kinds = [parts[0] if len(parts) > 1 else root.name for parts in names]
    classes = tuple(sorted(set(kinds)))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255
    return Images(images, torch.tensor([classes.index(kind) for kind in kinds]), classes, root.name)


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _mode(path: Path) -> str:
    try:
        with Image.open(path) as picture:
            return picture.mode
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _read(path: Path, grey: bool, size: int | None) -> np.ndarray:
    """The picture as uint8 ``(h, w, c)``."""
    try:
        with Image.open(path) as file:
            picture = _on_white(_eight_bits(ImageOps.exif_transpose(file))).convert("L" if grey else "RGB")
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    if size is not None:
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    return np.atleast_3d(np.asarray(picture))


def _eight_bits(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits a pixel, which Pillow's own conversion would clip
        return Image.fromarray((np.clip(np.asarray(picture), 0, 65535) >> 8).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("floating-point pixels, whose range no file says")
    return picture


def _on_white(picture: Image.Image) -> Image.Image:
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def _unreadable(path: Path, error: BaseException) -> DataError:
    return DataError(
        got=f"{path}, which cannot be read as a picture ({error})",
        expected="an undamaged picture",
        fix="Remove it from the folder or replace it.",
    )
