"""Success by depth over many trials: Table 1 of the paper.

``rectilinear reproduce lakkapragada2023_depth table``

The share of networks that converge, which a mean distance does not show. One level of noise, 10,000
trials a depth. The circles are numbers of an earlier, independent run, since we did not have the
paper's Table 1; means agree if their 95 % intervals overlap. Every network that did not converge is
examined: its Hessian has a negative eigenvalue at the saddle.

Cost: small 10 seconds (100 trials a depth), full a minute with numba, ten without, on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rectilinear import plots
from rectilinear.deeplinear import StudyResult, deep_linear
from rectilinear.deeplinear.statistical_tests import wilson
from rectilinear.papers import Claim
from rectilinear.papers.lakkapragada2023_depth import MAX_DISTANCE, overlap, study
from rectilinear.plots import canvas
from rectilinear.plots.charts import ROLES


@dataclass(frozen=True)
class Row:
    """Mean distance, mean test error and share of trials that converged, of 10,000 trials."""

    distance: float
    test_error: float
    success: float


EARLIER_RUN = {
    1: Row(0.0000, 0.0025, 1.00),
    2: Row(0.0015, 0.0026, 0.97),
    3: Row(0.0131, 0.0068, 0.89),
    4: Row(0.0498, 0.0341, 0.80),
    5: Row(0.130, 0.108, 0.66),
    6: Row(0.2325, 0.219, 0.53),
    8: Row(0.505, 0.559, 0.26),
    9: Row(0.5995, 0.686, 0.18),
    10: Row(0.690, 0.815, 0.105),
}
"""By layers, noise 0.05; success is rounded to a hundredth."""

# Trials from which the spread of test errors is known: a few are a hundred times the others.
MIN_TRIALS = 1000


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> StudyResult:
    """Train networks of every depth on the same trials."""
    return study(deep_linear(), {"small": 100, "full": 10_000}[preset], seed)


def draw(result: StudyResult, path: Path) -> None:
    """Draw success, mean distance and mean test error over depth; rings are the earlier run."""
    figure, panels = canvas(7.0, 2.6, columns=3)
    depths = [model.depth for model in result.models if model.trained]
    cells = [result.cell(f"depth {depth}, gd") for depth in depths]
    rates = [
        wilson(int((cell["distance"] < MAX_DISTANCE).sum()), len(cell["distance"]))
        for cell in cells
    ]
    low, middle, high = (
        np.array([getattr(rate, end) for rate in rates]) for end in ("low", "value", "high")
    )
    series = {"share that converges": (low, middle, high)}
    for name, label in (("distance", "mean distance"), ("test_error", "mean test error")):
        mean = np.array([cell[name].mean() for cell in cells])
        half = np.array([1.96 * cell[name].std(ddof=1) / len(cell[name]) ** 0.5 for cell in cells])
        series[label] = (mean - half, mean, mean + half)
    for axes, (label, (low, middle, high)), name in zip(
        panels, series.items(), ("success", "distance", "test_error"), strict=True
    ):
        axes.fill_between(depths, low, high, color=ROLES["first"], alpha=0.25, linewidth=0)
        axes.plot(depths, middle, color=ROLES["first"], marker="o", markersize=3, linewidth=1.2)
        rings = [getattr(row, name) for row in EARLIER_RUN.values()]
        axes.scatter(
            list(EARLIER_RUN),
            rings,
            s=36,
            facecolors="none",
            edgecolors=ROLES["second"],
            linewidths=0.9,
            zorder=3,
        )
        axes.set(xlabel="layers", xticks=depths)
        axes.set_title(label, loc="left", fontsize=10)
    plots.save(figure, path)


def claims(result: StudyResult) -> list[Claim]:
    """Each number within its confidence interval, and the diagnosis."""
    checks = []
    for depth, row in EARLIER_RUN.items():
        cell = result.cell(f"depth {depth}, gd")
        arrived, layers = cell["distance"] < MAX_DISTANCE, f"{depth} layer{'s'[: depth > 1]}"
        # As wide as the intervals of both runs, and half of the last digit that was written down.
        digit = 1e-4 if depth < 5 else 1e-3
        checked = [
            ("mean distance", cell["distance"], row.distance, digit),
            ("success", arrived.astype(float), row.success, 0.01),
        ]
        if len(arrived) >= MIN_TRIALS:
            checked.append(("mean test error", cell["test_error"], row.test_error, digit))
        for name, sample, expected, last in checked:
            allowed = overlap(sample) + last / 2
            checks.append(Claim.close(f"{name}, {layers}", float(sample.mean()), expected, allowed))
    deep = result.cell("depth 10, gd")
    stuck = (deep["distance"] >= MAX_DISTANCE) & (np.abs(deep["ratio"]) < 0.1)
    return [
        *checks,
        Claim.at_most(
            "largest curvature of a network of 10 layers that is stuck at a slope of zero",
            float(deep["curvature"][stuck].max()),
            0.0,
        ),
    ]
