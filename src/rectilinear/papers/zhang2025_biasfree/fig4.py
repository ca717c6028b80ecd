"""Figure 4, independent networks: ``rectilinear reproduce zhang2025_biasfree fig4``.

On two orthogonal points, and on the four points of XOR, a neuron of a ReLU network that is aligned
with one point is inactive on the others, so the network is several independent linear ones. From
aligned weights this is exact. From small random weights, neurons that are active on several points
first grow towards a sum of them, so the network is a few percent late. The loss is summed over
points, as in the paper. XOR is rotated so that its points lie on the axes: elsewhere, rounding at a
kink decides whether a neuron is active on a point that is orthogonal to it.

Cost: small 5 seconds, full 30 seconds, on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from rectilinear import learning, plots
from rectilinear.learning import Networks, simulate
from rectilinear.learning.two_layer import orthogonal_points_init
from rectilinear.papers import Claim
from rectilinear.papers.zhang2025_biasfree._setup import LINEAR, RELU, name
from rectilinear.plots.charts import ROLES

TASKS = {
    "orthogonal points": ([[1.0, 0.5], [-0.6, 1.2]], [1.0, -1.0]),
    "XOR": ([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], [1.0, 1.0, -1.0, -1.0]),
}
MAX_DELAY = 0.08  # part of the half time by which random weights may be late


@dataclass(frozen=True)
class Preset:
    """The size of a reproduction."""

    std: float
    lr: float
    steps: int
    seeds: int


PRESETS = {"small": Preset(1e-4, 0.02, 800, 4), "full": Preset(1e-6, 0.01, 2500, 20)}


@dataclass(frozen=True, eq=False)
class Run:
    """One task: losses on ``time``, ``(T,)``, relative delays of half times, final weights."""

    x: Tensor
    y: Tensor
    time: Tensor
    relu: Tensor
    predicted: Tensor
    aligned: Tensor
    linear: Tensor
    late: Tensor
    weights: Tensor
    outputs: Tensor
    cosine: float


@dataclass(frozen=True, eq=False)
class Result:
    """A run for each task."""

    runs: dict[str, Run]


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Train from aligned and from random weights, and the linear networks by themselves."""
    p = PRESETS[preset]
    return Result(
        {
            task: _run(torch.tensor(x).double(), torch.tensor(y).double(), p, seed)
            for task, (x, y) in TASKS.items()
        }
    )


def _run(x: Tensor, y: Tensor, p: Preset, seed: int) -> Run:
    random = Networks.gaussian(2, 100, std=p.std, seed=[seed + i for i in range(p.seeds)])
    run = simulate(random, x, y, p.lr, p.steps, loss="sum", points=p.steps + 1)
    time = run.steps * p.lr
    initials = torch.stack(
        [initial_strengths(random.first[b], random.last[b, 0], x, y) for b in range(p.seeds)]
    )
    curves = torch.stack(
        [learning.orthogonal_points_solution(time, x, y, u0)[1] for u0 in initials], dim=1
    )
    one = initials[0].mean()
    aligned = Networks.of([orthogonal_points_init(x, y, one)], alpha=0.0)
    alone = [
        simulate(
            Networks.of([orthogonal_points_init(x[[j]], y[[j]], one)], alpha=1.0),
            x[[j]], y[[j]], p.lr, p.steps, loss="sum", points=p.steps + 1,
        ).loss[:, 0]
        for j in range(len(x))
    ]  # fmt: skip
    first, last = run.networks.first[0], run.networks.last[0, 0]
    return Run(
        x=x,
        y=y,
        time=time,
        relu=run.loss[:, 0],
        predicted=curves[:, 0],
        aligned=simulate(aligned, x, y, p.lr, p.steps, loss="sum", points=p.steps + 1).loss[:, 0],
        linear=torch.stack(alone).sum(0),
        late=half(run.loss, time) / half(curves, time) - 1,
        weights=first,
        outputs=last,
        cosine=pointing(run.networks, x),
    )


def initial_strengths(w: Tensor, a: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The initial strengths, ``1/4 sum (y_j a_i + w_i . x_j/|x_j|)^2`` over growing neurons.

    Those that see ``x_j``.
    """
    toward = w @ normalize(x, dim=1).mT  # (h, n)
    growing = a[:, None] * y.sign() + toward
    return torch.where((toward > 0) & (growing > 0), growing.square(), 0).sum(0) / 4


def half(loss: Tensor, time: Tensor) -> Tensor:
    """The time at which each curve of losses ``(T, B)`` has fallen to half its start."""
    return time[(loss < loss[0] / 2).int().argmax(0)]


def pointing(networks: Networks, x: Tensor) -> float:
    """The mean cosine of neurons and their nearest points by strength, least over networks."""
    toward = (normalize(networks.first, dim=2) @ normalize(x, dim=1).mT).amax(2)
    strength = networks.last[:, 0].abs() * networks.first.norm(dim=2)
    return float(((toward * strength).sum(1) / strength.sum(1)).min())


def draw(result: Result, path: Path) -> None:
    """The losses of each task, and where the neurons point at the end."""
    figure, axes = plots.canvas(7.0, 2.4, columns=4, width_ratios=[1.5, 1, 1.5, 1])
    for (task, run), curves, arrows in zip(result.runs.items(), axes[::2], axes[1::2], strict=True):
        middle = float(half(run.predicted[:, None], run.time))
        curves.plot(run.time, run.relu, color=RELU, label="ReLU, random init")
        curves.plot(
            run.time,
            run.predicted,
            color=ROLES["ink"],
            linewidth=1.0,
            linestyle=":",
            label="predicted",
        )
        curves.plot(
            run.time,
            run.aligned,
            color=LINEAR,
            label="ReLU, aligned init",
            linewidth=3,
            alpha=0.35,
        )
        curves.plot(run.time, run.linear, color=LINEAR, linewidth=1.0, label="linear networks")
        curves.legend(
            frameon=False, labelcolor="linecolor", handlelength=1.0, fontsize=7, loc="upper right"
        )
        name(curves, f"loss, {task}", xlabel="time $t/τ$", ylim=(0, None), xlim=(0, 2.8 * middle))
        length = run.weights.norm(dim=1).amax()
        for w, a in zip(run.weights / length, run.outputs, strict=True):
            arrows.plot(
                [0, float(w[0])], [0, float(w[1])], color=RELU if a > 0 else LINEAR, linewidth=1.4
            )
        size = 1.25 * float(run.x.abs().max())
        for point, label in zip(run.x, run.y, strict=True):
            arrows.plot(*point.tolist(), "o", color=RELU if label > 0 else LINEAR, markersize=6)
        name(
            arrows,
            "neurons and points",
            xticks=[],
            yticks=[],
            xlim=(-size, size),
            ylim=(-size, size),
        )
        arrows.set_aspect("equal")
        arrows.grid(visible=False)
        arrows.spines[:].set_visible(False)
    plots.save(figure, path)


def claims(result: Result) -> list[Claim]:
    """Exact from aligned weights, a few percent late from random ones; neurons point at data."""
    found = []
    for task, run in result.runs.items():
        found += [
            Claim.at_most(
                f"{task}: loss from that of the linear networks, aligned initialisation",
                float((run.aligned - run.linear).abs().max()),
                1e-12,
            ),
            Claim.at_most(
                f"{task}: half time against the predicted one, worst of"
                f" {len(run.late)} random initialisations",
                float(run.late.abs().max()),
                MAX_DELAY,
            ),
            Claim.at_least(f"{task}: cosine of neurons and points", run.cosine, 0.999),
        ]
    return found
