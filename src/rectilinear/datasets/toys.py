"""The digits that come with scikit-learn.

Printed letters: pictures that look like digits and are none.

Densities in the plane that a generator can be looked at on.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageFont
from torch import Generator, Tensor

from rectilinear.datasets.images import Images, check_size
from rectilinear.errors import ConfigError
from rectilinear.random import generator

TRAIN_SIZE = 1500


def digits(split: Literal["train", "test"]) -> Images:
    """The 1,797 handwritten digits of 8 x 8 pixels and 17 levels, in a fixed split of 1,500 and
    297.

    Reference: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository,
    1998.

    Example:
        >>> (digits("test").images * 16).frac().abs().max().item()
        0.0
    """
    from sklearn.datasets import load_digits  # takes a second to import

    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(pixels), generator=generator(0))
    chosen = order[:TRAIN_SIZE] if split == "train" else order[TRAIN_SIZE:]
    images = torch.as_tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return Images(
        images[chosen],
        torch.as_tensor(labels, dtype=torch.int64)[chosen],
        tuple("0123456789"),
        "digits",
    )


_LOOK_LIKE_DIGITS = "BDGIJOQSZbgijloqsz"
FAMILIES = ("DejaVuSans", "DejaVuSerif", "STIXGeneral")
_FINE = 8  # letters are drawn so many times larger, then averaged down: the grey levels of a scan
LETTERS = tuple(
    c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in _LOOK_LIKE_DIGITS
)


def letters(size: int = 8, fill: float = 1.0) -> Images:
    """Letters in every face of the DejaVu and STIX families that come with matplotlib, white on
    black.

    Those that are easily taken for a digit, such as O, I and S, are left out.

    Args:
        size: side of the pictures.
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
        raise ConfigError(f"fill = {fill}", "above 0 and up to 1", "Correct the share.")
    fonts = sorted(Path(mpl.get_data_path(), "fonts", "ttf").glob("*.ttf"))
    faces = [
        path for path in fonts if path.stem.startswith(FAMILIES) and "Display" not in path.stem
    ]
    pictures = []
    for face in faces:
        font = ImageFont.truetype(str(face), _FINE * size)
        pictures += [_drawn(letter, font, size, round(fill * _FINE * size)) for letter in LETTERS]
    images = torch.from_numpy(np.stack(pictures))[:, None]
    labels = torch.arange(len(LETTERS)).repeat(len(faces))
    return Images(images, labels, LETTERS, "letters")


def _drawn(
    letter: str, font: ImageFont.FreeTypeFont, size: int, longest: int
) -> NDArray[np.float32]:
    """One letter, its ink ``longest`` fine pixels long and in the middle, averaged down to
    ``size``.
    """
    from PIL import Image, ImageDraw

    left, top, right, bottom = (round(edge) for edge in font.getbbox(letter))
    ink = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(ink).text((-left, -top), letter, fill=255, font=font)
    scale = longest / max(ink.size)
    ink = ink.resize(
        (max(1, round(scale * ink.width)), max(1, round(scale * ink.height))),
        Image.Resampling.BILINEAR,
    )
    sheet = Image.new("L", (_FINE * size, _FINE * size))
    sheet.paste(ink, ((sheet.width - ink.width) // 2, (sheet.height - ink.height) // 2))
    return np.asarray(
        sheet.resize((size, size), Image.Resampling.BOX), dtype=np.float32
    ) / np.float32(255)


def toy2d(name: str, n: int, seed: int = 0) -> Tensor:
    """``n`` points in the plane, ``(n, 2)`` float32, drawn from a density of about unit scale.

    ``"moons"`` two interleaved half circles, ``"rings"`` three circles, ``"checkerboard"`` the dark
    fields of a 4 x 4 board, ``"gaussians"`` eight on a circle, ``"spirals"`` two arms.

    Raises:
        ConfigError: for another name or ``n`` below 1.

    Example:
        >>> toy2d("gaussians", 1000, seed=1).norm(dim=1).mean().item() > 1
        True
    """
    if name not in TOYS:
        raise ConfigError(f"the toy '{name}'", f"one of {', '.join(TOYS)}", "Correct the name.")
    if n < 1:
        raise ConfigError(f"n = {n}", "a positive number of points", "Correct n.")
    return TOYS[name](n, generator(seed))


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


def _moons(n: int, g: Generator) -> Tensor:
    lower = torch.randint(2, (n,), generator=g)
    angle = pi * (torch.rand(n, generator=g) + lower)
    centre = torch.tensor([[-0.5, -0.25], [0.5, 0.25]])[lower]
    return _polar(torch.ones(n), angle) + centre + 0.05 * torch.randn(n, 2, generator=g)


def _rings(n: int, g: Generator) -> Tensor:
    radius = (1 + torch.randint(3, (n,), generator=g)) / 2
    angle = 2 * pi * torch.rand(n, generator=g)
    return _polar(radius + 0.04 * torch.randn(n, generator=g), angle)


def _checkerboard(n: int, g: Generator) -> Tensor:
    column, pair = torch.randint(4, (n,), generator=g), torch.randint(2, (n,), generator=g)
    field = torch.stack([column, 2 * pair + column % 2], dim=1)
    return (field + torch.rand(n, 2, generator=g)) - 2


def _gaussians(n: int, g: Generator) -> Tensor:
    angle = pi / 4 * torch.randint(8, (n,), generator=g)
    return _polar(torch.full((n,), 1.5), angle) + 0.1 * torch.randn(n, 2, generator=g)


def _spirals(n: int, g: Generator) -> Tensor:
    turn = torch.rand(n, generator=g).sqrt()  # even along the arm
    angle = 3 * pi * turn + pi * torch.randint(2, (n,), generator=g)
    return _polar(2 * turn, angle) + 0.05 * torch.randn(n, 2, generator=g)


TOYS: dict[str, Callable[[int, Generator], Tensor]] = {
    "moons": _moons,
    "rings": _rings,
    "checkerboard": _checkerboard,
    "gaussians": _gaussians,
    "spirals": _spirals,
}
"""The toys, each a function of the number of points and a generator."""
