"""The share of the variance that an affine map explains, for each output by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from rectilinear.audit.intervals import ratios
from rectilinear.audit.resolution import MARGIN

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear.audit.resolution import Resolution
    from rectilinear.numerics import Residuals

NUMBERS = 2**22  # sums of squares that are kept, over blocks of rows and outputs
MOST_BLOCKS, LEAST_BLOCKS = 2048, 64


@dataclass(eq=False)
class EachOutput:
    """Sums of squares of residuals, by block of rows and by output.

    Attributes:
        units: how many rows, or groups of equal rows, there are.
    """

    units: int
    _sums: Tensor | None = field(default=None)  # (2 + R, blocks, O): own residuals, the constant's, held out

    def add(self, r: Residuals, units: Tensor) -> None:
        """Count residuals ``(b, O)`` in, of rows that belong to these units ``(b,)``."""
        squares = torch.stack([r.own, r.total, *r.held_out]).square().cpu()
        if self._sums is None:
            outputs = squares.shape[2]
            blocks = min(MOST_BLOCKS, max(LEAST_BLOCKS, NUMBERS // (len(squares) * outputs)), self.units)
            self._sums = squares.new_zeros(len(squares), blocks, outputs)
        blocks = self._sums.shape[1]
        self._sums.index_add_(1, units * blocks // self.units, squares)

    def details(self, ridge: int, n: int, rounding: Resolution, free: bool, seed: int) -> dict[str, Any]:
        """The share of each output that varies, and the interval that holds the least of them.

        An output that varies by the rounding of its dtype is constant and has none. Intervals of 95 % hold for all
        outputs together. ``free`` is whether a map can fail on its own rows at all.
        """
        assert self._sums is not None
        own, total, held_out = self._sums[0], self._sums[1], self._sums[2 + ridge]
        energy = total.sum(0)
        varies = energy > n * (MARGIN * rounding.stored).square()
        details: dict[str, Any] = {"constant_outputs": (~varies).nonzero()[:, 0].tolist()}
        if not bool(varies.any()):
            return details
        left, (_, most) = ratios(held_out[:, varies], total[:, varies], seed)
        least, (fewest, _) = ratios(own[:, varies], total[:, varies], seed)
        noise = n * rounding.computed[varies].square() / energy[varies]
        low = 1 - torch.maximum(most, left)
        high = 1 - (torch.minimum(fewest, least) * free - MARGIN * noise).clamp_min(0)
        r2 = torch.full_like(energy, torch.nan)
        r2[varies] = 1 - left
        worst = int(r2.nan_to_num(torch.inf).argmin())
        lowest = int(high.argmin())
        return details | {
            "r2_each": r2.tolist(),
            "worst_output": worst,
            "worst_r2": float(r2[worst]),
            "worst_interval": [float(low.min()), float(high[lowest])],
            "worst_rounding": float(noise.max()),
        }
