"""Test error over depth at four levels of noise: Figure 2 of the paper.

``rectilinear reproduce lakkapragada2023_depth fig2``

The paper's conclusion is drawn from this figure: linear networks have a larger test error than
linear regression, and it increases with the number of layers. This holds with the paper's training.
With Adam, at the same step size, initial weights and budget, every depth has the test error of
least squares. So the figure shows how far gradient descent gets in 10,000 steps, not what linear
networks can learn.

Cost: small 12 seconds (50 trials a cell), full ten minutes (1,000), on one core; with numba half a
minute.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from rectilinear import plots
from rectilinear.deeplinear import StudyResult, deep_linear
from rectilinear.papers import Claim
from rectilinear.papers.lakkapragada2023_depth import study
from rectilinear.plots import canvas
from rectilinear.plots.charts import ROLES

NOISE = (0.05, 0.15, 0.3, 0.5)
LAYERS = {"small": (1, 3, 6, 10), "full": tuple(range(1, 11))}


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> StudyResult:
    """Train by gradient descent and Adam from the same initial weights, on the same trials."""
    models = deep_linear(LAYERS[preset], optimizers=("gd", "adam"))
    return study(models, {"small": 50, "full": 1000}[preset], seed, NOISE)


def draw(result: StudyResult, path: Path) -> None:
    """Draw the mean test error of both optimisers, least squares dashed, a panel a noise level."""
    figure, panels = canvas(7.0, 2.4, columns=len(result.levels), sharey=True)
    depths = sorted({model.depth for model in result.models if model.trained})
    for axes, noise in zip(panels, result.levels, strict=True):
        for optimizer, colour, mark in (
            ("gd", ROLES["first"], "o"),
            ("adam", ROLES["second"], "s"),
        ):
            cells = [
                result.cell(f"depth {depth}, {optimizer}", noise)["test_error"] for depth in depths
            ]
            middle = np.array([cell.mean() for cell in cells])
            width = np.array([1.96 * cell.std(ddof=1) / len(cell) ** 0.5 for cell in cells])
            low = np.maximum(middle - width, middle / 10)
            axes.fill_between(depths, low, middle + width, color=colour, alpha=0.15, linewidth=0)
            axes.plot(
                depths,
                middle,
                color=colour,
                marker=mark,
                markersize=3.5,
                linewidth=1.2,
                label=optimizer,
            )
        level = result.cell("least squares", noise)["test_error"].mean()
        axes.axhline(level, color=ROLES["muted"], linestyle=(0, (4, 3)), linewidth=0.8)
        axes.set(yscale="log", xlabel="layers", xticks=depths)
        axes.set_title(f"noise {noise:g}", loc="left", fontsize=9)
    panels[0].set_ylabel("mean test error")
    panels[0].legend(frameon=False, labelcolor="linecolor", handlelength=1.0, fontsize=8)
    plots.save(figure, path)


def claims(result: StudyResult) -> list[Claim]:
    """The paper's conclusion at each level of noise, and its contrary with Adam."""
    checks = []
    for noise in result.levels:
        best = result.cell("least squares", noise)["test_error"].mean()
        gd, adam = (
            result.cell(f"depth 10, {name}", noise)["test_error"].mean() for name in ("gd", "adam")
        )
        checks += [
            Claim.at_least(
                f"test error of 10 layers over least squares, noise {noise:g}, gd",
                float(gd / best),
                1.5,
            ),
            Claim.close(f"the same with adam, noise {noise:g}", float(adam / best), 1.0, 0.05),
        ]
    return checks
