"""Where trials come from: a synthetic law, or the folds of a table."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np

from rectilinear.checks import is_count, is_within
from rectilinear.deeplinear.least_squares import column_norms
from rectilinear.deeplinear.statistics import SufficientStatistics
from rectilinear.deeplinear.study.models import Model
from rectilinear.deeplinear.study.table import Table
from rectilinear.errors import ConfigError

Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Batch:
    """Trials side by side: statistics of their training and test sets over ``(trials,)``, their
    numbers and noise.

    ``rows`` are inputs ``(trials, n, d)``, targets ``(trials, n)`` and the weights ``(trials, n)``
    of training and test rows; only nets that are not linear need them.
    """

    trial: np.ndarray
    noise: np.ndarray
    train: SufficientStatistics
    test: SufficientStatistics
    rows: Rows | None = None


@dataclass(frozen=True)
class Synthetic:
    """Noisy linear data: ``y = A x + B``, ``A`` and ``B`` drawn anew in every trial; by default a
    line.

    ``x ~ N(0, C)``, ``A ~ N(0, I/d)``, ``B ~ N(0, 1)``. The default is the protocol of
    Lakkapragada: one input, and noise whose standard deviation is a multiple of the mean of ``y``,
    so that it depends on ``B`` alone.

    Args:
        noise: levels ``c``; every trial is drawn at each.
        noise_kind: its standard deviation is ``c`` times the mean of ``y`` in the set at hand
            (``mean``), ``c`` (``constant``), or ``c`` times the standard deviation of ``A x``
            (``ratio``).
        inputs: their number ``d``.
        rows: of the training set.
        test_rows: of the test set.
        condition: of ``C``, whose eigenvalues are spaced evenly in the logarithm with mean one.

    Raises:
        ConfigError: for a number out of range.

    Reference:
        Lakkapragada, "A novel explanation against linear neural networks", arXiv 2401.00186.

    Example:
        >>> batch = Synthetic(noise=(0.1,), rows=50).draw(np.random.SeedSequence(0), range(3))
        >>> batch.train.mean_x.shape
        (3, 1)
    """

    noise: tuple[float, ...] = (0.05, 0.15, 0.3, 0.5)
    noise_kind: Literal["mean", "constant", "ratio"] = "mean"
    inputs: int = 1
    rows: int = 1000
    test_rows: int = 200
    condition: float = 1.0

    def __post_init__(self) -> None:
        for name, given, expected, fine in (
            (
                "noise",
                self.noise,
                "levels of at least 0",
                isinstance(self.noise, tuple | list)
                and bool(self.noise)
                and all(is_within(c, 0) for c in self.noise),
            ),
            (
                "noise_kind",
                self.noise_kind,
                "mean, constant or ratio",
                self.noise_kind in ("mean", "constant", "ratio"),
            ),
            ("inputs", self.inputs, "at least one", is_count(self.inputs, 1)),
            ("rows", self.rows, "at least two", is_count(self.rows, 2)),
            ("test_rows", self.test_rows, "at least one", is_count(self.test_rows, 1)),
            ("condition", self.condition, "at least 1", is_within(self.condition, 1)),
        ):
            if not fine:
                raise ConfigError(f"{name} = {given!r}", expected, "Correct this value.")

    @property
    def test_fraction(self) -> float:
        return self.test_rows / self.rows

    def draw(self, seed: np.random.SeedSequence, trials: range, *, rows: bool = False) -> Batch:
        """The trials at every level of noise, the first level first; with the data themselves for
        ``rows``.
        """
        rng = np.random.default_rng(seed)
        R, d = len(self.noise) * len(trials), self.inputs
        level = np.repeat(self.noise, len(trials))
        A, B = rng.normal(size=(R, d)) / d**0.5, rng.normal(size=R)
        spread = np.geomspace(1, self.condition, d) if d > 1 else np.ones(1)
        spread = np.sqrt(spread / spread.mean())
        X, y = zip(
            *(self._set(rng, A, B, level, spread, n) for n in (self.rows, self.test_rows)),
            strict=True,
        )
        train, test = (SufficientStatistics.from_data(*part) for part in zip(X, y, strict=True))
        data = None
        if rows:
            weight = np.repeat([1.0, 0.0], [self.rows, self.test_rows])
            shape = (R, len(weight))
            inside, outside = np.broadcast_to(weight, shape), np.broadcast_to(1 - weight, shape)
            data = (np.concatenate(X, 1), np.concatenate(y, 1), inside, outside)
        return Batch(np.tile(np.asarray(trials), len(self.noise)), level, train, test, data)

    def _set(
        self,
        rng: np.random.Generator,
        A: np.ndarray,
        B: np.ndarray,
        level: np.ndarray,
        spread: np.ndarray,
        n: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        X = spread * rng.normal(size=(len(A), n, len(spread)))
        signal = (X @ A[..., None])[..., 0]
        clean = signal + B[:, None]
        size = {"mean": clean.mean(1), "constant": np.ones(len(A)), "ratio": signal.std(1)}[
            self.noise_kind
        ]
        return X, clean + (level * size)[:, None] * rng.normal(size=clean.shape)


@dataclass(frozen=True, eq=False)
class Drawn:
    """A batch that is drawn where it is needed: what a worker is sent."""

    protocol: Synthetic
    seed: np.random.SeedSequence
    trials: range
    rows: bool = False

    def of(self, model: Model) -> Drawn:
        """What this model needs of it: rows, if it is not linear."""
        return replace(self, rows=model.kind == "relu")

    def batch(self) -> Batch:
        return self.protocol.draw(self.seed, self.trials, rows=self.rows)


@dataclass(frozen=True, eq=False)
class Folded:
    """The folds of one split of a table: what a worker is sent is statistics, and rows only where a
    net needs them.
    """

    trials: range
    train: SufficientStatistics
    test: SufficientStatistics
    rows: Rows | None

    def of(self, model: Model) -> Folded:
        """What this model needs of it: no rows, if it is linear."""
        return self if model.kind == "relu" else replace(self, rows=None)

    def batch(self) -> Batch:
        trials = np.asarray(self.trials)
        return Batch(trials, np.full(len(trials), np.nan), self.train, self.test, self.rows)


def folded(
    table: Table, folds: int, seed: np.random.SeedSequence, trials: range, *, rows: bool
) -> Folded:
    """One random split of the table into ``folds`` parts, each the test set of a trial.

    Columns are standardised by the training set of each trial. The statistics of a training set are
    the sum of those
    of the other parts: one pass over the data for all folds.
    """
    order = np.random.default_rng(seed).permutation(len(table.y))
    parts = np.array_split(order, folds)
    X, y = _near_zero(table.X), _near_zero(table.y)
    each = [SufficientStatistics.from_data(X[part], y[part]) for part in parts]
    train = _stacked([_added(each[:i] + each[i + 1 :]) for i in range(folds)])
    centre = np.concatenate([train.mean_x, train.mean_y], axis=-1)
    spread = column_norms(train.factor)
    spread = np.where(
        spread > _CONSTANT * np.abs(centre), spread, np.inf
    )  # a constant column becomes zero
    test = _standardized(_stacked(each), centre, spread)
    data = None
    if rows:
        columns = (np.column_stack([X, y]) - centre[:, None]) / spread[:, None]
        outside = np.ones((folds, len(table.y)))
        for i, part in enumerate(parts):
            outside[i, part] = 0.0
        data = (columns[..., :-1], columns[..., -1], outside, 1 - outside)
    return Folded(trials, _standardized(train, centre, spread), test, data)


_CONSTANT = 1e-12  # spread over mean: beyond rounding, there is variation
_FAR = 1e6  # mean over spread: beyond, columns are moved to their middle, for the sake of digits


def _near_zero(columns: np.ndarray) -> np.ndarray:
    """The columns, those far from zero moved to the middle of their values, which standardised
    columns do not show.
    """
    low, high = columns.min(axis=0), columns.max(axis=0)
    middle = low + (high - low) / 2
    return np.asarray(columns - np.where(np.abs(middle) > _FAR * (high - low), middle, 0.0))


def _added(parts: list[SufficientStatistics]) -> SufficientStatistics:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _stacked(parts: list[SufficientStatistics]) -> SufficientStatistics:
    """Statistics one after the other, as runs."""
    return SufficientStatistics(
        *(np.stack([getattr(part, f.name) for part in parts]) for f in fields(parts[0]))
    )


def _standardized(
    statistics: SufficientStatistics, centre: np.ndarray, spread: np.ndarray
) -> SufficientStatistics:
    """The statistics of ``(z - centre) / spread`` for each column ``z`` of inputs and targets."""
    mean = (np.concatenate([statistics.mean_x, statistics.mean_y], axis=-1) - centre) / spread
    d = statistics.inputs
    return SufficientStatistics(
        statistics.n, mean[..., :d], mean[..., d:], statistics.factor / spread[..., None, :]
    )
