"""Printed letters: pictures that look like digits and are none."""

from __future__ import annotations

from pathlib import Path

import torch

from rectilinear.datasets.images import Images

_LOOK_LIKE_DIGITS = "BDGIJOQSZbgijloqsz"
LETTERS = tuple(c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in _LOOK_LIKE_DIGITS)


def letters(size: int = 8) -> Images:
    """Letters in every face of the DejaVu and STIX families that come with matplotlib, white on black.

    Those that are easily taken for a digit, such as O, I and S, are left out.

    Args:
        size: side of the pictures; a letter fills three quarters of it.

    Raises:
        ConfigError: if the size is not positive.

    Example:
        >>> images, labels = letters(8)
        >>> images.shape[1:], len(images) == len(labels) > 400, images.max().item() > 0.7
        (torch.Size([1, 8, 8]), True, True)
    """
    import matplotlib as mpl
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    from rectilinear.datasets.images import check_size

    check_size(size)
    fonts = sorted(Path(mpl.get_data_path(), "fonts", "ttf").glob("*.ttf"))
    faces = [path for path in fonts if path.stem.startswith(("DejaVuSans", "DejaVuSerif", "STIXGeneral"))]
    fine = 8 * size  # drawn large, then averaged down: the grey levels of a scan
    pictures = []
    for face in (path for path in faces if "Display" not in path.stem):
        font = ImageFont.truetype(str(face), round(0.75 * fine))
        for letter in LETTERS:
            picture = Image.new("L", (fine, fine))
            left, top, right, bottom = font.getbbox(letter)
            middle = (fine - left - right) / 2, (fine - top - bottom) / 2
            ImageDraw.Draw(picture).text(middle, letter, fill=255, font=font)
            pictures.append(np.asarray(picture.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / 255)
    images = torch.from_numpy(np.stack(pictures))[:, None]
    labels = torch.arange(len(LETTERS)).repeat(len(images) // len(LETTERS))
    return Images(images, labels, LETTERS, "letters")
