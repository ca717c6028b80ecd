"""Pictures larger than a model: in tiles that overlap, and fade into each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rectilinear._shapes import check_floating
from rectilinear.errors import ShapeError

if TYPE_CHECKING:
    from rectilinear.linearizer import Linearizer

_CHUNK = 64  # tiles at a time


@torch.no_grad()
def in_tiles(f: Linearizer, picture: Tensor) -> Tensor:
    """A picture ``(c, H, W)`` of any size through ``f``, a map of tiles ``(c, h, w)``.

    Tiles overlap by half, with the window ``sin^2`` where they do, so that no seam shows; a picture of the size of a
    tile is one tile.

    Raises:
        ShapeError: if the picture has other channels than ``f`` maps, or is smaller than a tile.

    Example:
        >>> import rectilinear as rl
        >>> f = rl.Linearizer(rl.invertible.Flatten((3, 8, 8)), rl.operators.Identity(192))
        >>> x = torch.rand(3, 21, 30)
        >>> bool(torch.allclose(in_tiles(f, x), x, atol=1e-6))
        True
    """
    check_floating(picture, "picture")
    c, h, w = f.g_in.shape
    if picture.ndim != 3 or picture.shape[0] != c or picture.shape[1] < h or picture.shape[2] < w:
        raise ShapeError(f"a picture of shape {tuple(picture.shape)}", f"({c}, H, W) of at least {h} x {w}", "Grow it.")
    rows, columns = (_starts(n, tile) for n, tile in zip(picture.shape[1:], (h, w), strict=True))
    places = [(y, x) for y in rows for x in columns]
    tiles = torch.stack([picture[:, y : y + h, x : x + w] for y, x in places])
    styled = torch.cat([f(part) for part in tiles.split(_CHUNK)])
    window = _fade(h, picture)[:, None] * _fade(w, picture)
    total, weight = picture.new_zeros(len(styled[0]), *picture.shape[1:]), picture.new_zeros(picture.shape[1:])
    for (y, x), tile in zip(places, styled, strict=True):
        total[:, y : y + h, x : x + w] += window * tile
        weight[y : y + h, x : x + w] += window
    return total / weight


def _starts(length: int, tile: int) -> list[int]:
    """Where tiles begin: half a tile apart, the last at the border."""
    return [*range(0, length - tile, max(1, tile // 2)), length - tile]


def _fade(n: int, like: Tensor) -> Tensor:
    """``sin^2`` from border to border, nowhere zero."""
    return torch.sin(torch.pi * (torch.arange(n, dtype=like.dtype, device=like.device) + 0.5) / n).square()
