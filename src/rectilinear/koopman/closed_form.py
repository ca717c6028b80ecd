"""Closed-form fit of a Koopman model: modes by realization, features by ridge regression.

``FullMap`` is such a model among the candidates of a forecaster.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import Any

import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from rectilinear import numerics
from rectilinear.errors import DataError, ForecastWarning
from rectilinear.koopman.autoregression import Piece, Plan
from rectilinear.koopman.diagnostics import one_step_error
from rectilinear.koopman.dictionaries import Fourier
from rectilinear.koopman.feature_fit import (
    FitConfig,
    fit_features,
    held_split,
    ridge_errors,
    ridge_path,
)
from rectilinear.koopman.model import Koopman, Lift, Spectrum
from rectilinear.koopman.realization import NEGLIGIBLE, Realization, evolution, realize, realize_at
from rectilinear.koopman.series import (
    Series,
    Windows,
    check_series,
    embed,
    units,
    windows,
)

_MOST, _MODES = 12_000, 1500  # windows for the least squares, and for the modes
_FEW, _NOISY = 40, 0.05  # features of a first forecast, and the part of a step it may miss
LONGEST_HORIZON = 100
"""Largest default horizon of a fit in steps, where the series are long enough."""


def fit(series: Series, config: FitConfig) -> tuple[Koopman, Windows]:
    """The model of ``series`` in closed form, and the windows it was fitted on.

    1. The modes: :func:`~rectilinear.koopman.realization.realize` on windows from ``backward``
       steps before an anchor to ``horizon`` after it.
    2. The latents of each window: least squares on its own observation times,
       ``x(t_i) = C exp(t_i L) z``.
    3. The features: ridge regression of these latents on the state at the anchor, and on where a
       map of one stride, fitted first in the same way, leads to from it; bandwidth and penalty by
       validation on series (or, of a single one, a stretch) left out.
    4. The remainder of the state that the features miss decays as its errors one step later do.

    Because the modes are shared, all steps of the horizon enter one linear system: no rollout, no
    gradient.

    Warns (ForecastWarning) where series are left out, and where a forecast of one step over all of
    them is worse than none: :func:`~rectilinear.koopman.one_step_error`.

    Raises:
        DataError: if series are too short, constant, or too few.

    Example:
        >>> from rectilinear.datasets import simulate_system
        >>> from rectilinear.koopman import as_series
        >>> data = simulate_system("linear", count=20, steps=60)
        >>> config = FitConfig(rank=8, horizon=40, fourier=0)
        >>> model, _ = fit(as_series(data.states, data.times), config)
        >>> model.spectrum.exponents()[:2].imag.detach().sort().values.numpy().round(6)
        array([1. , 2.3])
    """
    check_series(series)
    horizon = _horizon(series, config)
    config = replace(config, horizon=horizon)
    found = windows(series, config.delays, config.backward, horizon)
    if len(found) < 8:
        raise DataError(
            f"{len(found)} windows",
            "8 or more",
            "Lower horizon, backward or delays, or pass longer or more series.",
        )
    found = found.spread(_MOST, config.seed)
    mean, scale = units(torch.cat(series.states), constant=False)
    modes = _modes(series, config, mean, scale, found)
    steps = torch.arange(-config.backward, horizon + 1, dtype=torch.float64)
    design = evolution(modes, steps)
    basis = _orthonormal(design)
    middle, spread = mean.repeat(config.delays), scale.repeat(config.delays)
    s = (found.anchors - middle) / spread
    target = _latents(found, modes, basis, mean, scale, series.dt)
    lookahead = _lookahead(series, config, horizon, middle, spread)
    unknown = (steps <= -config.delays) | (steps > 0)
    features = fit_features(s, target, basis, design, unknown, found.owner, config, lookahead)
    lift = Lift(features, middle, spread, modes.offset.repeat(config.delays))
    lift.readout.data[:, : series.dim] = modes.readout
    if config.delays > 1:
        beside = (s - modes.offset.repeat(config.delays))[:, series.dim :]
        past = numerics.lstsq(target @ basis, beside)
        lift.readout.data[:, series.dim :] = past
    keep = 1.0 if config.backward else _remaining(lift, modes, s, found, mean, scale, series.dt)
    rest = torch.full((lift.state_dim,), keep, dtype=torch.float64).log()
    growth, frequency = torch.cat([modes.growth, rest]) / series.dt, modes.frequency / series.dt
    spectrum = Spectrum(growth, frequency, stable=config.stable)
    model = Koopman(lift, spectrum, series.dt, config.delays)
    _compare(model, series, horizon)
    return model, found


def solve_features(model: Koopman, found: Windows) -> None:
    """Ridge regression of all feature weights of ``model``, also learned ones, on its modes."""
    lift, dim, dt = model.lift, model.dim, model.dt
    features = lift.features
    exponents = model.spectrum.exponents().detach() * dt
    h, p = len(model.spectrum.frequency), lift.pads
    offset = lift.mean.new_zeros(dim) if lift.offset is None else lift.offset[:dim]
    modes = Realization(
        exponents.real[: p - h], exponents.imag[:h], lift.readout.detach()[:, :dim], offset
    )
    s = (found.anchors - lift.mean) / lift.scale
    target = _latents(found, modes, features.basis, lift.mean[:dim], lift.scale[:dim], dt)
    with torch.no_grad():
        inputs = features.fixed(features.seen(s))
        inputs = torch.cat([inputs, features.learned(s)], 1) if features.width else inputs
        train, held = held_split(found.owner)
        start, end = round(float(found.times.min()) / dt), round(float(found.times.max()) / dt)
        steps = torch.arange(start, end + 1, dtype=s.dtype)
        design = (evolution(modes, steps) @ features.basis.T).unflatten(0, (len(steps), dim))
        design = design[(steps <= -model.delays) | (steps > 0)]
        ridge = min(
            (error, ridge) for ridge, error in ridge_errors(inputs, target, train, held, design)
        )[1]
        weight = next(ridge_path(inputs, target, (ridge,)))[1]
        rows = len(features.weight)
        features.weight.copy_(weight[:rows])
        if features.width:
            features.leave.copy_(weight[rows:])


def _horizon(series: Series, config: FitConfig) -> int:
    """Steps ahead that leave anchors enough to fit on, where none are asked for."""
    if config.horizon is not None:
        return config.horizon
    length = int(torch.tensor([len(x) for x in series.states]).median())
    part = 2 * length // 3 if len(series.states) >= 5 else length // 3
    return max(1, min(LONGEST_HORIZON, part, length - 1 - max(config.backward, config.delays - 1)))


def _compare(model: Koopman, series: Series, horizon: int) -> None:
    """A warning if the model forecasts one step worse than persistence."""
    found = one_step_error(model, series)
    bad = (found.model > 1.5 * found.persistence) & (found.model > 0.01)
    if not bool(bad.any()):
        return
    column = int((found.model - found.persistence).argmax())
    ours, none = float(found.model[column]), float(found.persistence[column])
    warnings.warn(
        f"over one step column {column} is off by {ours:.3g} standard deviations, and with no "
        f"change at all by {none:.3g}: this model forecasts worse than persistence. It looks "
        f"{horizon} steps ahead in series of at most {max(map(len, series.states))} rows: lower "
        "horizon, rank or fourier, or pass more data.",
        ForecastWarning,
        stacklevel=3,
    )


def _modes(
    series: Series, config: FitConfig, mean: Tensor, scale: Tensor, found: Windows
) -> Realization:
    """The modes, from windows at equal steps: irregular series are interpolated for this only."""
    if not series.regular:
        assert config.horizon is not None
        found = _quietly(_resampled(series), config.delays, config.backward, config.horizon)
    foreseen, floor = _foreseen(
        found[:: -(-len(found) // (2 * _MODES))], config.delays, mean, scale
    )
    if floor is not None:
        return realize_at(foreseen, floor, config.rank, stable=config.stable)
    found = found[:: -(-len(found) // _MODES)]
    return realize((found.observed - mean) / scale, config.rank, stable=config.stable)


def _foreseen(
    found: Windows, delays: int, mean: Tensor, scale: Tensor
) -> tuple[Tensor, float | None]:
    """The predictable part of windows given their anchors, and the size of its error; or None.

    None if one step is predicted up to a twentieth of its variance: noise is small, and the windows
    themselves are more exact. Noise that drives a system has no modes, but its windows resemble
    slow waves, with eigenvalues on the unit circle.
    """
    x = ((found.observed - mean) / scale).flatten(1)
    s = (found.anchors - mean.repeat(delays)) / scale.repeat(delays)
    inputs = Fourier(_FEW, 0.5)(s)
    if len(x) < 4 * inputs.shape[1]:
        return x, None
    moments = numerics.Moments()
    moments.add(inputs, x)
    fit = moments.fit()
    now, d = int(found.times[0].abs().argmin()), len(mean)
    step = slice((now + 1) * d, (now + 2) * d)
    missed = fit.left[step] / fit.total[step].clamp(min=torch.finfo(x.dtype).tiny)
    if float(missed.max()) < _NOISY:
        return x, None
    size = float((fit.left.sum() / (fit.n * x.shape[1])).sqrt())
    floor = size * (inputs.shape[1] ** 0.5 + x.shape[1] ** 0.5)
    return fit.predict(inputs).unflatten(1, found.observed.shape[1:]), floor


def _resampled(series: Series) -> Series:
    states, times = [], []
    for x, t in zip(series.states, series.times, strict=True):
        if len(x) < 4:
            continue
        grid = torch.arange(
            float(t[0]), float(t[-1]) + 1e-9 * series.dt, series.dt, dtype=torch.float64
        )
        states.append(torch.from_numpy(CubicSpline(t.numpy(), x.numpy())(grid.numpy())))
        times.append(grid)
    return Series(tuple(states), tuple(times), series.dt, regular=True)


def _quietly(series: Series, delays: int, before: int, after: int) -> Windows:
    """The windows, where what is left out has been said already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ForecastWarning)
        return windows(series, delays, before, after)


