"""Supplement, deeper networks: ``rectilinear reproduce zhang2025_biasfree deeper``.

From weights in two blocks, a ReLU network of any depth computes a linear map during all of
training, that of the linear network at half the time: ``f_relu(x, t) = f_linear(x, t/2)``. From
small random weights, three layers reach this form by themselves (figure 5), though not at that
time.

Cost: small 5 seconds, full half a minute, on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from rectilinear import plots
from rectilinear.learning import Moments, Networks, deep_relu_solution, simulate, two_block_init
from rectilinear.papers import Claim
from rectilinear.papers.zhang2025_biasfree._setup import LINEAR, RELU, name
from rectilinear.plots.charts import ROLES
from rectilinear.random import generator

DEPTHS = (2, 3, 4, 5)
STRENGTH = 2.0  # length of the linear target
INITIAL_STRENGTH = 0.005  # of the map, the same for every depth


@dataclass(frozen=True)
class Preset:
    """The size of a reproduction."""

    points: int
    width: int
    lr: float
    time: float


PRESETS = {"small": Preset(40, 12, 0.02, 12.0), "full": Preset(200, 50, 0.005, 12.0)}


@dataclass(frozen=True, eq=False)
class Result:
    """Losses ``(T, depth)`` of ReLU networks, of linear ones at half the time, and predicted.

    ``step_error`` is what finite steps may add to the closed form, a multiple of the step.
    """

    time: Tensor
    relu: Tensor
    linear: Tensor
    predicted: Tensor
    nonlinear: Tensor
    step_error: float


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Train every depth from two blocks, and the linear network of the same unit vectors."""
    p = PRESETS[preset]
    source = generator(seed)
    x = (
        torch.linalg.qr(torch.randn(p.points, 6, generator=source, dtype=torch.float64)).Q
        * p.points**0.5
    )
    w = STRENGTH * normalize(torch.randn(6, generator=source, dtype=torch.float64), dim=0)
    x = torch.cat([x, -x])
    y = x @ w
    data = Moments.of(x, y)
    hidden = [
        _even_split(torch.randn(p.width, generator=source, dtype=torch.float64))
        for _ in range(max(DEPTHS) - 1)
    ]
    relu, linear = [], []
    for depth in DEPTHS:
        chain = [w / STRENGTH, *hidden[: depth - 1]]
        scale = INITIAL_STRENGTH ** (1 / depth) * 2**0.5
        relu.append(two_block_init(chain, scale))
        single = scale / 2**0.5
        linear.append(
            [*(single * a.outer(b) for b, a in pairwise(chain)), single * chain[-1][None]]
        )
    steps = int(p.time / p.lr)
    run = simulate(Networks.of(relu, alpha=0.0), x, y, p.lr, steps, points=161)
    # Half the time: half the step.
    straight = simulate(Networks.of(linear, alpha=1.0), x, y, p.lr / 2, steps, points=161)
    time = run.steps * p.lr
    strengths = [
        deep_relu_solution(time, STRENGTH, float(layers[-1].norm()), len(layers)) for layers in relu
    ]
    f = run.networks(x)
    sums = f[:, : p.points] + f[:, p.points :]
    return Result(
        time,
        run.loss,
        straight.loss,
        torch.stack(
            [data.loss(u[:, None, None] * w[None, None] / STRENGTH) for u in strengths], dim=1
        ),
        sums.abs().amax((1, 2)),
        3 * p.lr,
    )


def _even_split(v: Tensor) -> Tensor:
    """A unit vector whose positive and negative entries have equal norms."""
    return (normalize(v.clamp(min=0), dim=0) + normalize(v.clamp(max=0), dim=0)) / 2**0.5


def draw(result: Result, path: Path) -> None:
    """The losses by depth."""
    figure, (axes,) = plots.canvas(6.4, 3.2)
    for i, depth in enumerate(DEPTHS):
        axes.plot(result.time, result.linear[:, i], color=LINEAR, linewidth=3.4, alpha=0.35)
        axes.plot(result.time, result.relu[:, i], color=RELU, linewidth=1.2)
        axes.plot(
            result.time, result.predicted[:, i], color=ROLES["ink"], linewidth=0.9, linestyle=":"
        )
        middle = int((result.relu[:, i] < 0.5 * result.relu[0, i]).int().argmax())
        place = float(result.time[middle]), float(result.relu[middle, i])
        axes.annotate(f"{depth}", place, xytext=(4, 2), textcoords="offset points", fontsize=9,
                      color=ROLES["muted"])  # fmt: skip
    for text, colour, height in (("ReLU at $t$", RELU, 0.92), ("linear at $t/2$", LINEAR, 0.84),
                                 ("closed form", ROLES["ink"], 0.76)):  # fmt: skip
        axes.annotate(
            text, (0.97, height), xycoords="axes fraction", ha="right", color=colour, fontsize=9
        )
    name(
        axes,
        "loss by number of layers",
        xlabel="time $t/τ$",
        ylim=(0, None),
        xlim=(0, float(result.time[-1])),
    )
    plots.save(figure, path)


def claims(result: Result) -> list[Claim]:
    """ReLU at ``t`` is linear at ``t/2``, for every depth."""
    return [
        *(
            Claim.at_most(
                f"{depth} layers: loss from the linear network's at half the time",
                float((result.relu[:, i] - result.linear[:, i]).abs().max()),
                1e-10,
            )
            for i, depth in enumerate(DEPTHS)
        ),
        *(
            Claim.at_most(
                f"{depth} layers: loss from the closed form",
                float((result.relu[:, i] - result.predicted[:, i]).abs().max() / result.relu[0, i]),
                result.step_error,
            )
            for i, depth in enumerate(DEPTHS)
        ),
        Claim.at_most("f(x) + f(-x) at the end", float(result.nonlinear.max()), 1e-10),
    ]
