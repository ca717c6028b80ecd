"""A deep linear network as a scikit-learn regressor."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from rectilinear.deeplinear.ensemble import Optimizer, train
from rectilinear.deeplinear.start import draw
from rectilinear.deeplinear.statistics import SufficientStatistics
from rectilinear.errors import ConfigError, DivergedError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import nn

    from rectilinear.deeplinear.ensemble import Trajectory
    from rectilinear.deeplinear.start import Layers, Start

_WIDEST = 64  # of hidden layers whose width is left open: wider ones cost more steps per second than they save


class DeepLinearRegressor(RegressorMixin, MultiOutputMixin, BaseEstimator):
    """Linear regression by a chain of linear layers, trained by full-batch descent on the mean square error.

    What it fits is least squares; what depth changes is the way there. It trains from the statistics of the rows, so
    the time of a step does not depend on their number. By default columns are standardised for training, the start
    leads away from the saddle at zero, and it warns if it does not arrive.

    Args:
        depth: the number of layers; 1 is linear regression by descent.
        width: units of each hidden layer; below the smaller of inputs and targets not every linear map gets through.
            ``None`` is the larger of the two up to 64, from where no direction is slow.
        start: how weights begin: ``"zero_last"``, ``"orthogonal"``, ``"torch"``, ``"uniform"``, ``"normal"``,
            ``"identity"``, ``"balanced"``; see :func:`~rectilinear.deeplinear.draw`.
        optimizer: ``"adam"``, ``"momentum"`` or ``"gd"``.
        lr: the step size.
        max_iter: the largest number of steps.
        tol: the optimality gap at which training ends, a share of the variance of the targets.
        fit_intercept: whether there is an intercept, from a bias in every layer.
        standardize: whether training sees columns of mean zero (with an intercept) and variance one.
        random_state: of the start.

    Attributes:
        coef_: end-to-end weights ``(d,)``, or ``(m, d)`` for targets with two axes.
        intercept_: a number, or ``(m,)``.
        optimality_gap_: the mean square error above that of least squares, a share of the variance of the targets
            (of the mean of their squares without an intercept).
        converged_: whether the gap came down to ``tol``.
        n_iter_: the number of steps of the last call, at least 1.
        learning_curve_: ``{"step", "loss", "gap"}`` of the last call, on a logarithmic grid up to the last step; the
            loss is the mean square error over rows and targets.
        weights_, biases_: of each layer, in the units of the data.
        statistics_: of all the rows seen.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.

    Reference: Arora, Cohen and Hazan, "On the Optimization of Deep Networks: Implicit Acceleration by
    Overparameterization", 2018.

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
        start: Start = "zero_last",
        optimizer: Optimizer = "adam",
        lr: float = 0.01,
        max_iter: int = 10_000,
        tol: float = 1e-10,
        fit_intercept: bool = True,
        standardize: bool = True,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.depth = depth
        self.width = width
        self.start = start
        self.optimizer = optimizer
        self.lr = lr
        self.max_iter = max_iter
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.standardize = standardize
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> DeepLinearRegressor:
        """Train on rows ``(n, d)`` with targets ``(n,)`` or ``(n, m)``; an integer weight means as many equal rows.

        Raises:
            ValueError: for data that are not finite numbers of the right shape.
            ConfigError: for a parameter out of range.
            DivergedError: if the loss grows without end.
        """
        return self._train(self._statistics(X, y, sample_weight, reset=True), None)

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> DeepLinearRegressor:
        """Train on from here with these rows and all the rows before: only their statistics were kept.

        Raises:
            ValueError, ConfigError, DivergedError: as :meth:`fit`.
        """
        if not hasattr(self, "statistics_"):
            return self.fit(X, y, sample_weight)
        new = self._statistics(X, y, sample_weight, reset=False)
        return self._train(self.statistics_ + new, self._layers)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The predictions ``(n,)`` or ``(n, m)``."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        return X @ self.coef_.T + self.intercept_

    def to_torch(self) -> nn.Sequential:
        """The network in the units of the data: a chain of ``torch.nn.Linear`` in float64, targets on the last axis.

        Example:
            >>> import torch
            >>> model = DeepLinearRegressor(depth=2).fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
            >>> model.to_torch()(torch.tensor([[3.0]], dtype=torch.float64)).round(decimals=3)
            tensor([[7.]], dtype=torch.float64, grad_fn=<RoundBackward1>)
        """
        import torch
        from torch import nn

        check_is_fitted(self)
        net = nn.Sequential()
        for i, weight in enumerate(self.weights_):
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bool(self.biases_), dtype=torch.float64)
            state = {"weight": torch.from_numpy(weight.copy())}
            if self.biases_:
                state["bias"] = torch.from_numpy(self.biases_[i].copy())
            layer.load_state_dict(state)
            net.append(layer)
        return net

    def _statistics(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, *, reset: bool
    ) -> SufficientStatistics:
        X, y = validate_data(self, X, y, reset=reset, dtype=np.float64, multi_output=True, y_numeric=True)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if reset:
            self._flat = np.ndim(y) == 1
        return SufficientStatistics.from_data(X, y, sample_weight)

    def _train(self, statistics: SufficientStatistics, layers: Layers | None) -> DeepLinearRegressor:
        self._check()
        centre = bool(self.fit_intercept)
        seen, x_spread, y_spread = statistics, np.ones(statistics.inputs), np.ones(statistics.outputs)
        if self.standardize:
            seen, x_spread, y_spread = statistics.standardized(centre=centre)
        # A share of the variance: of every target where they are standardised, else of all together.
        variance = seen.cyy if centre else seen.syy
        scale = float(np.trace(variance)) / seen.outputs or 1.0
        few, many = sorted((seen.inputs, seen.outputs))
        widths = (self.width or max(few, min(many, _WIDEST)),) * (self.depth - 1)
        if layers is None:
            seed = check_random_state(self.random_state).randint(2**31 - 1)
            layers = draw(self.start, (seen.inputs, *widths, seen.outputs), bias=centre, seed=seed)
            # What is always zero gets no gradient: it would keep its random weight.
            layers[0][0][:, np.diagonal(seen.sxx) == 0] = 0
        run = train(
            seen,
            widths,
            start=layers,
            optimizer=self.optimizer,
            lr=self.lr,
            steps=self.max_iter,
            tol=self.tol * scale,
            bias=centre,
        )
        if run.diverged:
            raise DivergedError(
                got=f"a loss that grew without end, up to step {int(run.n_iter)}",
                expected="one that falls",
                fix=f"Use a smaller lr than {self.lr}" + ("." if self.standardize else ", or standardize=True."),
            )
        if not run.converged:
            warnings.warn(
                f"The optimality gap is {run.gap[-1] / scale:.1e} after {int(run.n_iter)} steps and not yet tol = "
                f"{self.tol}. Raise max_iter or lr, or use start='zero_last', optimizer='adam', standardize=True.",
                ConvergenceWarning,
                stacklevel=3,
            )
        self.statistics_, self._layers = statistics, (run.weights, run.biases)
        self.optimality_gap_, self.converged_ = float(run.gap[-1] / scale), bool(run.converged)
        self.n_iter_ = max(1, int(run.n_iter))
        self._to_units_of_data(run, x_spread, y_spread, scale, centred=self.standardize and centre)
        return self

    def _to_units_of_data(self, run: Trajectory, x: np.ndarray, y: np.ndarray, scale: float, *, centred: bool) -> None:
        """Undo the scaling and shift of columns in the weights, the end-to-end map and the learning curve."""
        statistics = self.statistics_
        mean_x, mean_y = (statistics.mean_x, statistics.mean_y) if centred else (np.zeros_like(x), np.zeros_like(y))
        weights, biases = [w.copy() for w in run.weights], [b.copy() for b in run.biases]
        weights[0] /= x
        weights[-1] *= y[:, None]
        if biases:
            biases[-1] *= y
            biases[0] -= weights[0] @ mean_x
            biases[-1] += mean_y
        self.weights_, self.biases_ = weights, biases
        coef = run.coef * y[:, None] / x
        intercept = run.intercept * y + mean_y - coef @ mean_x
        best = statistics.least_squares(bias=bool(self.fit_intercept))
        error, rest = coef - best.coef, intercept - best.intercept
        gram = statistics.cxx if self.fit_intercept else statistics.sxx
        rest = rest + error @ statistics.mean_x if self.fit_intercept else np.zeros_like(rest)
        gap = (((error @ gram) * error).sum(-1) + rest**2).mean(-1)
        end = int(np.searchsorted(run.steps, run.n_iter)) + 1  # later checkpoints repeat it
        steps = np.minimum(run.steps[:end], run.n_iter)
        self.learning_curve_ = {"step": steps, "loss": (best.loss + gap)[:end], "gap": run.gap[:end] / scale}
        self.coef_, self.intercept_ = coef[-1], intercept[-1]
        if self._flat:
            self.coef_, self.intercept_ = self.coef_[0], float(self.intercept_[0])

    def _check(self) -> None:
        def whole(value: Any) -> bool:
            return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 1

        for name, expected, fine in (
            ("depth", "an integer of at least 1", whole(self.depth)),
            ("width", "an integer of at least 1, or None", self.width is None or whole(self.width)),
            ("max_iter", "an integer of at least 1", whole(self.max_iter)),
            ("tol", "a number of at least 0", self.tol >= 0),
        ):
            if not fine:
                raise ConfigError(f"{name} = {getattr(self, name)!r}", expected, "Correct this value.")