def _orthonormal(design: Tensor) -> Tensor:
    """``T`` ``(q, p)``: coordinates in which the columns of ``design T^T`` are orthonormal."""
    size = torch.linalg.vector_norm(design, dim=0)
    _, s, v = torch.linalg.svd(design / size, full_matrices=False)
    kept = s > NEGLIGIBLE * s[0]
    return v[kept] / s[kept, None] / size


def _latents(
    found: Windows, modes: Realization, basis: Tensor, mean: Tensor, scale: Tensor, dt: float
) -> Tensor:
    """The latents of each window in the coordinates ``basis``, by least squares: ``(N, q)``."""
    steps = found.times / dt
    data = ((found.observed - mean) / scale - modes.offset).flatten(1)
    if bool((steps - steps[0]).abs().max() < 1e-6):
        design = evolution(modes, steps[0]) @ basis.T
        return numerics.lstsq(design, data.T).T
    chunks = []
    for times, x in zip(steps.split(256), data.split(256), strict=True):
        design = evolution(modes, times) @ basis.T
        chunks.append(numerics.lstsq(design, x[..., None])[..., 0])
    return torch.cat(chunks)


def _lookahead(
    series: Series, config: FitConfig, horizon: int, mean: Tensor, scale: Tensor
) -> dict[str, Any]:
    """Arguments of lookahead features, with ``backward`` of past ones, for nonlinear systems."""
    stride = (
        ceil(horizon / config.lookahead_features)
        if config.lookahead_features and config.fourier
        else horizon
    )
    if stride == horizon:
        return {}
    back = ceil(config.backward / stride) if config.delays == 1 else 0
    equal = series if series.regular else _resampled(series)
    found = _quietly(equal, config.delays, stride if back else 0, stride).spread(_MOST, config.seed)
    s = (found.anchors - mean) / scale
    observed = (found.observed - mean[: series.dim]) / scale[: series.dim]
    known = torch.cat([s.unflatten(1, (config.delays, -1)).flip(1), observed[:, -stride:]], dim=1)
    later, earlier = embed(known, config.delays)[:, -1], observed[:, 0]
    # each costs as much as their number
    short = replace(config, fourier=ceil(config.fourier / 2), width=0)
    eye = torch.eye(s.shape[1], dtype=s.dtype)
    whole = torch.ones(1, dtype=torch.bool)
    ahead = fit_features(s, later, eye, eye, whole, found.owner, short, {})
    if not ahead.fourier:
        return {}
    strides = ceil(horizon / stride), back
    return {
        "ahead": ahead,
        "back": fit_features(s, earlier, eye, eye, whole, found.owner, short, {}) if back else None,
        "strides": strides,
    }


