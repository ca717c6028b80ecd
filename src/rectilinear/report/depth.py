"""Depth as sections of a page: the published figure in seconds, and the cure beside it."""

from __future__ import annotations

from time import process_time

import numpy as np

from rectilinear.deeplinear import DepthStudy, StudyResult, Synthetic, deep_linear
from rectilinear.deeplinear.study import figures
from rectilinear.report.page import Section, captioned, chart, number, table

_LAYERS = (1, 2, 4, 6, 10)
_NOISE = 0.05


def depth_sections(seed: int = 0) -> tuple[list[Section], dict[str, float]]:
    """Linear nets of one to ten layers on a noisy line, by gradient descent and by Adam, and their numbers."""
    study = DepthStudy(deep_linear(_LAYERS, optimizers=("gd", "adam")), Synthetic(noise=(_NOISE,)), seed=seed)
    start = process_time()
    result = study.run()
    seconds = process_time() - start
    trained = sum(model.trained for model in result.models) * study.trials
    metrics = {
        "depth_D_10": float(np.mean(result.cell("depth 10, gd")["distance"])),
        "depth_D_10_adam": float(np.mean(result.cell("depth 10, adam")["distance"])),
        "depth_networks_per_second": trained / seconds,
    }
    return [_published(result, trained, seconds), _cure(result, metrics), _reason(result)], metrics


def _published(result: StudyResult, trained: int, seconds: float) -> Section:
    return Section(
        "Deeper and further away",
        "A linear net of any depth is a line. Trained on a noisy line as published, by gradient descent from a uniform "
        "start, the deeper ones are nevertheless far from linear regression after 10,000 steps.",
        (
            captioned(
                chart(figures.distance(result, "gd"), "distance to least squares against steps, gradient descent"),
                "D against steps.",
                f"Left the mean that is published, right the median. {trained:,} networks of 10,000 steps in "
                f"{number(float(f'{seconds:.2g}'))} seconds: the gradient needs a few sums over the data, no more.",
            ),
        ),
    )


def _cure(result: StudyResult, metrics: dict[str, float]) -> Section:
    gd, adam = (metrics[name] for name in ("depth_D_10", "depth_D_10_adam"))
    return Section(
        "The cure",
        "The same nets, starts, data, step and budget with Adam: every depth arrives, and deeper is faster.",
        (
            captioned(
                chart(figures.distance(result, "adam"), "distance to least squares against steps, Adam"),
                "The same with Adam.",
                f"Mean D of ten layers is {number(adam)}, against {number(gd)} by gradient descent.",
            ),
            captioned(
                chart(figures.success(result), "share of trials that arrive, against depth"),
                "Who arrives.",
                "The share of trials at least squares at the end of the budget, with Wilson intervals of 95 %.",
            ),
        ),
    )


def _reason(result: StudyResult) -> Section:
    lines: list[tuple[str | float, ...]] = []
    for depth in _LAYERS:
        cell = result.cell(f"depth {depth}, gd")
        counts = [int((cell["state"] == state).sum()) for state in ("converged", "saddle", "undertrained")]
        stuck = cell["curvature"][cell["state"] == "saddle"]
        lines.append((depth, *counts, float(np.median(stuck)) if len(stuck) else ""))
    return Section(
        "The reason",
        "A chain of layers starts near the saddle at zero, where all its slopes are small, and has to leave it before "
        "it can fit. That takes a time exponential in depth, which can be foretold from the starting weights.",
        (
            captioned(
                chart(figures.time(result), "median steps to least squares against depth"),
                "Steps to least squares.",
                "Medians with 95 % intervals where half of the trials arrived; dashed, what theory foretells.",
            ),
            captioned(
                chart(figures.slopes(result, "gd"), "histograms of the slope over that of least squares"),
                "Where gradient descent ends.",
                "At the solution, 1, or at the saddle, 0, and hardly ever in between.",
            ),
            captioned(
                table(("Layers", "Converged", "Saddle", "Undertrained", "Curvature at the saddle, median"), lines),
                "Diagnosis.",
                "Trials by what they came to; at a saddle the Hessian has a negative eigenvalue.",
            ),
        ),
    )
