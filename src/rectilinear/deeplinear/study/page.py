"""A study as one HTML page."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from rectilinear import __version__
from rectilinear.config import to_json
from rectilinear.deeplinear.diagnosis import STATES
from rectilinear.deeplinear.study import figures
from rectilinear.deeplinear.study.result import StudyResult
from rectilinear.plots.page import (
    Fact,
    Html,
    Section,
    captioned,
    chart,
    folded,
    number,
    page,
    table,
)


def study_page(result: StudyResult) -> str:
    """The whole document."""
    lede = (
        "A deep linear net can express what linear regression does and nothing else. Whether descent gets there within "
        "a budget is another matter: this page says how often, how fast, and what it ran into."
    )
    return page(
        "rectilinear study", "Linear nets against least squares", lede, facts(result), sections(result),
        f"{result.about} rectilinear {__version__}.",
    )  # fmt: skip


def facts(result: StudyResult) -> list[Fact]:
    """The numbers at the head of the page: how often the deepest net of each family arrives."""
    found = [Fact(f"{len(result.columns['trial']):,}", "fits, each model on every trial")]
    for name, group in list(figures.families(result).items())[:4]:
        rate, depth = result.cell(group[-1])["success"].mean(), result.models[group[-1]].depth
        found.append(
            Fact(f"{100 * rate:.3g} %", f"arrive with {depth} layer{'s'[: depth > 1]}, {name}")
        )
    return found


def sections(result: StudyResult) -> list[Section]:
    """All of the page below its head."""
    linear = [
        name
        for name, group in figures.families(result).items()
        if result.models[group[0]].kind == "deep_linear"
    ]
    parts = [_cells(result), _tests(result), _how(result)]
    if linear:
        parts = [_distance(result, linear), _ends(result, linear), *parts]
    if figures.families(result):
        parts = [_success(result, linear), _time(result), _test_error(result), *parts]
    return parts


def _success(result: StudyResult, linear: list[str]) -> Section:
    blocks = [
        captioned(
            chart(figures.success(result), "share of trials that arrive, against depth"),
            "Success.",
            f"A trial arrives when its training error is within {number(result.study.tol)} of least squares after "
            f"{result.study.steps:,} steps. Bands are Wilson intervals, 95 %." + _shared(result),
        )
    ]
    blocks += [
        captioned(
            chart(figures.survival(result, name), f"share still under way against steps, {name}"),
            f"Still under way, {name}.",
            "Kaplan and Meier's estimate from the steps to the tolerance, cut off at the budget.",
        )
        for name in linear[:2]
    ]
    return Section(
        "Who arrives", "Trials that come down to least squares within the budget.", tuple(blocks)
    )


def _shared(result: StudyResult) -> str:
    """What has to be said of intervals where trials are not independent."""
    if result.overlap is None:
        return ""
    return " Trials are folds of one table and share its rows: on new tables results vary more than these intervals."


def _time(result: StudyResult) -> Section:
    return Section(
        "How long it takes",
        "Gradient descent on a chain of layers of one unit first has to leave the saddle at zero, which takes "
        "exponentially longer with depth; where that exceeds the budget, most trials fail. Width and Adam spare "
        "a net most of it.",
        (
            captioned(
                chart(figures.time(result), "median steps to the tolerance against depth"),
                "Median steps to the tolerance,",
                "with 95 % intervals, where at least half of the trials arrived. Dashed: the median of the escape "
                "times that the starting weights foretell, for chains of one unit under gradient descent.",
            ),
        ),
    )


def _test_error(result: StudyResult) -> Section:
    blocks = [
        captioned(
            chart(figures.test_error(result, name), f"test error against depth, {name}"),
            f"Test error, {name}.",
            "Where a few trials fail, they carry the mean; the median is the trial in the middle.",
        )
        for name in list(figures.families(result))[:3]
    ]
    return Section(
        "What it costs",
        "Test error against depth, beside least squares on the same trials.",
        tuple(blocks),
    )


def _distance(result: StudyResult, linear: list[str]) -> Section:
    blocks = [
        captioned(
            chart(
                figures.distance(result, name), f"distance to least squares against steps, {name}"
            ),
            f"D against steps, {name}.",
            "Absolute differences to the least-squares weights and intercept, added up. Where some trials arrive and "
            "others are stuck, the distribution has two humps, and a mean describes no trial.",
        )
        for name in linear[:3]
    ]
    return Section(
        "On the way", "The distance to the least-squares solution while training.", tuple(blocks)
    )


def _ends(result: StudyResult, linear: list[str]) -> Section:
    blocks: list[Html] = [
        captioned(
            chart(
                figures.slopes(result, name),
                f"histograms of the slope over that of least squares, {name}",
            ),
            f"Where the slope ends, {name}.",
            "1 is the solution, 0 the saddle; beyond the edges is counted at the edge.",
        )
        for name in linear[:2]
    ]
    lines: list[tuple[str | float, ...]] = []
    for m, model in enumerate(result.models):
        if model.kind == "deep_linear":
            cell = result.cell(m)
            stuck = cell["curvature"][cell["state"] == "saddle"]
            lines.append(
                (
                    result.names[m],
                    *(int((cell["state"] == state).sum()) for state in STATES),
                    _middle(stuck),
                )
            )
    head = ("Model", *(state.capitalize() for state in STATES), "Curvature at the saddle, median")
    return Section(
        "What stopped the others",
        "A net that did not arrive is at a saddle, where its gradient is small and its Hessian has a negative "
        "eigenvalue, or it does not move at all, or it is on a way down that needs more steps, or its step was too "
        "large.",
        (
            *blocks,
            captioned(
                table(head, lines), "Diagnosis.", "Trials in each state, over all levels of noise."
            ),
        ),
    )


def _cells(result: StudyResult) -> Section:
    head = ("Noise", "Model", "Step", "Success", "Steps, median", "Foretold", "Largest stable step", "D, mean",
            "D, median", "Test error, mean", "median")  # fmt: skip
    lines = [tuple(_unbroken(value) for value in _cell(cell)) for cell in result.summary()]
    return Section(
        "Every cell",
        "All models at all levels of noise, with 95 % intervals. Steps are Kaplan and Meier's median; where fewer than "
        "half arrived it lies beyond the budget.",
        (
            captioned(
                table(head, lines),
                "Cells.",
                f"{result.summary()[0]['trials']} trials each." + _shared(result),
            ),
        ),
    )


def _cell(cell: dict[str, Any]) -> tuple[str | float, ...]:
    success = f"{100 * cell['success']:.3g} % ({100 * cell['success_low']:.3g}–{100 * cell['success_high']:.3g})"
    steps = f"{_steps(cell['steps'])} ({_steps(cell['steps_low'])}–{_steps(cell['steps_high'])})"
    return (
        *(_or_blank(cell["noise"]), cell["model"], _or_blank(cell["lr"]), success),
        "" if np.isnan(cell["steps"]) else steps,
        *(_steps(cell["predicted"]), _or_blank(cell["stable_lr"])),
        *(
            _or_blank(cell[name])
            for name in ("distance_mean", "distance_median", "test_error", "test_error_median")
        ),
    )


def _unbroken(value: str | float) -> str | float:
    """Words and ranges in one line each."""
    return (
        value.replace(" ", "\u00a0").replace("–", "\u2060–\u2060")
        if isinstance(value, str)
        else value
    )


def _tests(result: StudyResult) -> Section:
    head = ("Noise", "Model", "Test error above least squares, median", "p", "Steps against", "p")
    lines = [
        (
            _or_blank(line["noise"]), _unbroken(line["model"]), _or_blank(line["test_difference"]),
            _or_blank(line["test_p"]), _unbroken(line["steps_against"]), _or_blank(line["steps_p"]),
        )
        for line in result.comparisons()
    ]  # fmt: skip
    test = (
        "Wilcoxon's signed-rank test"
        if result.overlap is None
        else "the corrected resampled t test"
    )
    return Section(
        "Differences that hold up",
        f"Trials are paired: every model saw the same data. Differences in test error by {test}, steps to arrive "
        "by the log-rank test for pairs against the shallowest net of the same kind, both with Holm's correction.",
        (
            captioned(
                table(head, lines),
                "Tests.",
                "A small p says that it is no chance, not that it is large.",
            ),
        ),
    )


def _how(result: StudyResult) -> Section:
    settings: dict[str, Any] = to_json(result.study)
    text = "Everything needed to run it again; step sizes that were left open were chosen on trials of their own."
    return Section("How it was run", text, (folded("Settings", json.dumps(settings, indent=2)),))


def _middle(values: np.ndarray) -> str | float:
    return float(np.median(values)) if len(values) else ""


def _or_blank(value: float) -> str | float:
    return "" if np.isnan(value) else "∞" if np.isinf(value) else value


def _steps(value: float) -> str:
    return "" if np.isnan(value) else "∞" if np.isinf(value) else f"{value:,.0f}"
