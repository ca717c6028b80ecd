"""A measurement: a number, how sure it is, and what lies behind it.

Confidence intervals by the bootstrap, and sums over rows that fit any number of them.

The share of the variance that an affine map explains, for each output by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from rectilinear.networks.task import MARGIN, Resolution
from rectilinear.numerics import Residuals
from rectilinear.random import stream

Kind = Literal["exact", "certified", "estimated", "not applicable"]


@dataclass(frozen=True, eq=False)
class Measure:
    """One measurement of an audit.

    Attributes:
        name: its name, the key in ``audit.measures``.
        value: the number; None where it does not apply.
        kind: "exact" (computed or proved, up to rounding), "certified" (the truth lies in the
            interval, by a bound), "estimated" (the interval is one of confidence, 95 %), or "not
            applicable", with the reason in ``note``.
        interval: the interval, where there is one.
        note: what the number says here, in a sentence.
        details: further numbers, as JSON values.
        tensors: what is too large for JSON, such as matrices.
    """

    name: str
    value: float | None
    kind: Kind
    interval: tuple[float, float] | None = None
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def missing(cls, name: str, reason: str) -> Measure:
        """A measurement that does not apply, and why.

        Example:
            >>> print(Measure.missing("floor", "no labels were given"))
            floor: not applicable (no labels were given)
        """
        return cls(name, None, "not applicable", note=reason)

    @property
    def applies(self) -> bool:
        """Whether there is a number."""
        return self.value is not None

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.name}: not applicable ({self.note})"
        return f"{self.name}: {self.value:.4g}{self.range_text()}, {self.kind}" + (
            f". {self.note}" * bool(self.note)
        )

    def range_text(self) -> str:
        """The interval in brackets, or nothing."""
        return f" [{self.interval[0]:.4g}, {self.interval[1]:.4g}]" if self.interval else ""

    def to_json(self) -> dict[str, Any]:
        """All but the tensors."""
        return {
            "name": self.name,
            "value": self.value,
            "kind": self.kind,
            "interval": None if self.interval is None else list(self.interval),
            "note": self.note,
            "details": dict(self.details),
        }


REPLICATES = 500
BLOCKS = 2048  # rows are summed in blocks of equal size from here on
TAIL = 0.025


def ratio(
    numerator: Tensor, denominator: Tensor, seed: int
) -> tuple[float, tuple[float, float] | None]:
    """``sum a_i / sum b_i`` over rows, and its bootstrap interval of 95 %; 0 where both sums
    vanish.

    Args:
        numerator: ``(n,)``.
        denominator: ``(n,)``, not negative.
        seed: of the resampling.

    Example:
        >>> value, (low, high) = ratio(torch.arange(100.0), torch.ones(100), seed=0)
        >>> value, low < 49.5 < high
        (49.5, True)
    """
    a, b = numerator.double().cpu(), denominator.double().cpu()
    value = _quotient(a.sum(), b.sum())
    if len(a) < 2:
        return float(value), None
    a, b = _blocks(a), _blocks(b)
    picks = torch.randint(len(a), (REPLICATES, len(a)), generator=stream(seed, "bootstrap"))
    counts = torch.zeros(REPLICATES, len(a), dtype=a.dtype).scatter_add_(
        1, picks, torch.ones_like(picks, dtype=a.dtype)
    )
    low, high = (
        _quotient(counts @ a, counts @ b)
        .quantile(torch.tensor([TAIL, 1 - TAIL], dtype=a.dtype))
        .tolist()
    )
    return float(value), (low, high)


def ratios(
    numerator: Tensor, denominator: Tensor, seed: int
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """``sum_i a_ij / sum_i b_ij`` ``(k,)`` of many columns, and intervals that hold for all of them
    at once in 95 %.

    Those of the bootstrap, as many times wider as normal quantiles are for ``k`` intervals
    (Bonferroni); 0 where both sums vanish.

    Args:
        numerator: ``(n, k)``.
        denominator: ``(n, k)``, not negative.
        seed: of the resampling.

    Example:
        >>> value, (low, high) = ratios(torch.ones(50, 2), torch.full((50, 2), 4.0), seed=0)
        >>> value.tolist(), low.tolist(), high.tolist()
        ([0.25, 0.25], [0.25, 0.25], [0.25, 0.25])
    """
    a, b = numerator.double().cpu(), denominator.double().cpu()
    value = _quotient(a.sum(0), b.sum(0))
    picks = torch.randint(len(a), (REPLICATES, len(a)), generator=stream(seed, "bootstrap"))
    counts = torch.zeros(REPLICATES, len(a), dtype=a.dtype).scatter_add_(
        1, picks, torch.ones_like(picks, dtype=a.dtype)
    )
    low, high = _quotient(counts @ a, counts @ b).quantile(
        torch.tensor([TAIL, 1 - TAIL], dtype=a.dtype), dim=0
    )
    tails = torch.tensor([TAIL, TAIL / a.shape[1]], dtype=a.dtype)
    one, all_of_them = torch.special.ndtri(tails)
    wider = all_of_them / one
    return value, (value - (value - low) * wider, value + (high - value) * wider)


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > 0, a / b.clamp_min(torch.finfo(b.dtype).tiny), torch.zeros_like(a))


def _blocks(values: Tensor) -> Tensor:
    """Sums over at most ``BLOCKS`` blocks of rows; rows that fill no block join the last."""
    size = -(-len(values) // BLOCKS)
    whole = len(values) // size * size
    sums = values[:whole].reshape(-1, size).sum(1)
    sums[-1] += values[whole:].sum()
    return sums


NUMBERS = 2**22  # sums of squares that are kept, over blocks of rows and outputs
MOST_BLOCKS, LEAST_BLOCKS = 2048, 64


@dataclass(eq=False)
class EachOutput:
    """Sums of squares of residuals, by block of rows and by output.

    Attributes:
        units: how many rows, or groups of equal rows, there are.
    """

    units: int
    _sums: Tensor | None = field(
        default=None
    )  # (2 + R, blocks, O): own residuals, the constant's, held out

    def add(self, r: Residuals, units: Tensor) -> None:
        """Count residuals ``(b, O)`` in, of rows that belong to these units ``(b,)``."""
        squares = torch.stack([r.own, r.total, *r.held_out]).square().cpu()
        if self._sums is None:
            outputs = squares.shape[2]
            blocks = min(
                MOST_BLOCKS, max(LEAST_BLOCKS, NUMBERS // (len(squares) * outputs)), self.units
            )
            self._sums = squares.new_zeros(len(squares), blocks, outputs)
        blocks = self._sums.shape[1]
        self._sums.index_add_(1, units * blocks // self.units, squares)

    def details(
        self, ridge: int, n: int, rounding: Resolution, free: bool, seed: int
    ) -> dict[str, Any]:
        """The share of each output that varies, and the interval that holds the least of them.

        An output that varies by the rounding of its dtype is constant and has none. Intervals of 95
        % hold for all outputs together. ``free`` is whether a map can fail on its own rows at all.
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
