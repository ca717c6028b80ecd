"""Quantiles of one-dimensional Gaussian mixtures, in every tail: the roots of the mixture map."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)
_LOG_HALF = math.log(0.5)
_FAR = 35.0  # deviations behind which tails are kept as logarithms alone
_NO_DIGITS = -1e5  # deviations from which on a density differs from the tail by rounding alone
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


class Entries(NamedTuple):
    """One-dimensional mixtures, a row each: the components that matter, one after the other.

    ``row`` ``(e,)``, ascending; log-weights, weights, means, inverse deviations ``(e,)``;
    ``lengths`` ``(b,)``, the number of entries of each row.
    """

    row: Tensor
    log_weights: Tensor
    weights: Tensor
    means: Tensor
    scales: Tensor
    lengths: Tensor

    def rows(self, chosen: Tensor) -> Entries:
        """Those of the chosen rows, a mask."""
        kept, index = chosen[self.row].nonzero()[:, 0], chosen.cumsum(0) - 1
        some = self._at(kept, self.lengths[chosen])
        return some._replace(row=index.index_select(0, some.row))

    def heaviest(self, least: Tensor) -> Entries:
        """The entries of at least this weight in their row."""
        kept = (self.weights >= self.each(least)).nonzero()[:, 0]
        row = self.row.index_select(0, kept)
        return self._at(kept, torch.bincount(row, minlength=len(self.lengths)))

    def _at(self, kept: Tensor, lengths: Tensor) -> Entries:
        row, log_weights, weights, means, scales = (p.index_select(0, kept) for p in self[:5])
        return Entries(row, log_weights, weights, means, scales, lengths)

    def each(self, values: Tensor) -> Tensor:
        """The value of its row at each entry, ``(e,)``."""
        return values.index_select(0, self.row)

    def total(self, values: Tensor) -> Tensor:
        """The sums over each row, ``(b,)``."""
        return torch.segment_reduce(values, "sum", lengths=self.lengths, unsafe=True)


class Accuracy(NamedTuple):
    """The accuracy of a quantile: full float64, or better than the rounding of a float32 ``z``."""

    negligible: float
    close: float


EXACT = Accuracy(45.0, 4 * _EPS)
OF_FLOAT32 = Accuracy(30.0, 1e-10)
_COARSE = Accuracy(10.0, 1e-4)  # for the first approximation


def entries(log_weights: Tensor, whitened: Tensor, scales: Tensor, least: Tensor) -> Entries:
    """The components of at least the log-weight ``least`` ``(b,)`` in their row, in float64.

    Args:
        log_weights: ``(b, K)``, up to a constant of each row.
        whitened: ``(b, K)``, ``(0 - mean) / deviation``.
        scales: ``(K,)``, inverse deviations.
        least: ``(b,)``, relative to weights that sum to one.
    """
    total = log_weights.logsumexp(1)
    row, column = (log_weights >= (total + least)[:, None]).nonzero(as_tuple=True)
    index = row * len(scales) + column
    logs = log_weights.flatten().index_select(0, index) - total.index_select(0, row)
    inverse = scales.index_select(0, column)
    means = -whitened.flatten().index_select(0, index) / inverse
    lengths = torch.bincount(row, minlength=len(total))
    return Entries(row, logs, logs.exp(), means, inverse, lengths)


def quantile(mixture: Entries, z: Tensor, accuracy: Accuracy = EXACT) -> Tensor:
    """The ``x`` with ``F(x) = Phi(z)``, ``(b,)``, in float64: ``F`` the distribution of each row.

    A row with a single component is solved in closed form, others with their heaviest components
    alone, and then with all. The few roots that Newton's method does not reach from there are
    bracketed.
    """
    some, tail = mixture, torch.special.log_ndtr(-z.abs())
    ends = some.means + some.each(z) / some.scales
    x = some.total(some.weights * ends)
    single, far = some.lengths == 1, z.abs() > _FAR
    x[single] = some.total(ends)[single]
    x[some.lengths == 0] = math.nan  # of a row that is not finite
    low = torch.segment_reduce(ends, "min", lengths=some.lengths, unsafe=True)
    high = torch.segment_reduce(ends, "max", lengths=some.lengths, unsafe=True)
    near = (some.lengths > 1) & ~far
    rest = (some.lengths > 1) & far
    if bool(near.any()):
        rows = near.nonzero()[:, 0]
        some, bounds = some.rows(near), (low[near], high[near])
        least = (tail[near] - _COARSE.negligible).exp()
        found, _ = _roots(
            some.heaviest(least), z[near], x[near], *bounds, _near, _COARSE.close, steps=12
        )
        found, done = _roots(some, z[near], found, *bounds, _near, accuracy.close, steps=4)
        x[rows[done]] = found[done]
        rest[rows[~done]] = True
    for some_rows, solve in ((rest & ~far, _near), (rest & far, _in_logs)):
        if bool(some_rows.any()):
            chosen = mixture.rows(some_rows)
            start = x[some_rows]
            x[some_rows], _ = _roots(
                chosen, z[some_rows], start, low[some_rows], high[some_rows], solve, accuracy.close
            )
    return x


def _near(some: Entries, sign: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """``sign * Phi^-1(F(x))`` of the tail on the side of ``sign``, and the slope of it in ``x``."""
    t = (some.each(x) - some.means) * some.scales
    # torch.special.ndtr has no digits in the tails
    tails = torch.erfc(t * some.each(-(0.5**0.5) * sign))
    tail = 0.5 * some.total(some.weights * tails)
    density = some.total(some.weights * some.scales * torch.exp(-0.5 * t * t))
    z = torch.special.ndtri(tail.clamp(max=1 - _EPS))
    return z, density * torch.exp(0.5 * z * z)


def _in_logs(some: Entries, sign: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The same where the tails leave the range of float64."""
    t, log_weights = (some.each(x) - some.means) * some.scales, some.log_weights

    def total(logs: Tensor) -> Tensor:
        most = torch.segment_reduce(logs, "max", lengths=some.lengths, unsafe=True)
        return most + some.total((logs - some.each(most)).exp()).log()

    log_tail = total(log_weights + torch.special.log_ndtr(some.each(sign) * t))
    z = torch.where(
        log_tail <= _LOG_HALF,
        quantile_of_log(log_tail.clamp(max=_LOG_HALF)),
        torch.special.ndtri(log_tail.exp().clamp(max=1 - _EPS)),
    )
    log_density = total(log_weights + log_normal(t) + some.scales.log())
    return z, (log_density - log_normal(z)).exp()