def _remaining(
    lift: Lift,
    modes: Realization,
    s: Tensor,
    found: Windows,
    mean: Tensor,
    scale: Tensor,
    dt: float,
) -> float:
    """The share of the remainder that is still in the error of the next observation."""
    with torch.no_grad():
        y = lift.features(s)
        left = (s - lift.moved(y))[:, : len(mean)]
        now = int(found.times[0].abs().argmin())
        design = evolution(modes, found.times[:, now + 1 : now + 2] / dt)
        error = (
            (found.observed[:, now + 1] - mean) / scale
            - modes.offset
            - (design @ y[..., None])[..., 0]
        )
        share = float(
            (error * left).sum() / left.square().sum().clamp(min=torch.finfo(left.dtype).tiny)
        )
    return min(max(share, 0.05), 1.0)


class FullMap:
    """A :class:`~rectilinear.koopman.Koopman` with the interface of a stride map."""

    def __init__(self, plan: Plan, model: Koopman) -> None:
        self.plan, self.model = plan, model

    @torch.no_grad()
    def simulate(self, past: Tensor, steps: int, u: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """``steps`` observations after ``past`` ``(b, lags, d)``, newest row first."""
        times = self.model.dt * torch.arange(1, steps + 1, dtype=past.dtype)
        return self.model.forecast(past[:, : self.plan.lags].flatten(1), times)


def fit_full(plan: Plan, pieces: Sequence[Piece], seed: int = 0) -> FullMap:
    """The full model of ``plan.lags`` observations over a horizon of ``plan.stride`` steps."""
    states = tuple(p.x for p in pieces)
    times = tuple(torch.arange(len(x), dtype=torch.float64) for x in states)
    series = Series(states, times, 1.0, regular=True)
    config = FitConfig(horizon=plan.stride, delays=plan.lags, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ForecastWarning)
        model, _ = fit(series, config)
    model.requires_grad_(requires_grad=False)
    return FullMap(plan, model)
