"""Diagnostics of Koopman models: one-step, round-trip and Chapman-Kolmogorov errors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rectilinear.checks import check_floating
from rectilinear.koopman.model import Koopman
from rectilinear.koopman.series import Series, Windows, check_series, embed
from rectilinear.notebook import short_repr


class ChapmanKolmogorovError(NamedTuple):
    """Root mean squares over states, in standard deviations of the data.

    Attributes:
        latent: ``A^t A^t z`` against ``A^(2t) z``, decoded: rounding.
        state: two forecasts over ``t``, the state re-encoded between them, against one over ``2
            t``. Zero if the padded states are invariant; no smaller than the error of the model, if
            the system is deterministic.
        operator: ``A(t)`` from least squares on the latents of the data ``t`` apart, squared,
            against ``A(2t)`` so found, relative in the Frobenius norm.
    """

    latent: float
    state: float
    operator: float


@torch.no_grad()
def chapman_kolmogorov_error(model: Koopman, found: Windows, steps: int) -> ChapmanKolmogorovError:
    """The error of the semigroup property ``F(2t) = F(t) F(t)``, with ``t`` of ``steps`` steps.

    Needs windows that reach ``2 steps`` ahead. A Linearizer has it exactly in its space; on the
    states alone it is a property of system and model.

    Reference: Prinz et al., "Markov models of molecular kinetics: generation and validation"
    (2011), for the test.

    Example:
        >>> from rectilinear.datasets import simulate_system
        >>> from rectilinear.koopman import FitConfig, as_series, fit
        >>> data = simulate_system("linear", count=20, steps=60)
        >>> config = FitConfig(rank=8, horizon=40, fourier=0)
        >>> model, found = fit(as_series(data.states, data.times), config)
        >>> result = chapman_kolmogorov_error(model, found, 20)
        >>> result.latent < 1e-9 and result.state < 1e-6
        True
    """
    x, scale, t = found.anchors, model.lift.scale, steps * model.dt
    once, twice = x.new_tensor([t]), x.new_tensor([2 * t])
    z = model.encode(x)
    far = model.advance(z, twice)[:, 0]
    middle = model.advance(z, once)[:, 0]
    direct = model.lift.observe(far)
    latent = model.lift.observe(model.advance(middle, once)[:, 0]) - direct
    reencoded = model(model.lift.observe(middle), once)[:, 0] - direct
    now = int(found.times[0].abs().argmin())
    later = [now + steps, now + 2 * steps]
    operator = float("nan")
    if model.delays == 1 and found.observed.shape[1] > later[1]:
        y = [z[:, : model.lift.pads]] + [
            model.encode(found.observed[:, k])[:, : model.lift.pads] for k in later
        ]
        size = y[0].std(0).clamp(min=1e-300)
        one, two = (_least_squares(y[0] / size, end / size) for end in y[1:])
        operator = float((one @ one - two).norm() / two.norm())
    return ChapmanKolmogorovError(_rms(latent / scale), _rms(reencoded / scale), operator)


class RoundTripError(NamedTuple):
    """Root mean square distances from the initial states, in standard deviations of the data.

    Attributes:
        latent: forward and back in the latents, decoded at the end: rounding times the conditioning
            of ``A^t``.
        state: forward, decoded, re-encoded, and back.
    """

    latent: float
    state: float


@torch.no_grad()
def round_trip_error(model: Koopman, x: Tensor, steps: int) -> RoundTripError:
    """The error of a forecast over ``steps`` steps and back, from states ``x`` ``(b, delays dim)``.

    Example:
        >>> from rectilinear.datasets import simulate_system
        >>> from rectilinear.koopman import FitConfig, as_series, fit
        >>> data = simulate_system("linear", count=20, steps=60)
        >>> config = FitConfig(rank=8, horizon=40, backward=5, fourier=0)
        >>> model, found = fit(as_series(data.states), config)
        >>> round_trip_error(model, found.anchors, 50).state < 1e-6
        True
    """
    check_floating(x, "x")
    t, scale = x.new_tensor([steps * model.dt]), model.lift.scale
    forth = model.advance(model.encode(x), t)[:, 0]
    latent = model.lift.observe(model.advance(forth, -t)[:, 0]) - x
    state = model(model.lift.observe(forth), -t)[:, 0] - x
    return RoundTripError(_rms(latent / scale), _rms(state / scale))


class OneStepError(NamedTuple):
    """Root mean squares of errors over one step, in standard deviations of each column, ``(d,)``.

    Attributes:
        model: of the forecast.
        persistence: of no change.
    """

    model: Tensor
    persistence: Tensor

    def __repr__(self) -> str:
        return short_repr(self)


@torch.no_grad()
def one_step_error(model: Koopman, series: Series, most: int = 5000) -> OneStepError:
    """Errors of one-step forecasts on ``series``, of the model and of persistence.

    At most ``most`` observations are used, evenly spaced.

    Example:
        >>> from rectilinear.datasets import simulate_system
        >>> from rectilinear.koopman import FitConfig, as_series, fit
        >>> series = as_series(simulate_system("linear", count=20, steps=60).states)
        >>> model, _ = fit(series, FitConfig(rank=8, horizon=40, fourier=0))
        >>> found = one_step_error(model, series)
        >>> bool((found.model < 1e-6 * found.persistence).all())
        True
    """
    check_series(series)
    long = [
        (x, t) for x, t in zip(series.states, series.times, strict=True) if len(x) > model.delays
    ]
    before = torch.cat([embed(x, model.delays)[:-1] for x, _ in long])
    after = torch.cat([x[model.delays :] for x, _ in long])
    wait = torch.cat([t[model.delays - 1 :].diff() for _, t in long])
    some = slice(None, None, -(-len(before) // most))
    before, after, wait = before[some], after[some], wait[some]
    scale = model.lift.scale[: model.dim]
    error = model(before, wait[:, None])[:, 0, : model.dim] - after
    change = before[:, : model.dim] - after
    return OneStepError(
        (error / scale).square().mean(0).sqrt(), (change / scale).square().mean(0).sqrt()
    )


def _least_squares(x: Tensor, y: Tensor) -> Tensor:
    """Least squares by a pseudo-inverse that leaves out directions without data."""
    return torch.linalg.pinv(x, rtol=1e-8) @ y


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
