"""Lakkapragada, "A Novel Explanation Against Linear Neural Networks", arXiv 2401.00186.

The published protocol, which the figures share.
"""

from __future__ import annotations

import numpy as np

from rectilinear.deeplinear import DepthStudy, Model, StudyResult, Synthetic

BUDGET = 10_000  # steps
MAX_DISTANCE = 0.01  # to least squares, of a network that converged


def study(
    models: tuple[Model, ...], trials: int, seed: int, noise: tuple[float, ...] = (0.05,)
) -> StudyResult:
    """The result of trials of the models at the paper's budget."""
    return DepthStudy(
        models, Synthetic(noise=noise), trials=trials, steps=BUDGET, block=500, seed=seed
    ).run()


def failures(result: StudyResult, model: int | str) -> float:
    """The share of trials whose distance to least squares is at least :data:`MAX_DISTANCE`."""
    return float(np.mean(result.cell(model)["distance"] >= MAX_DISTANCE))


def overlap(sample: np.ndarray) -> float:
    """The largest difference of two means of as large samples whose 95 % intervals overlap."""
    return float(2 * 1.96 * sample.std(ddof=1) / len(sample) ** 0.5)
