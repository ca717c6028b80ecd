"""Linearity in random subspaces through the data: a held-out test for few data points.

With no more points than dimensions some affine map fits them all. In the space that a few of them
span there can be any number of points, ``x_0 + sum_k z_k (x_k - x_0)`` with random ``z``, as far
from ``x_0`` as data are from their mean. An affine network is affine there too; one that is not
affine in the space of random data points is not affine.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rectilinear.analysis.measure import Measure, Subject, ratio, ratios
from rectilinear.analysis.token_measures import exchanged
from rectilinear.analysis.token_subject import TokenSubject
from rectilinear.networks.network import MARGIN, Resolution, resolution
from rectilinear.numerics import lstsq
from rectilinear.random import stream

NAME = "subspaces"
SPACES, DIMENSIONS = 4, 8
FITTED, JUDGED = 48, 24  # points of each space that a map is fitted to, and that it is judged on
ROUNDING_ROWS = 8  # rows whose rounding is measured


def subspaces(subject: Subject) -> Measure:
    """The share of the variance that one affine map explains in random subspaces of the data."""
    rows = subject.columns(SPACES * (DIMENSIONS + 1))
    k = min(DIMENSIONS, len(rows) // SPACES - 1)
    if k < 2:
        return Measure.missing(NAME, f"{len(rows)} rows; at least {3 * SPACES}")
    order = torch.randperm(len(rows), generator=stream(subject.seed, "rows of subspaces"))
    outs = []
    draws = coefficients(k, subject.seed)
    for space, z in enumerate(draws):
        base, *ends = rows[order[space * (k + 1) : (space + 1) * (k + 1)].to(rows.device)]
        steps = torch.stack(ends) - base
        points = base + torch.einsum("nk,k...->n...", z.to(base), steps)
        outs.append(subject.network(points).double().cpu())
    rounding = resolution(subject.network, rows[:ROUNDING_ROWS])
    return share(torch.stack(draws), torch.stack(outs), rounding, subject.seed)


def token_subspaces(subject: TokenSubject) -> Measure:
    """The share for the vectors of whole samples; other arguments, such as the mask, are fixed."""
    for p in subject.passes(held_out=False):
        spaces = min(SPACES, len(p.batch))
        k = min(DIMENSIONS, len(p.batch) - 1)
        if k < 2:
            continue
        outs, sizes = [], []
        draws = coefficients(k, subject.seed)[:spaces]
        for space, z in enumerate(draws):
            own = torch.full((k,), space)
            others = (space + 1 + torch.arange(k)) % len(p.batch)
            base = p.h[space]
            steps = exchanged(p, own, others) - base
            points = base + torch.einsum("nk,k...->n...", z.to(base), steps)
            made = subject.at(p.batch.take(torch.full((len(z),), space)), points)
            made = made.double().cpu().reshape(len(z), -1, made.shape[1])
            outs.append(made)
            sizes.append(made.shape[1])
        rounding = subject.resolution(torch.cat([m.flatten(0, 1) for m in outs]))
        parts = [m[:, :: max(1, m.shape[1] // min(sizes))][:, : min(sizes)] for m in outs]
        found = share(torch.stack(draws), torch.stack(parts), rounding, subject.seed)
        if subject.head is None:
            return found
        mixed = {k: v for k, v in found.details.items() if not k.startswith("worst")}
        return replace(found, details=mixed)
    return Measure.missing(NAME, "batches of fewer than three samples")


def coefficients(k: int, seed: int) -> list[Tensor]:
    """Random coordinates ``(n, k)`` in each subspace.

    Their variance ``1 / 2k`` puts points as far from the first of ``k + 1`` data as data are from
    their mean: two data are twice that far apart, in squares.
    """
    random = stream(seed, "points of subspaces")
    shape = (FITTED + JUDGED, k)
    return [
        torch.randn(shape, generator=random, dtype=torch.float64) / (2 * k) ** 0.5
        for _ in range(SPACES)
    ]


def share(z: Tensor, outs: Tensor, rounding: Resolution, seed: int) -> Measure:
    """The measurement, of coordinates ``(S, n, k)`` and outputs ``(S, n, ..., O)``.

    Example:
        >>> z = torch.stack(coefficients(3, seed=0))
        >>> none = torch.zeros(1, dtype=torch.float64)
        >>> exact = Resolution(none, none, "float64")
        >>> linear, bent = z[..., :1] + 1, z[..., :1].square()
        >>> round(share(z, linear, exact, 0).value, 9), share(z, bent, exact, 0).value < 0.5
        (1.0, True)
    """
    parts = [_squares(c, made) for c, made in zip(z, outs, strict=True)]
    a, b, own, own_total = (torch.cat(part) for part in zip(*parts, strict=True))
    counted = outs[0, 0].numel() // outs.shape[-1]
    energy = b.sum(0)
    varies = energy > len(b) * counted * (MARGIN * rounding.stored).square()
    if not bool(varies.any()):
        return Measure.missing(NAME, "the output does not vary")
    a, b, own, own_total = (part[:, varies] for part in (a, b, own, own_total))
    noise = MARGIN**2 * len(own) * counted * rounding.computed[varies].square()
    missed, interval = ratio(a.sum(1), b.sum(1), seed)
    least, inner = ratio(own.sum(1), own_total.sum(1), seed)
    assert interval is not None
    assert inner is not None
    each, (_, most) = ratios(a, b, seed)
    fewest, (lowest, _) = ratios(own, own_total, seed)
    rough = float(noise.sum() / own_total.sum())
    worst = int(each.argmax())
    energies = own_total.sum(0)
    high = 1 - (torch.minimum(fewest, lowest) - noise / energies).clamp_min(0)
    details = {
        "spaces": len(z),
        "dimensions": z.shape[-1],
        "points": len(own),
        "worst_output": int(varies.nonzero()[worst]),
        "worst_r2": 1 - float(each[worst]),
        "worst_interval": [1 - float(torch.maximum(most, each).max()), float(high.min())],
    }
    ends = 1 - max(interval[1], missed), 1 - max(min(inner[0], least, missed) - rough, 0.0)
    note = (
        f"held-out share of the variance that one affine map explains in {len(z)} random subspaces "
        f"of {z.shape[-1]} dimensions through the data"
    )
    return Measure(NAME, 1 - missed, "estimated", ends, note, details)


def _squares(z: Tensor, out: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The squared residuals of maps and of means in one space, ``(n, O)`` each.

    A map and the mean of the fitted points have squared residuals on the test points; the best map
    of all points has a smaller sum than any affine map.
    """
    flat = out.flatten(1)
    design = torch.cat([torch.ones(len(z), 1, dtype=z.dtype), z], 1)
    found = []
    for used, judged in ((slice(0, FITTED), slice(FITTED, None)), (slice(None), slice(None))):
        matrix, mean = lstsq(design[used], flat[used]), flat[used].mean(0)
        for made in (design[judged] @ matrix, mean):
            squares = (flat[judged] - made).square()
            found.append(squares.reshape(len(squares), -1, out.shape[-1]).sum(1))
    return found[0], found[1], found[2], found[3]
