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
from rectilinear.koopman.autoregression import (
    Piece,
    Plan,
    StrideMap,
    count_windows,
    some_windows,
)
from rectilinear.koopman.compression import Reduced, Span, span_of
from rectilinear.koopman.realization import smooth

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
        span: that pieces, past and future are coordinates in, where columns outnumber rows.
        known_levels: the levels, where they are those of other coordinates.
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
    span: Span | None = None
    known_levels: tuple[str, ...] | None = None

    def simulated(self, model: Model) -> Tensor:
        """The forecasts of a model ``(n, horizon, width)``, in the units of ``past``."""
        past, steps = self.past[:, : model.plan.lags], self.future.shape[1]
        if self.span is not None and model.plan.shared:
            assert isinstance(model, StrideMap), "maps that columns share"
            return self.span.simulate([model], past[None], steps)[0]
        u = None if self.u is None else self.u[:, self.past.shape[1] - model.plan.lags :]
        return model.simulate(past, steps, u)

    @cached_property
    def parts(self) -> list[Held]:
        """The last rows and those of all folds, with as many origins in each."""
        found = [self, *self.folds]
        fewest = min(len(part.past) for part in found)
        return [part.of_size(fewest) for part in found] if self.folds else found

    def column_errors(self, model: Model) -> Tensor:
        """The errors of a model ``(n, horizon, d)``, from as many origins as memory allows."""
        found = self.future - self.simulated(model)
        if self.span is None:
            return found
        every = -(-len(found) * found.shape[1] * self.columns // _NUMBERS)
        return found[::every] @ self.span.basis.T

    def square(self, found: Tensor) -> Tensor:
        """The mean square error over columns ``(..., n, horizon)`` of forecasts in these units.

        In scores of components it is that of the scores and of what the components leave out.
        """
        if self.basis is None:
            return self.mean_square(self.future - found)
        scores, rest = self._scores
        return self.mean_square(scores - found) + rest

    @cached_property
    def _scores(self) -> tuple[Tensor, Tensor]:
        assert self.basis is not None, "components"
        scores = self.future @ self.basis
        return scores, self.mean_square(self.future - scores @ self.basis.T)

    def outside(self, model: Model) -> Model:
        """The model of the columns themselves."""
        return model if self.span is None else self.span.outside(model)

    def mean_square(self, errors: Tensor) -> Tensor:
        """The mean square over columns of errors ``(..., coordinates)``."""
        return errors.square().sum(-1) / self.columns

    @property
    def columns(self) -> int:
        """The number of columns that are forecast."""
        return self.future.shape[2] if self.span is None else len(self.span.basis)

    @property
    def width(self) -> int:
        """The numbers in a row of a joint state: of components, or of all columns."""
        return self.columns if self.basis is None else self.past.shape[2]

    @cached_property
    def levels(self) -> tuple[str, ...]:
        """The levels for linear maps: if the series drifts, only the last row.

        A map of deviations from the mean may fit held-out rows of a trend well and fail soon after,
        at levels it was not fitted to.
        """
        if self.known_levels is not None:
            return self.known_levels
        rows, later = torch.cat([p.x for p in self.train]), self.future.mean((0, 1))
        if self.span is not None:
            rows, later = rows @ self.span.basis.T, later @ self.span.basis.T
        moved, spread = (later - rows.mean(0)).abs(), rows.std(0).clamp(min=1e-12)
        return ("last",) if float((moved / spread).median()) > DRIFT else ("last", "mean")

    def reduced(self, basis: Tensor) -> Held:
        """The same in scores of components; errors remain those of the columns themselves."""
        train = tuple(p.within(basis) for p in self.train)
        past, levels = self.past @ basis, self.levels
        return replace(self, train=train, past=past, basis=basis, folds=(), known_levels=levels)

    def thinned(self, most: int) -> Held:
        """At most so many of the origins, evenly spaced."""
        return self._origins(slice(None, None, -(-len(self.past) // most)))

    def of_size(self, count: int) -> Held:
        """Exactly so many of the origins, about evenly spaced."""
        return self._origins(torch.linspace(0, len(self.past) - 1, count).round().long())

    def _origins(self, some: slice | Tensor) -> Held:
        u = None if self.u is None else self.u[some]
        return replace(self, past=self.past[some], future=self.future[some], u=u)

    def first(self, steps: int) -> Held:
        """The same over the first steps alone, of which more stretches are independent."""
        more = self.independent * self.future.shape[1] / steps
        u = None if self.u is None else self.u[:, : self.past.shape[1] + steps]
        independent = min(more, float(len(self.past)))
        return replace(self, future=self.future[:, :steps], u=u, independent=independent)


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
        return score_of(self.square[None])[0]

    def worse_for_certain(self, other: Candidate) -> bool:
        """True where the score is above that of ``other`` for certain, on all folds where both are.

        See :func:`is_certainly_less`.
        """
        if self.whole is not None and other.whole is not None:
            return self.whole.worse_for_certain(other.whole)
        return is_certainly_less(other.square, self.square, self.independent)


def is_certainly_less(square: Tensor, other: Tensor, independent: float) -> bool:
    """True where the score of errors ``(n, horizon)`` is below by more than the difference varies.

    By Student's t for the mean of the paired influences at the level :data:`EVIDENCE`. The
    influence of an origin is its part in the score, the derivative, of mean 1; about
    ``independent`` of the origins are so.

    Example:
        >>> square = torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
        >>> is_certainly_less(square / 2, square, 10), is_certainly_less(square, square.flip(0), 10)
        (True, False)
    """
    low, high = score_of(torch.stack([square, other]))
    if not (isfinite(low) and isfinite(high)):
        return low < high
    n = max(independent, 2.0)
    ours, theirs = ((x / x.mean(0).clamp(min=_EXACT)).mean(1) for x in (square, other))
    error = float((ours - theirs).std(correction=0)) / (n - 1) ** 0.5
    return high - low > float(student.ppf(EVIDENCE, n - 1)) * error


def hold_out(pieces: Sequence[Piece], lags: int, horizon: int) -> Held:
    """The pieces parted into rows to fit on and origins to forecast from: see :func:`_parted`.

    Of many columns there are no folds; of more columns than rows, all is in their :class:`Span`.
    """
    if pieces[0].x.shape[1] > MOST_STATE:
        span = span_of(pieces)
        found = _parted(pieces if span is None else span.inside(pieces), lags, horizon)
        return replace(found, span=span)
    held = _parted(pieces, lags, horizon)
    if held.u is None and held.independent < ENOUGH and sum(len(p.x) for p in pieces) <= FEW_ROWS:
        held = replace(held, folds=tuple(_folds(pieces, lags, horizon)))
    quiet, noise = smooth(pieces)
    if noise < _CLEAN:
        return held
    return replace(held, smoothed=_parted(quiet, lags, horizon), noise=noise)


def hold_after(train: Sequence[Piece], later: Sequence[Piece], lags: int, horizon: int) -> Held:
    """The rows of ``later`` held out, without their first ``lags``; see :func:`hold_out`."""
    span = span_of(train, later)
    if span is None:
        return held_of(train, later, lags, horizon)
    return replace(held_of(span.inside(train), span.inside(later), lags, horizon), span=span)


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
            train.append(p.rows(0, cut))
            test.append(p.rows(cut - lags))
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
                test.append(p.rows(first - lags, end))
                train += [p.rows(0, rows * k // 5), p.rows(end)]
        train = [p for p in train if len(p.x) > 2]
        windows = 6 * count_windows(train, lags, horizon)
        if any(len(p.x) >= lags + horizon for p in test) and windows > most:
            yield held_of(train, test, lags, horizon)


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
    most = most or max(1, min(MOST_ORIGINS, _NUMBERS // (length * test[0].x.shape[1])))
    count = count_windows(test, lags, horizon)
    some = torch.arange(0, count, -(-count // most))
    windows = some_windows([p.x for p in test], length, some)
    outer = [p.u for p in test if p.u is not None]
    u = some_windows(outer, length, some) if outer else None
    stretches = float(sum((len(p.x) - lags) / horizon for p in test))
    past = windows[:, :lags].flip(1)
    return Held(tuple(train), past, windows[:, lags:], u, independent=stretches)


def judged(kind: str, model: Model, held: Held) -> Candidate:
    """The candidate with its held-out errors; what diverges is infinitely bad."""
    try:
        square = held.square(held.simulated(model))
    except (RectilinearError, FloatingPointError, LinAlgError):
        square = torch.full_like(held.future[..., 0], torch.inf)
    if held.basis is not None:
        model = Reduced(model, held.basis)
    return Candidate(kind, model, square, held.independent)


def least_penalty(square: Tensor) -> int:
    """The first of rising penalties that costs at most :data:`LESS_RIDGE`, from ``(r, n, h)``."""
    scores = score_of(square)
    least = min(scores)
    return next(i for i, x in enumerate(scores) if x <= least + 2 * LESS_RIDGE or x == least)


def score_of(square: Tensor) -> list[float]:
    """The score of each of several mean square errors ``(r, n, horizon)``, infinite of no number.

    Example:
        >>> score_of(torch.tensor([[[1.0]], [[torch.nan]]]))
        [0.0, inf]
    """
    found = square.mean(1).clamp(min=_EXACT).log().mean(1).tolist()
    return [x if isfinite(x) else inf for x in found]


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
