"""Supplement, large steps: ``rectilinear reproduce zhang2025_biasfree large_step``.

The equivalence of networks in pairs holds for every step, not only in the limit of small ones: a
ReLU network of pairs at step ``lr/kappa`` equals the linear one at step ``lr``, also where the
minimum is unstable and both oscillate around it. Gradient flow is the limit of small steps only.

Cost: small 5 seconds, full half a minute, on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from rectilinear import numerics, plots
from rectilinear.learning import Moments, Networks, general_covariance_solution, simulate
from rectilinear.learning.two_layer import growing_component
from rectilinear.papers import Claim
from rectilinear.papers.zhang2025_biasfree._setup import (
    LINEAR,
    RELU,
    kappas,
    name,
    rescaled,
    sine_task,
)
from rectilinear.plots.charts import ROLES

GAINS = (0.05, 0.6, 1.05)  # step over that at which the minimum becomes unstable


@dataclass(frozen=True)
class Preset:
    """The size of a reproduction."""

    points: int
    width: int
    std: float
    time: float


PRESETS = {"small": Preset(100, 30, 1e-3, 16.0), "full": Preset(1000, 100, 1e-4, 24.0)}


@dataclass(frozen=True, eq=False)
class Result:
    """For each gain times ``(T,)`` and losses of ReLU, of linear networks and of the flow."""

    times: list[Tensor]
    relu: list[Tensor]
    linear: list[Tensor]
    flow: list[Tensor]


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Train pairs at every step, and follow the gradient flow from the same weights."""
    p = PRESETS[preset]
    x, y = sine_task(p.points, 20, seed)
    data = Moments.of(x, y)
    sharp = sharpness(data)
    start = rescaled(
        Networks.gaussian(20, p.width // 2, alpha=[0.0, 1.0], std=p.std, seed=seed).paired()
    )
    w1, w2 = growing_component(start.first[1], start.last[1], data.beta)
    times, relu, linear, flow = [], [], [], []
    for gain in GAINS:
        lr = 2 * gain / sharp
        steps = int(p.time / lr)
        run = simulate(start, x, y, lr / kappas(start), steps, points=401, route="halves")
        times.append(run.steps * lr)
        relu.append(run.loss[:, 0])
        linear.append(run.loss[:, 1])
        flow.append(
            data.loss(
                general_covariance_solution(times[-1], data.sigma, data.beta[0], (w2 @ w1)[0])[
                    :, None
                ]
            )
        )
    return Result(times, relu, linear, flow)


def sharpness(data: Moments) -> float:
    """The largest eigenvalue of the Hessian of a linear network at its balanced minimum ``w``.

    It is that of ``|w| (I + w w^T/|w|^2) sigma``: steps above 2 over it leave the minimum.
    """
    w = data.optimum()[0]
    size = w.norm()
    both = torch.eye(len(w), dtype=w.dtype) + w.outer(w) / size**2
    return float(size * numerics.eigvals(both @ data.sigma).real.max())


def draw(result: Result, path: Path) -> None:
    """The losses at small, middling and large steps, and gradient flow."""
    figure, axes = plots.canvas(7.0, 2.4, columns=3, sharey=True)
    for panel, gain, time, relu, linear, flow in zip(
        axes, GAINS, result.times, result.relu, result.linear, result.flow, strict=True
    ):
        panel.plot(time, linear, color=LINEAR, linewidth=3, alpha=0.35, label="linear")
        panel.plot(time, relu, color=RELU, linewidth=1, label="ReLU, pairs")
        panel.plot(
            time, flow, color=ROLES["ink"], linewidth=1, linestyle=":", label="gradient flow"
        )
        name(
            panel,
            f"{100 * gain:.0f} % of the stable step",
            xlabel=r"time $(1+α)t/2τ$",
            ylim=(0, None),
            xlim=(0, float(time[-1])),
        )
    axes[0].set_ylabel("loss")
    axes[0].legend(frameon=False, labelcolor="linecolor", fontsize=8, loc="upper right")
    plots.save(figure, path)


def claims(result: Result) -> list[Claim]:
    """Equal at every step; equal to the flow at small ones only."""
    fall = float(result.linear[0][0] - result.linear[0][-1])

    def apart(one: list[Tensor], other: list[Tensor], i: int) -> float:
        return float((one[i] - other[i]).abs().max()) / fall

    flow = [apart(result.linear, result.flow, i) for i in range(len(GAINS))]
    return [
        *(
            Claim.at_most(
                f"loss of pairs from the linear network's at {gain:g} of the largest stable step",
                apart(result.relu, result.linear, i),
                1e-10,
            )
            for i, gain in enumerate(GAINS)
        ),
        Claim.at_least("loss from that of gradient flow at the largest step", flow[-1], 0.2),
        Claim.at_most("loss from that of gradient flow at the smallest step", flow[0], 0.1),
    ]
