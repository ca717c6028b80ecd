"""Supplement, weight decay: ``rectilinear reproduce zhang2025_biasfree decay``.

With weight decay ``lambda``, a leaky ReLU network of neurons in pairs learns exactly like the
linear network with ``lambda/kappa``; from small Gaussian weights nearly so. Stronger decay leaves a
smaller map, and above ``kappa s`` all weights vanish.

Cost: small 5 seconds, full 2 minutes, on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from rectilinear import plots
from rectilinear.learning import Moments, Networks, Optimizer, Simulation, simulate
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
from rectilinear.plots.charts import ROLES

DECAYS = (0.0, 0.2, 0.4, 0.7, 1.2)  # of the linear network, over s


@dataclass(frozen=True)
class Preset:
    """The size of a reproduction."""

    points: int
    width: int
    std: float
    lr: float
    steps: int


PRESETS = {"small": Preset(100, 30, 1e-3, 0.02, 700), "full": Preset(500, 100, 1e-4, 0.01, 2500)}


@dataclass(frozen=True, eq=False)
class Result:
    """Losses ``(T, decay, 2)`` of ReLU and linear networks; of pairs, distances and strengths."""

    time: Tensor
    loss: dict[str, Tensor]
    distance: Tensor
    strength: Tensor


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Train a ReLU and a linear network from the same weights, with every decay."""
    p = PRESETS[preset]
    x, y = sine_task(p.points, 20, seed)
    s = float(Moments.of(x, y).beta.norm())
    initials = {
        "pairs": Networks.gaussian(
            20, p.width // 2, alpha=[0.0, 1.0], std=p.std, seed=seed
        ).paired(),
        "Gaussian": Networks.gaussian(20, p.width, alpha=[0.0, 1.0], std=p.std, seed=seed),
    }

    def train(start: Networks, decay: float) -> Simulation:
        kappa = float(kappas(start))
        relu = start.alpha == 0
        rule = Optimizer(weight_decay=kappa * decay * s)
        return simulate(
            start,
            x,
            y,
            p.lr / kappa,
            p.steps,
            optimizer=rule,
            route="halves" if relu else "moments",
        )

    runs = {
        kind: [[train(rescaled(start)[b : b + 1], decay) for b in (0, 1)] for decay in DECAYS]
        for kind, start in initials.items()
    }
    return Result(
        time=runs["pairs"][0][0].steps * p.lr,
        loss={
            kind: torch.stack(
                [torch.cat([relu.loss, linear.loss], dim=1) for relu, linear in found], dim=1
            )
            for kind, found in runs.items()
        },
        # Against the linear network without decay: that with the largest has no weights to compare
        # with.
        distance=torch.cat(
            [
                weight_distance(relu.networks, linear.networks)
                * _size(linear)
                / _size(runs["pairs"][0][1])
                for relu, linear in runs["pairs"]
            ]
        ),
        strength=torch.tensor([_size(linear) for _, linear in runs["pairs"]]),
    )


def _size(run: Simulation) -> float:
    """Strength of the map of a linear network."""
    return float((run.networks.last @ run.networks.first).norm())


def draw(result: Result, path: Path) -> None:
    """The losses for each decay."""
    figure, (axes,) = plots.canvas(6.4, 3.2)
    for i, decay in enumerate(DECAYS):
        relu, linear = result.loss["Gaussian"][:, i].unbind(1)
        axes.plot(result.time, linear, color=LINEAR, linewidth=3, alpha=0.35, label="linear")
        axes.plot(result.time, relu, color=RELU, linewidth=1, label="ReLU")
        last = float(linear[-1])
        axes.annotate(f"{decay:g}", (float(result.time[-1]), last), xytext=(3, 0), fontsize=8,
                      textcoords="offset points", va="center", color=ROLES["muted"])  # fmt: skip
    axes.annotate("λ/s", (1, 1), xycoords="axes fraction", xytext=(3, 2), fontsize=8,
                  textcoords="offset points", color=ROLES["muted"])  # fmt: skip
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[:2], labels[:2], frameon=False, labelcolor="linecolor", fontsize=8, loc="lower left"
    )
    name(
        axes,
        "loss with weight decay",
        xlabel=r"time $(1+α)t/2τ$",
        ylim=(0, None),
        xlim=(0, float(result.time[-1])),
    )
    plots.save(figure, path)


def claims(result: Result) -> list[Claim]:
    """The equivalence with decay, and that it shrinks the map."""
    apart = {
        kind: float((loss[..., 0] - loss[..., 1]).abs().max()) for kind, loss in result.loss.items()
    }
    free = result.loss["Gaussian"][:, 0, 1]
    return [
        Claim.at_most(
            "weights of pairs from the linear network's", float(result.distance.max()), 1e-10
        ),
        Claim.at_most("loss of pairs from the linear network's", apart["pairs"], 1e-10),
        Claim.at_most(
            "loss from a Gaussian initialisation, part of the fall",
            apart["Gaussian"] / float(free[0] - free[-1]),
            0.02,
        ),
        Claim.at_least(
            "what more decay takes off the map", float(-result.strength.diff().max()), 0.0
        ),
        Claim.at_most("strength of the map at the largest decay", float(result.strength[-1]), 1e-6),
    ]
