"""L-BFGS of a batch of runs: each with its own curvature, line search and pace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

MEMORY = 10  # pairs of steps and changes of the gradient
DECREASE = 1e-4  # of the loss, over that of a linear function: Armijo's condition
HALVINGS = 25  # of a step; a run that needs more has converged, and stays where it is

Value = Callable[[Sequence[Tensor]], Tensor]
Slope = Callable[[Sequence[Tensor]], list[Tensor]]


def lbfgs(
    value: Value, gradient: Slope, layers: Sequence[Tensor], lr: Tensor, steps: int
) -> Iterator[Sequence[Tensor]]:
    """The layers of every run before the first step and after each of ``steps``.

    A step is halved until the loss falls by Armijo's condition. The first one begins at ``lr``
    times the gradient, each later one at the quasi-Newton step. A pair enters the memory of a run
    only where its curvature is positive.

    Args:
        value: the losses ``(runs,)`` of layers.
        gradient: of the losses, by the layers.
        layers: each ``(runs, ...)``.
        lr: ``(runs,)``.
        steps: their number.

    Reference: Nocedal and Wright, "Numerical Optimization", 2006, algorithms 7.4 and 3.1.
    """
    shapes = [layer.shape for layer in layers]

    def flat(parts: Sequence[Tensor]) -> Tensor:
        return torch.cat([part.flatten(1) for part in parts], 1)

    def unflat(x: Tensor) -> list[Tensor]:
        parts = x.split([shape[1:].numel() for shape in shapes], 1)
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    x = flat(layers)
    now, slope = value(unflat(x)), flat(gradient(unflat(x)))
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    done = torch.zeros_like(now, dtype=torch.bool)
    yield unflat(x)
    for _ in range(steps):
        if done.all():
            yield unflat(x)
            continue
        way = -_times_inverse_hessian(pairs, slope, lr)
        fall = (way * slope).sum(1)
        uphill = ~(fall < 0)
        way[uphill], fall = -lr[uphill, None] * slope[uphill], fall.clone()
        fall[uphill] = -lr[uphill] * slope[uphill].square().sum(1)
        t, moved = torch.ones_like(now), done
        for _ in range(HALVINGS):
            trial = value(unflat(x + t[:, None] * way))
            moved = (trial < now) & (trial <= now + DECREASE * t * fall) & ~done
            if (moved | done).all():
                break
            t = torch.where(moved, t, t / 2)
        done = done | ~moved
        step = torch.where(moved[:, None], t[:, None] * way, 0.0)
        x = x + step
        now, new = torch.where(moved, trial, now), flat(gradient(unflat(x)))
        pairs = [*pairs, _pair(step, new - slope, moved)][-MEMORY:]
        slope = new
        yield unflat(x)


def _pair(step: Tensor, change: Tensor, moved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A step, the change of the gradient, and one over their product: 0 where it is no use."""
    product = (step * change).sum(1)
    eps = torch.finfo(step.dtype).eps
    sound = moved & (product > eps * step.norm(dim=1) * change.norm(dim=1))
    return step, change, torch.where(sound, 1 / product, 0.0)


def _times_inverse_hessian(
    pairs: Sequence[tuple[Tensor, Tensor, Tensor]], slope: Tensor, lr: Tensor
) -> Tensor:
    """The gradient times the inverse of the Hessian, as far as the pairs know it."""
    q, shares = slope, list[Tensor]()
    scale = lr.clone()  # of each run, by its newest pair
    for _, change, inverse in pairs:
        newest = 1 / (inverse * change.square().sum(1))
        scale = torch.where(inverse > 0, newest, scale)
    for step, change, inverse in reversed(pairs):
        shares.append(inverse * (step * q).sum(1))
        q = q - shares[-1][:, None] * change
    q = scale[:, None] * q
    for (step, change, inverse), share in zip(pairs, reversed(shares), strict=True):
        q = q + (share - inverse * (change * q).sum(1))[:, None] * step
    return q
