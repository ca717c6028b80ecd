"""Supplement, large initialisation: ``rectilinear reproduce zhang2025_biasfree large_init``.

The equivalence of networks in pairs does not need small weights: it is exact at every scale. From
Gaussian weights it is lost as the scale grows, because they have an even part of their own: the
curves differ by as much as that part is large.

Cost: small 5 seconds, full a minute, on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from rectilinear import plots
from rectilinear.learning import Networks, simulate
from rectilinear.papers import Claim
from rectilinear.papers.zhang2025_biasfree._setup import (
    LINEAR,
    RELU,
    kappas,
    name,
    rescaled,
    sine_task,
    weight_distance,
)


@dataclass(frozen=True)
class Preset:
    """The size of a reproduction."""

    points: int
    width: int
    lr: float
    steps: int
    scales: tuple[float, ...]


PRESETS = {
    "small": Preset(100, 30, 0.01, 600, (0.01, 0.1, 0.3)),
    "full": Preset(500, 100, 0.005, 2000, (0.003, 0.01, 0.03, 0.1, 0.2, 0.3)),
}


@dataclass(frozen=True, eq=False)
class Result:
    """By scale of the weights losses ``(T, scale)``, distances, and the Gaussian even part."""

    scales: tuple[float, ...]
    time: Tensor
    linear: Tensor
    paired: Tensor
    gaussian_linear: Tensor
    gaussian: Tensor
    distance: Tensor
    even: Tensor


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Train pairs and Gaussian weights of every scale, and the linear networks."""
    p = PRESETS[preset]
    x, y = sine_task(p.points, 20, seed)
    runs = []
    for alpha in (0.0, 1.0):
        pairs = rescaled(
            Networks.gaussian(20, p.width // 2, alpha=alpha, std=p.scales, seed=seed).paired()
        )
        free = rescaled(Networks.gaussian(20, p.width, alpha=alpha, std=p.scales, seed=seed))
        route: Literal["moments", "halves"] = "moments" if alpha == 1 else "halves"
        runs += [
            (start, simulate(start, x, y, p.lr / kappas(start), p.steps, route=route))
            for start in (pairs, free)
        ]
    (_, relu), (start, free_relu), (_, linear), (_, free_linear) = runs
    f = start(x)
    even = (f + f.roll(p.points, 1)) / 2
    return Result(
        p.scales,
        relu.steps * p.lr,
        linear.loss,
        relu.loss,
        free_linear.loss,
        free_relu.loss,
        weight_distance(relu.networks, linear.networks),
        even.square().mean((1, 2)) / y.square().mean(),
    )


def draw(result: Result, path: Path) -> None:
    """The losses by scale: exact from pairs, apart from a Gaussian initialisation."""
    figure, (left, right) = plots.canvas(7.0, 2.8, columns=2, sharey=True)
    panels = (
        (left, result.linear, result.paired, "pairs of neurons"),
        (right, result.gaussian_linear, result.gaussian, "Gaussian"),
    )
    top = 1.3 * float(result.linear[0, 0])
    scales = f"σ {result.scales[0]:g} to {result.scales[-1]:g}"
    for axes, linear, relu, title in panels:
        axes.plot(result.time, linear, color=LINEAR, linewidth=3, alpha=0.35, label="linear")
        axes.plot(result.time, relu, color=RELU, linewidth=1, label="ReLU")
        name(
            axes,
            f"{title}, {scales}",
            xlabel=r"time $(1+α)t/2τ$",
            ylim=(0, top),
            xlim=(0, float(result.time[-1])),
        )
    left.set_ylabel("loss")
    handles, labels = left.get_legend_handles_labels()
    left.legend(handles[:: len(result.scales)], labels[:: len(result.scales)], frameon=False,
                labelcolor="linecolor", fontsize=8)  # fmt: skip
    plots.save(figure, path)


def claims(result: Result) -> list[Claim]:
    """Exact at every scale from pairs; apart from large Gaussian weights."""
    apart = (result.gaussian - result.gaussian_linear).abs().amax(0) / result.linear[0, 0]
    return [
        Claim.at_most("weights of pairs, any scale", float(result.distance.max()), 1e-10),
        Claim.at_most(
            "loss of pairs, any scale", float((result.paired - result.linear).abs().max()), 1e-10
        ),
        Claim.at_most(
            "loss of the smallest Gaussian initialisation from the linear network's",
            float(apart[0]),
            0.03,
        ),
        Claim.at_least(
            "loss of the largest Gaussian initialisation from the linear network's",
            float(apart[-1]),
            0.1,
        ),
        Claim.at_least(
            "even part of the largest Gaussian initialisation over the targets",
            float(result.even[-1]),
            0.1,
        ),
    ]
