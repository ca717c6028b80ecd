"""Training of many small networks at once, by exact steps of gradient descent or Adam.

Loss and gradient come by the cheapest of three exact routes. Of two layers ``f(x) = kappa W2 W1 x +
(1 - alpha)/2 W2 |W1 x|``. Where the second, even part is zero and stays so, the moments of the data
are enough; on data closed under ``(x, y) -> (-x, -y)`` the first, odd part needs only them, and the
second only half of the points. Else every point is visited.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from rectilinear.errors import DivergedError, InputError, ShapeError
from rectilinear.learning.linear_network import Moments, rows
from rectilinear.learning.mirror import asymmetric_fraction, mirror_half
from rectilinear.learning.network_batch import Networks
from rectilinear.notebook import short_repr

BATCH_NUMBERS = 250_000  # that are worked on at once: what a core keeps near

Weights = list[Tensor]


@dataclass(frozen=True, eq=False)
class Simulation:
    """The training of many networks at once, as :func:`simulate` returns it.

    Attributes:
        steps: ``(T,)``.
        loss: of every network at these steps, ``(T, B)``.
        networks: the trained networks.
        route: how the gradient was computed.
    """

    steps: Tensor
    loss: Tensor
    networks: Networks
    route: Literal["moments", "halves", "points"]

    __repr__ = short_repr


@dataclass(frozen=True)
class Optimizer:
    """Gradient descent as ``torch.optim`` does it, SGD or Adam.

    Attributes:
        name: "gd" or "adam".
        momentum: of gradient descent.
        weight_decay: a part of the gradient, as of ``torch.optim.Adam``.
        betas: decay rates of Adam's two moments.
        eps: what Adam adds to its denominator.
    """

    name: Literal["gd", "adam"] = "gd"
    momentum: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


def simulate(
    networks: Networks,
    x: Any,
    y: Any,
    lr: float | Sequence[float] | Tensor,
    steps: int,
    *,
    loss: Literal["square", "sum", "logistic"] = "square",
    optimizer: Optimizer = Optimizer(),
    points: int = 201,
    route: Literal["moments", "halves", "points"] | None = None,
) -> Simulation:
    """The training of all ``networks`` on the same data by full-batch steps, in float64.

    The numbers are those of a loop over modules with ``torch.optim``, up to rounding. Three routes
    give the gradient: ``"moments"`` for paired neurons on symmetric data and for linear networks of
    two layers, which costs nothing per point; ``"halves"`` for other networks of two layers and one
    output on symmetric data; ``"points"`` for everything.

    Args:
        networks: the initial networks; they are not changed.
        x: points ``(n, d)``: a tensor, an array or a data frame.
        y: targets ``(n,)`` or ``(n, o)``, likewise.
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
        symmetric = not asymmetric_fraction(x, y)
        if symmetric and y.shape[1] == 1:
            found.insert(0, "halves")
        if bool((networks.alpha == 1).all()) or (symmetric and _is_paired(networks)):
            found.insert(0, "moments")
    return found


def _maker(
    route: str, networks: Networks, x: Tensor, y: Tensor, loss: str, *, narrow: bool
) -> tuple[Callable[[Networks], _Route], int]:
    """The constructor of a route, and its number of networks."""
    _, h, d = networks.first.shape
    scale = float(len(x)) if loss == "sum" else 1.0
    if route == "points":
        weigh = {"square": _half_square, "sum": _half_sum, "logistic": _logistic}[loss]
        return lambda part: _by_points(part, x, y, weigh), max(1, BATCH_NUMBERS // (len(x) * h))
    data = Moments.of(x, y)
    data = Moments(scale * data.sigma, scale * data.beta, scale * data.power)
    if route == "moments":
        paired = not bool((networks.alpha == 1).all())
        return lambda part: _by_moments(part, data, paired=paired, narrow=narrow), max(
            1, BATCH_NUMBERS // (min(h, d + 1) * d)
        )
    half = x[mirror_half(x, y)]
    # Rows of zeros are in no pair, but they count in the mean.
    return lambda part: _by_halves(part, data, half, scale * 2 / len(x)), max(
        1, 2 * BATCH_NUMBERS // (len(half) * h)
    )


@dataclass(frozen=True, eq=False)
class _Route:
    """The representation of a batch in training: weights, loss ``(B,)`` and gradient.

    ``restore`` makes networks of the weights.
    """

    weights: Weights
    gradient: Callable[[Weights], tuple[Tensor, Weights]]
    restore: Callable[[Weights], Networks]


def _by_moments(networks: Networks, data: Moments, *, paired: bool, narrow: bool) -> _Route:
    """The route without points: paired or linear networks of two layers, square loss.

    Of a pair one neuron is held. With ``narrow`` the hidden space is turned so that ``min(h, d +
    o)`` units are enough: right for gradient descent, momentum and weight decay, which know no
    directions, but not for Adam.
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

    return _Route([w1.contiguous(), w2.contiguous()], gradient, restore)


def _by_halves(networks: Networks, data: Moments, x: Tensor, weight: float) -> _Route:
    """The route of half the points: two layers with one output, square loss, symmetric data.

    ``x`` has one point of each pair; ``weight`` is that of a pair in the loss, ``2/n`` for the mean
    over ``n`` points.
    """
    kappa = (1 + networks.alpha[:, None, None]) / 2
    gamma = 1 - kappa  # (1 - alpha)/2
    shape = networks.first.shape[:2]
    # These two are large and needed in every step: asking for new memory would cost more than the
    # arithmetic.
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
        # The transposed product is twice as fast; with w it gives sum_x pull |w x|, without another
        # inspect the points.
        each = (columns @ flat.mT).mT.unflatten(0, shape)
        g2 = (each * w1).sum(-1)[:, None]
        return loss, [(w2.mT * each).add_(w2.mT @ error), g2.add_(error @ w1.mT)]

    return _Route(
        [networks.first, networks.last],
        gradient,
        lambda w: replace(networks, first=w[0], last=w[1]),
    )


def _by_points(
    networks: Networks, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> _Route:
    """The route of all points: any depth, and ``loss`` of outputs ``(B, n, o)`` and ``y``."""
    names = [name for name in ("first", "hidden", "last") if getattr(networks, name).numel()]

    def gradient(weights: Weights) -> tuple[Tensor, Weights]:
        moving = [value.detach().requires_grad_() for value in weights]
        losses = loss(replace(networks, **dict(zip(names, moving, strict=True)))(x), y)
        return losses.detach(), list(torch.autograd.grad(losses.sum(), moving))

    def restore(weights: Weights) -> Networks:
        return replace(networks, **dict(zip(names, weights, strict=True)))

    return _Route([getattr(networks, name) for name in names], gradient, restore)


def _is_paired(networks: Networks) -> bool:
    """True if the second half of the neurons of every network of two layers is minus the first."""
    first, last = networks.first, networks.last
    half = first.shape[1] // 2
    return (
        first.shape[1] == 2 * half
        and torch.equal(first[:, half:], -first[:, :half])
        and torch.equal(last[:, :, half:], -last[:, :, :half])
    )


def _train(
    route: _Route, rate: Tensor, record: list[int], optimizer: Optimizer
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
    """The update of the weights, in place, with its state."""
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
