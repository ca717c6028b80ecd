"""A deep linear network as a scikit-learn regressor."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import nn

from rectilinear.deeplinear.ensemble import OPTIMIZERS, Optimizer
from rectilinear.deeplinear.initialisation import Initialisation, Layers, initial_weights
from rectilinear.deeplinear.solver import Units, solve
from rectilinear.deeplinear.statistics import SufficientStatistics, check_unmasked
from rectilinear.errors import ConfigError

MAX_DEFAULT_WIDTH = 64  # units of a layer: wider ones cost more steps a second than they save


class DeepLinearRegressor(RegressorMixin, MultiOutputMixin, BaseEstimator):
    """Linear regression by a chain of linear layers, trained on the mean square error of all rows.

    What it fits is least squares; depth changes the way there. It trains from the statistics of
    the rows, so the time of a step does not depend on their number. By default columns are
    standardised for training, the initial weights lead away from the saddle at zero, and a
    ``ConvergenceWarning`` is given if the optimum is not reached.

    Args:
        depth: the number of layers; 1 is linear regression by descent.
        width: units of each hidden layer; below the smaller of inputs and targets not every linear
            map can be represented. ``None`` is the larger of the two up to 64, where no direction
            is slow.
        init: how weights are initialised: ``"zero_last"``, ``"orthogonal"``, ``"torch"``,
            ``"uniform"``, ``"normal"``, ``"identity"`` or ``"balanced"``; see
            :func:`~rectilinear.deeplinear.initial_weights`.
        optimizer: ``"auto"``, 2,000 steps of Adam and then L-BFGS on whitened inputs, which no
            conditioning slows down; or ``"adam"``, ``"momentum"`` or ``"gd"`` alone.
        lr: the step size of descent, on the mean square error as with ``torch.nn.MSELoss``.
        max_iter: the largest number of steps.
        tol: the optimality gap at which training ends, a share of the variance of the targets.
        fit_intercept: whether there is an intercept, from a bias in every layer.
        standardize: whether training sees columns of variance one, and with an intercept of mean
            zero.
        random_state: seed of the initial weights.

    Attributes:
        coef_: end-to-end weights ``(d,)``, or ``(m, d)`` for targets with two axes.
        intercept_: a number, or ``(m,)``.
        optimality_gap_: the mean square error of ``coef_`` and ``intercept_`` above that of least
            squares, a share of the variance of the targets (of the mean of their squares without
            an intercept). Where ``width`` is below the rank of least squares, it is measured from
            the best map of that rank, reduced-rank regression. It is known to the rounding of
            predictions, ``1e-14`` times the squared condition number of the columns.
        converged_: whether that gap is at most ``tol``.
        n_iter_: the number of steps of the last call, at least 1.
        learning_curve_: ``{"step", "loss", "gap"}`` of the last call, on a logarithmic grid up to
            the last step; the loss is the mean square error over rows and targets in the units of
            the data, the gap is as above.
        weights_: of each layer, in the units of the data: those with the smallest gap of all
            steps.
        biases_: likewise.
        statistics_: of all the rows seen.
        n_features_in_: as everywhere in scikit-learn.
        feature_names_in_: likewise.

    Reference: Arora, Cohen and Hazan, "On the Optimization of Deep Networks: Implicit Acceleration
    by Overparameterization", 2018.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = DeepLinearRegressor(depth=5).fit(X, y)
        >>> print(f"{model.score(X, y):.4f}", model.converged_, model.coef_.shape)
        0.5177 True (10,)
    """

    def __init__(
        self,
        depth: int = 3,
        width: int | None = None,
        *,
        init: Initialisation = "zero_last",
        optimizer: Optimizer | Literal["auto"] = "auto",
        lr: float = 0.01,
        max_iter: int = 10_000,
        tol: float = 1e-10,
        fit_intercept: bool = True,
        standardize: bool = True,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.depth = depth
        self.width = width
        self.init = init
        self.optimizer = optimizer
        self.lr = lr
        self.max_iter = max_iter
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.standardize = standardize
        self.random_state = random_state

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> DeepLinearRegressor:
        """Train on these rows, from new initial weights.

        Args:
            X: inputs ``(n, d)``.
            y: targets ``(n,)`` or ``(n, m)``.
            sample_weight: weights ``(n,)``, all one by default; an integer weight means as many
                equal rows.

        Raises:
            ValueError: for data that are not finite numbers of the right shape.
            ConfigError: for a parameter out of range.
            DivergedError: if the loss grows without bound.
        """
        return self._train(self._statistics(X, y, sample_weight, reset=True), None)

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> DeepLinearRegressor:
        """Train on from the present weights, with these rows and all the rows before.

        Of earlier rows only the statistics were kept.

        Args:
            X: inputs ``(n, d)``.
            y: targets ``(n,)`` or ``(n, m)``.
            sample_weight: weights ``(n,)``, all one by default.

        Raises:
            ValueError: for data that are not finite numbers of the right shape.
            ConfigError: for a parameter out of range, or one that changes the network.
            DivergedError: if the loss grows without bound.
        """
        if not hasattr(self, "statistics_"):
            return self.fit(X, y, sample_weight)
        new = self._statistics(X, y, sample_weight, reset=False)
        return self._train(self.statistics_ + new, (tuple(self.weights_), tuple(self.biases_)))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The predictions ``(n,)`` or ``(n, m)`` for inputs ``X`` ``(n, d)``."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        return X @ self.coef_.T + self.intercept_

    def to_torch(self) -> nn.Sequential:
        """The network as a chain of ``torch.nn.Linear`` in float64, in the units of the data.

        Example:
            >>> import torch
            >>> model = DeepLinearRegressor(depth=2).fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
            >>> model.to_torch()(torch.tensor([[3.0]], dtype=torch.float64)).round(decimals=3)
            tensor([[7.]], dtype=torch.float64, grad_fn=<RoundBackward1>)
        """
        check_is_fitted(self)
        net = nn.Sequential()
        for i, weight in enumerate(self.weights_):
            layer = nn.Linear(
                weight.shape[1], weight.shape[0], bias=bool(self.biases_), dtype=torch.float64
            )
            state = {"weight": torch.from_numpy(weight.copy())}
            if self.biases_:
                state["bias"] = torch.from_numpy(self.biases_[i].copy())
            layer.load_state_dict(state)
            net.append(layer)
        return net

    def _statistics(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, *, reset: bool
    ) -> SufficientStatistics:
        for values, name in ((X, "X"), (y, "y"), (sample_weight, "sample_weight")):
            check_unmasked(values, name)
        X, y = validate_data(
            self, X, y, reset=reset, dtype=np.float64, multi_output=True, y_numeric=True
        )
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
        if reset:
            self._flat = np.ndim(y) == 1
        statistics = SufficientStatistics.from_data(X, y, sample_weight)
        self._warn_of_rounding(X, y, sample_weight, statistics)
        return statistics

    def _warn_of_rounding(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        statistics: SufficientStatistics,
    ) -> None:
        """One warning for columns that vary, but by so little that only rounding is left of it."""
        table = np.column_stack([np.asarray(X), np.asarray(y)])
        if sample_weight is not None:
            table = table[np.asarray(sample_weight) > 0]
        lost = (table != table[:1]).any(0) & ~statistics.factor.any(0)
        if lost.any():
            names = [
                *getattr(self, "feature_names_in_", (f"x{i}" for i in range(statistics.inputs)))
            ]
            names += [f"target {i}" for i in range(statistics.outputs)]
            columns = ", ".join(name for name, gone in zip(names, lost, strict=True) if gone)
            warnings.warn(
                f"Taken as constant, since they vary by rounding errors of their mean: {columns}. "
                "Subtract a constant from them, and their differences count.",
                stacklevel=4,
            )

    def _train(
        self, statistics: SufficientStatistics, layers: Layers | None
    ) -> DeepLinearRegressor:
        self._check()
        units = Units.of(
            statistics, centre=bool(self.fit_intercept), standardize=bool(self.standardize)
        )
        few, many = sorted((statistics.inputs, statistics.outputs))
        widths = (self.width or max(few, min(many, MAX_DEFAULT_WIDTH)),) * (self.depth - 1)
        sizes = (statistics.inputs, *widths, statistics.outputs)
        varies = units.seen.root(bias=units.bias).any(0)
        if layers is None:
            layers = self._draw(sizes, bias=units.bias)
            # The weights of an input that is always zero have no gradient: they would stay random.
            layers[0][0][:, ~varies] = 0
        else:
            self._check_unchanged(sizes, layers, bias=units.bias)
            layers = units.from_data(layers)
            new = varies & ~layers[0][0].any(0)
            # Weights of zero for inputs that were constant so far would be a saddle for ever.
            if new.any():
                layers[0][0][:, new] = self._draw(sizes, bias=units.bias)[0][0][:, new]
        found = solve(
            units,
            layers,
            optimizer=self.optimizer,
            lr=self.lr,
            max_iter=self.max_iter,
            tol=self.tol,
        )
        weights, biases = units.to_data(found.layers)
        maps = [units.map_to_data(coef, intercept) for coef, intercept in (*found.maps, found.best)]
        coef, intercept = (np.stack(parts) for parts in zip(*maps, strict=True))
        reference = units.seen.least_squares(bias=units.bias, rank=min((*widths, few)))
        gap = units.gap(coef, intercept, reference.coef) / units.scale
        self.statistics_, self.weights_, self.biases_ = statistics, weights, biases
        self.optimality_gap_, self.n_iter_ = float(gap[-1]), max(1, found.count)
        self.converged_ = bool(self.optimality_gap_ <= self.tol)
        loss = statistics.mean_square_error(coef, intercept)
        self.learning_curve_ = {"step": np.array(found.steps), "loss": loss[:-1], "gap": gap[:-1]}
        self.coef_, self.intercept_ = coef[-1], intercept[-1]
        if self._flat:
            self.coef_, self.intercept_ = self.coef_[0], float(self.intercept_[0])
        if not self.converged_:
            warnings.warn(self._advice(), ConvergenceWarning, stacklevel=3)
        return self

    def _draw(self, sizes: tuple[int, ...], *, bias: bool) -> Layers:
        return initial_weights(
            self.init,
            sizes,
            bias=bias,
            seed=check_random_state(self.random_state).randint(2**31 - 1),
        )

    @staticmethod
    def _check_unchanged(sizes: tuple[int, ...], layers: Layers, *, bias: bool) -> None:
        """Raise if ``partial_fit`` would continue with another network."""
        weights, biases = layers
        if (found := (weights[0].shape[1], *map(len, weights))) != sizes or bool(biases) != bias:
            raise ConfigError(
                f"a network of {sizes} units, fit_intercept={bias}",
                f"{found} and fit_intercept={bool(biases)}, as in the first call of partial_fit",
                "Call fit, or leave depth, width and fit_intercept as they were.",
            )

    def _advice(self) -> str:
        """Advice for the optimisation: settings that are not in force yet."""
        ways = [] if self.n_iter_ < self.max_iter else ["a larger max_iter"]
        if self.optimizer != "auto":
            ways += ["optimizer='auto'", *([] if self.optimizer == "adam" else ["another lr"])]
        ways += [] if self.standardize else ["standardize=True"]
        ways += [] if self.init == "zero_last" else ["init='zero_last'"]
        if not ways:
            ways = [
                "a larger tol where what is left is rounding",
                "a smaller depth",
                "another random_state",
            ]
        return (
            f"The optimality gap is {self.optimality_gap_:.1e} after {self.n_iter_} steps, above "
            f"tol = {self.tol}. Try {', or '.join(ways)}."
        )

    def _check(self) -> None:
        def whole(value: Any) -> bool:
            return (
                isinstance(value, int | np.integer)
                and not isinstance(value, bool)
                and int(value) >= 1
            )

        def number(value: Any) -> bool:
            return isinstance(value, int | float | np.integer | np.floating) and not isinstance(
                value, bool
            )

        def flag(value: Any) -> bool:
            return isinstance(value, bool | np.bool_ | int) and value in (0, 1)

        for name, expected, fine in (
            ("depth", "an integer of at least 1", whole(self.depth)),
            ("width", "an integer of at least 1, or None", self.width is None or whole(self.width)),
            ("max_iter", "an integer of at least 1", whole(self.max_iter)),
            ("tol", "a number of at least 0", number(self.tol) and self.tol >= 0),
            ("lr", "a positive and finite number", number(self.lr) and 0 < self.lr < np.inf),
            ("fit_intercept", "True or False", flag(self.fit_intercept)),
            ("standardize", "True or False", flag(self.standardize)),
            (
                "optimizer",
                f"auto or one of {', '.join(OPTIMIZERS)}",
                self.optimizer in ("auto", *OPTIMIZERS),
            ),
        ):
            if not fine:
                raise ConfigError(f"{name} = {getattr(self, name)!r}", expected)
