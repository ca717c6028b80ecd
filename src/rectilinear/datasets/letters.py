"""Printed letters: pictures that look like digits and are none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from rectilinear.datasets.images import Images, check_size
from rectilinear.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import ImageFont

_LOOK_LIKE_DIGITS = "BDGIJOQSZbgijloqsz"
FAMILIES = ("DejaVuSans", "DejaVuSerif", "STIXGeneral")
_FINE = 8  # letters are drawn so many times larger, then averaged down: the grey levels of a scan
LETTERS = tuple(c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in _LOOK_LIKE_DIGITS)


def letters(size: int = 8, fill: float = 1.0) -> Images:
    """Letters in every face of the DejaVu and STIX families that come with matplotlib, white on black.

    Those that are easily taken for a digit, such as O, I and S, are left out.

    Args:
        size: side of the pictures.
        fill: share of it that the longer side of a letter takes: 1 for the digits of scikit-learn, 0.72 for MNIST's.

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
        raise ConfigError(f"fill = {fill}", "above 0 and up to 1", "Correct the share.")
    fonts = sorted(Path(mpl.get_data_path(), "fonts", "ttf").glob("*.ttf"))
    faces = [path for path in fonts if path.stem.startswith(FAMILIES) and "Display" not in path.stem]
    pictures = []
    for face in faces:
        font = ImageFont.truetype(str(face), _FINE * size)
        pictures += [_drawn(letter, font, size, round(fill * _FINE * size)) for letter in LETTERS]
    images = torch.from_numpy(np.stack(pictures))[:, None]
    labels = torch.arange(len(LETTERS)).repeat(len(faces))
    return Images(images, labels, LETTERS, "letters")


def _drawn(letter: str, font: ImageFont.FreeTypeFont, size: int, longest: int) -> NDArray[np.float32]:
    """One letter, its ink ``longest`` fine pixels long and in the middle, averaged down to ``size``."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = (round(edge) for edge in font.getbbox(letter))
    ink = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(ink).text((-left, -top), letter, fill=255, font=font)
    scale = longest / max(ink.size)
    ink = ink.resize((max(1, round(scale * ink.width)), max(1, round(scale * ink.height))), Image.Resampling.BILINEAR)
    sheet = Image.new("L", (_FINE * size, _FINE * size))
    sheet.paste(ink, ((sheet.width - ink.width) // 2, (sheet.height - ink.height) // 2))
    return np.asarray(sheet.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / np.float32(255)
