"""Estimators of time series with the interface of scikit-learn: KoopmanRegressor and DMD."""

from __future__ import annotations

from dataclasses import fields
from math import ceil
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor

from rectilinear import numerics
from rectilinear.checks import check_batch, check_finite, is_count, real_number
from rectilinear.errors import ConfigError, DataError, NotInitializedError, ShapeError
from rectilinear.koopman.closed_form import fit, solve_features
from rectilinear.koopman.feature_fit import FitConfig
from rectilinear.koopman.model import MultiStep
from rectilinear.koopman.realization import Modes, modes
from rectilinear.koopman.series import (
    as_series,
    embed,
    moments,
    numbers,
    refuse_targets,
    warn_short,
)
from rectilinear.random import seeded
from rectilinear.training import TrainConfig, train


class KoopmanRegressor(BaseEstimator):
    """A model of time series that is linear in an induced space: ``x(t) = pi g^-1(A^t g(x, 0))``.

    :meth:`fit` takes seconds and no gradient (``width=0``), or trains learned features for
    ``epochs`` on top.

    Args:
        rank: largest dimension of the linear dynamics, without the constant offset.
        horizon: number of steps ahead that are fitted; longer forecasts are extrapolations. None
            (the default): 100, or less for short series (two thirds of their length, one third for
            fewer than five series).
        backward: number of steps back that are fitted; needed for backward forecasts.
        delays: observations in a state, the newest first, as :func:`~rectilinear.koopman.embed`
            lays them out; more than 1 where one does not determine the next.
        stable: keep the spectral radius at most 1.
        fourier: random Fourier features of the state.
        lookahead_features: number of predicted states ahead, within the horizon, that features are
            computed on, too; 0 uses the current state only.
        width: width of the network of learned features, for systems that smooth features fail at; 0
            for none.
        hidden: its hidden layers after the first.
        epochs: passes over the windows to train these.
        seed: of features and training.

    Attributes (after :meth:`fit`):
        model_: the :class:`~rectilinear.koopman.Koopman`, a torch module.
        modes_: its :class:`~rectilinear.koopman.Modes`, strongest first.
        eigenvalues_: of one step, complex, one of each pair.

    Example:
        >>> from rectilinear.datasets import simulate_system
        >>> states, times = simulate_system("pendulum", count=60, steps=60)
        >>> model = KoopmanRegressor(rank=16, horizon=40, fourier=100)
        >>> model = model.fit(states[:50], times=times[:50])
        >>> forecast = model.simulate(states[50:, 0], steps=40)
        >>> forecast.shape, bool(abs(forecast - states[50:, :41].numpy()).mean() < 0.1)
        ((10, 41, 2), True)
    """

    def __init__(
        self,
        rank: int = 32,
        horizon: int | None = None,
        backward: int = 0,
        delays: int = 1,
        stable: bool = True,
        fourier: int = 1000,
        lookahead_features: int = 10,
        width: int = 0,
        hidden: int = 5,
        epochs: int = 50,
        seed: int = 0,
    ) -> None:
        self.rank, self.horizon, self.backward, self.delays = rank, horizon, backward, delays
        self.stable, self.fourier, self.lookahead_features, self.width, self.hidden = (
            stable,
            fourier,
            lookahead_features,
            width,
            hidden,
        )
        self.epochs, self.seed = epochs, seed

    def fit(self, X: Any, y: object = None, *, times: Any = None, dt: float | None = None) -> Self:
        """Fit series ``X``, ``(T,)``, ``(T, d)``, ``(count, T, d)`` or a list.

        Rows are at ``times``, or ``dt`` apart. Gives a ForecastWarning where series are left out,
        or where one step of the model is worse than no change. ``y`` must be None.

        Raises:
            DataError: for gaps, or series that are too short or constant.
            DtypeError: for dates, text or complex numbers.
            ConfigError: for parameters out of range, or a ``dt`` that is not the step of ``times``.
        """
        refuse_targets(y)
        if not is_count(self.epochs, 1):
            raise ConfigError(f"epochs = {self.epochs!r}", "an integer of at least 1")
        config = FitConfig(**{field.name: getattr(self, field.name) for field in fields(FitConfig)})
        with seeded(self.seed):
            self.model_, found = fit(as_series(X, times, dt), config)
        if self.width:
            batch = min(256, len(found))
            steps = ceil(self.epochs * len(found) / batch)
            training = TrainConfig(
                steps=steps,
                batch_size=batch,
                lr=3e-3,
                schedule="cosine",
                warmup=50,
                ema=None,
                seed=self.seed,
            )
            with TemporaryDirectory() as out:
                train(
                    MultiStep(self.model_, lr=training.lr),
                    found.packed(),
                    training,
                    out,
                    progress=False,
                )
            solve_features(self.model_.cpu(), found)  # training takes a GPU where there is one
        self.model_.requires_grad_(requires_grad=False)
        self.modes_: Modes = modes(self.model_, found.anchors)
        self.eigenvalues_ = self.modes_.eigenvalues.numpy()
        self.n_features_in_ = self.model_.dim
        return self

    def predict(self, X: Any, steps: int = 1, reencode: int | None = None) -> NDArray[np.float64]:
        """The observations ``steps`` (of any sign) after the states ``X`` ``(b, delays d)``.

        A state is the newest observation, then the one before it, and so on, as ``embed(series,
        delays)`` gives them. ``reencode`` is as in :meth:`Koopman.forecast`.
        """
        model = self._fitted()
        x = numbers(X, "states")
        if (count := real_number(steps, "steps")) is None:
            raise ConfigError(
                f"steps = {steps!r}",
                "a number of steps",
                "For several times call simulate(X, times=...).",
            )
        return model.forecast(x, x.new_tensor([count * model.dt]), reencode)[:, 0].numpy()

    def simulate(
        self, X: Any, steps: int | None = None, times: Any = None, reencode: int | None = None
    ) -> NDArray[np.float64]:
        """Forecasts ``(b, steps + 1, d)`` from states ``X`` ``(b, delays d)``, newest row first.

        The initial state is included. Negative ``steps`` go back in time; ``times`` ``(k,)``
        replaces them by times since the initial state. ``reencode`` is as in
        :meth:`Koopman.forecast`.
        """
        model = self._fitted()
        x = numbers(X, "states")
        if steps is not None and times is not None:
            raise ConfigError("both steps and times", "one of them", "Leave one out.")
        if times is None:
            count = 0 if steps is None else steps
            if not is_count(abs(count) if isinstance(count, int | np.integer) else count, 0):
                raise ConfigError(
                    f"steps = {steps!r}", "an integer", "Between the steps, pass times=."
                )
            clock = (
                model.dt * torch.arange(abs(count) + 1, dtype=x.dtype) * (1 if count >= 0 else -1)
            )
        else:
            clock = numbers(times, "times")
            if clock.ndim not in (1, 2) or not clock.numel():
                raise ShapeError(
                    f"times of shape {tuple(clock.shape)}",
                    "(k,) or (b, k), k at least 1",
                    "Pass a list.",
                )
        return model.forecast(x, clock, reencode).numpy()

    def _fitted(self) -> Any:
        if not hasattr(self, "model_"):
            raise NotInitializedError(
                "a KoopmanRegressor that is not fitted", "a fitted one", "Call fit(X)."
            )
        return self.model_


