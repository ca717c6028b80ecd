"""Gradient flow of a linear network from the moments of the data: its cost does not know how many points there are."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from rectilinear.dynamics.gradient_flow import ascending
from rectilinear.dynamics.stretches import follow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from rectilinear.dynamics.moments import Moments

    Values = TypeVar("Values", Tensor, NDArray)


def linear_flow(times: Tensor, weights: Sequence[Tensor], data: Moments) -> list[Tensor]:
    r"""The weights ``(T, h_l, h_(l-1))`` of a linear network under gradient flow, any start, any depth.

    ``dW_l/dt = (W_L ... W_(l+1))^T (beta - W_L ... W_1 sigma) (W_(l-1) ... W_1)^T``, the gradient of half the mean
    square error, by polynomials of degree 20 in time, to a dozen digits.

    Args:
        times: ascending times ``(T,)``: learning rate times steps.
        weights: the start, first layer first, ``(h_l, h_(l-1))``.
        data: moments of the data.

    Raises:
        InputError: for times that do not ascend from zero on.

    Reference: A. Saxe, J. McClelland, S. Ganguli, Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks, ICLR 2014.

    Example:
        >>> from rectilinear.dynamics import Moments
        >>> data = Moments(torch.eye(2), torch.tensor([[2.0, 0.0]]), 4.0)
        >>> start = [torch.tensor([[0.1, 0.1]]), torch.tensor([[0.1]])]
        >>> w1, w2 = linear_flow(torch.tensor([0.0, 9.0]), start, data)
        >>> (w2 @ w1)[-1].round(decimals=4).abs()
        tensor([[2., 0.]], dtype=torch.float64)
    """
    flow = _Flow(weights, data)
    return flow.layers(torch.from_numpy(follow(flow.slope, flow.start, ascending(times))))


def linear_descent(steps: Sequence[int], weights: Sequence[Tensor], data: Moments, lr: float) -> Tensor:
    r"""The maps ``(T, o, d)`` of a linear network after these numbers of steps of full-batch gradient descent.

    They are those of the steps themselves, up to rounding; long stretches of small steps are summed at once.

    Args:
        steps: ascending numbers of steps.
        weights: the start, first layer first.
        data: moments of the data.
        lr: learning rate.

    Raises:
        DivergedError: if the weights leave the finite numbers.

    Example:
        >>> from rectilinear.dynamics import Moments
        >>> data = Moments(torch.eye(1), torch.ones(1, 1), 1.0)
        >>> linear_descent([0, 1], [torch.zeros(1, 1)], data, lr=0.25).flatten()
        tensor([0.0000, 0.2500], dtype=torch.float64)
    """
    flow = _Flow(weights, data)
    return torch.from_numpy(follow(flow.slope, flow.start, np.array(steps), lr, lambda y: product(flow.layers(y))))


def linear_path(steps: Sequence[int], weights: Sequence[Tensor], data: Moments, lr: float) -> list[Tensor]:
    """The weights ``(T, h_l, h_(l-1))`` after these numbers of steps, as :func:`linear_descent` takes them.

    Raises:
        DivergedError: if the weights leave the finite numbers.
    """
    flow = _Flow(weights, data)
    return flow.layers(torch.from_numpy(follow(flow.slope, flow.start, np.array(steps), lr)))


class _Flow:
    """Layers as one vector of numbers, and the slope of that vector."""

    def __init__(self, weights: Sequence[Tensor], data: Moments) -> None:
        layers = [value.detach().to("cpu", torch.float64) for value in weights]
        self.start = torch.cat([value.flatten() for value in layers]).numpy()
        self._shapes = [tuple(value.shape) for value in layers]
        self._ends = np.cumsum([0, *(value.numel() for value in layers)]).tolist()
        self._sigma, self._beta = data.sigma.double().numpy(), data.beta.double().numpy()

    def layers(self, flat: Values) -> list[Values]:
        """The layers ``(..., h_l, h_(l-1))`` in vectors ``(..., n)``."""
        parts = zip(pairwise(self._ends), self._shapes, strict=True)
        return [flat[..., a:b].reshape(*flat.shape[:-1], *shape) for (a, b), shape in parts]

    def slope(self, flat: NDArray) -> NDArray:
        """Minus the gradient of half the mean square error."""
        if self._shapes == [(1, len(self._sigma)), (1, 1)]:  # one unit, the commonest: half of the time
            r, a = flat[..., :-1], flat[..., -1:]
            error = self._beta[0] - a * (r @ self._sigma)
            return np.concatenate([error * a, (error * r).sum(-1, keepdims=True)], axis=-1)
        slopes = _descent(self.layers(flat), self._sigma, self._beta)
        return np.concatenate([part.reshape(*flat.shape[:-1], -1) for part in slopes], axis=-1)


def _descent(layers: Sequence[NDArray], sigma: NDArray, beta: NDArray) -> list[NDArray]:
    """Minus the gradient of half the mean square error for each layer ``(..., h_l, h_(l-1))``."""
    before: list[NDArray | None] = [None]  # W_(l-1) ... W_1; None stands for the identity
    for layer in layers:
        before.append(layer if before[-1] is None else layer @ before[-1])
    total = before.pop()
    assert total is not None
    error = beta - (total.reshape(-1, len(sigma)) @ sigma).reshape(total.shape)  # one product, however many maps
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
