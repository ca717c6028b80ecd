"""Design of a depth study: the models that are compared, and the data of its trials."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from rectilinear.deeplinear.diagnosis import STATES
from rectilinear.deeplinear.ensemble import OPTIMIZERS, Optimizer
from rectilinear.deeplinear.initialisation import INITIALISATIONS, Initialisation
from rectilinear.deeplinear.statistics import SufficientStatistics, column_norms
from rectilinear.errors import ConfigError
from rectilinear.scalars import is_count, is_within

if TYPE_CHECKING:
    from rectilinear.deeplinear.study.table import Table

Kind = Literal["least_squares", "ridge", "deep_linear", "relu"]
Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

OSCILLATING = "oscillating"
ENDS = (*STATES, OSCILLATING)
"""The states at the end of a trial: those of a network, or with a step too large to settle."""
MOMENTUM, ADAM_EPS = 0.9, 1e-8  # of the optimisers
MIN_RELATIVE_SPREAD = 1e-12  # spread over mean of a column: below, it is constant
MAX_RELATIVE_MEAN = 1e6  # mean over spread of a column: above, it is moved, to keep digits


@dataclass(frozen=True)
class Model:
    """One model of a study.

    Args:
        kind: ``least_squares``, ``ridge``, ``deep_linear`` or ``relu``.
        depth: the number of layers; a deep linear network of depth one is linear regression by
            descent.
        width: units of each hidden layer.
        init: how weights are initialised: a name of
            :func:`~rectilinear.deeplinear.initial_weights`.
        optimizer: ``gd``, ``momentum`` or ``adam``.
        lr: the step size on the mean square error, as with ``torch.nn.MSELoss``; None for the
            best of a grid, chosen on other trials than those reported.
        bias: whether layers have biases; a ReLU network without is homogeneous.
        penalty: weight of the squared coefficients of ridge, beside the sum of squared errors.

    Raises:
        ConfigError: for a name that is unknown or a number out of range.

    Example:
        >>> Model("deep_linear", depth=3, optimizer="adam").name
        'depth 3, adam'
    """

    kind: Kind = "deep_linear"
    depth: int = 1
    width: int = 1
    init: Initialisation = "uniform"
    optimizer: Optimizer = "gd"
    lr: float | None = 1e-3
    bias: bool = True
    penalty: float = 1.0

    def __post_init__(self) -> None:
        kinds = get_args(Kind)
        for name, given, expected, fine in (
            ("kind", self.kind, f"one of {', '.join(kinds)}", self.kind in kinds),
            ("depth", self.depth, "at least one layer", is_count(self.depth, 1)),
            ("width", self.width, "at least one unit", is_count(self.width, 1)),
            (
                "init",
                self.init,
                f"one of {', '.join(INITIALISATIONS)}",
                self.init in INITIALISATIONS,
            ),
            (
                "optimizer",
                self.optimizer,
                f"one of {', '.join(OPTIMIZERS)}",
                self.optimizer in OPTIMIZERS,
            ),
            (
                "lr",
                self.lr,
                "a positive step, or None",
                self.lr is None or (is_within(self.lr, 0) and self.lr > 0),
            ),
            ("penalty", self.penalty, "at least 0", is_within(self.penalty, 0)),
        ):
            if not fine:
                raise ConfigError(f"{name} = {given!r}", expected)

    @property
    def trained(self) -> bool:
        """True if there is something to train."""
        return self.kind in ("deep_linear", "relu")

    @property
    def family(self) -> str:
        """The name without the depth, common to the points of a line over depths."""
        if not self.trained:
            return {"least_squares": "least squares", "ridge": f"ridge {self.penalty:g}"}[self.kind]
        words = [
            "" if self.bias else "bias-free",
            "ReLU" if self.kind == "relu" else "",
            self.optimizer,
        ]
        words += [
            f"width {self.width}" if self.width > 1 else "",
            self.init if self.init != "uniform" else "",
        ]
        words += ["tuned" if self.lr is None else f"lr {self.lr:g}" if self.lr != Model.lr else ""]
        return " ".join(filter(None, words))

    def rule(self, lr: ArrayLike | None = None) -> dict[str, Any]:
        """Arguments of :func:`~rectilinear.deeplinear.train_ensemble`, whose loss is half as large.

        Args:
            lr: step sizes in place of that of the model.
        """
        lr = self.lr if lr is None else lr
        assert lr is not None
        if self.optimizer == "adam":  # halving the gradient changes its step by eps alone
            return {"optimizer": "adam", "lr": lr, "eps": ADAM_EPS / 2}
        return {"optimizer": self.optimizer, "lr": 2 * np.asarray(lr), "momentum": MOMENTUM}

    @property
    def name(self) -> str:
        """The name, another one for every model of a study."""
        return f"depth {self.depth}, {self.family}" if self.trained else self.family


def deep_linear(
    depths: Iterable[int] = range(1, 11),
    *,
    widths: Iterable[int] = (1,),
    inits: Iterable[Initialisation] = ("uniform",),
    optimizers: Iterable[Optimizer] = ("gd",),
    lr: float | None = 1e-3,
    bias: bool = True,
) -> tuple[Model, ...]:
    """Least squares, and after it deep linear networks in every combination of the settings.

    Args:
        depths: numbers of layers.
        widths: units of the hidden layers.
        inits: names of initialisations.
        optimizers: ``gd``, ``momentum`` or ``adam``.
        lr: the step size on the mean square error, or None as in :class:`Model`.
        bias: whether layers have biases.

    Example:
        >>> [model.name for model in deep_linear([1, 2], optimizers=["gd", "adam"])]
        ['least squares', 'depth 1, gd', 'depth 2, gd', 'depth 1, adam', 'depth 2, adam']
    """
    networks = product(widths, inits, optimizers, depths)
    return (
        Model("least_squares", bias=bias),
        *(
            Model("deep_linear", depth, width, init, optimizer, lr, bias)
            for width, init, optimizer, depth in networks
        ),
    )


@dataclass(frozen=True, eq=False)
class Batch:
    """Trials side by side: statistics of their training and test sets.

    Attributes:
        trial: ``(trials,)``, their numbers.
        noise: ``(trials,)``, their levels of noise; NaN for those of a table.
        train: statistics of the training sets.
        test: statistics of the test sets.
        rows: inputs ``(trials, n, d)``, targets ``(trials, n)`` and the weights ``(trials, n)`` of
            training and test rows, for ReLU networks; else None.
    """

    trial: np.ndarray
    noise: np.ndarray
    train: SufficientStatistics
    test: SufficientStatistics
    rows: Rows | None = None


@dataclass(frozen=True)
class Synthetic:
    """Noisy linear data ``y = A x + B``, with ``A`` and ``B`` drawn in every trial.

    ``x ~ N(0, C)``, ``A ~ N(0, I/d)``, ``B ~ N(0, 1)``. The default is the protocol of
    Lakkapragada: one input, and noise whose standard deviation is a multiple of the mean of ``y``,
    so that it depends on ``B`` alone.

    Args:
        noise: levels ``c``; every trial is drawn at each.
        noise_kind: the standard deviation of the noise: ``c`` times the mean of ``y`` in that
            set (``mean``), ``c`` (``constant``), or ``c`` times the standard deviation of
            ``A x`` (``ratio``).
        inputs: the number ``d`` of inputs.
        rows: of the training set.
        test_rows: of the test set.
        condition: the condition number of ``C``, whose eigenvalues are spaced evenly in the
            logarithm with mean one.

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
                raise ConfigError(f"{name} = {given!r}", expected)

    @property
    def test_fraction(self) -> float:
        """``n_test / n_train``."""
        return self.test_rows / self.rows

    def draw(self, seed: np.random.SeedSequence, trials: range, *, rows: bool = False) -> Batch:
        """The trials at every level of noise, the first level first.

        Args:
            seed: of the data.
            trials: numbers of the trials.
            rows: whether the data themselves are kept.
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
class SyntheticTrials:
    """A block of synthetic trials as it is sent to a worker, which draws the data."""

    protocol: Synthetic
    seed: np.random.SeedSequence
    trials: range
    rows: bool = False

    def of(self, model: Model) -> SyntheticTrials:
        """The part that this model needs: rows for a ReLU network."""
        return replace(self, rows=model.kind == "relu")

    def batch(self) -> Batch:
        """The trials, drawn."""
        return self.protocol.draw(self.seed, self.trials, rows=self.rows)


@dataclass(frozen=True, eq=False)
class TableTrials:
    """The folds of one split of a table as they are sent to a worker."""

    trials: range
    train: SufficientStatistics
    test: SufficientStatistics
    rows: Rows | None

    def of(self, model: Model) -> TableTrials:
        """The part that this model needs: rows for a ReLU network alone."""
        return self if model.kind == "relu" else replace(self, rows=None)

    def batch(self) -> Batch:
        """The trials."""
        trials = np.asarray(self.trials)
        return Batch(trials, np.full(len(trials), np.nan), self.train, self.test, self.rows)


def split_table(
    table: Table, folds: int, seed: np.random.SeedSequence, trials: range, *, rows: bool
) -> TableTrials:
    """One random split of a table into parts, each the test set of a trial.

    Columns are standardised by the training set of each trial. The statistics of a training set are
    the sum of those of the other parts: one pass over the data for all folds.

    Args:
        table: the data.
        folds: the number of parts.
        seed: of the split.
        trials: numbers of the trials.
        rows: whether the data themselves are kept.
    """
    order = np.random.default_rng(seed).permutation(len(table.y))
    parts = np.array_split(order, folds)
    X, y = _near_zero(table.X), _near_zero(table.y)
    filled = [X] * folds
    if np.isnan(X).any():
        filled = [_filled(X, np.delete(order, np.isin(order, part))) for part in parts]
        pairs = [_of_fold(Z, y, parts, i) for i, Z in enumerate(filled)]
        each, train = [one for one, _ in pairs], [rest for _, rest in pairs]
    else:
        each = [SufficientStatistics.from_data(X[part], y[part]) for part in parts]
        train = [_added(each[:i] + each[i + 1 :]) for i in range(folds)]
    inside = _stacked(train)
    centre = np.concatenate([inside.mean_x, inside.mean_y], axis=-1)
    spread = column_norms(inside.factor)
    # A constant column becomes zero.
    spread = np.where(spread > MIN_RELATIVE_SPREAD * np.abs(centre), spread, np.inf)
    test = _standardized(_stacked(each), centre, spread)
    data = None
    if rows:
        columns = np.stack([np.column_stack([Z, y]) for Z in filled])
        columns = (columns - centre[:, None]) / spread[:, None]
        outside = np.ones((folds, len(table.y)))
        for i, part in enumerate(parts):
            outside[i, part] = 0.0
        data = (columns[..., :-1], columns[..., -1], outside, 1 - outside)
    return TableTrials(trials, _standardized(inside, centre, spread), test, data)


def _filled(X: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The inputs with the means over these rows in empty cells; zero where all are empty."""
    holes = np.isnan(X)
    count = (~holes[train]).sum(0)
    mean = np.where(holes[train], 0.0, X[train]).sum(0) / np.maximum(count, 1)
    return np.where(holes, mean, X)


def _of_fold(
    X: np.ndarray, y: np.ndarray, parts: list[np.ndarray], i: int
) -> tuple[SufficientStatistics, SufficientStatistics]:
    """The statistics of part ``i`` and of the other parts together."""
    each = [SufficientStatistics.from_data(X[part], y[part]) for part in parts]
    return each[i], _added(each[:i] + each[i + 1 :])


def _near_zero(columns: np.ndarray) -> np.ndarray:
    """The columns, those far from zero moved by the middle of their values.

    Standardised columns are the same, with more digits.
    """
    low, high = np.nanmin(columns, axis=0), np.nanmax(columns, axis=0)
    middle = low + (high - low) / 2
    return np.asarray(
        columns - np.where(np.abs(middle) > MAX_RELATIVE_MEAN * (high - low), middle, 0.0)
    )


def _added(parts: list[SufficientStatistics]) -> SufficientStatistics:
    """The statistics of all rows together."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _stacked(parts: list[SufficientStatistics]) -> SufficientStatistics:
    """The statistics as a batch, one after the other."""
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
