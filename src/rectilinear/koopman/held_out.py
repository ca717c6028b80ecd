"""Rows held out of a fit, and forecast errors on them from every origin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, isfinite
from typing import Protocol

import torch
from scipy.stats import t as student
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from rectilinear.errors import DataError, RectilinearError
from rectilinear.koopman.autoregression import Piece, Plan, count_windows
from rectilinear.koopman.principal_components import Reduced
from rectilinear.koopman.smoothing import smooth

MOST_STATE = 64  # coordinates of a state that dictionaries and the full model are tried on
MOST_ORIGINS = 1000
FEWER_LAGS, LESS_RIDGE = 5e-3, 2e-5
"""Parts of the error that a simpler model of the same kind may cost."""
EVIDENCE = 0.975
"""Probability by which Student's t must tell two errors apart, where the simpler model is kept."""
ENOUGH, FEW_ROWS = 100.0, 5000
"""Of fewer independent held-out stretches and rows, earlier rows are held out in turn, too."""
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
        folds: the same with other rows held out, where there are few.
    """

    train: tuple[Piece, ...]
    past: Tensor
    future: Tensor
    u: Tensor | None
    smoothed: Held | None = None
    noise: float = 0.0
    basis: Tensor | None = None
    independent: float = 1.0
    folds: tuple[Held, ...] = ()

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
        return replace(self, train=train, past=self.past @ basis, basis=basis, folds=())

    def thinned(self, most: int) -> Held:
        """At most so many of the origins, evenly spaced."""
        some = slice(None, None, -(-len(self.past) // most))
        u = None if self.u is None else self.u[some]
        return replace(self, past=self.past[some], future=self.future[some], u=u)

    def of_size(self, count: int) -> Held:
        """Exactly so many of the origins, about evenly spaced."""
        some = torch.linspace(0, len(self.past) - 1, count).round().long()
        u = None if self.u is None else self.u[some]
        return replace(self, past=self.past[some], future=self.future[some], u=u)

    def first(self, steps: int) -> Held:
        """The same over the first steps alone, of which more stretches are independent."""
        more = self.independent * self.future.shape[1] / steps
        u = None if self.u is None else self.u[:, : self.past.shape[1] + steps]
        independent = min(more, float(len(self.past)))
        return replace(self, future=self.future[:, :steps], u=u, independent=independent)

    def _u(self, model: Model) -> Tensor | None:
        return None if self.u is None else self.u[:, self.past.shape[1] - model.plan.lags :]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model fitted on the training rows alone, and how it forecasts the held-out ones.

    Attributes:
        kind: one of :data:`~rectilinear.koopman.selection.KINDS`.
        model: fitted on the training rows.
        square: mean square error over columns from each origin at each step, ``(n, horizon)``.
        independent: about how many of the origins are independent.
        whole: the same on all folds, where there are more.
    """

    kind: str
    model: Model
    square: Tensor
    independent: float
    whole: Candidate | None = None

    @cached_property
    def by_step(self) -> Tensor:
        """Root mean square error at each step, ``(horizon,)``, in standard units."""
        return self.square.mean(0).sqrt()

    @cached_property
    def score(self) -> float:
        """The mean over steps of the logarithm of the mean square error."""
        value = float(self.square.mean(0).clamp(min=_EXACT).log().mean())
        return value if isfinite(value) else inf

    @cached_property
    def influence(self) -> Tensor:
        """The part that each origin has in the score, ``(n,)``: its derivative, of mean 1."""
        return (self.square / self.square.mean(0).clamp(min=_EXACT)).mean(1)

    def worse_for_certain(self, other: Candidate) -> bool:
        """True where the score is above that of ``other`` by more than their difference varies.

        By Student's t for the mean of the paired influences, at the level :data:`EVIDENCE`; on all
        folds where both have them.
        """
        if self.whole is not None and other.whole is not None:
            return self.whole.worse_for_certain(other.whole)
        if not (isfinite(self.score) and isfinite(other.score)):
            return self.score > other.score
        n = max(self.independent, 2.0)
        error = float((self.influence - other.influence).std(correction=0)) / (n - 1) ** 0.5
        return self.score - other.score > float(student.ppf(EVIDENCE, n - 1)) * error


