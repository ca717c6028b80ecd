"""Gradient flow of any module by an adaptive solver: the slow reference for the closed forms."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor, nn
from torch.func import functional_call

from rectilinear.checks import check_tolerance
from rectilinear.errors import DivergedError, InputError
from rectilinear.networks.batches import as_pair


@dataclass(frozen=True, eq=False)
class GradientFlow:
    """Times ``(T,)``, the loss there ``(T,)``, and each parameter there by name, ``(T, ...)``."""

    times: Tensor
    loss: Tensor
    parameters: dict[str, Tensor]


def half_squared_error(output: Tensor, y: Tensor) -> Tensor:
    """The loss ``1/2 <|y - f|^2>``: the sum over outputs, the mean over points.

    Example:
        >>> half_squared_error(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))
        tensor(2.5000)
    """
    return (y.reshape(output.shape) - output).square().sum() / (2 * len(y))


def gradient_flow(
    model: nn.Module,
    x: Any,
    y: Any,
    times: Tensor,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = half_squared_error,
    rtol: float = 1e-12,
    atol: float | None = None,
) -> GradientFlow:
    """The solution of ``dW/dt = -grad L(W)`` from the parameters that ``model`` has, in float64.

    Time is the learning rate times the number of steps of gradient descent. Every evaluation is a
    pass over all data: the reference for the closed forms and for small problems, not for training.

    Args:
        model: any module; it is not changed. Parameters that require no gradient stay.
        x: points ``(n, ...)``: a tensor, an array or a data frame.
        y: targets, likewise, handed to ``loss`` as they are.
        times: ascending times ``(T,)`` at which to report; ``model`` is at time 0.
        loss: of the output and ``y``; half the mean square by default.
        rtol: relative tolerance of the solver (Dormand-Prince, order 8).
        atol: absolute one; by default ``rtol`` times the largest parameter of ``model``.

    Raises:
        InputError: for times that do not ascend from zero on, and for tolerances that are negative.
        DivergedError: if the solver cannot continue.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.ones_(model.weight)
        >>> x, times = torch.ones(1, 1), torch.tensor([0.0, 1.0])
        >>> flow = gradient_flow(model, x, 0 * x, times)
        >>> flow.parameters["weight"].flatten()
        tensor([1.0000, 0.3679], dtype=torch.float64)
    """
    t = ascending(times)
    check_tolerance(rtol, "rtol")
    check_tolerance(atol, "atol")
    double = deepcopy(model).to("cpu", torch.float64)
    moving = {name: value for name, value in double.named_parameters() if value.requires_grad}
    x, y = (
        value.to("cpu", torch.float64) if value.is_floating_point() else value.cpu()
        for value in as_pair(x, y)
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
    return GradientFlow(
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
    """The solution ``(T, n)`` of ``dy/dt = slope(t, y)``, ``y(0) = start``, at ascending times."""
    absolute = rtol * float(np.abs(start).max()) if atol is None else atol
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
                atol=absolute,
                first_step=first,
            )
            if not run.success or not np.isfinite(run.y[:, -1]).all():
                raise DivergedError(
                    f"a gradient flow that stops at time {run.t[-1]:.4g}: {run.message}",
                    "a solution up to the last time asked for",
                    "Ask for earlier times, or check the loss.",
                )
            state, now, span = run.y[:, -1], until, np.diff(run.t).max()
        states.append(state)
    return np.stack(states)


def ascending(times: Tensor) -> NDArray:
    """The times as a float64 array."""
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
