"""Quantiles of one-dimensional Gaussian mixtures, in every tail: the roots of the mixture map."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)
_LOG_HALF = math.log(0.5)
_FAR = 35.0  # deviations behind which tails are kept as logarithms alone
_NO_DIGITS = -1e5  # deviations from which on a density differs from the tail by rounding alone
_MAX_STEPS = 120  # of Newton's method and bisection together
_NEAR = 8.0  # deviations up to which tails do not leave the range of float32
_ROUGH = 1e-3, 12  # accuracy of roots in float32, and steps at most
_SAFETY = 10.0  # of third derivatives, relative to the cube of the narrowest component's scale
_DENSE = 0.5  # part of the components from which on none is left out
_CACHED_NUMBERS = 2**16  # rows x components that a processor's cache holds
_OTHER_SIDE = 0.75  # of a tail, from which on the other one is taken
_LEAST_TAIL = 1e-280  # below which tails and densities are computed in logarithms
_EPS = torch.finfo(torch.float64).eps


def log_normal(z: Tensor) -> Tensor:
    """The log-density of ``N(0, 1)``."""
    return -0.5 * z.square() - _HALF_LOG_2_PI


def quantile_of_log(log_p: Tensor) -> Tensor:
    """The ``z <= 0`` with ``log Phi(z) = log_p``, in float64 and accurate in every tail.

    ``ndtri`` where its argument does not underflow, an asymptotic formula elsewhere, then Newton's
    method on logarithms, which also carries the derivatives.

    Args:
        log_p: at most ``log(1/2)``.

    Example:
        >>> [round(z, 3) for z in quantile_of_log(torch.tensor([-0.7, -5000.0]).double()).tolist()]
        [-0.009, -99.945]
    """
    near = torch.special.ndtri(log_p.clamp(min=-600.0).exp())
    square = (-2 * log_p - math.log(2 * math.pi)).clamp(min=4.0)
    far = -(square - (square - square.log()).log()).sqrt()
    z = torch.where(log_p < -600.0, far, near)
    for _ in range(3):
        log_tail = torch.special.log_ndtr(z)
        # the ratio of tail and density; its logarithm has no digits left far off
        near = (log_tail - log_normal(z)).clamp(max=1.0).exp()
        z = z - (log_tail - log_p) * torch.where(z < _NO_DIGITS, -1 / z, near)
    return z


class _Constant(torch.autograd.Function):
    """The identity whose derivative is zero, in every mode of differentiation."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return torch.zeros_like(gradient)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:  # noqa: ARG004
        return torch.zeros_like(tangent)


def constant(x: Tensor) -> Tensor:
    """``x`` as a constant: without gradient or tangent."""
    result: Tensor = _Constant.apply(x)
    return result


class Mixtures(NamedTuple):
    """One-dimensional mixtures, a row each, of the components that matter.

    Weights ``(b, m)``, which sum to one, and ``t = offsets + scales x``, ``(b, m)``, the deviations
    of ``x`` from each mean; ``lengths`` ``(b,)``, the number of components of a row that have
    weight.
    """

    lengths: Tensor
    log_weights: Tensor
    weights: Tensor
    offsets: Tensor
    scales: Tensor

    def rows(self, chosen: Tensor) -> Mixtures:
        """Those of the chosen rows, a mask."""
        if bool(chosen.all()):
            return self
        return Mixtures(*(part.index_select(0, chosen.nonzero()[:, 0]) for part in self))

    def around(self, x: Tensor, dtype: torch.dtype) -> Mixtures:
        """The same of ``x`` less the given, in another dtype: no digits are lost to the shift."""
        offsets = torch.addcmul(self.offsets, self.scales, x[:, None]).to(dtype)
        return self._replace(
            weights=self.weights.to(dtype), offsets=offsets, scales=self.scales.to(dtype)
        )

    def without_logs(self) -> Mixtures:
        """The same, less memory."""
        return self._replace(log_weights=self.log_weights[:, :0])


class Accuracy(NamedTuple):
    """The accuracy of a quantile: full float64, or better than the rounding of a float32 ``z``."""

    negligible: float
    close: float


EXACT = Accuracy(45.0, 4 * _EPS)
OF_FLOAT32 = Accuracy(26.0, 1e-10)