def _roots(
    some: Entries,
    z: Tensor,
    x: Tensor,
    low: Tensor,
    high: Tensor,
    solve: Any,
    close: float,
    steps: int = _MAX_STEPS,
) -> tuple[Tensor, Tensor]:
    """Newton's method on ``Phi^-1(F(x)) = z`` in brackets, and bisection where it creeps.

    Returns the roots, and which of them are good after so many steps.

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
    active, good = torch.arange(len(x), device=x.device), torch.zeros_like(x, dtype=torch.bool)
    sign = torch.where(z < 0, 1.0, -1.0).to(z)
    before = torch.full_like(x, math.inf)
    for _ in range(steps):
        tail, slope = solve(some, sign, x)
        error = sign * tail - z
        low, high = torch.where(error < 0, x, low), torch.where(error > 0, x, high)
        size, new = error.abs(), x - error / slope
        newton = (new >= low) & (new <= high) & (tail <= 2.5)
        newton &= (size <= 0.5 * before) | (size < 1e-2)  # false for NaN
        new = torch.where(newton, new, (low + high) / 2)
        exact = size <= close * (1 + z.abs())
        new = torch.where(exact, x, new)
        still = (new - x).abs() <= 2 * _EPS * x.abs()
        done = exact | (still & (size < 1e-2)) | (high - low <= 2 * _EPS * x.abs())
        x, before = new, size
        found[active], good[active] = x, done
        left = len(done) - int(done.sum())
        if not left:
            break
        if left < 0.7 * len(done):
            rest = ~done
            some, active = some.rows(rest), active[rest]
            x, z, sign, before, low, high = (part[rest] for part in (x, z, sign, before, low, high))
    return found, good
