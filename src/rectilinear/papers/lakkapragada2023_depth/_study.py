"""The published protocol, which several figures share."""

from __future__ import annotations

import numpy as np

from rectilinear.deeplinear import DepthStudy, Model, StudyResult, Synthetic

BUDGET = 10_000  # steps
CLOSE = 0.01  # a distance to least squares that counts as none


def study(
    models: tuple[Model, ...], trials: int, seed: int, noise: tuple[float, ...] = (0.05,)
) -> StudyResult:
    """Trials of the models at the paper's budget."""
    return DepthStudy(
        models, Synthetic(noise=noise), trials=trials, steps=BUDGET, block=500, seed=seed
    ).run()


def failures(result: StudyResult, model: int | str) -> float:
    """The share of trials whose distance to least squares stays above :data:`CLOSE`."""
    return float(np.mean(result.cell(model)["distance"] >= CLOSE))


def overlap(sample: np.ndarray) -> float:
    """How far a mean may be from one of as large a sample, for their 95 % intervals to overlap."""
    return float(2 * 1.96 * sample.std(ddof=1) / len(sample) ** 0.5)
