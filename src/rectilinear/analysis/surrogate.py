"""The best affine map on the data: held-out R^2 of a network and of its odd part, by output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rectilinear.analysis.measure import Measure, Pass, Subject, ratio, ratios
from rectilinear.networks.data import row_keys
from rectilinear.networks.network import (
    MARGIN,
    RESOLUTION_ROWS,
    Resolution,
    resolution,
)
from rectilinear.numerics import RIDGES, Fit, Moments, Residuals
from rectilinear.random import stream

MAX_DIMENSIONS = 4096  # up to which the covariance of the data is written out
SPAN_ROWS = 1024  # rows whose span stands for the space in more dimensions, or with fewer rows
ROUNDED_SPAN_ROWS = 16  # rows of many numbers whose rounding is measured
DIRECTIONS = 256  # random directions that stand for more outputs than these:
MAX_OUTPUTS = 16_384
MAX_PRODUCTS = 2**24  # numbers of the matrix of a fit, from more than 1,024 outputs on: 128 MB
UNGROUPED_ROWS = 200_000  # rows above which their squares are summed in groups
GROUP_ROWS = 64
SUMMED_NUMBERS = 2**22  # sums of squares that are kept, over blocks of rows and outputs
MAX_BLOCKS, MIN_BLOCKS = 2048, 64
TINY = 1e-300
NEGLIGIBLE = 1e-20  # share of rounding errors in the variance that changes no digit


@dataclass(frozen=True, eq=False)
class Surrogate:
    """The best affine map, with the three measurements that come from it."""

    affine: Measure
    task: Measure
    odd: Measure
    fit: Fit


def odd_linearity(subject: Subject) -> Measure:
    """The held-out share of the odd part that one linear map explains; one if it is affine."""
    return _by_construction(subject, subject.once(surrogate).odd)


def affine_r2(subject: Subject) -> Measure:
    """The held-out share of the variance that one affine map explains; one if it is affine."""
    return _by_construction(subject, subject.once(surrogate).affine)


def _by_construction(subject: Subject, fitted: Measure) -> Measure:
    """One, exactly, for a network of affine operations; what was measured is in the details."""
    if not subject.structure.is_affine or not fitted.applies:
        return fitted
    details = {"measured": fitted.value, **fitted.details}
    note = "affine by construction"
    return Measure(fitted.name, 1.0, "exact", None, note, details, fitted.tensors)


def affine_score(subject: Subject) -> Measure:
    """The loss at the task when the best affine map replaces the network."""
    return subject.once(surrogate).task


def surrogate(subject: Subject) -> Surrogate:
    """The best affine maps of the network and its odd part, fitted in one pass, tested in a second.

    The value is held out: every row is predicted by a map fitted without it and its duplicates. The
    interval reaches from the bootstrap's lower end of that value to the upper end of the share that
    the map explains on its own rows: the best map lies between.
    """
    outputs = subject.network.out_dim
    in_span = is_in_span(subject)
    coordinates = _Span(subject) if in_span else None
    head = _head(subject)

    def parts(p: Pass) -> tuple[Tensor, Tensor]:
        odd = (p.f - p.mirrored) / 2
        both = (p.f, odd) if head is None else (p.f @ head, odd @ head)
        return p.x.flatten(1), torch.cat(both, 1)

    def passes() -> Iterator[tuple[Pass, Tensor]]:
        if coordinates is not None:
            yield from coordinates.passes()
        else:
            yield from ((p, row_keys(p.x)) for p in subject.passes())

    moments, keys = Moments(), []
    for p, key in passes():
        moments.add(*parts(p))
        keys.append(key)
    repeats = Repeats(torch.cat(keys))
    width = outputs if head is None else DIRECTIONS
    whole, odd = moments.fit(slice(0, width)), moments.fit(slice(width, None), centred=False)
    measured = ROUNDED_SPAN_ROWS if in_span else RESOLUTION_ROWS
    rounding = resolution(subject.network, subject.columns(measured))
    rounding = rounding if head is None else rounding.mixed(head)
    fits = [
        _Judged(fit, repeats, r, subject.settings.standardise)
        for fit, r in ((whole, rounding), (odd, rounding.scaled(0.5**0.5)))
    ]
    scores: list[tuple[Tensor, Tensor]] = []
    for p, key in passes():
        x, t = parts(p)
        groups, counts = repeats.of(key)
        r = fits[0].add(x, t[:, :width], groups, counts)
        fits[1].add(x, t[:, width:], groups, counts)
        if subject.task is not None and p.y is not None and head is None:
            scores.append((_scores(subject, p, r), groups))
    note = _note(subject, moments.n, in_span, head is not None)
    affine = fits[0].measure(
        "affine_r2", subject, note, "the output does not vary on the data", head is None
    )
    task = (
        _task(subject, scores, int(affine.details["ridge_index"]))
        if affine.applies
        else _no_task(subject)
    )
    return Surrogate(affine, task, _odd(fits[1], subject, head is None), whole)


def is_in_span(subject: Subject) -> bool:
    """True if rows of a sample stand for a space of more dimensions than can be written out."""
    inputs = subject.network.in_dim
    return inputs > MAX_DIMENSIONS or subject.data.n <= inputs > SPAN_ROWS


class Repeats:
    """Groups of equal rows, which are held out and resampled together.

    Attributes:
        rows: how many rows there are.
        distinct: how many of them are distinct.
    """

    def __init__(self, keys: Tensor) -> None:
        self._keys, inverse, self._counts = keys.unique(return_inverse=True, return_counts=True)
        self.rows, self.distinct = len(keys), len(self._keys)
        first = torch.full((self.distinct,), self.rows)
        first.scatter_reduce_(0, inverse, torch.arange(self.rows), "amin")
        self._rank = torch.empty_like(first)
        self._rank[first.argsort()] = torch.arange(self.distinct)

    @property
    def any(self) -> bool:
        """True if a row occurs more than once."""
        return self.distinct < self.rows

    def of(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """For rows, the numbers of their groups, and the sizes of these.

        Groups are numbered in the order of their first rows.
        """
        found = torch.searchsorted(self._keys, keys)
        return self._rank[found], self._counts[found]


class _Rows:
    """Sums of squares of what an affine map leaves: by row, or by group of equal rows.

    Weighed by output.
    """

    def __init__(self, repeats: Repeats, weight: Tensor | None) -> None:
        self._weight, self._split = weight, repeats.distinct > UNGROUPED_ROWS
        self._groups = repeats.distinct if repeats.any else 0
        self._parts: list[Tensor] = []

    def add(self, r: Residuals, groups: Tensor) -> None:
        squares = torch.cat([self._of(r.own)[None], self._of(r.total)[None], self._of(r.held_out)])
        if self._groups and not self._parts:
            self._parts.append(squares.new_zeros(len(squares), self._groups))
        if self._groups:
            self._parts[0].index_add_(1, groups.to(squares.device), squares)
        else:
            self._parts.append(_summed(squares, self._split))

    def _of(self, values: Tensor) -> Tensor:
        squares = values.square()
        return (
            squares.sum(-1) if self._weight is None else squares @ self._weight.to(squares.device)
        )

    def joined(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of the fit itself, of the constant, and held out at every ridge."""
        every = torch.cat(self._parts, -1)
        every = _summed(every, self._split) if self._groups else every
        return every[0], every[1], every[2:]


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
                MAX_BLOCKS, max(MIN_BLOCKS, SUMMED_NUMBERS // (len(squares) * outputs)), self.units
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


class _Judged:
    """A fit, and what it leaves of the rows, all outputs together and each by itself."""

    def __init__(self, fit: Fit, repeats: Repeats, rounding: Resolution, standardise: bool) -> None:
        self.fit, self.repeats, self.rounding = fit, repeats, rounding
        energy = fit.total.cpu()
        self.varies = energy > fit.n * (MARGIN * rounding.stored).square()
        weight = torch.where(self.varies, 1 / energy.clamp_min(TINY), torch.zeros_like(energy))
        self.rows = _Rows(repeats, weight if standardise else None)
        self.each = EachOutput(repeats.distinct)
        self._seen = 0

    def add(self, x: Tensor, t: Tensor, groups: Tensor, counts: Tensor) -> Residuals:
        """The residuals of some rows, counted in."""
        repeated = self.repeats.any
        r = self.fit.residuals(x, t, counts if repeated else None)
        self.rows.add(r, groups)
        self.each.add(r, groups if repeated else torch.arange(self._seen, self._seen + len(x)))
        self._seen += len(x)
        return r

    def measure(self, name: str, subject: Subject, note: str, still: str, each: bool) -> Measure:
        """One minus the share of the variance that is left."""
        known = {"distinct_rows": min(self.repeats.distinct, subject.distinct_points())}
        if not bool(self.varies.any()):
            hidden = self.rounding.hides or bool(self.fit.total.any())
            size = f", to the resolution of {self.rounding.dtype}" * hidden
            return Measure(name, None, "not applicable", note=f"{still}{size}", details=known)
        own, total, held_out = self.rows.joined()
        best = int(held_out.sum(-1).argmin())
        left, interval = ratio(held_out[best], total, subject.seed)
        least, inner = ratio(own, total, subject.seed)
        free = self.repeats.distinct > len(self.fit.s) + self.fit.centred
        noise = float(self.fit.n * self.rounding.computed.square().sum() / self.fit.total.sum())
        low, high = (
            (interval[1] if interval else left),
            (min(inner[0] if inner else least, least if free else 0.0)),
        )
        high = max(high - MARGIN * noise, 0.0) if noise > NEGLIGIBLE else high
        details = {
            "unexplained": left,
            "unexplained_on_own_rows": least,
            "ridge": RIDGES[best],
            "ridge_index": best,
            "rank": len(self.fit.s),
            "rows": self.fit.n,
            "rounding": noise,
            **known,
        }
        if each:
            details |= self.each.details(best, self.fit.n, self.rounding, free, subject.seed)
        tensors = {"matrix": self.fit.matrix, "constant": self.fit.constant}
        return Measure(
            name,
            1 - left,
            "estimated",
            (1 - max(low, left), 1 - min(high, left)),
            note,
            details,
            tensors,
        )


def _odd(judged: _Judged, subject: Subject, each: bool) -> Measure:
    """The linearity of the odd part; one by construction for two layers without bias.

    There the measure is a test.
    """
    if subject.unmirrored:
        return Measure.missing("odd_linearity", subject.unmirrored)
    note = "held-out share of the odd part that one linear map explains"
    measured = judged.measure(
        "odd_linearity", subject, note, "the odd part vanishes on the data", each
    )
    if not measured.applies or not subject.has_linear_odd_part:
        return measured
    left = measured.details["unexplained_on_own_rows"]
    allowed = max(
        1e4 * torch.finfo(subject.exact.like.dtype).eps, MARGIN**2 * measured.details["rounding"]
    )
    test = "passed" if left < allowed else f"failed: {left:.1e} is left"
    note = f"linear by construction (two layers, no bias); self-test on the data {test}"
    return Measure(
        "odd_linearity",
        1.0,
        "exact",
        None,
        note,
        {**measured.details, "self_test": test == "passed"},
    )


def _scores(subject: Subject, p: Pass, r: Residuals) -> Tensor:
    """Loss and hit of the network and of its held-out affine copies, ``(2, 1 + R, b)``.

    NaN without classes.
    """
    assert subject.task is not None
    assert p.y is not None
    rows = []
    for out in (p.f, *(p.f - left.to(p.f) for left in r.held_out)):
        hits = subject.task.hits(out, p.y)
        loss = subject.task.losses(out, p.y).double()
        rows.append(
            torch.stack([loss, torch.full_like(loss, torch.nan) if hits is None else hits.double()])
        )
    return torch.stack(rows, 1)


def _task(subject: Subject, scores: list[tuple[Tensor, Tensor]], ridge: int) -> Measure:
    """The loss at the task with the affine map: of accuracy for classes, else in the loss."""
    if not scores:
        return _no_task(subject)
    both = torch.cat([score for score, _ in scores], -1)[:, [0, 1 + ridge]]
    losses, hits = both[0].mean(-1).tolist(), both[1].mean(-1).tolist()
    classes = bool(both[1].isfinite().all())
    picked = both[1] if classes else both[0]
    groups = torch.cat([group for _, group in scores])  # rows that are equal are resampled together
    some = torch.stack([picked[1] - picked[0], torch.ones_like(picked[0])]).cpu()
    if (count := int(groups.max()) + 1) < len(groups):
        some = some.new_zeros(2, count).index_add_(1, groups, some)
    change, interval = ratio(some[0], some[1], subject.seed)
    details = {"loss": losses[0], "affine_loss": losses[1]}
    if classes:
        details |= {"accuracy": hits[0], "affine_accuracy": hits[1]}
    what = "accuracy" if classes else "loss"
    old, new = hits if classes else losses
    note = f"change of the {what} when the affine copy takes over: {old:.4g} to {new:.4g}, held out"
    return Measure("affine_score", change, "estimated", interval, note, details)


def _no_task(subject: Subject) -> Measure:
    reason = (
        "no labels were given"
        if subject.task is None
        else "the affine copy has too many outputs, or none vary"
    )
    return Measure.missing("affine_score", reason)


def _note(subject: Subject, n: int, in_span: bool, headed: bool) -> str:
    note = "held-out share of the variance that one affine map explains"
    if in_span:
        note += f", on the span of {n} rows of a sample"
    if headed:
        note += f", in {DIRECTIONS} random directions of {subject.network.out_dim} outputs"
    return note


def _head(subject: Subject) -> Tensor | None:
    """Random directions that keep energies in the mean, for many outputs."""
    outputs = subject.network.out_dim
    dimensions = min(subject.network.in_dim, MAX_DIMENSIONS, subject.data.n)
    if outputs <= 4 * DIRECTIONS or (
        outputs * dimensions <= MAX_PRODUCTS and outputs <= MAX_OUTPUTS
    ):
        return None
    draw = (
        torch.randn(
            outputs, DIRECTIONS, generator=stream(subject.seed, "outputs"), dtype=torch.float64
        )
        / DIRECTIONS**0.5
    )
    return draw.to(subject.network.like)


def _summed(squares: Tensor, group: bool) -> Tensor:
    """Sums over groups of rows, where there are many rows."""
    if not group:
        return squares
    return torch.stack([part.sum(-1) for part in squares.split(GROUP_ROWS, -1)], -1)


class _Span:
    """Rows of the sample in an orthonormal basis of their span: isometric, in fewer dimensions."""

    def __init__(self, subject: Subject) -> None:
        rows = subject.columns(SPAN_ROWS)
        flat = rows.flatten(1).double()
        u, s, _ = torch.linalg.svd(flat, full_matrices=False)
        keep = s > s[:1] * max(flat.shape) * torch.finfo(s.dtype).eps
        f = subject.network(rows)
        mirrored = subject.mirrored(rows, f)
        labels = subject.column_labels(SPAN_ROWS)
        self._pass = Pass(u[:, keep] * s[keep], f, mirrored, labels), row_keys(rows)

    def passes(self) -> list[tuple[Pass, Tensor]]:
        """One batch, with coordinates in place of rows, and the keys of these."""
        return [self._pass]
