"""The candidates to compare: for each kind, models with several lags, penalties and levels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from rectilinear import numerics
from rectilinear.errors import ConfigError, DataError
from rectilinear.koopman.autoregression import (
    LINEAR_RIDGES,
    RIDGES,
    Piece,
    Plan,
    count_windows,
    design,
    moments,
    of_fit,
)
from rectilinear.koopman.dictionaries import Dictionary, Fourier, Monomials
from rectilinear.koopman.extended_dmd import finite_moments, of_finite_fit
from rectilinear.koopman.held_out import MOST_STATE, Candidate, Held, best, judged
from rectilinear.koopman.koopman_candidate import fit_full
from rectilinear.koopman.principal_components import Reduced

LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 168, 192, 256, 336, 512)
"""Tried numbers of lags."""
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0)
"""Tried bandwidths of random features."""
MOST_COLUMNS = 600  # inputs of a joint map
_SMALL_NOISE = 0.1  # part of the spread
_TRIAL_ROWS, _TRIAL_FEATURES, _TRIAL_ORIGINS = 3000, 250, 150
_ROWS, _FEATURES = 12_000, 1000


def grid_of_lags(lags: int | None, most: int) -> tuple[int, ...]:
    """The lags to try: those asked for, or all of :data:`LAGS` up to ``most``."""
    return (lags,) if lags else tuple(k for k in LAGS if k <= most) or (1,)


def linear(held: Held, lags: tuple[int, ...], kind: str) -> Iterator[Candidate]:
    """Direct maps of the whole horizon, or autoregressions, of every number of lags and penalty.

    One factor, of all lags, serves them all.
    """
    d, horizon = held.past.shape[2], held.future.shape[1]
    for shared in (False, True) if d > 1 and held.basis is None else (False,):
        if not shared and d > MOST_COLUMNS:
            continue
        fit_on = some_columns(held.train) if shared else held.train
        width = 1 if shared else d
        mine = tuple(k for k in lags if k * width <= MOST_COLUMNS)
        while mine and count_windows(held.train, mine[-1], horizon) < 2:
            mine = mine[:-1]
        if not mine:
            continue
        for level in held.levels:
            plan = Plan(mine[-1], horizon, level, shared)
            stride = horizon if kind == "linear" else 1
            if held.u is not None:
                yield from _with_inputs(held, replace(plan, stride=stride), mine, kind)
                continue
            whole = moments(plan, fit_on)
            for k in mine:
                own = replace(plan, lags=k, stride=stride)
                columns = (k - (level == "last")) * width
                part = whole.leading(max(columns, 1), stride * width)
                fit = part.fit() if columns else moments(own, fit_on).fit()
                yield from _path(kind, own, fit, held, LINEAR_RIDGES)


def _with_inputs(held: Held, plan: Plan, lags: tuple[int, ...], kind: str) -> Iterator[Candidate]:
    for k in lags:
        own = replace(plan, lags=k)
        if count_windows(held.train, k, own.stride) < 2 or k + own.stride > MOST_COLUMNS:
            continue
        yield from _path(kind, own, moments(own, held.train).fit(), held, LINEAR_RIDGES)


def _path(
    kind: str, plan: Plan, fit: numerics.Fit, held: Held, ridges: Sequence[float]
) -> Iterator[Candidate]:
    for ridge in ridges:
        yield judged(kind, of_fit(plan, fit, ridge), held)


def features(
    held: Held, lags: tuple[int, ...], own: Dictionary | None, seed: int
) -> Iterator[Candidate]:
    """Ridge regression in a dictionary, iterated: random features, monomials, or the user's own.

    Dictionary, stride and smoothing are chosen with few features, rows and origins; then penalties
    near the chosen one are compared with all. Where noise is a small part of the series the choice
    is made on smoothed held-out rows: the noise in the first state would hide all differences.
    """
    d, horizon = held.past.shape[2], held.future.shape[1]
    quiet = held.smoothed
    few = (held if quiet is None or held.noise > _SMALL_NOISE else quiet).thinned(_TRIAL_ORIGINS)
    rivals: list[Candidate] = []
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
                fit = thin_moments(plan, pieces, _TRIAL_ROWS).fit()
                one = best(_path("features", plan, fit, few, RIDGES[::2]))
                rivals += [] if one is None else [one]
    if not rivals:
        return
    chosen = min(rivals, key=lambda c: c.score).model
    chosen = chosen.inner if isinstance(chosen, Reduced) else chosen
    yield judged("features", chosen, held)
    plan = full_size(chosen.plan, held.train)
    if plan != chosen.plan or count_windows(held.train, plan.lags, plan.stride) > _TRIAL_ROWS:
        fit = thin_moments(
            plan, (quiet or held).train if plan.smoothed else held.train, _ROWS
        ).fit()
        near = RIDGES.index(chosen.plan.ridge)
        one = best(_path("features", plan, fit, few, RIDGES[max(0, near - 1) : near + 2]))
        assert one is not None, "three penalties"
        last = one.model.inner if isinstance(one.model, Reduced) else one.model
        yield judged("features", last, held)


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


def thin_moments(plan: Plan, pieces: Sequence[Piece], most: int = _ROWS) -> numerics.Moments:
    """The moments of at most so many windows, evenly spaced."""
    every = -(-count_windows(pieces, plan.lags, plan.stride) // most)
    found = numerics.Moments()
    for rows, targets in design(plan, pieces, every):
        found.add(rows, targets)
    return found


def some_columns(pieces: Sequence[Piece], most: int = 2000) -> tuple[Piece, ...]:
    """The pieces with evenly spaced columns, where there are more than a shared map needs."""
    every = -(-pieces[0].x.shape[1] // most)
    return tuple(Piece(p.x[:, ::every], p.u) for p in pieces)


def finite(held: Held, lags: tuple[int, ...], own: Dictionary | None) -> Iterator[Candidate]:
    """Finite Koopman models in monomials, or in the user's dictionary."""
    d = held.past.shape[2]
    for k in lags:
        if k * d > MOST_STATE or held.u is not None:
            continue
        options = [own] if own is not None else _monomials(k * d)
        for dictionary in options:
            plan = Plan(k, 1, "mean", dictionary=dictionary)
            every = -(-count_windows(held.train, k, 1) // _ROWS)
            fit = finite_moments(plan, held.train, every).fit()
            for ridge in RIDGES[::2]:
                yield judged("finite", of_finite_fit(plan, fit, ridge), held)


def koopman(held: Held, lags: tuple[int, ...], seed: int) -> Iterator[Candidate]:
    """The full model, with one observation in a state and with several."""
    d, horizon = held.past.shape[2], held.future.shape[1]
    for k in lags:
        if k * d > MOST_STATE or held.u is not None:
            continue
        try:
            yield judged("koopman", fit_full(Plan(k, horizon), held.train, seed), held)
        except (DataError, ConfigError, LinAlgError):
            continue
