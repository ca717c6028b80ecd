"""Loss and gradient of many networks at once, by the cheapest of three exact routes.

Of two layers ``f(x) = kappa W2 W1 x + (1 - alpha)/2 W2 |W1 x|``. Where the second, even part is zero and stays so, the
moments of the data are enough; on data closed under ``(x, y) -> (-x, -y)`` the first, odd part needs only them, and the
second only half of the points. Else every point is visited.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from rectilinear.dynamics.moments import Moments
    from rectilinear.dynamics.networks import Networks

Weights = list["Tensor"]


@dataclass(frozen=True, eq=False)
class Route:
    """How a batch is held while it trains: its weights, their loss ``(B,)`` and gradient, and the way back."""

    weights: Weights
    gradient: Callable[[Weights], tuple[Tensor, Weights]]
    restore: Callable[[Weights], Networks]


def by_moments(networks: Networks, data: Moments, *, paired: bool, narrow: bool) -> Route:
    """Paired or linear networks of two layers under the square loss: no points at all.

    Of a pair one neuron is held. With ``narrow`` the hidden space is turned so that ``min(h, d + o)`` units are enough:
    right for gradient descent, momentum and weight decay, which know no directions, but not for Adam.
    """
    w1, w2 = networks.first, networks.last
    kappa = (1 + networks.alpha[:, None, None]) / 2
    if paired:
        half = w1.shape[1] // 2
        w1, w2 = w1[:, :half], w2[:, :, :half]
    (_, h, d), o = w1.shape, w2.shape[1]
    turn: Tensor | None = None
    if narrow and h > d + o:
        turn, rest = torch.linalg.qr(torch.cat([w1, w2.mT], dim=2))
        w1, w2 = rest[:, :, :d], rest[:, :, d:].mT

    def gradient(weights: Weights) -> tuple[Tensor, Weights]:
        w1, w2 = weights
        maps = (2 if paired else 1) * kappa * (w2 @ w1)
        error = kappa * (maps @ data.sigma - data.beta)
        return data.loss(maps), [w2.mT @ error, error @ w1.mT]

    def restore(weights: Weights) -> Networks:
        w1, w2 = weights if turn is None else (turn @ weights[0], weights[1] @ turn.mT)
        done = replace(networks, first=w1, last=w2)
        return done.paired() if paired else done

    return Route([w1.contiguous(), w2.contiguous()], gradient, restore)


def by_halves(networks: Networks, data: Moments, x: Tensor, weight: float) -> Route:
    """Two layers with one output, square loss and symmetric data, of which ``x`` is one point of each pair.

    ``weight`` is that of a pair in the loss: ``2/n`` for the mean over ``n`` points.
    """
    kappa = (1 + networks.alpha[:, None, None]) / 2
    gamma = 1 - kappa  # (1 - alpha)/2
    shape = networks.first.shape[:2]
    # These two are large and needed in every step: asking for new memory would cost more than the arithmetic.
    flat = x.new_empty(shape.numel(), len(x))
    z, size = flat.unflatten(0, shape), torch.empty_like(flat).unflatten(0, shape)
    columns = x.mT.contiguous()

    def gradient(weights: Weights) -> tuple[Tensor, Weights]:
        w1, w2 = weights
        maps = kappa * (w2 @ w1)
        error = kappa * (maps @ data.sigma - data.beta)
        torch.mm(w1.flatten(0, 1), columns, out=flat)  # z = W1 x, (B, h, n/2)
        torch.abs(z, out=size)
        even = gamma * (w2 @ size)  # (B, 1, n/2)
        loss = data.loss(maps) + weight / 2 * even.square().sum((1, 2))
        pull = weight * gamma * even
        z.sign_().mul_(pull)
        # The transposed product is twice as fast; with w it gives sum_x pull |w x|, without another look at the points.
        each = (columns @ flat.mT).mT.unflatten(0, shape)
        g2 = (each * w1).sum(-1)[:, None]
        return loss, [(w2.mT * each).add_(w2.mT @ error), g2.add_(error @ w1.mT)]

    return Route([networks.first, networks.last], gradient, lambda w: replace(networks, first=w[0], last=w[1]))


def by_points(networks: Networks, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Route:
    """Any depth and loss: ``loss`` of outputs ``(B, n, o)`` and ``y`` gives ``(B,)``."""
    names = [name for name in ("first", "hidden", "last") if getattr(networks, name).numel()]

    def gradient(weights: Weights) -> tuple[Tensor, Weights]:
        moving = [value.detach().requires_grad_() for value in weights]
        losses = loss(replace(networks, **dict(zip(names, moving, strict=True)))(x), y)
        return losses.detach(), list(torch.autograd.grad(losses.sum(), moving))

    def restore(weights: Weights) -> Networks:
        return replace(networks, **dict(zip(names, weights, strict=True)))

    return Route([getattr(networks, name) for name in names], gradient, restore)


def mirrored(networks: Networks) -> bool:
    """Whether the second half of the neurons of every network of two layers is minus the first."""
    first, last = networks.first, networks.last
    half = first.shape[1] // 2
    return (
        first.shape[1] == 2 * half
        and torch.equal(first[:, half:], -first[:, :half])
        and torch.equal(last[:, :, half:], -last[:, :, :half])
    )
