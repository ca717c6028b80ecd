"""Two linear layers with any number of outputs, white inputs and balanced layers: a matrix Riccati
equation.

Gradient flow of a linear network from the moments of the data: its cost does not know how many
points there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rectilinear.errors import AssumptionError, ShapeError
from rectilinear.learning.gradient_flow import ascending
from rectilinear.learning.mirror import Moments
from rectilinear.learning.multistep import follow


def imbalance(w1: Tensor, w2: Tensor) -> tuple[float, float]:
    r"""``(b, error)``: the ``b`` that comes closest to ``W2^T W2 - W1 W1^T = b I``, and how far it
    stays from it.

    The difference is constant under gradient flow; its distance is the spectral norm. With more
    hidden units than inputs and outputs ``b`` can only be 0.

    Example:
        >>> imbalance(torch.eye(2), 2 * torch.eye(2))
        (3.0, 0.0)
    """
    w1, w2 = w1.double(), w2.double()
    values = torch.linalg.eigvalsh(w2.mT @ w2 - w1 @ w1.mT)
    b = float(values[0] + values[-1]) / 2 if len(w1) <= max(w1.shape[1], len(w2)) else 0.0
    return b, max(float(values[-1]) - b, b - float(values[0]))


def riccati(
    times: Tensor, w1: Tensor, w2: Tensor, beta: Tensor, lam: float = 1.0, balance: float = 0.0
) -> Tensor:
    r"""The map ``W2 W1 (t)``, ``(T, o, d)``, of a linear network with ``W2^T W2 - W1 W1^T = b I``
    and white inputs.

    With ``Q = (W1^T; W2)`` and ``F = [[-lam b/2 I, beta^T], [beta, lam b/2 I]]``,
    ``Q Q^T (t) = e^{F t} Q0 [I + lam Q0^T (int_0^t e^{2 F r} dr) Q0]^{-1} Q0^T e^{F t}``.
    It is evaluated in the eigenbasis of ``F`` and in the rank of ``Q0``, through a QR factorisation
    and in short spans of time, so that neither growing nor vanishing modes lose digits.

    Args:
        times: ascending, ``(T,)``: learning rate times steps.
        w1: first layer at the start, ``(h, d)``.
        w2: second layer at the start, ``(o, h)``.
        beta: ``<y x^T>``, ``(o, d)``.
        lam: variance of the inputs, ``sigma = lam I``.
        balance: ``b``; :func:`imbalance` measures it.

    Raises:
        ShapeError: for layers that do not fit ``beta``.
        AssumptionError: for a ``b`` that is not zero where there are more hidden units than inputs
            and outputs.

    Reference: K. Fukumizu 1998; L. Braun et al., Exact learning dynamics of deep linear networks
    with prior knowledge, NeurIPS 2022; C. Domine et al., From lazy to rich, 2024.

    Example:
        >>> beta = torch.diag(torch.tensor([3.0, 1.0]))
        >>> riccati(torch.tensor([30.0]), 1e-4 * torch.eye(2), 1e-4 * torch.eye(2), beta)[0].diagonal()
        tensor([3.0000, 1.0000], dtype=torch.float64)
    """
    t = torch.from_numpy(ascending(times))
    w1, w2, beta = (value.detach().to("cpu", torch.float64) for value in (w1, w2, beta))
    (o, d), h = beta.shape, len(w1)
    if w1.shape != (h, d) or w2.shape != (o, h):
        raise ShapeError(
            f"layers of shape {tuple(w1.shape)} and {tuple(w2.shape)}",
            f"({h}, {d}) and ({o}, {h}) for beta of shape {(o, d)}",
        )
    if balance and h > max(d, o):
        raise AssumptionError(
            f"balance {balance:.3g} with {h} hidden units between {d} inputs and {o} outputs",
            "no more hidden units than inputs or outputs, or balance 0",
            "The difference of the layers cannot be a multiple of the identity here.",
            assumption="balanced layers",
        )
    corner = lam * balance / 2
    f = torch.cat(
        [
            torch.cat([-corner * torch.eye(d, dtype=beta.dtype), beta.mT], dim=1),
            torch.cat([beta, corner * torch.eye(o, dtype=beta.dtype)], dim=1),
        ]
    )
    rates, basis = torch.linalg.eigh(f)
    q = basis.mT @ torch.cat([w1.mT, w2])
    if h > d + o:
        q = torch.linalg.qr(q.mT).R.mT
    span = 3 / max(float(rates.abs().max()), torch.finfo(beta.dtype).tiny)
    anchors = [q]
    for _ in range(int(t[-1] / span)):
        anchors.append(_advance(anchors[-1], torch.tensor(span, dtype=beta.dtype), rates, lam))
    index = (t / span).floor().long().clamp(max=len(anchors) - 1)
    q = basis @ _advance(torch.stack(anchors)[index], t - index.double() * span, rates, lam)
    return q[:, d:] @ q[:, :d].mT


def _advance(q: Tensor, t: Tensor, rates: Tensor, lam: float) -> Tensor:
    """A factor of ``Q Q^T`` after ``t``, from the factor ``q (..., n, r)`` in the eigenbasis.

    With ``g = (e^{2 f t} - 1)/(2 f)`` and the triangle ``R`` of ``[sqrt(lam g) q; I]`` it is ``e^{f
    t} q R^{-1}``.
    """
    x = t[..., None] * rates
    grown = torch.expm1(2 * x)
    g = torch.where(
        rates == 0, t[..., None].expand_as(x), grown / torch.where(rates == 0, 1.0, 2 * rates)
    )
    top = (lam * g).sqrt()[..., None] * q
    r = q.shape[-1]
    upper = torch.linalg.qr(
        torch.cat([top, torch.eye(r, dtype=q.dtype).expand(*q.shape[:-2], r, r)], dim=-2)
    ).R
    return torch.linalg.solve_triangular(upper.mT, (x.exp()[..., None] * q).mT, upper=False).mT


Values = TypeVar("Values", Tensor, NDArray)


def linear_flow(times: Tensor, weights: Sequence[Tensor], data: Moments) -> list[Tensor]:
    r"""The weights ``(T, h_l, h_(l-1))`` of a linear network under gradient flow, any start, any
    depth.

    ``dW_l/dt = (W_L ... W_(l+1))^T (beta - W_L ... W_1 sigma) (W_(l-1) ... W_1)^T``, the gradient
    of half the mean square error, by polynomials of degree 20 in time, to a dozen digits.

    Args:
        times: ascending times ``(T,)``: learning rate times steps.
        weights: the start, first layer first, ``(h_l, h_(l-1))``.
        data: moments of the data.

    Raises:
        InputError: for times that do not ascend from zero on.

    Reference: A. Saxe, J. McClelland, S. Ganguli, Exact solutions to the nonlinear dynamics of
    learning in deep linear neural networks, ICLR 2014.

    Example:
        >>> from rectilinear.learning import Moments
        >>> data = Moments(torch.eye(2), torch.tensor([[2.0, 0.0]]), 4.0)
        >>> start = [torch.tensor([[0.1, 0.1]]), torch.tensor([[0.1]])]
        >>> w1, w2 = linear_flow(torch.tensor([0.0, 9.0]), start, data)
        >>> (w2 @ w1)[-1].round(decimals=4).abs()
        tensor([[2., 0.]], dtype=torch.float64)
    """
    flow = _Flow(weights, data)
    return flow.layers(torch.from_numpy(follow(flow.slope, flow.start, ascending(times))))


def linear_descent(
    steps: Sequence[int], weights: Sequence[Tensor], data: Moments, lr: float
) -> Tensor:
    r"""The maps ``(T, o, d)`` of a linear network after these numbers of steps of full-batch
    gradient descent.

    They are those of the steps themselves, up to rounding; long stretches of small steps are summed
    at once.

    Args:
        steps: ascending numbers of steps.
        weights: the start, first layer first.
        data: moments of the data.
        lr: learning rate.

    Raises:
        DivergedError: if the weights leave the finite numbers.

    Example:
        >>> from rectilinear.learning import Moments
        >>> data = Moments(torch.eye(1), torch.ones(1, 1), 1.0)
        >>> linear_descent([0, 1], [torch.zeros(1, 1)], data, lr=0.25).flatten()
        tensor([0.0000, 0.2500], dtype=torch.float64)
    """
    flow = _Flow(weights, data)
    return torch.from_numpy(
        follow(flow.slope, flow.start, np.array(steps), lr, lambda y: product(flow.layers(y)))
    )


def linear_path(
    steps: Sequence[int], weights: Sequence[Tensor], data: Moments, lr: float
) -> list[Tensor]:
    """The weights ``(T, h_l, h_(l-1))`` after these numbers of steps, as :func:`linear_descent`
    takes them.

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
        if self._shapes == [
            (1, len(self._sigma)),
            (1, 1),
        ]:  # one unit, the commonest: half of the time
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
    error = beta - (total.reshape(-1, len(sigma)) @ sigma).reshape(
        total.shape
    )  # one product, however many maps
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