class DMD(BaseEstimator):
    """Dynamic mode decomposition: least squares ``x_{t+1} = A x_t + b``, states of ``delays`` rows.

    Args:
        delays: observations in a state, newest first.
        rank: dimensions kept by a truncated SVD of the states; none keeps all.

    Attributes (after :meth:`fit`):
        operator_: ``A`` and ``b`` on rows, ``(1 + delays d, delays d)``.
        eigenvalues_: of ``A``, complex.

    Reference: Tu et al., "On dynamic mode decomposition: theory and applications" (2014).

    Example:
        >>> from rectilinear.datasets import simulate_system
        >>> from rectilinear.datasets.synthetic import linear_eigenvalues
        >>> model = DMD().fit(simulate_system("linear", count=10, steps=50).states)
        >>> exact = linear_eigenvalues().mul(0.1).exp().imag.max()
        >>> bool(abs(max(model.eigenvalues_.imag) - exact) < 1e-6)
        True
    """

    def __init__(self, delays: int = 1, rank: int | None = None) -> None:
        self.delays, self.rank = delays, rank

    def fit(self, X: Any, y: object = None) -> Self:
        """Fit series ``X`` of equal steps, as in :func:`~rectilinear.koopman.as_series`."""
        for name, value in (
            ("delays", self.delays),
            ("rank", 1 if self.rank is None else self.rank),
        ):
            if not is_count(value, 1):
                raise ConfigError(f"{name} = {value!r}", "an integer of at least 1")
        refuse_targets(y)
        series = as_series(X)
        states = [embed(x, self.delays) for x in series.states if len(x) > self.delays]
        if not states:
            raise DataError(
                f"series of at most {max(map(len, series.states))} rows",
                f"{self.delays + 1} or more",
                "Lower delays, or pass longer series.",
            )
        if short := [i for i, x in enumerate(series.states) if len(x) <= self.delays]:
            warn_short(short, series, self.delays + 1)
        self.dim_ = series.dim
        before, after = torch.cat([x[:-1] for x in states]), torch.cat([x[1:] for x in states])
        self.mean_, scale = moments(before)
        # Powers of two: units change no digit, and no column is lost beside another. A rank is one
        # in the given units.
        scale = scale if self.rank is None else scale.max().expand_as(scale)
        unit = torch.where(
            scale > 0, torch.exp2(torch.floor(torch.log2(scale))), torch.ones_like(scale)
        )
        inputs = (before - self.mean_) / unit
        if self.rank is not None:
            v = torch.linalg.svd(inputs, full_matrices=False).Vh[: self.rank]
            inputs = inputs @ v.T @ v
        design = torch.cat([torch.ones_like(inputs[:, :1]), inputs], dim=1)
        self._unit = unit
        self._scaled = numerics.lstsq(design, (after - self.mean_) / unit)
        self.eigenvalues_ = numerics.eigvals(self._scaled[1:]).numpy()
        self.operator_ = self._scaled * unit
        self.operator_[1:] /= unit[:, None]
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """One step from states ``X`` ``(b, delays d)``: ``(b, d)``."""
        return self.simulate(X, 1)[:, 1]

    def simulate(self, X: Any, steps: int) -> NDArray[np.float64]:
        """Forecasts ``(b, steps + 1, d)`` from states ``X`` ``(b, delays d)``, newest row first."""
        if not hasattr(self, "operator_"):
            raise NotInitializedError("a DMD that is not fitted", "a fitted one", "Call fit(X).")
        x = numbers(X, "states")
        check_batch(x, (len(self.mean_),), "states")
        check_finite(x, "states")
        if not is_count(steps, 0):
            raise ConfigError(
                f"steps = {steps!r}",
                "an integer of at least 0",
                "Only KoopmanRegressor goes back in time.",
            )
        x = (x - self.mean_) / self._unit
        found: list[Tensor] = [x]
        for _ in range(steps):
            found.append(self._scaled[0] + found[-1] @ self._scaled[1:])
        return (torch.stack(found, dim=1) * self._unit + self.mean_)[..., : self.dim_].numpy()
