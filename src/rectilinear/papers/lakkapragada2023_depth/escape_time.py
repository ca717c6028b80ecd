"""Steps to least squares over depth, and their prediction by the escape time from the saddle.

``rectilinear reproduce lakkapragada2023_depth escape_time``

Depth hurts in the paper because a chain of layers is initialised near the saddle at zero and has to
leave it before it can fit. That takes ``t* = rho^-(L-2) / ((L-2) 2|S|)``, exponential in depth.
With ``rho = 1/e`` for the paper's initial weights and ``|S|`` the median of its slopes, this
predicts the median over trials. Where it exceeds the budget of 10,000 steps, networks begin to
fail. With more steps they converge too. Adam needs fewer steps the deeper the network.

Cost: small 5 seconds (3 to 5 layers), full half a minute with numba (3 to 10 layers, up to a
million steps).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rectilinear import plots
from rectilinear.deeplinear import Synthetic, escape_time, train_ensemble
from rectilinear.deeplinear.diagnosis import UNIFORM_SIZE
from rectilinear.deeplinear.ensemble import Optimizer
from rectilinear.deeplinear.statistical_tests import Estimate, kaplan_meier
from rectilinear.papers import Claim
from rectilinear.papers.lakkapragada2023_depth import BUDGET
from rectilinear.plots import canvas
from rectilinear.plots.charts import ROLES

LR, TOL = 1e-3, 5e-5
HALF_LOSS_LR = 2 * LR  # the same step on half the mean square error, of engine and formula
DEPTHS = {"small": range(3, 6), "full": range(3, 11)}
TRIALS = {"small": 100, "full": 300}
BUDGET_FACTOR = 4.0  # budget over predicted median


@dataclass(frozen=True)
class Result:
    """Median steps to the tolerance by optimiser and depth, and their prediction by depth."""

    steps: dict[Optimizer, dict[int, Estimate]]
    predicted: dict[int, float]


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Train until at least half of the trials converged, with a budget for each depth."""
    seeds = np.random.SeedSequence(seed).spawn(20)
    batch = Synthetic(noise=(0.05,)).draw(seeds[0], range(TRIALS[preset]))
    slope = float(np.median(np.abs(batch.train.cxy)))
    predicted = {
        depth: float(escape_time(UNIFORM_SIZE, slope, depth)) / HALF_LOSS_LR
        for depth in DEPTHS[preset]
    }
    steps: dict[Optimizer, dict[int, Estimate]] = {"gd": {}, "adam": {}}
    for depth in DEPTHS[preset]:
        budgets: dict[Optimizer, int] = {
            "gd": int(BUDGET_FACTOR * max(predicted[depth], BUDGET / 5)),
            "adam": BUDGET,
        }
        for name, found in steps.items():
            run = train_ensemble(
                batch.train,
                (1,) * (depth - 1),
                init="uniform",
                optimizer=name,
                lr=LR if name == "adam" else HALF_LOSS_LR,
                steps=budgets[name],
                checkpoints=2,
                tol=TOL,
                seed=seeds[depth],
            )
            found[depth] = kaplan_meier(
                np.where(run.converged, run.hit, budgets[name]), run.converged
            ).median
    return Result(steps, predicted)


def draw(result: Result, path: Path) -> None:
    """Medians with their intervals, the theory dashed, and the paper's budget."""
    figure, (axes,) = canvas(6.0, 3.2)
    depths = list(result.predicted)
    for (name, found), colour, mark in zip(
        result.steps.items(), (ROLES["first"], ROLES["second"]), "os", strict=True
    ):
        middle = np.array([estimate.value for estimate in found.values()])
        bars = [
            [e.value - e.low for e in found.values()],
            [e.high - e.value for e in found.values()],
        ]
        axes.errorbar(
            depths,
            middle,
            yerr=bars,
            color=colour,
            marker=mark,
            markersize=4,
            elinewidth=0.8,
            label=name,
        )
    theory = list(result.predicted.values())
    axes.plot(
        depths,
        theory,
        color=ROLES["first"],
        linestyle=(0, (4, 3)),
        linewidth=1.0,
        label="gd, theory",
    )
    axes.axhline(BUDGET, color=ROLES["muted"], linewidth=0.8)
    axes.annotate(
        "budget of the paper",
        (depths[-1], BUDGET),
        color=ROLES["muted"],
        fontsize=8,
        ha="right",
        va="bottom",
    )
    axes.set(yscale="log", xlabel="layers", ylabel="median steps to least squares", xticks=depths)
    axes.legend(frameon=False, labelcolor="linecolor", handlelength=1.4, fontsize=8)
    plots.save(figure, path)


def claims(result: Result) -> list[Claim]:
    """Theory within a factor of two at every depth, exponential growth, and none with Adam."""
    gd, adam = ([estimate.value for estimate in found.values()] for found in result.steps.values())
    checks = [
        Claim.close(f"median steps over theory with {depth} layers, in powers of two",
                    float(np.log2(median / result.predicted[depth])), 0.0, 1.0)
        for depth, median in zip(result.predicted, gd, strict=True)
    ]  # fmt: skip
    return [
        *checks,
        Claim.at_least(
            "median steps of the deepest over those of the shallowest, gd", gd[-1] / gd[0], 1.5
        ),
        Claim.at_most("the same with adam", adam[-1] / adam[0], 1.0),
    ]
