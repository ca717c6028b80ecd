"""Figure 3, the same learning curve: ``rectilinear reproduce zhang2025_biasfree fig3``.

Two-layer leaky ReLU networks from small weights learn like linear ones, slower by ``2/(1 +
alpha)``. The loss follows the curve that :func:`rectilinear.predict` computes from the
initialisation alone, and is on one curve for all slopes once time is rescaled. The paper reports
weights within 0.3 % of a linear network's. With neurons in pairs the distance is rounding. From
Gaussian weights of width 100 it tends to a value that follows from their sign imbalance: 7 % on
average, and below 0.3 % for one seed in 37.

Cost: small 10 seconds, full about 3 minutes, on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rectilinear import learning, plots
from rectilinear.learning import Networks, simulate
from rectilinear.learning.two_layer import weight_error
from rectilinear.papers import Claim
from rectilinear.papers.zhang2025_biasfree._setup import (
    kappas,
    name,
    rescaled,
    shade,
    sine_task,
    weight_distance,
)
from rectilinear.plots.charts import ROLES
from rectilinear.random import generator

PAPER_LOSS = (1.09, 0.24)  # at the start and at the end
PAPER_DISTANCE = 0.003
CLOSE_STARTS_FRACTION = 0.027  # of Gaussian weights of width 100 that get there
DRAWS = 100  # of the task: its loss at the start has a standard deviation of 0.17


@dataclass(frozen=True)
class Preset:
    """The size of a reproduction."""

    points: int
    width: int
    std: float
    lr: float
    steps: int
    alphas: tuple[float, ...]
    seeds: int


PRESETS = {
    "small": Preset(150, 40, 1e-4, 0.02, 900, (0.0, 0.5, 1.0), 4),
    "full": Preset(1000, 100, 1e-9, 0.004, 10_000, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), 10),
}


@dataclass(frozen=True, eq=False)
class Result:
    """Simulated and predicted losses ``(T, alpha)``, distances of weights, initial losses."""

    alphas: tuple[float, ...]
    time: Tensor
    loss: Tensor
    predicted_loss: Tensor
    paired_distance: Tensor
    distance: Tensor
    predicted_distance: Tensor
    all_predicted: Tensor
    starting_losses: Tensor


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Simulate every slope from one seed, paired and Gaussian, then ReLU from several seeds."""
    p = PRESETS[preset]
    x, y = sine_task(p.points, 20, seed)
    start = rescaled(Networks.gaussian(20, p.width, alpha=p.alphas, std=p.std, seed=seed))
    rates = p.lr / kappas(start)
    run = simulate(start, x, y, rates, p.steps, points=301)
    predicted = [
        learning.predict(start.module(b), x, y, float(rate), p.steps).loss
        for b, rate in enumerate(rates.tolist())
    ]
    pairs = rescaled(
        Networks.gaussian(20, p.width // 2, alpha=p.alphas, std=p.std, seed=seed).paired()
    )
    paired = simulate(pairs, x, y, rates, p.steps, points=2, route="halves").networks
    seeds = [seed + 1000 + i for i in range(p.seeds)]
    relu = rescaled(Networks.gaussian(20, p.width, std=p.std, seed=seeds))
    linear = Networks.gaussian(20, p.width, alpha=1.0, std=p.std, seed=seeds)
    ends = [simulate(n, x, y, p.lr / kappas(n), p.steps, points=2).networks for n in (relu, linear)]
    beta = learning.Moments.of(x, y).beta
    deltas = [
        learning.sign_imbalance(linear.first[b], linear.last[b], beta) for b in range(p.seeds)
    ]
    return Result(
        alphas=p.alphas,
        time=run.steps * p.lr,
        loss=run.loss,
        predicted_loss=torch.stack(predicted, dim=1),
        paired_distance=weight_distance(paired, paired[-1:]),
        distance=weight_distance(*ends),
        predicted_distance=torch.tensor([weight_error(delta) for delta in deltas]),
        all_predicted=_lottery(seed),
        starting_losses=torch.stack(
            [sine_task(p.points, 20, seed + i)[1].square().mean() / 2 for i in range(DRAWS)]
        ),
    )


def _lottery(seed: int, draws: int = 20_000) -> Tensor:
    """The final distances from many Gaussian weights of width 100: ``v_i`` are normal numbers."""
    v = torch.randn(draws, 100, generator=generator(seed), dtype=torch.float64)
    delta = (v * v.abs()).sum(1) / v.square().sum(1)
    return (2 - (1 + delta).sqrt() - (1 - delta).sqrt()).clamp(min=0).sqrt()


def draw(result: Result, path: Path) -> None:
    """The loss on both time axes, and the distances of the weights, measured against predicted."""
    figure, (own, scaled, seeds) = plots.canvas(7.0, 2.5, columns=3)
    for b, alpha in enumerate(result.alphas):
        kappa, colour = (1 + alpha) / 2, shade(alpha)
        own.plot(result.time / kappa, result.loss[:, b], color=colour, label=f"α = {alpha:g}")
        own.plot(
            result.time / kappa,
            result.predicted_loss[:, b],
            color=ROLES["ink"],
            linewidth=0.8,
            linestyle=":",
        )
        scaled.plot(result.time, result.loss[:, b], color=colour, linewidth=3.4 - 2.4 * alpha)
    own.legend(frameon=False, labelcolor="linecolor", handlelength=0, fontsize=8)
    left = result.loss[:, -1] - result.loss[-1, -1]
    end = 1.5 * float(result.time[left < 1e-3 * left[0]][0])
    name(own, "loss; dotted: predicted", xlabel="time $t/τ$", ylim=(0, None), xlim=(0, 1.5 * end))
    name(
        scaled,
        "loss on the rescaled axis",
        xlabel=r"time $(1+α)t/2τ$",
        ylim=(0, None),
        xlim=(0, end),
    )
    top = 105 * max(float(result.distance.max()), float(result.all_predicted.quantile(0.99)))
    share = seeds.twinx()
    share.hist(
        100 * result.all_predicted.numpy(),
        bins=np.linspace(0, top, 40).tolist(),
        color=ROLES["rule"],
    )
    share.set(yticks=[], ylim=(0, 2 * share.get_ylim()[1]))
    share.set_zorder(-1)
    seeds.patch.set_visible(False)
    share.spines[:].set_visible(False)
    seeds.grid(visible=False)
    seeds.plot([0, top], [0, top], color=ROLES["muted"], linewidth=0.7)
    seeds.plot(
        100 * result.predicted_distance, 100 * result.distance, "o", color=shade(0), markersize=4
    )
    seeds.axvline(100 * PAPER_DISTANCE, color=shade(1), linewidth=0.8)
    seeds.annotate("paper", (100 * PAPER_DISTANCE, top), xytext=(3, -6), color=shade(1), fontsize=8,
                   textcoords="offset points")  # fmt: skip
    seeds.annotate(
        "20,000 initialisations", (0.45 * top, 0.14 * top), color=ROLES["muted"], fontsize=8
    )
    name(
        seeds,
        "distance of weights, %",
        xlabel="predicted at initialisation",
        ylabel="measured at the end",
        xlim=(0, top),
        ylim=(0, top),
    )
    plots.save(figure, path)


def claims(result: Result) -> list[Claim]:
    """The figure's numbers, and where the distance of the weights comes from."""
    fall = float(result.loss[0, -1] - result.loss[-1, -1])
    return [
        Claim.close(
            f"loss at the start, mean of {DRAWS} draws of the task",
            float(result.starting_losses.mean()),
            PAPER_LOSS[0],
            0.05,
        ),
        Claim.close("loss at the end", float(result.loss[-1].mean()), PAPER_LOSS[1], 0.03),
        Claim.at_most(
            "simulated loss from the predicted one, part of the fall",
            float((result.loss - result.predicted_loss).abs().max()) / fall,
            0.02,
        ),
        Claim.at_most(
            "loss from that of the linear network on the rescaled axis, part of the fall",
            float((result.loss - result.loss[:, -1:]).abs().max()) / fall,
            0.02,
        ),
        Claim.at_most(
            "distance of the weights, paired initialisation",
            float(result.paired_distance.max()),
            1e-10,
        ),
        Claim.at_most(
            "distance of the weights from its prediction, worst of"
            f" {len(result.distance)} Gaussian initialisations",
            float((result.distance - result.predicted_distance).abs().max()),
            1e-3,
        ),
        Claim.close(
            "part of Gaussian initialisations below the paper's 0.3 %",
            float((result.all_predicted < PAPER_DISTANCE).double().mean()),
            CLOSE_STARTS_FRACTION,
            0.005,
        ),
    ]
