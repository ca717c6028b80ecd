"""Closed forms of the dynamics of linear networks under gradient flow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rectilinear.errors import InputError, ShapeError

LONGEST = 5.0  # time, in units of the largest eigenvalue, that is gone at once
IMBALANCE = 1e-8  # relative: an imbalance that is no multiple of the identity


def two_layer_flow(
    layers: Sequence[ArrayLike], correlation: ArrayLike, times: ArrayLike
) -> np.ndarray:
    """The map ``W2 W1`` ``(runs, K, m, d)`` of gradient flow on white inputs, from any alignment.

    For ``W2' W2 - W1 W1' = lam I`` the matrix ``Q = [W1'; W2]`` follows ``Q' = F Q - Q Q'Q / 2``
    with ``F = [[-lam/2, S'], [S, lam/2]]``, a Riccati equation of ``Q Q'``: with ``E = exp(F t)``

    ``Q Q'(t) = E Q0 (I + Q0' (int_0^t exp(2 F s) ds) Q0)^-1 Q0' E``.

    With ``lam = 0`` it is the solution of Fukumizu and of Braun et al., with modes that are aligned
    that of Saxe et al., ``a(t) = s / (1 + (s / a0 - 1) exp(-2 s t))``.

    Args:
        layers: ``W1`` ``(runs, h, d)`` and ``W2`` ``(runs, m, h)``, or without runs.
        correlation: ``S`` ``(m, d)`` of outputs and inputs, whose covariance is the identity.
        times: ``(K,)``; time is ``lr`` times steps, for half the mean square error.

    Raises:
        ShapeError: for other than two layers.
        InputError: for layers whose imbalance is no multiple of the identity.

    References: Saxe, McClelland and Ganguli, 2014; Fukumizu, "Effect of batch learning in
    multilayer neural networks", 1998; Braun, Domine, Fitzgerald and Saxe, "Exact learning dynamics
    of deep linear networks with prior knowledge", NeurIPS 2022; Domine et al., "From lazy to rich:
    exact learning dynamics in deep linear networks", 2024.

    Example:
        >>> from rectilinear.deeplinear import factorised
        >>> two_layer_flow(factorised([[0.1]], [1]), [[2.0]], [0.0, 1.0]).round(4).ravel()
        array([0.1   , 1.4837])
    """
    parts = [np.asarray(layer, dtype=float) for layer in layers]
    if len(parts) != 2 or parts[0].ndim != parts[1].ndim or parts[0].ndim not in (2, 3):
        raise ShapeError(
            f"layers of shapes {[p.shape for p in parts]}",
            "(runs, h, d) and (runs, m, h)",
            "Follow other networks with descend(task, layers, optimizer='flow').",
        )
    first, second = (p[None] if p.ndim == 2 else p for p in parts)
    lam = _imbalance(first, second)
    target = np.asarray(correlation, dtype=float)
    d, m = first.shape[-1], second.shape[-2]
    F = np.zeros((len(first), d + m, d + m))
    F[:, d:, :d], F[:, :d, d:] = target, target.T
    F += lam[:, None, None] / 2 * np.diag(np.r_[-np.ones(d), np.ones(m)])
    values, vectors = np.linalg.eigh(F)
    q = vectors.mT @ np.concatenate([first.mT, second], axis=1)
    now, square, out = 0.0, q @ q.mT, {}  # Q Q' in the eigenbasis of F
    wanted = np.asarray(times, dtype=float).ravel()
    for time in np.unique(wanted):
        # In parts, so that no exponential is large; each is exact.
        count = max(1, int(np.ceil((time - now) * np.abs(values).max() / LONGEST)))
        for _ in range(count):
            square = _advance(square, values, (time - now) / count)
        now = float(time)
        out[now] = (vectors @ square @ vectors.mT)[:, d:, :d]
    return np.stack([out[float(time)] for time in wanted], axis=1)


def _advance(square: np.ndarray, values: np.ndarray, time: float) -> np.ndarray:
    """``Q Q'`` after a time: ``E P (I + K P)^-1 E`` with ``K`` the integral of ``exp(2 F s)``."""
    grown, safe = np.exp(values * time), np.where(values == 0, 1.0, values)
    integral = np.where(values == 0, time, np.expm1(2 * values * time) / (2 * safe))
    inner = np.eye(values.shape[-1]) + integral[..., None] * square
    moved = np.linalg.solve(inner.mT, square).mT
    moved = grown[..., None] * (moved + moved.mT) / 2 * grown[:, None, :]
    return np.asarray(moved)


def mode_flow(strength: ArrayLike, initial: ArrayLike, times: ArrayLike) -> np.ndarray:
    """The strength ``(..., K)`` of a mode of a balanced two-layer network, aligned with its task.

    ``a(t) = s / (1 + (s / a0 - 1) exp(-2 s t))``: it is learned at the time ``log(s / a0) / 2 s``,
    stronger modes first.

    Args:
        strength: ``s``, the singular value of the correlation.
        initial: ``a0``.
        times: ``(K,)``.

    Reference: Saxe, McClelland and Ganguli, 2014, equation 8.

    Example:
        >>> mode_flow(2.0, 0.1, [0.0, 1.0]).round(4)
        array([0.1   , 1.4837])
    """
    s, a0 = (np.asarray(a, dtype=float)[..., None] for a in (strength, initial))
    return np.asarray(s / (1 + (s / a0 - 1) * np.exp(-2 * s * np.asarray(times, dtype=float))))


def chain_sharpness(weights: ArrayLike, target: ArrayLike) -> np.ndarray:
    """The sharpness where gradient flow of ``(w_1 ... w_L - target)^2 / 2`` ends, ``(runs,)``.

    The flow keeps all ``w_i^2 - w_j^2``, so that it ends at ``w_i^2 = w_i(0)^2 + s`` with one ``s``
    for which the product is the target. The Hessian there has the eigenvalue ``sum_i (target /
    w_i)^2``, and zeros. For two layers that is ``sqrt((w_1^2 - w_2^2)^2 + 4 target^2)``.

    Args:
        weights: at the beginning, ``(runs, L)``, positive.
        target: positive, ``(runs,)`` or one number.

    Raises:
        ShapeError: for weights of other axes.
        InputError: for weights or targets that are not positive.

    Reference: Kreisler, Nacson, Soudry and Carmon, "Gradient descent monotonically decreases the
    sharpness of gradient flow solutions in scalar networks and beyond", ICML 2023.

    Example:
        >>> chain_sharpness([[2.0, 0.5]], 1.5).round(6), np.hypot(2.0**2 - 0.5**2, 2 * 1.5).round(6)
        (array([4.802343]), np.float64(4.802343))
    """
    w, y = np.asarray(weights, dtype=float), np.asarray(target, dtype=float)
    if w.ndim != 2:
        fix = "Write one run as weights[None]." if w.ndim == 1 else ""
        raise ShapeError(f"weights of shape {w.shape}", "(runs, L)", fix)
    if not ((w > 0).all() and (y > 0).all()):
        raise InputError(
            f"weights from {w.min():g} and targets from {y.min():g}",
            "numbers above 0",
            "Take absolute values where the product has the sign of the target.",
        )
    squares = w**2
    low = -squares.min(1)
    high = low + np.broadcast_to(y, low.shape) ** (2 / w.shape[1])
    high = np.maximum(high, 0) + 1e-300
    for _ in range(200):
        middle = (low + high) / 2
        below = np.sqrt(np.maximum(squares + middle[:, None], 0)).prod(1) < y
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((np.square(y)[..., None] / (squares + high[:, None])).sum(1))


def _imbalance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``lam`` ``(runs,)`` of ``W2' W2 - W1 W1' = lam I``."""
    gap = second.mT @ second - first @ first.mT
    lam = np.trace(gap, axis1=-2, axis2=-1) / gap.shape[-1]
    rest = np.abs(gap - lam[:, None, None] * np.eye(gap.shape[-1])).max((-2, -1))
    size = np.square(first).sum((-2, -1)) + np.square(second).sum((-2, -1))
    if (rest > IMBALANCE * size).any():
        raise InputError(
            f"layers whose imbalance differs from a multiple of the identity by {rest.max():.2g}",
            "W2'W2 - W1W1' = lam I",
            "Make them with factorised(map, [width], lam=lam).",
        )
    return lam
