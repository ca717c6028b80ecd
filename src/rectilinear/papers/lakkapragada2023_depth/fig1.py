"""Distance to least squares over steps, for one to ten layers: Figure 1 of the paper.

``rectilinear reproduce lakkapragada2023_depth fig1``

The paper trains linear networks of one to ten layers of one unit on a noisy line and draws ``D =
|slope - that of least squares| + |intercept - that of least squares|`` over steps, averaged over
100 trials: deeper networks are further away at 10,000 steps. This is found here too. The median
beside it shows what the mean hides: almost every trial ends either at least squares or at the
saddle.

Cost: small 10 seconds (100 trials), full a minute (2,000), on one core; with numba a few seconds
each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from rectilinear import plots
from rectilinear.deeplinear import StudyResult, deep_linear
from rectilinear.deeplinear.study import figures
from rectilinear.papers import Claim
from rectilinear.papers.lakkapragada2023_depth import MAX_DISTANCE, study

PUBLISHED_DISTANCES = {
    3: 0.012,
    4: 0.058,
    5: 0.114,
    6: 0.242,
    7: 0.376,
    8: 0.525,
    9: 0.720,
    10: 0.787,
}
"""Mean distance at 10,000 steps by layers, read off the author's plot of 100 trials."""


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> StudyResult:
    """Train networks of every depth on the same trials."""
    return study(deep_linear(), {"small": 100, "full": 2000}[preset], seed)


def draw(result: StudyResult, path: Path) -> None:
    """Draw the mean and the median with quartiles, a line a depth; rings are the author's means."""
    figure = figures.distance(result, "gd")
    mean, _ = figure.axes
    mean.scatter(
        [result.steps] * len(PUBLISHED_DISTANCES),
        list(PUBLISHED_DISTANCES.values()),
        s=14,
        facecolors="none",
        edgecolors="#6c6e76",
        linewidths=0.8,
        zorder=3,
    )
    plots.save(figure, path)


def claims(result: StudyResult) -> list[Claim]:
    """The author's means, their order, and the distribution behind them."""
    distances = {
        m.depth: result.cell(m.name)["distance"] for m in result.models if m.kind == "deep_linear"
    }
    means = {depth: float(d.mean()) for depth, d in distances.items()}
    n = len(distances[1])
    checks = []
    for depth, expected in PUBLISHED_DISTANCES.items():
        # Four standard errors of the difference, of these trials and of the author's hundred.
        allowed = 4 * float(distances[depth].std(ddof=1)) * (1 / n + 1 / 100) ** 0.5
        checks.append(
            Claim.close(f"mean distance with {depth} layers", means[depth], expected, allowed)
        )
    ranks = np.corrcoef(list(means), np.argsort(np.argsort(list(means.values()))))[0, 1]
    ratio = result.cell("depth 10, gd")["ratio"]
    between = np.mean(
        (distances[10] >= MAX_DISTANCE) & (np.abs(ratio) > 0.1) & (np.abs(ratio - 1) > 0.1)
    )
    return [
        *checks,
        Claim.at_least("rank correlation of mean distance and depth", float(ranks), 0.95),
        Claim.at_most(
            "median distance with 3 layers", float(np.median(distances[3])), MAX_DISTANCE
        ),
        Claim.at_most(
            "trials of 10 layers with a slope neither at least squares nor at zero",
            float(between),
            0.1,
        ),
    ]
