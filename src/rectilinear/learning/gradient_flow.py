"""Loss and gradient of many networks at once, by the cheapest of three exact routes.

Of two layers ``f(x) = kappa W2 W1 x + (1 - alpha)/2 W2 |W1 x|``. Where the second, even part is
zero and stays so, the moments of the data are enough; on data closed under ``(x, y) -> (-x, -y)``
the first, odd part needs only them, and the second only half of the points. Else every point is
visited.

The slow reference: gradient flow of any module, by an adaptive solver.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor, nn
from torch.func import functional_call

from rectilinear.checks import check_tolerance
from rectilinear.errors import DivergedError, InputError
from rectilinear.learning.mirror import Moments
from rectilinear.learning.networks import Networks

Weights = list["Tensor"]


@dataclass(frozen=True, eq=False)
class Route:
    """How a batch is held while it trains: its weights, their loss ``(B,)`` and gradient, and the
    way back.
    """

    weights: Weights
    gradient: Callable[[Weights], tuple[Tensor, Weights]]
    restore: Callable[[Weights], Networks]


def by_moments(networks: Networks, data: Moments, *, paired: bool, narrow: bool) -> Route:
    """Paired or linear networks of two layers under the square loss: no points at all.

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

    return Route([w1.contiguous(), w2.contiguous()], gradient, restore)


def by_halves(networks: Networks, data: Moments, x: Tensor, weight: float) -> Route:
    """Two layers with one output, square loss and symmetric data, of which ``x`` is one point of
    each pair.

    ``weight`` is that of a pair in the loss: ``2/n`` for the mean over ``n`` points.
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
        # look at the points.
        each = (columns @ flat.mT).mT.unflatten(0, shape)
        g2 = (each * w1).sum(-1)[:, None]
        return loss, [(w2.mT * each).add_(w2.mT @ error), g2.add_(error @ w1.mT)]

    return Route(
        [networks.first, networks.last],
        gradient,
        lambda w: replace(networks, first=w[0], last=w[1]),
    )


def by_points(
    networks: Networks, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> Route:
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


@dataclass(frozen=True, eq=False)
class Flow:
    """Times ``(T,)``, the loss there ``(T,)``, and every parameter there, ``(T, ...)`` under its
    name.
    """

    times: Tensor
    loss: Tensor
    parameters: dict[str, Tensor]


def half_square(output: Tensor, y: Tensor) -> Tensor:
    """``1/2 <|y - f|^2>``: the sum over outputs, the mean over points.

    Example:
        >>> half_square(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))
        tensor(2.5000)
    """
    return (y.reshape(output.shape) - output).square().sum() / (2 * len(y))


def gradient_flow(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    times: Tensor,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = half_square,
    rtol: float = 1e-12,
    atol: float | None = None,
) -> Flow:
    """``dW/dt = -grad L(W)`` from the parameters that ``model`` has, in float64, whatever the
    module is.

    Time is the learning rate times the number of steps of gradient descent. Every evaluation is a
    pass over all data: the reference for the closed forms and for small problems, not for training.

    Args:
        model: any module; it is not changed. Parameters that require no gradient stay.
        x: points ``(n, ...)``.
        y: targets, handed to ``loss`` as they are.
        times: ascending times ``(T,)`` at which to report, from the start at time 0.
        loss: of the output and ``y``; half the mean square by default.
        rtol: relative tolerance of the solver (Dormand-Prince, order 8).
        atol: absolute one; by default ``rtol`` times the largest parameter at the start.

    Raises:
        InputError: for times that do not ascend from zero on, and for tolerances that are negative.
        DivergedError: if the solver cannot go on.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.ones_(model.weight)
        >>> flow = gradient_flow(model, torch.ones(1, 1), torch.zeros(1, 1), torch.tensor([0.0, 1.0]))
        >>> flow.parameters["weight"].flatten()
        tensor([1.0000, 0.3679], dtype=torch.float64)
    """
    t = ascending(times)
    check_tolerance(rtol, "rtol")
    check_tolerance(atol, "atol")
    double = deepcopy(model).to("cpu", torch.float64)
    moving = {name: value for name, value in double.named_parameters() if value.requires_grad}
    x, y = (
        value.detach().to("cpu", torch.float64) if value.is_floating_point() else value.cpu()
        for value in (x, y)
    )

    def unpack(flat: NDArray) -> dict[str, Tensor]:
        pieces = torch.from_numpy(np.array(flat)).split(
            [value.numel() for value in moving.values()]
        )
        return {
            name: p.reshape(value.shape)
            for (name, value), p in zip(moving.items(), pieces, strict=True)
        }

    def objective(parameters: dict[str, Tensor]) -> Tensor:
        return loss(functional_call(double, parameters, (x,)), y)

    def slope(_: float, flat: NDArray) -> NDArray:
        parameters = {name: value.requires_grad_() for name, value in unpack(flat).items()}
        gradients = torch.autograd.grad(
            objective(parameters), list(parameters.values()), materialize_grads=True
        )
        return -torch.cat([g.flatten() for g in gradients]).numpy()

    start = torch.cat([value.detach().flatten() for value in moving.values()]).numpy()
    states = integrate(slope, start, t, rtol, atol)
    parameters = [unpack(state) for state in states]
    with torch.no_grad():
        losses = torch.stack([objective(p) for p in parameters])
    return Flow(
        torch.from_numpy(t),
        losses,
        {name: torch.stack([p[name] for p in parameters]) for name in moving},
    )


def integrate(
    slope: Callable[[float, NDArray], NDArray],
    start: NDArray,
    t: NDArray,
    rtol: float,
    atol: float | None = None,
) -> NDArray:
    """The solution ``(T, n)`` of ``dy/dt = slope(t, y)`` at the ascending times ``t``, from
    ``start`` at time 0.

    Raises:
        DivergedError: if the solver cannot go on.
    """
    floor = rtol * float(np.abs(start).max()) if atol is None else atol
    state, states, now, span = start, [], 0.0, np.inf
    # One run for each time: the solver's interpolation between its own steps is worse than the
    # steps.
    for until in t:
        if until > now:
            first = min(span, until - now) if np.isfinite(span) else None
            run = solve_ivp(
                slope,
                (now, until),
                state,
                "DOP853",
                rtol=max(rtol, 3e-14),
                atol=floor,
                first_step=first,
            )
            if not run.success or not np.isfinite(run.y[:, -1]).all():
                raise DivergedError(
                    f"a gradient flow that stops at time {run.t[-1]:.4g}: {run.message}",
                    "a solution up to the last time asked for",
                    "Ask for earlier times, or look at the loss.",
                )
            state, now, span = run.y[:, -1], until, np.diff(run.t).max()
        states.append(state)
    return np.stack(states)


def ascending(times: Tensor) -> NDArray:
    """The times as a float64 array.

    Raises:
        InputError: for times that do not ascend from zero on.
    """
    t = np.atleast_1d(torch.as_tensor(times).detach().cpu().double().numpy())
    if (
        not t.ndim == 1
        or not len(t)
        or not np.isfinite(t).all()
        or t[0] < 0
        or (np.diff(t) < 0).any()
    ):
        raise InputError(
            "times that do not ascend from zero on", "0 <= t_1 <= t_2 <= ...", "Sort them."
        )
    return t
