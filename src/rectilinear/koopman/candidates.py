"""The candidates to compare: for each kind, models with several lags, penalties and levels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from rectilinear import numerics
from rectilinear.errors import ConfigError, DataError
from rectilinear.koopman.autoregression import (
    LINEAR_RIDGES,
    RIDGES,
    Piece,
    Plan,
    StrideMap,
    count_windows,
    finite_moments,
    inputs,
    moments,
    of_finite_fit,
    of_fit,
    simulate_all,
)
from rectilinear.koopman.closed_form import fit_full
from rectilinear.koopman.compression import Reduced, Span
from rectilinear.koopman.dictionaries import Dictionary, Fourier, Monomials
from rectilinear.koopman.held_out import (
    MOST_STATE,
    Candidate,
    Held,
    judged,
    least_penalty,
    score_of,
)

LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 168, 192, 256, 336, 512)
"""Tried numbers of lags."""
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0)
"""Tried bandwidths of random features."""
MOST_COLUMNS = 600  # inputs of a joint map
_SMALL_NOISE = 0.1  # part of the spread
_TRIAL_ROWS, _TRIAL_FEATURES, _TRIAL_ORIGINS = 3000, 250, 60
_AT_ONCE = 4_000_000  # numbers of states and weights of maps that are iterated together
MOST_ROWS, _FEATURES = 12_000, 1000


def grid_of_lags(lags: int | None, most: int) -> tuple[int, ...]:
    """The lags to try: those asked for, or all of :data:`LAGS` up to ``most``."""
    return (lags,) if lags else tuple(k for k in LAGS if k <= most) or (1,)


def linear(held: Held, lags: tuple[int, ...], kind: str) -> Iterator[Candidate]:
    """Direct maps of the horizon, or autoregressions, of the best penalty for each number of lags.

    One factor serves both levels and all numbers of lags that have almost as many windows, and all
    maps of the same number of lags are iterated at once. Errors are those of all folds.
    """
    d, horizon = held.width, held.future.shape[1]
    share = held.past.shape[2] / d  # of coordinates, of which a joint map has fewer inputs
    stride = horizon if kind == "linear" else 1
    ridges = LINEAR_RIDGES if kind == "linear" else LINEAR_RIDGES[::2]
    drifts = held.u is not None or "mean" not in held.levels  # else changes have no mean to fit
    parts = held.parts
    for shared in (False, True) if d > 1 and held.basis is None else (False,):
        width = 1 if shared else d
        if not shared and d > MOST_COLUMNS:
            continue
        factors = [_Factors(part, stride, shared) for part in parts]
        for k in sorted((k for k in lags if k * width <= MOST_COLUMNS), reverse=True):
            if count_windows(held.train, k, stride) < 2:
                continue
            plans = [
                Plan(k, stride, level, shared, constant=level == "mean" or drifts)
                for level in held.levels
            ]
            for plan in plans:
                path = Path(plan, [f.fit(plan) for f in factors], ridges, 1.0 if shared else share)
                square = (_direct if kind == "linear" else _iterated)(path, parts)
                best = least_penalty(square)
                model = path.maps(0, ridges[best : best + 1])[0]
                named = model if held.basis is None else Reduced(model, held.basis)
                yield Candidate(kind, named, square[best], sum(h.independent for h in parts))


class Path(NamedTuple):
    """The maps of a plan for rising penalties, of its fit on each fold.

    Where the inputs are a ``share`` of all, penalties are in parts of the mean over all.
    """

    plan: Plan
    fits: list[numerics.Fit]
    ridges: Sequence[float]
    share: float = 1.0

    def maps(self, fold: int, ridges: Sequence[float] | None = None) -> list[StrideMap]:
        """The map of each penalty, or of some."""
        some = self.ridges if ridges is None else ridges
        return [of_fit(self.plan, self.fits[fold], ridge, self.share) for ridge in some]


def _direct(path: Path, parts: Sequence[Held]) -> Tensor:
    """Mean square errors of direct maps ``(penalties, n, horizon)``, on all folds.

    One projection of the rows on the coordinates of the fit serves all penalties.
    """
    found = []
    for held, fit in zip(parts, path.fits, strict=True):
        plan, past = path.plan, held.past[:, : path.plan.lags]
        u = None if held.u is None else held.u[:, held.past.shape[1] - plan.lags :]
        one = past.new_ones(1, 1)  # by how much a row has the constant of the map
        if held.span is not None and plan.shared:
            one = held.span.ones.repeat(len(past))[:, None]
        z = (inputs(plan, past, u) - one * fit.mean_x) @ fit.basis
        squares = []
        for ridge in path.ridges:
            y = z @ fit.coordinates(ridge, path.share) + one * fit.mean_t
            b, d = len(past), past.shape[2]
            y = y.unflatten(0, (b, d)).transpose(1, 2) if plan.shared else y.unflatten(1, (-1, d))
            squares.append(held.square(y + past[:, :1] if plan.level == "last" else y))
        found.append(torch.stack(squares))
    return torch.cat(found, dim=1)


def _iterated(path: Path, parts: Sequence[Held]) -> Tensor:
    """Mean square errors of iterated maps ``(penalties, n, horizon)``, on all folds."""
    (n, steps), d = parts[0].future.shape[:2], parts[0].past.shape[2]
    lags, count = path.plan.lags, len(path.ridges)
    paths = [path.maps(fold) for fold in range(len(parts))]
    if parts[0].u is not None or count * n * (lags + steps) * d > _AT_ONCE:
        apart = [
            torch.stack([h.square(h.simulated(m)) for m in maps])
            for h, maps in zip(parts, paths, strict=True)
        ]
        return torch.cat(apart, dim=1)
    past = torch.stack([h.past[:, :lags] for h in parts]).repeat_interleave(count, 0)
    span = parts[0].span if path.plan.shared else None
    found = (simulate_all if span is None else span.simulate)(
        [m for maps in paths for m in maps], past, steps
    )
    each = found.unflatten(0, (len(parts), count))
    return torch.cat([h.square(part) for h, part in zip(parts, each, strict=True)], dim=1)


class _Factors:
    """Fits of maps of many numbers of lags on the training rows of ``held``, the most lags first.

    A factor of the rows themselves is kept as long as fewer lags have at most a quarter more
    windows; that of differences from the last row follows from it.
    """

    def __init__(self, held: Held, stride: int, shared: bool) -> None:
        self.held, self.stride, self.shared = held, stride, shared
        self.pieces = some_columns(held.train, held.span) if shared else held.train
        self.windows = 0
        self.kept: dict[str, numerics.Moments] = {}

    def fit(self, plan: Plan) -> numerics.Fit:
        if self.held.u is not None or (plan.level == "last" and plan.lags == 1):
            return moments(plan, self.pieces).fit(centred=plan.constant)
        width = 1 if self.shared else self.pieces[0].x.shape[1]
        windows = count_windows(self.pieces, plan.lags, self.stride)
        if windows > 1.25 * self.windows:
            whole = moments(replace(plan, level="mean"), self.pieces)
            one = torch.eye(width, dtype=torch.float64)
            less = one.repeat(plan.lags - 1, 1)
            columns = torch.eye(plan.lags * width, dtype=torch.float64)[:, width:]
            columns[:width] = -less.T
            target = torch.zeros(plan.lags * width, self.stride * width, dtype=torch.float64)
            target[:width] = one.repeat(1, self.stride)
            self.windows = windows
            self.kept = {"mean": whole}
            if plan.lags > 1:
                self.kept["last"] = whole.changed(columns, target)
        columns_used = (plan.lags - (plan.level == "last")) * width
        part = self.kept[plan.level].leading(columns_used, self.stride * width)
        return part.fit(centred=plan.constant)


def features(
    held: Held, lags: tuple[int, ...], own: Dictionary | None, seed: int
) -> Iterator[Candidate]:
    """Ridge regression in a dictionary, iterated: random features, monomials, or the user's own.

    Dictionary, stride and smoothing are chosen with few features, rows and origins; then penalties
    near the chosen one are compared with all. Where noise is a small part of the series the choice
    is made on smoothed held-out rows: the noise in the first state would hide all differences.
    """
    d, horizon = held.width, held.future.shape[1]
    quiet = held.smoothed
    few = (held if quiet is None or held.noise > _SMALL_NOISE else quiet).thinned(_TRIAL_ORIGINS)
    rivals: list[tuple[float, StrideMap]] = []
    for k in lags:
        if k * d > MOST_STATE:
            continue
        options = [own] if own is not None else _dictionaries(k * d, _TRIAL_FEATURES, seed)
        for smoothing, stride in product((False, True), {1, max(1, round(horizon**0.5))}):
            pieces = (quiet or held).train if smoothing else held.train
            if (smoothing and quiet is None) or count_windows(pieces, k, stride) < 8:
                continue
            for dictionary in options:
                plan = Plan(k, stride, "last", dictionary=dictionary, smoothed=smoothing)
                fit = moments(plan, pieces, _TRIAL_ROWS).fit()
                rivals.append(_least(Path(plan, [fit], RIDGES[::2]), few))
    if not rivals:
        return
    _, chosen = min(rivals, key=lambda rival: rival[0])
    yield judged("features", chosen, held)
    plan = full_size(chosen.plan, held.train)
    if plan != chosen.plan or count_windows(held.train, plan.lags, plan.stride) > _TRIAL_ROWS:
        fit = moments(plan, (quiet or held).train if plan.smoothed else held.train, MOST_ROWS).fit()
        near = RIDGES.index(chosen.plan.ridge)
        _, last = _least(Path(plan, [fit], RIDGES[max(0, near - 1) : near + 2]), few)
        yield judged("features", last, held)


def _least(path: Path, held: Held) -> tuple[float, StrideMap]:
    """The map of the least penalty that costs little, after its score."""
    maps = path.maps(0)
    square = torch.stack([judged("", m, held).square for m in maps])
    best = least_penalty(square)
    return score_of(square)[best], maps[best]


def full_size(plan: Plan, pieces: Sequence[Piece]) -> Plan:
    """The plan with all its random features, of few windows fewer."""
    if not isinstance(plan.dictionary, Fourier):
        return plan
    count = min(_FEATURES, count_windows(pieces, plan.lags, plan.stride) // 2)
    return replace(plan, dictionary=replace(plan.dictionary, count=count))


def _dictionaries(p: int, count: int, seed: int) -> list[Dictionary]:
    return _monomials(p) + [Fourier(count, b, seed) for b in BANDWIDTHS]


def _monomials(p: int) -> list[Dictionary]:
    return [Monomials(k) for k, most in ((2, 24), (3, 10), (5, 3)) if p <= most]


def some_columns(pieces: Sequence[Piece], span: Span | None = None) -> tuple[Piece, ...]:
    """The pieces with evenly spaced columns, where there are more than a shared map needs."""
    d = pieces[0].x.shape[1] if span is None else len(span.basis)
    most = min(2000, max(500, 100_000 // sum(len(p.x) for p in pieces)))
    every = -(-d // most)
    if span is not None:
        return tuple(p.within(span.basis[::every].T) for p in pieces)
    return tuple(Piece(p.x[:, ::every], p.u) for p in pieces)


def finite(held: Held, lags: tuple[int, ...], own: Dictionary | None) -> Iterator[Candidate]:
    """Finite Koopman models in monomials, or in the user's dictionary."""
    d = held.width
    for k in lags:
        if k * d > MOST_STATE or held.u is not None:
            continue
        options = [own] if own is not None else _monomials(k * d)
        for dictionary in options:
            plan = Plan(k, 1, "mean", dictionary=dictionary)
            every = -(-count_windows(held.train, k, 1) // MOST_ROWS)
            fit = finite_moments(plan, held.train, every).fit()
            for ridge in RIDGES[::2]:
                yield judged("finite", of_finite_fit(plan, fit, ridge), held)


def koopman(held: Held, lags: tuple[int, ...], seed: int) -> Iterator[Candidate]:
    """The full model, with one observation in a state and with several."""
    d, horizon = held.width, held.future.shape[1]
    for k in lags:
        if k * d > MOST_STATE or held.u is not None:
            continue
        try:
            yield judged("koopman", fit_full(Plan(k, horizon), held.train, seed), held)
        except (DataError, ConfigError, LinAlgError):
            continue
