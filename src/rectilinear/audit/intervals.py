"""Confidence intervals by the bootstrap, and sums over rows that fit any number of them."""

from __future__ import annotations

import torch
from torch import Tensor

from rectilinear.audit.randomness import stream

REPLICATES = 500
BLOCKS = 2048  # rows are summed in blocks of equal size from here on
TAIL = 0.025


def ratio(numerator: Tensor, denominator: Tensor, seed: int) -> tuple[float, tuple[float, float] | None]:
    """``sum a_i / sum b_i`` over rows, and its bootstrap interval of 95 %; 0 where both sums vanish.

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
    low, high = _quotient(counts @ a, counts @ b).quantile(torch.tensor([TAIL, 1 - TAIL], dtype=a.dtype)).tolist()
    return float(value), (low, high)


def ratios(numerator: Tensor, denominator: Tensor, seed: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """``sum_i a_ij / sum_i b_ij`` ``(k,)`` of many columns, and intervals that hold for all of them at once in 95 %.

    Those of the bootstrap, as many times wider as normal quantiles are for ``k`` intervals (Bonferroni); 0 where both
    sums vanish.

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
    low, high = _quotient(counts @ a, counts @ b).quantile(torch.tensor([TAIL, 1 - TAIL], dtype=a.dtype), dim=0)
    tails = torch.tensor([TAIL, TAIL / a.shape[1]], dtype=a.dtype)
    one, all_of_them = torch.special.ndtri(tails)
    wider = all_of_them / one
    return value, (value - (value - low) * wider, value + (high - value) * wider)


def wilson(rate: float, trials: int) -> tuple[float, float]:
    """Wilson's interval of 95 % for a rate, which keeps its coverage near 0 and 1.

    Example:
        >>> low, high = wilson(0.98, 100)
        >>> round(low, 3), round(high, 3)
        (0.93, 0.994)
    """
    z2 = 1.959964**2
    middle = rate + z2 / (2 * trials)
    spread = (z2 * (rate * (1 - rate) + z2 / (4 * trials)) / trials) ** 0.5
    scale = 1 + z2 / trials
    return (middle - spread) / scale, (middle + spread) / scale


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > 0, a / b.clamp_min(torch.finfo(b.dtype).tiny), torch.zeros_like(a))


def _blocks(values: Tensor) -> Tensor:
    """Sums over at most ``BLOCKS`` blocks of rows; rows that fill no block join the last."""
    size = -(-len(values) // BLOCKS)
    whole = len(values) // size * size
    sums = values[:whole].reshape(-1, size).sum(1)
    sums[-1] += values[whole:].sum()
    return sums
