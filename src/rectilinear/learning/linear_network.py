"""Gradient flow and gradient descent of deep linear networks, from the second moments of the data.

``dW_l/dt = (W_L ... W_(l+1))^T (beta - W_L ... W_1 sigma) (W_(l-1) ... W_1)^T`` with
``sigma = <x x^T>`` and ``beta = <y x^T>``: the cost does not depend on the number of points.

Long stretches are taken at once. On a stretch the state is a polynomial in the number of steps, or
in time, held by its values ``Y`` at Chebyshev nodes. It solves ``Y = y0 + A f(Y)``, where ``A``
sums the polynomial through ``f(Y)`` over the steps before each node, or integrates it: a thousand
steps of descent cost what a stretch of the flow costs. The equation is solved by iteration, one
evaluation of ``f`` for all nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.special import bernoulli, factorial
from torch import Tensor

from rectilinear import numerics
from rectilinear.checks import check_finite, check_floating
from rectilinear.errors import DivergedError, ShapeError
from rectilinear.learning.gradient_flow import ascending
from rectilinear.networks.batches import as_pair

DEGREE = 20  # of the polynomial on a stretch
MAX_ITERATIONS = 32  # if the equation needs more, the stretch is too long
CONTRACTION = 1.2  # wanted between the first two iterations: half the curvature times the length
ITERATE_TOLERANCE = 1e-14  # of the largest entry: iterates that agree
TAIL_TOLERANCE = 1e-12  # of the largest entry: last coefficients that no longer matter
MIN_STEPS = 2 * DEGREE  # fewer steps are taken one by one, of large states more
MAX_STATE_NUMBERS = 100_000  # of a state that is held at all nodes
MIN_FLOW_STRETCH = 1e-13  # part of the time that a stretch of the flow has at least

Values = TypeVar("Values", Tensor, NDArray)


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments of inputs and targets: all that a linear network learns from.

    Attributes:
        sigma: ``<x x^T>``, ``(d, d)``.
        beta: ``<y x^T>``, ``(o, d)``.
        power: ``<|y|^2>``.
        best_map: the best linear map ``(o, d)``, by least squares on the points; None where only
            moments are known.

    Example:
        >>> data = Moments.of(torch.eye(2), torch.tensor([1.0, -1.0]))
        >>> data.beta, data.variance
        (tensor([[ 0.5000, -0.5000]], dtype=torch.float64), 0.5)
    """

    sigma: Tensor
    beta: Tensor
    power: float
    best_map: Tensor | None = None

    @classmethod
    def of(cls, x: Any, y: Any) -> Moments:
        """The moments of points ``x (n, ...)`` and targets ``y (n,)`` or ``(n, o)``, in float64.

        Raises:
            ShapeError, DtypeError, NonFiniteError: for data that are not pairs of finite numbers.
        """
        x, y = rows(x, y)
        fit = numerics.Moments()
        fit.add(x, y)
        best = fit.fit(centred=False).matrix
        return cls(x.mT @ x / len(x), y.mT @ x / len(x), float(y.square().sum() / len(x)), best)

    def loss(self, maps: Tensor) -> Tensor:
        """``1/2 <|y - M x|^2>`` of each map ``(..., o, d)``, of shape ``(...)``."""
        residual = (self.beta - maps @ self.sigma / 2) * maps
        return self.power / 2 - residual.sum((-2, -1))

    @property
    def variance(self) -> float | None:
        """``lam`` where ``sigma = lam I`` to 1e-10, and None where the inputs are not white."""
        lam = float(self.sigma.diagonal().mean())
        drift = self.sigma - lam * torch.eye(len(self.sigma), dtype=self.sigma.dtype)
        return lam if lam > 0 and float(drift.abs().max()) <= 1e-10 * lam else None

    def optimum(self) -> Tensor:
        """The best linear map ``(o, d)``, of least norm where several are best.

        From the points where they were given, else ``beta sigma^+``, to half of the digits.
        """
        if self.best_map is not None:
            return self.best_map
        return self.beta @ torch.linalg.pinv(self.sigma, hermitian=True, rtol=1e-12)

    def strongest_mode(self) -> tuple[Tensor, Tensor, float, float]:
        """``u, v, s, lam``: the top mode of ``beta`` and the variance of the inputs along it."""
        u, s, vt = torch.linalg.svd(self.beta, full_matrices=False)
        return u[:, 0], vt[0], float(s[0]), float(vt[0] @ self.sigma @ vt[0])