def mixtures(log_weights: Tensor, whitened: Tensor, scales: Tensor, least: Tensor) -> Mixtures:
    """The components of at least the log-weight ``least`` ``(b,)`` in their row, in float64.

    Args:
        log_weights: ``(b, K)``, up to a constant of each row.
        whitened: ``(b, K)``, ``(0 - mean) / deviation``.
        scales: ``(K,)``, inverse deviations.
        least: ``(b,)``, relative to the heaviest weight of the row.
    """
    (b, k), device = log_weights.shape, log_weights.device
    kept = log_weights >= (log_weights.amax(1) + least)[:, None]
    lengths = kept.sum(1)
    most = max(1, int(lengths.max()))
    if most > _DENSE * k:
        logs = log_weights - log_weights.logsumexp(1, keepdim=True)
        return Mixtures(lengths * 0 + k, logs, logs.exp(), whitened, scales.expand_as(logs))
    row = torch.arange(b, device=device)
    chosen = _where(kept.flatten())
    shift = row * most - (lengths.cumsum(0) - lengths)
    place = torch.arange(len(chosen), device=device) + shift.repeat_interleave(lengths)
    index = (row * k)[:, None].repeat(1, most)
    index.view(-1)[place] = chosen
    logs = log_weights.take(index)
    logs.masked_fill_(torch.arange(most, device=device) >= lengths[:, None], -math.inf)
    logs -= logs.logsumexp(1, keepdim=True)
    return Mixtures(
        lengths, logs, logs.exp(), whitened.take(index), scales.take(index - (row * k)[:, None])
    )


def _where(mask: Tensor) -> Tensor:
    """The indices at which a mask is true: on a CPU NumPy is several times faster than torch."""
    if mask.device.type != "cpu":
        return mask.nonzero()[:, 0]
    return torch.from_numpy(np.flatnonzero(mask.numpy()))


def quantile(mixture: Mixtures, z: Tensor, accuracy: Accuracy = EXACT) -> Tensor:
    """The ``x`` with ``F(x) = Phi(z)``, ``(b,)``, in float64: ``F`` the distribution of each row.

    A row with a single component is solved in closed form, others in float32 first, and from there
    in float64; those far in a tail in logarithms.
    """
    ends = (z[:, None] - mixture.offsets) / mixture.scales
    x = torch.linalg.vecdot(mixture.weights, ends)
    low, high, size = ends.amin(1), ends.amax(1), z.abs()
    rest, light = mixture.lengths > 1, mixture.without_logs()
    near, far = rest & (size < _NEAR), rest & (size > _FAR)
    if bool(near.any()):
        start = x[near]
        some = light.rows(near).around(start, torch.float32)
        bounds = low[near] - start, high[near] - start
        x[near] += _roots(some, z[near], torch.zeros_like(start), *bounds, _near, *_ROUGH)
    for chosen, parts, solve in ((rest & ~far, light, _near), (far, mixture, _in_logs)):
        if bool(chosen.any()):
            some, bounds = parts.rows(chosen), (low[chosen], high[chosen])
            x[chosen] = _roots(some, z[chosen], x[chosen], *bounds, solve, accuracy.close)
    return x


def normal_scores(mixture: Mixtures) -> tuple[Tensor, Tensor]:
    """``Phi^-1(F(x))`` and the log-density at the ``x`` at which the offsets are, each ``(b,)``.

    The tail on the side of ``x`` keeps all digits; rows far in a tail are computed in logarithms.
    """
    t, weights = mixture.offsets, mixture.weights
    sign = torch.where(torch.linalg.vecdot(weights, t) < 0, 1.0, -1.0).to(t)
    tail = _tail(weights, t, sign)
    other = tail > _OTHER_SIDE
    if bool(other.any()):
        sign = torch.where(other, -sign, sign)
        tail[other] = _tail(weights[other], t[other], sign[other])
    z = sign * torch.special.ndtri(tail)
    density = torch.linalg.vecdot(weights, log_normal(t).exp_().mul_(mixture.scales)).log()
    far = (tail < _LEAST_TAIL) | ~(density > math.log(_LEAST_TAIL))
    if bool(far.any()):
        some = mixture.rows(far)
        log_tails = [
            torch.logsumexp(some.log_weights + torch.special.log_ndtr(side * some.offsets), 1)
            for side in (1, -1)
        ]
        low, high = log_tails
        z[far] = torch.where(low < high, 1.0, -1.0) * quantile_of_log(
            torch.minimum(low, high).clamp(max=_LOG_HALF)
        )
        logs = some.log_weights + log_normal(some.offsets) + some.scales.log()
        density[far] = torch.logsumexp(logs, 1)
    return z, density


def _tail(weights: Tensor, t: Tensor, sign: Tensor) -> Tensor:
    """The tail on the side of ``sign``: the lower for 1, the upper for -1."""
    return 0.5 * torch.linalg.vecdot(weights, torch.erfc((-(0.5**0.5) * sign)[:, None] * t))


