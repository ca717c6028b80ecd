"""Tiles of the two photographs that come with scikit-learn."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from rectilinear.datasets.images import Images, check_size
from rectilinear.errors import ConfigError

SIDE = 32
COVERED = (64, 106)  # pixels of the photograph that a tile may cover
CELL = 106  # side of the squares of which every fourth is for testing
STEPS = {"train": 4, "test": 8}  # tiles move by this part of their side
NAMES = ("china", "flower")


def photos(split: Literal["train", "test"], size: int | None = None) -> Images:
    """Square tiles of a Chinese temple and a flower, each covering 64 to 106 pixels of the photograph.

    Of the 4 x 6 squares of 106 pixels that fill a photograph, six are for testing. The photographs are shrunk by whole
    factors; tiles for testing lie inside these squares, those for training share no pixel with them, and neighbours
    of a kind overlap.

    Args:
        split: ``"train"`` or ``"test"``.
        size: side of the tiles, 32 if not given.

    Raises:
        ConfigError: if ``size`` is not 4 to 106.

    Reference: the photographs are by danielbuechele and vultilion, CC BY 2.0, as scikit-learn ships them.

    Example:
        >>> images, labels = photos("test")
        >>> images.shape[1:], float(images.min()) >= 0, float(images.max()) <= 1
        (torch.Size([3, 32, 32]), True, True)
    """
    from sklearn.datasets import load_sample_image  # takes a second to import

    check_size(size)
    side = size or SIDE
    if not 4 <= side <= COVERED[1]:
        raise ConfigError(f"size = {side}", f"4 to {COVERED[1]} pixels for these photographs")
    parts: list[Tensor] = []
    labels: list[int] = []
    for label, name in enumerate(NAMES):
        photo = torch.from_numpy(load_sample_image(f"{name}.jpg").copy()).permute(2, 0, 1).float() / 255
        for scale in range(-(-COVERED[0] // side), COVERED[1] // side + 1):
            h, w = photo.shape[1] // scale, photo.shape[2] // scale
            small = interpolate(photo[None, :, : h * scale, : w * scale], size=(h, w), mode="area")[0]
            corners = _corners(split, h, w, side, scale)
            parts += [small[:, y : y + side, x : x + side] for y, x in corners.tolist()]
            labels += [label] * len(corners)
    return Images(torch.stack(parts), torch.tensor(labels), NAMES, "photos")


def _corners(split: str, height: int, width: int, side: int, scale: int) -> Tensor:
    """Upper left corners ``(n, 2)`` of the tiles in a photograph that was shrunk to ``height x width``."""
    stride = max(1, side // STEPS[split])
    corners = torch.cartesian_prod(*(torch.arange(0, n - side + 1, stride) for n in (height, width)))
    cells = torch.cartesian_prod(*(torch.arange(n * scale // CELL) for n in (height, width)))
    held_out = CELL * cells[(2 * cells[:, 0] + cells[:, 1]) % 4 == 0]
    first, last = scale * corners[:, None], scale * (corners[:, None] + side)
    if split == "test":
        return corners[((first >= held_out) & (last <= held_out + CELL)).all(-1).any(-1)]
    return corners[~((first < held_out + CELL) & (last > held_out)).all(-1).any(-1)]
