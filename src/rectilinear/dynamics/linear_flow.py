"""Gradient flow of a linear network from the moments of the data: its cost does not know how many points there are."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import torch

from rectilinear.dynamics.gradient_flow import ascending, integrate
from rectilinear.errors import DivergedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from rectilinear.dynamics.moments import Moments


def linear_flow(times: Tensor, weights: Sequence[Tensor], data: Moments, rtol: float = 1e-11) -> list[Tensor]:
    r"""The weights ``(T, h_l, h_(l-1))`` of a linear network under gradient flow, any start, any depth.

    ``dW_l/dt = (W_L ... W_(l+1))^T (beta - W_L ... W_1 sigma) (W_(l-1) ... W_1)^T``, the gradient of half the mean
    square error, by an adaptive solver of order 8.

    Args:
        times: ascending times ``(T,)``: learning rate times steps.
        weights: the start, first layer first, ``(h_l, h_(l-1))``.
        data: moments of the data.
        rtol: relative tolerance of the solver.

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
    start = [value.detach().to("cpu", torch.float64) for value in weights]
    shapes = [tuple(value.shape) for value in start]
    cuts = np.cumsum([a * b for a, b in shapes])[:-1]
    sigma, beta = data.sigma.double().numpy(), data.beta.double().numpy()

    def slope(_: float, flat: NDArray) -> NDArray:
        layers = [part.reshape(shape) for part, shape in zip(np.split(flat, cuts), shapes, strict=True)]
        return np.concatenate([part.ravel() for part in descent(layers, sigma, beta)])

    flat = torch.cat([value.flatten() for value in start]).numpy()
    states = torch.from_numpy(integrate(slope, flat, ascending(times), rtol))
    parts = states.split([a * b for a, b in shapes], dim=1)
    return [part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]


def linear_descent(steps: Sequence[int], weights: Sequence[Tensor], data: Moments, lr: float) -> Tensor:
    r"""The maps ``(T, o, d)`` of a linear network after these numbers of steps of full-batch gradient descent.

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
    layers = [value.detach().to("cpu", torch.float64).numpy() for value in weights]
    sigma, beta = data.sigma.double().numpy(), data.beta.double().numpy()
    wanted, maps = set(steps), []
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(max(wanted) + 1):
            if step in wanted:
                maps.append(reduce(lambda total, layer: layer @ total, layers))
            layers = [w + lr * g for w, g in zip(layers, descent(layers, sigma, beta), strict=True)]
    if not np.isfinite(maps[-1]).all():
        raise DivergedError(
            f"weights that leave the finite numbers at learning rate {lr:.3g}", "steps that converge", "Lower it."
        )
    return torch.from_numpy(np.stack(maps))


def descent(layers: Sequence[NDArray], sigma: NDArray, beta: NDArray) -> list[NDArray]:
    """Minus the gradient of half the mean square error for each layer."""
    before: list[NDArray | None] = [None]  # W_(l-1) ... W_1; None stands for the identity
    for layer in layers:
        before.append(layer if before[-1] is None else layer @ before[-1])
    error = beta - before[-1] @ sigma
    slopes = []
    for layer, first in zip(reversed(layers), reversed(before[:-1]), strict=True):
        slopes.append(error if first is None else error @ first.T)
        error = layer.T @ error
    return slopes[::-1]


def product(weights: Sequence[Tensor]) -> Tensor:
    """The map ``W_L ... W_1``, of shape ``(..., o, d)``.

    Example:
        >>> product([torch.ones(2, 3), torch.ones(1, 2)])
        tensor([[2., 2., 2.]])
    """
    return reduce(lambda total, layer: layer @ total, weights)
