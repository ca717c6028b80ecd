"""The segment test: outputs halfway between data bound what any affine map explains.

For an affine map ``g((x + x')/2) = (g(x) + g(x'))/2``. So of ``delta = f((x + x')/2) - (f(x) +
f(x'))/2`` every affine map leaves squares of at least ``(2/3) |delta|^2`` on the three points: the
least ``a^2 + b^2 + c^2`` with ``c - (a + b)/2 = delta``. Fitted maps need more points than
dimensions to fail; this one needs pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rectilinear.analysis.measure import Measure, Subject, ratio, ratios
from rectilinear.networks.network import MARGIN, Resolution, resolution
from rectilinear.random import stream

NAME = "segments"
LEAST_SHARE = 2 / 3  # of the square of the gap that any affine map leaves on the three points
MAX_NUMBERS = 2**22  # numbers of the inputs of the pairs
MIN_PAIRS, MAX_PAIRS = 8, 256
ROUNDING_ROWS = 8  # rows whose rounding is measured


def segments(subject: Subject) -> Measure:
    """An upper bound of the share that one affine map explains, at data and halfway between them.

    Every row is in one pair, so that pairs are independent, and the interval is that of a bootstrap
    over them.
    """
    network = subject.network
    most = max(2 * MIN_PAIRS, min(2 * MAX_PAIRS, MAX_NUMBERS // max(1, network.in_dim)))
    rows = subject.columns(most)
    half = len(rows) // 2
    if half < MIN_PAIRS:
        return Measure.missing(NAME, f"{half} pairs of rows; at least {MIN_PAIRS}")
    order = torch.randperm(2 * half, generator=stream(subject.seed, "pairs of a segment"))
    a, b = rows[order[:half].to(rows.device)], rows[order[half:].to(rows.device)]
    ends = network(torch.cat([a, b])).double().cpu()
    middle = network((a + b) / 2).double().cpu()
    rounding = resolution(network, rows[:ROUNDING_ROWS])
    where = "at data and halfway between pairs of them"
    standardise = subject.settings.standardise
    return bound(ends[:half], ends[half:], middle, rounding, where, subject.seed, standardise)


def bound(
    a: Tensor,
    b: Tensor,
    middle: Tensor,
    rounding: Resolution,
    where: str,
    seed: int,
    standardise: bool = False,
) -> Measure:
    """The measurement, of outputs ``(n, O)`` at the ends and in the middle of ``n`` segments.

    Example:
        >>> x = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
        >>> none = torch.zeros(1, dtype=torch.float64)
        >>> exact = Resolution(none, none, "float64")
        >>> found = bound(x.square(), x.flip(0).square(), 0 * x, exact, "here", seed=0)
        >>> 0 < found.value < found.interval[1] < 0.9
        True
    """
    points = torch.stack([a, b, middle]).double()
    total = (points - points.mean((0, 1))).square().sum(0)
    gap = (points[2] - (points[0] + points[1]) / 2).square()
    return bound_of(gap, total, rounding, len(a), where, seed, standardise)


def bound_of(
    gap: Tensor,
    total: Tensor,
    rounding: Resolution,
    count: int,
    where: str,
    seed: int,
    standardise: bool = False,
    each: bool = True,
) -> Measure:
    """The measurement, of squares summed over each pair: those of gaps, and of deviations.

    Args:
        gap: ``(n, O)``, squares of ``f((x + x')/2) - (f(x) + f(x'))/2``.
        total: ``(n, O)``, squares of the deviations of all three outputs from their mean.
        rounding: of outputs.
        count: how many gaps the squares sum.
        where: the points, in words.
        seed: of the bootstrap.
        standardise: whether outputs are brought to one variance.
        each: whether outputs are looked at one by one, and not mixed.
    """
    left, energy = LEAST_SHARE * gap, total.sum(0)
    varies = energy > 3 * count * (MARGIN * rounding.stored).square()
    if not bool(varies.any()):
        return Measure.missing(NAME, "the output does not vary")
    left, total, energy = left[:, varies], total[:, varies], energy[varies]
    noise = count * rounding.computed[varies].square() / energy
    weight = 1 / energy if standardise else torch.ones_like(energy)
    missed, interval = ratio(left @ weight, total @ weight, seed)
    assert interval is not None
    rough = MARGIN**2 * float((noise * energy) @ weight / (energy @ weight))
    details: dict[str, float] = {"pairs": len(gap), "rounding": rough}
    if each:
        share, (fewest, _) = ratios(left, total, seed)
        highest = 1 - (torch.minimum(fewest, share) - MARGIN**2 * noise).clamp_min(0)
        worst = int(highest.argmin())
        details |= {
            "worst_output": int(varies.nonzero()[worst]),
            "worst_bound": float(highest[worst]),
        }
    high = 1 - max(min(interval[0], missed) - rough, 0.0)
    low = 1 - max(min(interval[1] - rough, 1.0), 0.0)
    note = f"no affine map explains more of the variance {where}"
    return Measure(NAME, 1 - missed, "estimated", (min(low, high), high), note, details)