def pooled(parts: Sequence[Candidate]) -> Candidate:
    """One candidate of the errors of a plan on several folds, with the model of the first."""
    square = torch.cat([c.square for c in parts])
    return replace(parts[0], square=square, independent=sum(c.independent for c in parts))


def hold_out(pieces: Sequence[Piece], lags: int, horizon: int) -> Held:
    """The pieces parted into rows to fit on and origins to forecast from: see :func:`_parted`."""
    held = _parted(pieces, lags, horizon)
    if held.u is None and held.independent < ENOUGH and sum(len(p.x) for p in pieces) <= FEW_ROWS:
        held = replace(held, folds=tuple(_folds(pieces, lags, horizon)))
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


def _folds(pieces: Sequence[Piece], lags: int, horizon: int) -> Iterator[Held]:
    """Each of the first four fifths held out in turn, of all pieces or of the rows of each.

    Only those that leave at least a sixth of the windows of the most lags to fit on.
    """
    most = count_windows(pieces, lags, horizon)
    many = sum(len(p.x) >= lags + horizon for p in pieces) >= 5
    for k in range(4):
        train: list[Piece] = []
        test: list[Piece] = []
        for i, p in enumerate(pieces):
            rows = len(p.x)
            first, end = max(rows * k // 5, lags), rows * (k + 1) // 5
            if many:
                (test if i % 5 == k else train).append(p)
            elif end - first < horizon:
                train.append(p)
            else:
                test.append(_part(p, first - lags, end))
                train += [_part(p, 0, rows * k // 5), _part(p, end, rows)]
        train = [p for p in train if len(p.x) > 2]
        windows = 6 * count_windows(train, lags, horizon)
        if any(len(p.x) >= lags + horizon for p in test) and windows > most:
            yield held_of(train, test, lags, horizon)


def _part(p: Piece, first: int, end: int) -> Piece:
    return Piece(p.x[first:end], None if p.u is None else p.u[first:end])


def held_of(
    train: Sequence[Piece], test: Sequence[Piece], lags: int, horizon: int, most: int | None = None
) -> Held:
    """At most so many origins in ``test`` pieces, the first after their first ``lags`` rows."""
    length = lags + horizon
    test = [p for p in test if len(p.x) >= length]
    if not test:
        raise DataError(
            "validation rows fewer than the horizon", f"{horizon} or more", "Lower horizon."
        )
    windows = torch.cat([p.x.unfold(0, length, 1).transpose(1, 2) for p in test])
    most = most or max(1, min(MOST_ORIGINS, _NUMBERS // windows[0].numel()))
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
        square = held.errors(model).square().mean(2)
    except (RectilinearError, FloatingPointError, LinAlgError):
        square = torch.full_like(held.future[..., 0], torch.inf)
    if held.basis is not None:
        model = Reduced(model, held.basis)
    return Candidate(kind, model, square, held.independent)


def least_ridge(found: Sequence[Candidate]) -> Candidate:
    """Of candidates by rising penalty, the first that costs at most :data:`LESS_RIDGE`."""
    least = min(c.score for c in found)
    return next(c for c in found if c.score <= least + 2 * LESS_RIDGE or c.score == least)


def best(found: Iterable[Candidate]) -> Candidate | None:
    """The candidate with the smallest score, or one of the mean only where that is certain.

    Of each level, one of the fewest lags whose error exceeds the least by no more than
    :data:`FEWER_LAGS`. Then the one that starts from the last row, unless that of the mean is
    better for certain: of a series that moves to other levels, a few held-out stretches show
    little. A map of half the lags is simpler.
    """
    rivals = list(found)
    last, mean = (
        _fewest([c for c in rivals if c.model.plan.level == level]) for level in ("last", "mean")
    )
    if last is None or mean is None:
        return last or mean
    simple, other = last, mean
    if last.model.plan.lags > 2 * mean.model.plan.lags:
        simple, other = mean, last
    return other if simple.worse_for_certain(other) else simple


def _fewest(rivals: list[Candidate]) -> Candidate | None:
    if not rivals:
        return None
    first = min(rivals, key=lambda c: c.score)
    if not isfinite(first.score):
        return first

    near = [c for c in rivals if c.score - first.score <= 2 * FEWER_LAGS]
    lags = min(c.model.plan.lags for c in near)
    return min((c for c in near if c.model.plan.lags == lags), key=lambda c: c.score)