def linear_network_flow(times: Tensor, weights: Sequence[Tensor], data: Moments) -> list[Tensor]:
    r"""The weights ``(T, h_l, h_(l-1))`` of a deep linear network under gradient flow.

    Of half the mean square error, from any initial weights, by polynomials of degree 20 in time, to
    a dozen digits.

    Args:
        times: ascending times ``(T,)``: learning rate times steps.
        weights: the initial weights, first layer first, ``(h_l, h_(l-1))``.
        data: moments of the data.

    Raises:
        InputError: for times that do not ascend from zero on.

    Reference: A. Saxe, J. McClelland, S. Ganguli, Exact solutions to the nonlinear dynamics of
    learning in deep linear neural networks, ICLR 2014.

    Example:
        >>> data = Moments(torch.eye(2), torch.tensor([[2.0, 0.0]]), 4.0)
        >>> weights = [torch.tensor([[0.1, 0.1]]), torch.tensor([[0.1]])]
        >>> w1, w2 = linear_network_flow(torch.tensor([0.0, 9.0]), weights, data)
        >>> (w2 @ w1)[-1].round(decimals=4).abs()
        tensor([[2., 0.]], dtype=torch.float64)
    """
    layers = _Layers(weights, data)
    return layers.unpack(torch.from_numpy(follow(layers.slope, layers.packed, ascending(times))))


def linear_network_descent(
    steps: Sequence[int], weights: Sequence[Tensor], data: Moments, lr: float
) -> Tensor:
    r"""The maps ``(T, o, d)`` of a deep linear network after these steps of gradient descent.

    They are those of the single full-batch steps, up to rounding; long stretches of small steps are
    summed at once.

    Args:
        steps: ascending numbers of steps.
        weights: the initial weights, first layer first.
        data: moments of the data.
        lr: learning rate, on half the mean square error summed over outputs.

    Raises:
        DivergedError: if the weights leave the finite numbers.

    Example:
        >>> data = Moments(torch.eye(1), torch.ones(1, 1), 1.0)
        >>> linear_network_descent([0, 1], [torch.zeros(1, 1)], data, lr=0.25).flatten()
        tensor([0.0000, 0.2500], dtype=torch.float64)
    """
    layers = _Layers(weights, data)

    def maps(packed: NDArray) -> NDArray:
        return product(layers.unpack(packed))

    return torch.from_numpy(follow(layers.slope, layers.packed, np.array(steps), lr, maps))


def linear_descent_weights(
    steps: Sequence[int], weights: Sequence[Tensor], data: Moments, lr: float
) -> list[Tensor]:
    """The weights ``(T, h_l, h_(l-1))`` after the steps of :func:`linear_network_descent`.

    Raises:
        DivergedError: if the weights leave the finite numbers.
    """
    layers = _Layers(weights, data)
    return layers.unpack(torch.from_numpy(follow(layers.slope, layers.packed, np.array(steps), lr)))


