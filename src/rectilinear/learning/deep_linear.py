"""Closed forms of learning in deep networks with aligned layers, one scalar for each mode.

Half time and plateau of a mode; initial weights from which a deep ReLU network stays linear.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import digamma, expit, factorial, hyp2f1, poch
from torch import Tensor

from rectilinear.errors import AssumptionError, InputError

NORM_TOLERANCE = 1e-9  # by how much the two parts of a unit vector may differ in squared norm
PLATEAU_FRACTION = 0.01  # part of what a mode takes off the loss by which a plateau ends


def deep_mode_solution(times: Tensor, s: float, u0: float, depth: int, lam: float = 1.0) -> Tensor:
    r"""The scalar ``u(t)`` of each of ``depth`` aligned layers, whose product is ``u^depth``.

    ``u' = u^(N-1) (s - lam u^N)`` for ``N`` layers. For ``N = 2`` it is a sigmoid; for more, ``t =
    F(u) - F(u0)`` with ``F(v) = v^(2-N) / ((2-N) s) 2F1(1, (2-N)/N; 2/N; lam v^N/s)``, inverted by
    Newton's method.

    Args:
        times: ``(T,)``: learning rate times steps, not negative.
        s: correlation of inputs and targets along the mode, positive.
        u0: the initial scalar, positive; it may be above its limit ``(s/lam)^(1/N)``.
        depth: ``N``, at least 2.
        lam: variance of the inputs along the mode.

    Raises:
        InputError: for numbers out of these ranges.

    Reference: A. Saxe, J. McClelland, S. Ganguli, ICLR 2014, for the equation.

    Example:
        >>> deep_mode_solution(torch.tensor([0.0, 60.0]), s=8.0, u0=0.1, depth=3)
        tensor([0.1000, 2.0000], dtype=torch.float64)
    """
    t = torch.as_tensor(times).double()
    if not (s > 0 and u0 > 0 and lam > 0 and depth >= 2 and bool((t >= 0).all())):
        raise InputError(
            f"s = {s}, u0 = {u0}, lam = {lam}, depth = {depth}",
            "positive s, u0 and lam, depth of at least 2 and times from zero on",
            "A mode that starts at zero stays there.",
        )
    z0 = lam * u0**depth / s
    if z0 == 1:
        return torch.full_like(t, u0)
    if depth == 2:
        return (s / (lam + (s / u0**2 - lam) * torch.exp(-2 * s * t))).sqrt()
    # Newton's method in theta = log(z/|1 - z|), z = lam u^N/s, which grows like N s u^(N-2) t on
    # both sides of 1.
    below = z0 < 1
    theta0 = np.array(np.log(z0 / abs(1 - z0)))
    target = t.numpy() + _clock(theta0, below, s, depth, lam)
    theta = np.full(t.shape, theta0)
    for _ in range(500):
        slope = depth * s * _scalar(theta, below, s, depth, lam) ** (depth - 2)
        step = (target - _clock(theta, below, s, depth, lam)) * slope
        least = np.minimum(np.abs(theta), np.abs(theta + step))
        theta = theta + step
        if np.all(
            np.abs(step) <= 1e-14 * np.maximum(np.exp(np.minimum(least, 99)), 1 + least)
        ):  # what moves u by 1e-14
            break
    return torch.from_numpy(_scalar(theta, below, s, depth, lam))


def deep_mode_time(u: float, s: float, u0: float, depth: int, lam: float = 1.0) -> float:
    r"""The time at which the scalar of aligned layers has grown from ``u0`` to ``u``.

    ``log(s/(lam u0^2) - 1)/(2 s)`` for two layers and half the limit; ``F(u) - F(u0)`` in general.

    Example:
        >>> u = deep_mode_solution(torch.tensor([0.7], dtype=torch.float64), s=8.0, u0=0.5, depth=3)
        >>> round(deep_mode_time(float(u), s=8.0, u0=0.5, depth=3), 6)
        0.7
    """
    z0, z = lam * u0**depth / s, lam * u**depth / s
    if not (s > 0 and u0 > 0 and (z - z0) * (1 - z0) >= 0 and (z - 1) * (z0 - 1) > 0):
        raise InputError(
            f"u = {u} from u0 = {u0}",
            f"u between u0 and the limit {(s / lam) ** (1 / depth):.6g}",
            "The limit itself is never reached.",
        )
    theta0, theta = (np.array(np.log(value / abs(1 - value))) for value in (z0, z))
    if depth == 2:
        return float(theta - theta0) / (2 * s)
    return float(_clock(theta, z < 1, s, depth, lam) - _clock(theta0, z0 < 1, s, depth, lam))


def deep_relu_solution(times: Tensor, s: float, c0: float, depth: int, lam: float = 1.0) -> Tensor:
    r"""The strength ``u^N`` of the linear map of a deep ReLU network from :func:`two_block_init`.

    A ReLU network on this manifold is a linear one at half the speed, whatever its depth:
    ``C(t) = sqrt 2 c(t/2)``, so that ``f_relu(x, t) = f_linear(x, t/2)``.

    Args:
        times: ``(T,)``: learning rate times steps.
        s: length of ``beta = <y x>``, the direction of the first layer.
        c0: the ``scale`` of the initial weights, ``C(0)``.
        depth: number of layers.
        lam: eigenvalue of the covariance of the inputs along ``beta``; the data must be closed
            under ``(x, y) -> (-x, -y)``.

    Example:
        >>> deep_relu_solution(torch.tensor([0.0, 99.0]), s=8.0, c0=2.0, depth=2)
        tensor([2.0000, 8.0000], dtype=torch.float64)
    """
    return deep_mode_solution(torch.as_tensor(times) / 2, s, c0 / 2**0.5, depth, lam) ** depth


def two_block_init(directions: Sequence[Tensor], scale: float) -> list[Tensor]:
    r"""Weights of a deep ReLU network that is linear, and stays so on symmetric data.

    From unit vectors ``r, r_1, ..., r_(L-1)``, the hidden ones with positive and negative entries
    of equal norm: ``W_1 = C r_1 r^T``, ``W_l = sqrt 2 C (r_l^+ r_(l-1)^+^T + r_l^- r_(l-1)^-^T)``
    of rank two, ``W_L = C r_(L-1)^T``. The network is ``f(x) = sqrt 2^(-L) C^L r . x`` for every
    ``x``.

    Args:
        directions: ``r (d,)``, then one ``(h_l,)`` for each hidden layer.
        scale: ``C``.

    Raises:
        AssumptionError: for a hidden direction whose two parts differ in norm, or a vector that is
            not of length one.

    Example:
        >>> directions = [torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5, -0.5, -0.5])]
        >>> w1, w2 = two_block_init(directions, scale=2.0)
        >>> w2 @ torch.relu(w1 @ torch.tensor([[3.0, -3.0], [1.0, 1.0]]))
        tensor([[ 6., -6.]])
    """
    for direction in directions:
        if abs(float(direction.norm()) - 1) > 1e-6:
            raise AssumptionError(
                f"a direction of length {float(direction.norm()):.6g}",
                "unit vectors",
                assumption="aligned layers",
            )
    r, *hidden = directions
    for direction in hidden:
        gap = float(direction.clamp(min=0).square().sum() - direction.clamp(max=0).square().sum())
        if abs(gap) > max(NORM_TOLERANCE, 1e-6 * (direction.dtype != torch.float64)):
            raise AssumptionError(
                "a hidden direction whose positive and negative parts differ by"
                f" {gap:.3g} in squared norm",
                "parts of equal norm",
                "Scale each part to squared norm 1/2.",
                assumption="aligned layers",
            )
    middle = [
        2**0.5
        * scale
        * (a.clamp(min=0).outer(b.clamp(min=0)) + a.clamp(max=0).outer(b.clamp(max=0)))
        for b, a in pairwise(hidden)
    ]
    return [scale * hidden[0].outer(r), *middle, scale * hidden[-1][None]]


def half_time(s: float, u0: float, lam: float = 1.0, kappa: float = 1.0, depth: int = 2) -> float:
    r"""The time at which the strength of a mode is half its limit ``s/lam``.

    Of two layers ``log(s/(lam U0) - 1)/(2 kappa s)``.

    Args:
        s: correlation of inputs and targets along the mode.
        u0: initial strength of the map, between zero and half the limit.
        lam: variance of the inputs along the mode.
        kappa: half the sum of the activation's slopes, ``(1 + alpha)/2`` for leaky ReLU; 1 where
            ``depth`` is not 2.
        depth: number of layers; of a ReLU network from :func:`two_block_init` half the time holds
            (``kappa = 1/2``).

    Returns:
        Learning rate times steps.

    Example:
        >>> round(half_time(s=2.0, u0=0.02, kappa=0.5), 6) == round(math.log(99) / 2, 6)
        True
    """
    return deep_mode_time((s / lam / 2) ** (1 / depth), s, u0 ** (1 / depth), depth, lam) / kappa


def plateau_time(
    s: float, u0: float, lam: float = 1.0, kappa: float = 1.0, depth: int = 2
) -> float:
    r"""The time at which a mode has taken one percent of its ``s^2/(2 lam)`` off the loss.

    At that time the strength is ``(s/lam) (1 - sqrt(0.99))``.

    Args:
        s: correlation of inputs and targets along the mode.
        u0: initial strength of the map, below that strength.
        lam: variance of the inputs along the mode.
        kappa: half the sum of the activation's slopes.
        depth: number of layers.

    Returns:
        Learning rate times steps.

    Example:
        >>> early, half = plateau_time(s=1.0, u0=1e-9), half_time(s=1.0, u0=1e-9)
        >>> early < half < 1.5 * early
        True
    """
    strength = s / lam * (1 - math.sqrt(1 - PLATEAU_FRACTION))
    return deep_mode_time(strength ** (1 / depth), s, u0 ** (1 / depth), depth, lam) / kappa


def _scalar(theta: NDArray, below: bool, s: float, depth: int, lam: float) -> NDArray:
    """``u`` from ``theta = log(z/|1 - z|)``, ``z = lam u^N/s``."""
    z = expit(theta) if below else -1 / np.expm1(-theta)
    return (z * s / lam) ** (1 / depth)


def _clock(theta: NDArray, below: bool, s: float, depth: int, lam: float) -> NDArray:
    """``F(u)`` up to a constant, one above and one below the limit; ``F' = 1/(N s u^(N-2))``."""
    n = depth
    scale = _scalar(theta, below, s, n, lam) ** (2 - n) / s
    if below:
        return scale / (2 - n) * _hypergeometric((2 - n) / n, expit(theta), expit(-theta))
    rest = -np.expm1(-theta)  # 1/z
    return scale * rest / (2 * n - 2) * _hypergeometric((2 * n - 2) / n, rest, np.exp(-theta))


def _hypergeometric(b: float, z: NDArray, rest: NDArray) -> NDArray:
    """``2F1(1, b; b + 1; z)`` with ``rest = 1 - z``, near 1 by its logarithmic series.

    There SciPy 1.17 is wrong.
    """
    k = np.arange(20)
    near = np.clip(rest, np.finfo(float).tiny, 0.1)[..., None]
    terms = poch(b, k) / factorial(k) * near**k * (np.log(near) - digamma(k + 1) + digamma(b + k))
    return np.where(rest > 0.1, hyp2f1(1, b, b + 1, np.minimum(z, 0.95)), -b * terms.sum(-1))
