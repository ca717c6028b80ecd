"""Rows held out of a fit, and forecast errors on them from every origin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Protocol

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from rectilinear.errors import DataError, RectilinearError
from rectilinear.koopman.autoregression import Piece, Plan, count_windows
from rectilinear.koopman.principal_components import Reduced
from rectilinear.koopman.smoothing import smooth

MOST_STATE = 64  # coordinates of a state that dictionaries and the full model are tried on
MOST_ORIGINS = 1000
FEWER_LAGS, AT_MOST, LESS_RIDGE = 5e-3, 2e-2, 2e-5
"""Parts of the error that a simpler model of the same kind may cost."""
DRIFT = 1.0
"""Held-out rows whose mean is this many standard deviations away from that of the others drift."""
_NUMBERS = 20_000_000  # values of all origins together
_CLEAN = 1e-6  # noise of a smaller part of the spread is none
_EXACT = 1e-20  # smaller mean square errors, in variances, count as equal: they are rounding


class Model(Protocol):
    """A model that forecasts ``(b, steps, d)`` from ``past`` ``(b, lags, d)``, newest row first."""

    @property
    def plan(self) -> Plan: ...

    def simulate(self, past: Tensor, steps: int, u: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Held:
    """Pieces to fit on, and the origins to forecast from: in standard units.

    Attributes:
        train: pieces.
        past: ``(n, lags, d)``, newest row first.
        future: ``(n, horizon, d)``.
        u: inputs from the oldest row of the past on, ``(n, lags + horizon, m)``, or None.
        smoothed: the same with the noise removed from all pieces, where there is some.
        noise: its root mean square.
        basis: components ``(d, r)`` that pieces and past are scores of, or None.
        independent: stretches of the length of the horizon in the held-out rows.
    """

    train: tuple[Piece, ...]
    past: Tensor
    future: Tensor
    u: Tensor | None
    smoothed: Held | None = None
    noise: float = 0.0
    basis: Tensor | None = None
    independent: float = 1.0

    def errors(self, model: Model) -> Tensor:
        """The errors of the forecasts of a model, ``(n, horizon, d)``."""
        past, steps = self.past[:, : model.plan.lags], self.future.shape[1]
        found = model.simulate(past, steps, self._u(model))
        return self.future - (found if self.basis is None else found @ self.basis.T)

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels for linear maps: if the series drifts, only the last row.

        A map of deviations from the mean may fit held-out rows of a trend well and fail soon after,
        at levels it was not fitted to.
        """
        rows = torch.cat([p.x for p in self.train])
        moved = (self.future.mean((0, 1)) - self._scores(rows.mean(0))).abs()
        spread = self._scores(rows).std(0).clamp(min=1e-12)
        return ("last",) if float((moved / spread).median()) > DRIFT else ("last", "mean")

    def _scores(self, x: Tensor) -> Tensor:
        return x if self.basis is None else x @ self.basis.T

    def reduced(self, basis: Tensor) -> Held:
        """The same in scores of components; errors remain those of the columns themselves."""
        train = tuple(Piece(p.x @ basis, p.u) for p in self.train)
        return replace(self, train=train, past=self.past @ basis, basis=basis)

    def thinned(self, most: int) -> Held:
        """At most so many of the origins, evenly spaced."""
        some = slice(None, None, -(-len(self.past) // most))
        u = None if self.u is None else self.u[some]
        return replace(self, past=self.past[some], future=self.future[some], u=u)

    def _u(self, model: Model) -> Tensor | None:
        return None if self.u is None else self.u[:, self.past.shape[1] - model.plan.lags :]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model fitted on the training rows alone, and how it forecasts the held-out ones.

    Attributes:
        kind: one of :data:`~rectilinear.koopman.selection.KINDS`.
        model: fitted on the training rows.
        score: mean over steps of the logarithm of the mean square error.
        by_step: root mean square error at each step, ``(horizon,)``, in standard units.
        losses: mean square error from each origin, each step in that of the mean, ``(n,)``.
        independent: about how many of these are independent.
    """

    kind: str
    model: Model
    score: float
    by_step: Tensor
    losses: Tensor
    independent: float


def hold_out(pieces: Sequence[Piece], lags: int, horizon: int) -> Held:
    """The pieces parted into rows to fit on and origins to forecast from: see :func:`_parted`."""
    held = _parted(pieces, lags, horizon)
    if pieces[0].x.shape[1] > MOST_STATE:
        return held
    quiet, noise = smooth(pieces)
    if noise < _CLEAN:
        return held
    return replace(held, smoothed=_parted(quiet, lags, horizon), noise=noise)


def _parted(pieces: Sequence[Piece], lags: int, horizon: int) -> Held:
    """Every fifth piece held out, or the end of each where there are fewer than five."""
    length = lags + horizon
    long = [p for p in pieces if len(p.x) >= length]
    train: list[Piece] = []
    test: list[Piece] = []
    if len(long) >= 5:
        named = {id(p) for p in long[4::5]}
        train = [p for p in pieces if id(p) not in named]
        test = long[4::5]
    else:
        for p in pieces:
            rows = len(p.x)
            held = horizon + max(rows // 5 - horizon // 2, min(rows // 8, 50), 3)
            cut = rows - held
            if len(p.x) < length or cut < lags + 2:
                train.append(p)
                continue
            train.append(Piece(p.x[:cut], None if p.u is None else p.u[:cut]))
            first = cut - lags
            test.append(Piece(p.x[first:], None if p.u is None else p.u[first:]))
    if not test or count_windows(train, 1, 1) < 4:
        longest = max((len(p.x) for p in pieces), default=0)
        raise DataError(
            f"series of at most {longest} rows without a gap, to fit on and to hold out",
            f"about {2 * horizon + lags + 8} rows for a horizon of {horizon} and {lags} lags",
            "Lower horizon or lags, or pass longer or more series.",
        )
    return held_of(train, test, lags, horizon)


def held_of(train: Sequence[Piece], test: Sequence[Piece], lags: int, horizon: int) -> Held:
    """The origins of ``test`` pieces, the first after their first ``lags`` rows."""
    length = lags + horizon
    test = [p for p in test if len(p.x) >= length]
    if not test:
        raise DataError(
            "validation rows fewer than the horizon", f"{horizon} or more", "Lower horizon."
        )
    windows = torch.cat([p.x.unfold(0, length, 1).transpose(1, 2) for p in test])
    most = max(1, min(MOST_ORIGINS, _NUMBERS // windows[0].numel()))
    some = slice(None, None, -(-len(windows) // most))
    windows = windows[some]
    u = None
    if test[0].u is not None:
        u = torch.cat([p.u.unfold(0, length, 1).transpose(1, 2) for p in test if p.u is not None])
        u = u[some]
    stretches = float(sum((len(p.x) - lags) / horizon for p in test))
    past = windows[:, :lags].flip(1)
    return Held(tuple(train), past, windows[:, lags:], u, independent=stretches)


def judged(kind: str, model: Model, held: Held) -> Candidate:
    """The candidate with its held-out errors; what diverges is infinitely bad."""
    try:
        errors = held.errors(model)
    except (RectilinearError, FloatingPointError, LinAlgError):
        errors = torch.full_like(held.future, torch.inf)
    if held.basis is not None:
        model = Reduced(model, held.basis)
    square = errors.square().mean(2)
    by_step = square.mean(0)
    usual = held.future.square().mean((0, 2)).clamp(min=_EXACT)
    value = float(by_step.clamp(min=_EXACT).log().mean())
    value = value if isfinite(value) else inf
    losses = (square / usual).mean(1)
    return Candidate(kind, model, value, by_step.sqrt(), losses, held.independent)


def best(found: Iterable[Candidate]) -> Candidate | None:
    """The candidate with the smallest score, or a simpler one that is not significantly worse.

    In this order: fewer lags, if the error is larger by at most one standard error of the
    difference or :data:`FEWER_LAGS`, and by at most :data:`AT_MOST`; differences from the last row,
    if they cost at most :data:`AT_MOST`; the smallest penalty that costs at most
    :data:`LESS_RIDGE`.
    """
    rivals = list(found)
    if not rivals:
        return None
    first = min(rivals, key=lambda c: c.score)
    if not isfinite(first.score):
        return first

    def near(c: Candidate) -> bool:
        more = c.score - first.score
        if more <= 2 * FEWER_LAGS or more > 2 * AT_MOST:
            return more <= 2 * FEWER_LAGS
        apart = c.losses - first.losses
        error = float(apart.std()) / max(c.independent, 2.0) ** 0.5
        return float(apart.mean()) <= error

    lags = min(c.model.plan.lags for c in rivals if near(c))
    same = [c for c in rivals if c.model.plan.lags == lags and isfinite(c.score)]
    least = min(c.score for c in same)
    last = [c for c in same if c.model.plan.level == "last"]
    if any(c.score <= least + 2 * AT_MOST for c in last):  # it holds where the level moves, too
        same, least = last, min(c.score for c in last)
    same = [c for c in same if c.score <= least + 2 * LESS_RIDGE]
    return min(same, key=lambda c: c.model.plan.ridge)