def _near(some: Mixtures, sign: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``sign * Phi^-1(F(x))`` of the tail on the side of ``sign``, its slope, and its bend.

    The bend is the second derivative relative to the slope.
    """
    rows, x = max(1, _CACHED_NUMBERS // some.weights.shape[1]), x.to(some.weights.dtype)
    turned = (-(0.5**0.5) * sign).to(x)
    sums = [
        _tails(*parts)
        for parts in zip(
            *(p.split(rows) for p in (*some[2:], x[:, None], turned[:, None])), strict=True
        )
    ]
    tail, density, falling = torch.cat(sums, 1).double()
    z = torch.special.ndtri(tail.clamp(max=1 - _EPS))
    slope = density * torch.exp(0.5 * z * z)
    return z, slope, sign * z * slope - falling / density


def _tails(weights: Tensor, offsets: Tensor, scales: Tensor, x: Tensor, turned: Tensor) -> Tensor:
    """Tails, densities and minus their derivatives, without constant factors, ``(3, b)``."""
    t = torch.addcmul(offsets, scales, x)
    # torch.special.ndtr has no digits in the tails
    tails = torch.mul(t, turned).erfc_().mul_(weights).sum(1)
    bells = t.square().mul_(-0.5).exp_().mul_(scales).mul_(weights)
    density = bells.sum(1)
    return torch.stack([0.5 * tails, density, bells.mul_(scales).mul_(t).sum(1)])


def _in_logs(some: Mixtures, sign: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same where the tails leave the range of float64, with an infinite, unknown bend."""
    t = torch.addcmul(some.offsets, some.scales, x[:, None])
    log_tail = torch.logsumexp(some.log_weights + torch.special.log_ndtr(sign[:, None] * t), 1)
    z = torch.where(
        log_tail <= _LOG_HALF,
        quantile_of_log(log_tail.clamp(max=_LOG_HALF)),
        torch.special.ndtri(log_tail.exp().clamp(max=1 - _EPS)),
    )
    log_density = torch.logsumexp(some.log_weights + log_normal(t) + some.scales.log(), 1)
    return z, (log_density - log_normal(z)).exp(), torch.full_like(z, math.inf)


def _roots(
    some: Mixtures,
    z: Tensor,
    x: Tensor,
    low: Tensor,
    high: Tensor,
    solve: Any,
    close: float,
    steps: int = _MAX_STEPS,
) -> Tensor:
    """Halley's method on ``Phi^-1(F(x)) = z`` in brackets, and bisection where it creeps.

    Returns the roots, after so many steps at most. A step is the last where the error behind it,
    by the bend and by the narrowest component, is ``close`` to rounding.

    Where the error does not halve the bracket is halved: next to a gap between components the slope
    changes by many powers of ten, and tiny steps look like convergence. Tails are those on the side
    of ``z``; far on the other side, where one minus the tail has no digits, the bracket is halved,
    too. A root that is exact to rounding stays.
    """
    width = high - low
    low = low - 1e-5 * width - 8 * _EPS * low.abs()
    high = high + 1e-5 * width + 8 * _EPS * high.abs()
    x = x.clamp(low, high)
    found = x.clone()
    active = torch.arange(len(x), device=x.device)
    sign = torch.where(z < 0, 1.0, -1.0).to(z)
    before = torch.full_like(x, math.inf)
    sharp = _SAFETY * some.scales.amax(1).to(x)
    for _ in range(steps):
        tail, slope, bend = solve(some, sign, x)
        error = sign * tail - z
        low, high = torch.where(error < 0, x, low), torch.where(error > 0, x, high)
        size, step = error.abs(), -error / slope
        curved = 0.5 * step * bend
        behind = size * (curved.square() + (sharp * step).square())
        new = x + torch.where(curved.abs() < 0.5, step / (1 + curved), step)
        newton = (new >= low) & (new <= high) & (tail <= 2.5)
        newton &= (size <= 0.5 * before) | (size < 1e-2)  # false for NaN
        new = torch.where(newton, new, (low + high) / 2)
        limit = close * (1 + z.abs())
        exact = size <= 4 * _EPS * (1 + z.abs())
        new = torch.where(exact, x, new)
        still = (new - x).abs() <= 2 * _EPS * x.abs()
        done = (size <= limit) | (newton & (behind <= limit) & (size < 1e-2))
        done |= (still & (size < 1e-2)) | (high - low <= 2 * _EPS * x.abs())
        x, before = new, size
        found[active] = x
        left = len(done) - int(done.sum())
        if not left:
            break
        if left < 0.5 * len(done):
            rest = ~done
            some, active = some.rows(rest), active[rest]
            x, z, sign, before, low, high, sharp = (
                part[rest] for part in (x, z, sign, before, low, high, sharp)
            )
    return found
