"""Gradient flow of a batch of runs by Dormand and Prince's method, with one step for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from rectilinear.errors import InputError

# Dormand and Prince, "A family of embedded Runge-Kutta formulae", 1980.
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
MIN_STEP = 1e-12  # of the whole time
MAX_STEPS = 1_000_000

Velocity = Callable[[Sequence[Tensor]], list[Tensor]]


def flow(
    velocity: Velocity, layers: Sequence[Tensor], times: np.ndarray
) -> Iterator[Sequence[Tensor]]:
    """The layers at ascending times of ``theta' = velocity(theta)``, the first ones at the first.

    The error of a step is at most ``tol (size + |theta|)`` in every run, with ``tol`` the square
    root of the rounding error of the dtype, a hundredth of it in float64.
    """
    eps = torch.finfo(layers[0].dtype).eps
    tol = eps**0.5 / (100 if layers[0].dtype == torch.float64 else 1)
    theta, now, taken = [layer.clone() for layer in layers], float(times[0]), 0
    step = float(times[-1] - times[0]) * 1e-4
    slope = velocity(theta)
    yield theta
    for end in times[1:]:
        while now < end:
            h = min(step, float(end) - now)
            new, last, error = _step(velocity, theta, slope, h, tol)
            taken += 1
            if error <= 1:
                theta, slope, now = new, last, float(end) if h >= float(end) - now else now + h
            factor = min(5.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2))
            step = max(h, step) * factor if error <= 1 else h * factor
            if not step > MIN_STEP * float(times[-1]) or taken > MAX_STEPS:
                raise InputError(
                    f"a gradient flow that needs steps of {step:.1g} after {taken:,} of them",
                    "a flow that stays finite until the end",
                    "Use a smaller lr or fewer steps: their product is the time.",
                )
        yield theta


def _step(
    velocity: Velocity, theta: Sequence[Tensor], first: list[Tensor], h: float, tol: float
) -> tuple[list[Tensor], list[Tensor], float]:
    """The layers after a step, their velocity, and the error in units of the tolerance."""
    slopes = [first]
    new = list(theta)
    for row in STAGES:
        new = [
            w + h * sum((c * k[i] for c, k in zip(row, slopes, strict=True)), torch.zeros_like(w))
            for i, w in enumerate(theta)
        ]
        slopes.append(velocity(new))
    worst = 0.0
    for i, w in enumerate(theta):
        wrong = h * sum((c * k[i] for c, k in zip(ERROR, slopes, strict=True)), torch.zeros_like(w))
        size = torch.maximum(w.abs(), new[i].abs()).flatten(1).amax(1)
        share = wrong.flatten(1).abs().amax(1) / (tol * size).clamp_min(torch.finfo(w.dtype).tiny)
        worst = max(worst, float(share.nan_to_num(nan=float("inf")).max()))
    return new, slopes[-1], worst