def rows(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """The data, tensors, arrays or data frames, as float64 ``(n, d)`` and ``(n, o)`` on the CPU.

    Raises:
        ShapeError, DtypeError, NonFiniteError: for data that are not pairs of finite numbers.
    """
    x, y = as_pair(x, y)
    for value, name in ((x, "x"), (y, "y")):
        check_floating(value, name)
        check_finite(value, name)
    if x.ndim < 2 or y.ndim not in (1, 2) or len(x) != len(y) or not len(x):
        raise ShapeError(
            f"x of shape {tuple(x.shape)} and y of shape {tuple(y.shape)}",
            "x of shape (n, d) and y of shape (n,) or (n, o), n at least 1",
            "Give every point one target.",
        )
    x, y = (
        value.detach().to("cpu", torch.float64).flatten(1)
        for value in (x, y[:, None] if y.ndim == 1 else y)
    )
    return x, y


class _Layers:
    """Layers as one vector of numbers, and the slope of that vector."""

    def __init__(self, weights: Sequence[Tensor], data: Moments) -> None:
        layers = [value.detach().to("cpu", torch.float64) for value in weights]
        self.packed = torch.cat([value.flatten() for value in layers]).numpy()
        self._shapes = [tuple(value.shape) for value in layers]
        self._ends = np.cumsum([0, *(value.numel() for value in layers)]).tolist()
        self._sigma, self._beta = data.sigma.double().numpy(), data.beta.double().numpy()

    def unpack(self, flat: Values) -> list[Values]:
        """The layers ``(..., h_l, h_(l-1))`` in vectors ``(..., n)``."""
        parts = zip(pairwise(self._ends), self._shapes, strict=True)
        return [flat[..., a:b].reshape(*flat.shape[:-1], *shape) for (a, b), shape in parts]

    def slope(self, flat: NDArray) -> NDArray:
        """Minus the gradient of half the mean square error."""
        # One unit, the commonest: half of the time.
        if self._shapes == [(1, len(self._sigma)), (1, 1)]:
            r, a = flat[..., :-1], flat[..., -1:]
            error = self._beta[0] - a * (r @ self._sigma)
            return np.concatenate([error * a, (error * r).sum(-1, keepdims=True)], axis=-1)
        slopes = _descent(self.unpack(flat), self._sigma, self._beta)
        return np.concatenate([part.reshape(*flat.shape[:-1], -1) for part in slopes], axis=-1)


def _descent(layers: Sequence[NDArray], sigma: NDArray, beta: NDArray) -> list[NDArray]:
    """Minus the gradient of half the mean square error for each layer ``(..., h_l, h_(l-1))``."""
    before: list[NDArray | None] = [None]  # W_(l-1) ... W_1; None stands for the identity
    for layer in layers:
        before.append(layer if before[-1] is None else layer @ before[-1])
    total = before.pop()
    assert total is not None
    # One product, however many maps.
    error = beta - (total.reshape(-1, len(sigma)) @ sigma).reshape(total.shape)
    slopes = []
    for layer, first in zip(reversed(layers), reversed(before), strict=True):
        slopes.append(error if first is None else error @ first.swapaxes(-1, -2))
        error = layer.swapaxes(-1, -2) @ error
    return slopes[::-1]


def product(weights: Sequence[Values]) -> Values:
    """The map ``W_L ... W_1``, of shape ``(..., o, d)``.

    Example:
        >>> product([torch.ones(2, 3), torch.ones(1, 2)])
        tensor([[2., 2., 2.]])
    """
    return reduce(lambda total, layer: layer @ total, weights)


def follow(
    slope: Callable[[NDArray], NDArray],
    start: NDArray,
    at: NDArray,
    lr: float | None = None,
    read: Callable[[NDArray], NDArray] = np.array,
) -> NDArray:
    """The states ``(T, n)`` after steps ``y + lr slope(y)``, or at times of ``y' = slope(y)``.

    They are those of the steps themselves, up to rounding.

    Args:
        slope: of states ``(..., n)``.
        start: the initial state ``(n,)``.
        at: ascending numbers of steps; without ``lr`` times.
        lr: the size of a step; None for the flow.
        read: what is kept of states ``(k, n)``.
    """
    kept = [read(np.repeat(start[None], (at == 0).sum(), axis=0))]
    state, now, end = start, 0, at[-1]
    short = _fewest(len(start)) if lr else MIN_FLOW_STRETCH * end
    length, alone = (2 * short if lr else end), 1
    with np.errstate(over="ignore", invalid="ignore"):
        while now < end:
            length = min(length, end - now)
            values, factor = None, 1.0
            if length >= short:
                matrix = lr * _sums(length) if lr else length * _integral()
                values, factor = _solve(slope, state, matrix)
            if values is not None:
                here = at[(at > now) & (at <= now + length)]
                if len(here):
                    kept.append(read(_between(values, (here - now) / length)))
                now, state, alone = now + length, values[-1], 1
            elif lr and (length < short or factor * length < short):
                # Too few steps are left, or they are too large for a polynomial, which is tried
                # again later and later.
                for _ in range(int(min(alone * short, end - now))):
                    now, state = now + 1, state + lr * slope(state)
                    if count := (at == now).sum():
                        kept.append(read(np.repeat(state[None], count, axis=0)))
                alone, length, factor = 2 * alone, 2 * short, 1.0
            if not np.isfinite(state).all() or (not lr and now < end and length < short):
                kind = "step" if lr else "time"
                raise DivergedError(
                    f"weights that leave the finite numbers at {kind} {now:.6g}",
                    "a loss that falls",
                    "Lower the learning rate." if lr else "Ask for earlier times.",
                )
            length = int(factor * length) if lr else factor * length
    return np.concatenate(kept)


def _fewest(numbers: int) -> int:
    """The number of steps from which on a stretch is cheaper, for a state of so many numbers."""
    return MIN_STEPS + numbers // 50 if numbers <= MAX_STATE_NUMBERS else 2**62


def _solve(
    slope: Callable[[NDArray], NDArray], start: NDArray, matrix: NDArray
) -> tuple[NDArray | None, float]:
    """The values at the nodes, None for too long a stretch; and the factor of the next length."""
    values, change, factor, size = np.broadcast_to(start, (len(matrix), len(start))), 0.0, 2.0, 0.0
    for turn in range(MAX_ITERATIONS):
        new = matrix @ slope(values)
        new += start
        before = change
        change = np.abs(np.subtract(new, values, out=values if turn else None)).max()
        values = new
        if not math.isfinite(change):
            return None, 0.1
        if turn == 1 and before:
            size = np.abs(values).max()
            factor = float(np.clip(CONTRACTION * before / max(change, 1e-300), 0.1, 2.0))
            if factor < 0.3:
                return None, factor
        if change <= ITERATE_TOLERANCE * size:
            smooth = np.abs(_to_coefficients()[-2:] @ values).max() <= TAIL_TOLERANCE * size
            return (values, factor) if smooth else (None, min(factor, 0.7))
    return None, min(factor, 0.7)


def _between(values: NDArray, at: NDArray) -> NDArray:
    """The polynomial through values at the nodes, at these parts of the stretch."""
    angles = np.arccos(np.clip(2 * at - 1, -1, 1))
    return np.cos(np.outer(angles, np.arange(DEGREE + 1))) @ (_to_coefficients() @ values)


@lru_cache(maxsize=1)
def _to_coefficients() -> NDArray:
    """From values at the nodes, ascending on ``[-1, 1]``, to Chebyshev coefficients."""
    nodes = -np.cos(np.pi * np.arange(DEGREE + 1) / DEGREE)
    return np.linalg.inv(chebyshev.chebvander(nodes, DEGREE))


@lru_cache(maxsize=1)
def _integral() -> NDArray:
    """From values at the nodes to integrals from the first one, for a stretch of length 1."""
    nodes = -np.cos(np.pi * np.arange(DEGREE + 1) / DEGREE)
    integrals = [
        chebyshev.chebval(nodes, chebyshev.chebint(unit, lbnd=-1)) for unit in np.eye(DEGREE + 1)
    ]
    return np.stack(integrals, axis=1) @ _to_coefficients() / 2


@lru_cache(maxsize=1)
def _corrections() -> NDArray:
    """``B_2j/(2j)! (q^(2j-1)(k) - q^(2j-1)(0))`` at the nodes of a unit stretch, ``(j, ...)``."""
    nodes = -np.cos(np.pi * np.arange(DEGREE + 1) / DEGREE)
    terms = []
    for order in range(1, DEGREE, 2):
        slopes = [
            chebyshev.chebval(nodes, chebyshev.chebder(unit, order)) for unit in np.eye(DEGREE + 1)
        ]
        term = 2.0**order * np.stack(slopes, axis=1) @ _to_coefficients()
        terms.append(bernoulli(order + 1)[-1] / factorial(order + 1) * (term - term[:1]))
    return np.stack(terms).reshape(len(terms), -1)


def _sums(steps: float) -> NDArray:
    """From values at the nodes to the sums of the polynomial over the steps before each node.

    ``sum_(i<k) q(i) = int_0^k q - (q(k) - q(0))/2 + sum_j B_2j/(2j)! (q^(2j-1)(k) - q^(2j-1)(0))``,
    which of a polynomial is exact, for ``k`` between whole numbers too.
    """
    powers = float(steps) ** -np.arange(1, DEGREE, 2)
    matrix = (
        steps * _integral()
        - np.eye(DEGREE + 1) / 2
        + (powers @ _corrections()).reshape(_integral().shape)
    )
    matrix[:, 0] += 0.5
    return matrix
