"""Training many small networks at once, step by exact step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from rectilinear.errors import DivergedError, InputError, ShapeError
from rectilinear.learning.gradient_flow import (
    Route,
    Weights,
    by_halves,
    by_moments,
    by_points,
    mirrored,
)
from rectilinear.learning.mirror import Moments, mirror_half, rows, unmirrored
from rectilinear.learning.networks import Networks

CACHE = 250_000  # numbers that are worked on at once: what a core keeps near


@dataclass(frozen=True, eq=False)
class Simulation:
    """Steps ``(T,)``, the loss of every network there ``(T, B)``, the trained networks, and the
    route taken.
    """

    steps: Tensor
    loss: Tensor
    networks: Networks
    route: Literal["moments", "halves", "points"]


@dataclass(frozen=True)
class Optimizer:
    """Gradient descent as ``torch.optim`` does it, SGD or Adam; weight decay is a part of the
    gradient.
    """

    name: Literal["gd", "adam"] = "gd"
    momentum: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


def simulate(
    networks: Networks,
    x: Tensor,
    y: Tensor,
    lr: float | Sequence[float] | Tensor,
    steps: int,
    *,
    loss: Literal["square", "sum", "logistic"] = "square",
    optimizer: Optimizer = Optimizer(),
    points: int = 201,
    route: Literal["moments", "halves", "points"] | None = None,
) -> Simulation:
    """Train all ``networks`` on the same data by full-batch steps, in float64; each goes its own
    way.

    The numbers are those of a loop over modules with ``torch.optim``, up to rounding. Three routes
    give the gradient: ``"moments"`` for paired neurons on symmetric data and for linear networks of
    two layers, which costs nothing per point; ``"halves"`` for other networks of two layers and one
    output on symmetric data; ``"points"`` for everything.

    Args:
        networks: the start; it is not changed.
        x: points ``(n, d)``.
        y: targets ``(n,)`` or ``(n, o)``.
        lr: learning rate, one for all or one for each network.
        steps: number of steps.
        loss: ``"square"`` for half the mean square, ``"sum"`` for half the sum of squares over
            points, ``"logistic"`` for ``<log(1 + exp(-y f))>``.
        optimizer: how the gradient is used.
        points: at how many steps the loss is kept, evenly spread, the first and the last among
            them.
        route: one of the routes, or None for the cheapest that is exact.

    Raises:
        InputError: for numbers out of range, or a route that does not hold here.
        DivergedError: if the loss of a network leaves the finite numbers.

    Example:
        >>> x = torch.eye(2, dtype=torch.float64)
        >>> x, y = torch.cat([x, -x]), torch.tensor([1.0, 2.0, -1.0, -2.0])
        >>> start = Networks.gaussian(2, width=8, alpha=[0.0, 0.5, 1.0], std=0.1).paired()
        >>> run = simulate(start, x, y, lr=0.1, steps=2000)
        >>> run.route, bool((run.loss[-1] < 1e-9).all())
        ('moments', True)
    """
    x, y = rows(x, y)
    rate = torch.as_tensor(lr, dtype=x.dtype).expand(len(networks))
    if not (bool((rate > 0).all()) and steps >= 1 and points >= 2):
        raise InputError(
            f"lr = {lr}, steps = {steps}, points = {points}",
            "positive rates and steps, 2 points or more",
        )
    if x.shape[1] != networks.first.shape[2] or y.shape[1] != networks.last.shape[1]:
        raise ShapeError(
            f"data of {x.shape[1]} inputs and {y.shape[1]} targets a point",
            f"{networks.first.shape[2]} and {networks.last.shape[1]}, as the networks have",
        )
    possible = _routes(networks, x, y, loss)
    if route is not None and route not in possible:
        raise InputError(f"the route '{route}'", f"one that is exact here: {', '.join(possible)}")
    route = route or possible[0]
    record = (
        torch.linspace(0, steps, min(points, steps + 1), dtype=torch.float64)
        .round()
        .long()
        .unique()
    )
    make, size = _maker(route, networks, x, y, loss, narrow=optimizer.name == "gd")
    parts = [
        _train(make(networks[i : i + size]), rate[i : i + size], record.tolist(), optimizer)
        for i in range(0, len(networks), size)
    ]
    losses = torch.cat([part for part, _ in parts], dim=1)
    if not bool(losses.isfinite().all()):
        lost = int((~losses.isfinite().all(0)).nonzero()[0])
        raise DivergedError(
            f"network {lost} with a loss that leaves the finite numbers",
            "steps that converge",
            "Lower its rate.",
        )
    return Simulation(record, losses, _joined([done for _, done in parts]), route)


def _routes(
    networks: Networks, x: Tensor, y: Tensor, loss: str
) -> list[Literal["moments", "halves", "points"]]:
    """The routes that are exact, the cheapest first."""
    found: list[Literal["moments", "halves", "points"]] = ["points"]
    if loss != "logistic" and int(networks.depth.max()) == 2:
        symmetric = not unmirrored(x, y)
        if symmetric and y.shape[1] == 1:
            found.insert(0, "halves")
        if bool((networks.alpha == 1).all()) or (symmetric and mirrored(networks)):
            found.insert(0, "moments")
    return found


def _maker(
    route: str, networks: Networks, x: Tensor, y: Tensor, loss: str, *, narrow: bool
) -> tuple[Callable[[Networks], Route], int]:
    """What sets a batch on the route, and of how many networks."""
    _, h, d = networks.first.shape
    scale = float(len(x)) if loss == "sum" else 1.0
    if route == "points":
        weigh = {"square": _half_square, "sum": _half_sum, "logistic": _logistic}[loss]
        return lambda part: by_points(part, x, y, weigh), max(1, CACHE // (len(x) * h))
    data = Moments.of(x, y)
    data = Moments(scale * data.sigma, scale * data.beta, scale * data.power)
    if route == "moments":
        paired = not bool((networks.alpha == 1).all())
        return lambda part: by_moments(part, data, paired=paired, narrow=narrow), max(
            1, CACHE // (min(h, d + 1) * d)
        )
    half = x[mirror_half(x, y)]
    # Rows of zeros are in no pair, but they count in the mean.
    return lambda part: by_halves(part, data, half, scale * 2 / len(x)), max(
        1, 2 * CACHE // (len(half) * h)
    )


def _train(
    route: Route, rate: Tensor, record: list[int], optimizer: Optimizer
) -> tuple[Tensor, Networks]:
    """All steps of one batch: losses ``(T, B)`` and the networks at the end."""
    weights = [value.clone() for value in route.weights]
    step = _stepper(optimizer, weights, rate)
    wanted, losses = set(record), []
    for k in range(record[-1] + 1):
        loss, gradients = route.gradient(weights)
        if k in wanted:
            losses.append(loss)
        if k < record[-1]:
            step(weights, gradients, k + 1)
    return torch.stack(losses), route.restore(weights)


def _stepper(
    o: Optimizer, weights: Weights, rate: Tensor
) -> Callable[[Weights, Weights, int], None]:
    """What moves the weights, in place, with its memory."""
    rates = [rate.reshape(-1, *[1] * (value.ndim - 1)) for value in weights]
    first = [torch.zeros_like(value) for value in weights] if o.momentum or o.name == "adam" else []
    second = [torch.zeros_like(value) for value in weights] if o.name == "adam" else []

    def descend(weights: Weights, gradients: Weights, _: int) -> None:
        for i, (w, g, r) in enumerate(zip(weights, gradients, rates, strict=True)):
            if o.weight_decay:
                g.add_(w, alpha=o.weight_decay)
            if first:
                g = first[i].mul_(o.momentum).add_(g)
            w.addcmul_(g, r, value=-1)

    def adam(weights: Weights, gradients: Weights, k: int) -> None:
        b1, b2 = o.betas
        for w, g, r, m, v in zip(weights, gradients, rates, first, second, strict=True):
            if o.weight_decay:
                g.add_(w, alpha=o.weight_decay)
            m.lerp_(g, 1 - b1)
            v.mul_(b2).addcmul_(g, g, value=1 - b2)
            size = (v.sqrt() / math.sqrt(1 - b2**k)).add_(o.eps)
            # A unit that only fills the batch has no gradient, and with eps = 0 it stays where it
            # is.
            w.addcmul_(torch.where(size == 0, 0, m / size), r, value=-1 / (1 - b1**k))

    return adam if o.name == "adam" else descend


def _half_square(outputs: Tensor, y: Tensor) -> Tensor:
    return (outputs - y).square().sum((1, 2)) / (2 * len(y))


def _half_sum(outputs: Tensor, y: Tensor) -> Tensor:
    return (outputs - y).square().sum((1, 2)) / 2


def _logistic(outputs: Tensor, y: Tensor) -> Tensor:
    return softplus(-outputs * y).mean((1, 2))


def _joined(parts: list[Networks]) -> Networks:
    return Networks(
        **{name: torch.cat([vars(part)[name] for part in parts]) for name in vars(parts[0])}
    )
