"""How a coupling computes: the precision of its conditioner, and the grid of the bit-exact mode."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from rectilinear._autocast import precision_of
from rectilinear.errors import ConfigError

Precision = Literal["float32", "bf16", "exact", "exact-bf16"]
GRID = 2.0**-16


def to_grid(x: Tensor) -> Tensor:
    """The nearest multiples of ``2^-16``, on which an ``"exact"`` network is a bijection bit for bit.

    Sums of such numbers are exact in float32 while they stay below 256 (below ``2^37`` in float64).

    Example:
        >>> to_grid(torch.tensor([0.1])) == 6554 / 65536
        tensor([True])
    """
    nearest = (x / GRID).round() * GRID
    return torch.where(x.abs() < GRID / torch.finfo(x.dtype).eps, nearest, x)  # larger numbers are all on the grid


def on_grid(x: Tensor) -> bool:
    """Whether every entry is a multiple of ``2^-16`` in the range where sums of such numbers are exact.

    Example:
        >>> on_grid(torch.tensor([0.5])), on_grid(torch.tensor([0.1]))
        (True, False)
    """
    limit = 2 * GRID / torch.finfo(x.dtype).eps
    return bool(((to_grid(x) == x) & (x.abs() < limit)).all())


def check_precision(precision: str) -> None:
    """Raise ConfigError unless ``precision`` is a :data:`Precision`."""
    if precision not in get_args(Precision):
        raise ConfigError(got=f"precision={precision!r}", expected=f"one of {', '.join(get_args(Precision))}")


def condition(conditioner: nn.Module, x: Tensor, precision: Precision) -> Tensor:
    """The conditioner's output for the kept part, in the dtype of ``x``.

    Its own precision rules, not an autocast region around the network: a coupling computed in bf16 loses the inverse.
    """
    if precision.startswith("exact"):
        x = x.contiguous()  # one memory layout in both directions, so that both compute the same bits
    with precision_of(x, bf16=precision.endswith("bf16")):
        return conditioner(x).to(x.dtype)


def snap(shift: Tensor) -> Tensor:
    """``shift`` rounded to the grid, with the gradient of the identity."""
    return to_grid(shift).detach() + (shift - shift.detach())
