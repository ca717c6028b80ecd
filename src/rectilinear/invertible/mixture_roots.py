"""Quantiles of one-dimensional Gaussian mixtures, in every tail: the roots of the mixture map."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)
_LOG_HALF = math.log(0.5)
_NEGLIGIBLE = 45.0
"""Log of the share of a tail below which a component changes nothing in float64."""
_FAR = 35.0  # deviations behind which tails are kept as logarithms alone
_MAX_STEPS = 120  # of Newton's method and bisection together
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
        z = z - (log_tail - log_p) * (log_tail - log_normal(z)).exp()
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


class Conditional(NamedTuple):
    """One-dimensional mixtures, a row each.

    Log-weights ``(b, m)`` that sum to one, means ``(b, m)`` and deviations ``(b, m)``.
    """

    log_weights: Tensor
    means: Tensor
    deviations: Tensor

    def rows(self, chosen: Tensor) -> Conditional:
        """Those of the chosen rows."""
        return Conditional(*(part[chosen] for part in self))


def live(log_weights: Tensor, z: Tensor) -> Tensor:
    """Which components can move a quantile at ``z`` by more than rounding, as a mask."""
    smallest = torch.special.log_ndtr(-z.abs()) - _NEGLIGIBLE
    return log_weights >= smallest[:, None]


def quantile(mixture: Conditional, z: Tensor) -> Tensor:
    """The ``x`` with ``F(x) = Phi(z)``, ``(b,)``, in float64: ``F`` the distribution of each row.

    Components too light to matter are left out, and a row with a single one is solved in closed
    form.
    """
    kept = live(mixture.log_weights, z)
    count = kept.sum(1)
    widest = max(1, int(count.max()))
    if widest < mixture.means.shape[1]:
        order = mixture.log_weights.topk(widest, dim=1).indices
        mixture = Conditional(*(part.gather(1, order) for part in mixture))
        kept = kept.gather(1, order)
    ends = mixture.means + z[:, None] * mixture.deviations
    x = (mixture.log_weights.exp() * ends).sum(1)
    single, several, far = count == 1, count > 1, z.abs() > _FAR
    x[single] = ends[single].masked_fill(~kept[single], 0.0).sum(1)
    x[count == 0] = math.nan  # of a row that is not finite
    for rows, solve in ((several & ~far, _near), (several & far, _in_logs)):
        chosen = rows.nonzero()[:, 0]
        if len(chosen):
            low = ends[chosen].masked_fill(~kept[chosen], math.inf).amin(1)
            high = ends[chosen].masked_fill(~kept[chosen], -math.inf).amax(1)
            x[chosen] = _roots(mixture.rows(chosen), z[chosen], x[chosen], low, high, solve)
    return x


def _near(mixture: Conditional, sign: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """``sign * Phi^-1(F(x))`` of the tail on the side of ``sign``, and the slope of it in ``x``."""
    weights, means, deviations = mixture.log_weights.exp(), mixture.means, mixture.deviations
    t = (x[:, None] - means) / deviations
    # torch.special.ndtr has no digits in the tails
    tail = (weights * (0.5 * torch.erfc(-(0.5**0.5) * sign[:, None] * t))).sum(1)
    density = (weights * (log_normal(t).exp() / deviations)).sum(1)
    z = torch.special.ndtri(tail.clamp(max=1 - _EPS))
    return z, density / log_normal(z).exp()


def _in_logs(mixture: Conditional, sign: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The same where the tails leave the range of float64."""
    t = (x[:, None] - mixture.means) / mixture.deviations
    log_tail = torch.logsumexp(
        mixture.log_weights + torch.special.log_ndtr(sign[:, None] * t), dim=1
    )
    z = torch.where(
        log_tail <= _LOG_HALF,
        quantile_of_log(log_tail.clamp(max=_LOG_HALF)),
        torch.special.ndtri(log_tail.exp().clamp(max=1 - _EPS)),
    )
    log_density = torch.logsumexp(
        mixture.log_weights + log_normal(t) - mixture.deviations.log(), dim=1
    )
    return z, (log_density - log_normal(z)).exp()


def _roots(
    mixture: Conditional, z: Tensor, x: Tensor, low: Tensor, high: Tensor, solve: Any
) -> Tensor:
    """Newton's method on ``Phi^-1(F(x)) = z`` in brackets, and bisection where it creeps.

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
    for _ in range(_MAX_STEPS):
        tail, slope = solve(mixture, sign, x)
        error = sign * tail - z
        low, high = torch.where(error < 0, x, low), torch.where(error > 0, x, high)
        size, new = error.abs(), x - error / slope
        newton = (new >= low) & (new <= high) & (tail <= 2.5)
        newton &= (size <= 0.5 * before) | (size < 1e-2)  # false for NaN
        new = torch.where(newton, new, (low + high) / 2)
        exact = size <= 4 * _EPS * (1 + z.abs())
        new = torch.where(exact, x, new)
        still = (new - x).abs() <= 2 * _EPS * x.abs()
        done = exact | (still & (size < 1e-2)) | (high - low <= 2 * _EPS * x.abs())
        x, before = new, size
        found[active] = x
        if bool(done.all()):
            break
        if bool(done.any()):
            rest = ~done
            mixture, active = mixture.rows(rest), active[rest]
            x, z, sign, before, low, high = (part[rest] for part in (x, z, sign, before, low, high))
    return found
