"""Page and files of a depth study: ``report.html``, the table of trials and the summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rectilinear import __version__
from rectilinear.config import nan_to_null, write_json
from rectilinear.deeplinear.study import figures
from rectilinear.deeplinear.study.design import ENDS
from rectilinear.deeplinear.study.result import StudyResult
from rectilinear.deeplinear.study.verdict import verdict
from rectilinear.errors import MissingDependencyError
from rectilinear.files import write_text
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


def write_study(result: StudyResult, folder: Path | str) -> dict[str, str]:
    """The paths of the written files: trials (Parquet with pyarrow, else CSV), summary and report.

    Args:
        result: of a study.
        folder: where the files go.

    Raises:
        DiskError: if the disk is full or cannot be written.
    """
    folder = Path(folder)
    trials = folder / "trials.parquet"
    try:
        result.to_parquet(trials)
    except MissingDependencyError:
        trials = trials.with_suffix(".csv")
        result.to_csv(trials)
    summary, report = folder / "summary.json", folder / "report.html"
    write_json(
        summary,
        {
            "verdict": verdict(result),
            "summary": nan_to_null(result.summary()),
            "comparisons": nan_to_null(result.comparisons()),
        },
    )
    write_text(report, study_page(result))
    return {"trials": str(trials), "summary": str(summary), "report": str(report)}


def study_page(result: StudyResult) -> str:
    """The report as one HTML document that loads nothing."""
    lede = " ".join(verdict(result)) or "Closed forms beside least squares; no network is trained."
    return page(
        "rectilinear study",
        "Linear networks against least squares",
        lede,
        facts(result),
        sections(result),
        f"{result.about} rectilinear {__version__}.",
    )


def facts(result: StudyResult) -> list[Fact]:
    """The numbers at the top: how often the deepest network of each family converges."""
    found = [Fact(f"{len(result.columns['trial']):,}", "fits, each model on every trial")]
    for name, group in list(figures.families(result).items())[:4]:
        rate, depth = result.cell(group[-1])["success"].mean(), result.models[group[-1]].depth
        layers = f"{depth} layer{'s'[: depth > 1]}"
        found.append(Fact(f"{100 * rate:.3g} %", f"converge with {layers}, {name}"))
    return found


def sections(result: StudyResult) -> list[Section]:
    """The sections below the numbers at the top."""
    families = figures.families(result)
    linear = [name for name, m in families.items() if result.models[m[0]].kind == "deep_linear"]
    parts = [_cells(result), _tests(result), _settings(result)]
    if linear:
        parts = [_distance(result, linear), _final_states(result, linear), *parts]
    if families:
        parts = [_success(result, linear), _time(result), _test_error(result), *parts]
    return parts


def _success(result: StudyResult, linear: list[str]) -> Section:
    blocks = [
        captioned(
            chart(figures.success(result), "share of trials that converge, against depth"),
            "Success.",
            f"A trial converged when its training error is within {number(result.tol)} of least "
            f"squares after {result.steps:,} steps. Bands are Wilson intervals, 95 %."
            + _shared_rows(result),
        )
    ]
    blocks += [
        captioned(
            chart(figures.survival(result, name), f"share not yet converged over steps, {name}"),
            f"Not yet converged, {name}.",
            "Kaplan and Meier's estimate from the steps to the tolerance, censored at the budget.",
        )
        for name in linear[:2]
    ]
    return Section("Success", "Trials that reach least squares within the budget.", tuple(blocks))


def _shared_rows(result: StudyResult) -> str:
    """The caveat on intervals where trials are not independent."""
    if result.overlap is None:
        return ""
    return (
        " Trials are folds of one table and share its rows: on new tables results vary more than "
        "these intervals."
    )


def _time(result: StudyResult) -> Section:
    lede = "Steps until the training error is within the tolerance of least squares."
    dashed = ""
    if np.isfinite(result.columns["predicted"]).any():
        lede += (
            " Gradient descent on a chain of more than two layers of one unit first has to leave "
            "the saddle at zero."
        )
        dashed = (
            " Dashed: the median escape time predicted from the initial weights, for chains of one "
            "unit under gradient descent."
        )
    return Section(
        "Time to converge",
        lede,
        (
            captioned(
                chart(figures.time(result), "median steps to the tolerance against depth"),
                "Median steps to the tolerance,",
                f"with 95 % intervals, where at least half of the trials converged.{dashed}",
            ),
        ),
    )


def _test_error(result: StudyResult) -> Section:
    blocks = [
        captioned(
            chart(figures.test_error(result, name), f"test error against depth, {name}"),
            f"Test error, {name}.",
            "Where a few trials fail, they dominate the mean; the median does not show them.",
        )
        for name in list(figures.families(result))[:3]
    ]
    return Section(
        "Test error",
        "Test error against depth, beside least squares on the same trials.",
        tuple(blocks),
    )


def _distance(result: StudyResult, linear: list[str]) -> Section:
    blocks = [
        captioned(
            chart(figures.distance(result, name), f"distance to least squares over steps, {name}"),
            f"D against steps, {name}.",
            "Summed absolute differences to the least-squares weights and intercept. Where some "
            "trials converge and others are stuck, the distribution has two modes, and a mean "
            "describes no trial.",
        )
        for name in linear[:3]
    ]
    lede = "The distance to the least-squares solution during training."
    return Section("Distance to least squares", lede, tuple(blocks))


def _final_states(result: StudyResult, linear: list[str]) -> Section:
    blocks: list[Html] = [
        captioned(
            chart(figures.slopes(result, name), f"final slope over that of least squares, {name}"),
            f"Final slopes, {name}.",
            "1 is the solution, 0 the saddle; values beyond the edges are counted at the edge.",
        )
        for name in linear[:2]
    ]
    lines: list[tuple[str | float, ...]] = []
    for m, model in enumerate(result.models):
        if model.kind == "deep_linear":
            cell = result.cell(m)
            stuck = cell["curvature"][cell["state"] == "saddle"]
            counts = (int((cell["state"] == state).sum()) for state in ENDS)
            lines.append((result.names[m], *counts, float(np.median(stuck)) if len(stuck) else ""))
    head = ("Model", *(state.capitalize() for state in ENDS), "Curvature at the saddle, median")
    return Section(
        "Final states",
        "A network that did not converge is at a saddle, where its gradient is small and its "
        "Hessian has a negative eigenvalue; or stationary; or undertrained, still descending; or "
        "oscillating, for its step is too large to settle; or it "
        "diverged, for its step was too large.",
        (
            *blocks,
            captioned(
                table(head, lines), "Diagnosis.", "Trials in each state, over all levels of noise."
            ),
        ),
    )


def _cells(result: StudyResult) -> Section:
    head = (
        *("Noise", "Model", "Step", "Success", "Steps, median", "Predicted"),
        *("Largest stable step", "D, mean", "D, median", "Test error, mean", "median"),
    )
    summary = result.summary()
    lines = [tuple(_unbroken(value) for value in _cell(cell)) for cell in summary]
    return Section(
        "Every cell",
        "All models at all levels of noise, with 95 % intervals. Steps are Kaplan and Meier's "
        "median; where fewer than half of the trials converged it lies beyond the budget.",
        (
            captioned(
                table(head, lines),
                "Cells.",
                f"{summary[0]['trials']} trials each." + _shared_rows(result),
            ),
        ),
    )


def _cell(cell: dict[str, Any]) -> tuple[str | float, ...]:
    low, high = (f"{100 * cell[f'success_{end}']:.3g}" for end in ("low", "high"))
    success = f"{100 * cell['success']:.3g} % ({low}–{high})"
    steps = f"{_steps(cell['steps'])} ({_steps(cell['steps_low'])}–{_steps(cell['steps_high'])})"
    return (
        *(_or_blank(cell["noise"]), cell["model"], _or_blank(cell["lr"]), success),
        "" if np.isnan(cell["steps"]) else steps,
        *(_steps(cell["predicted"]), _or_blank(cell["stable_lr"])),
        *(_or_blank(cell[name]) for name in ("distance_mean", "distance_median")),
        *(_or_blank(cell[name]) for name in ("test_error", "test_error_median")),
    )


def _unbroken(value: str | float) -> str | float:
    """The value with words and ranges kept on one line each."""
    if not isinstance(value, str):
        return value
    return value.replace(" ", "\u00a0").replace("–", "\u2060–\u2060")


def _tests(result: StudyResult) -> Section:
    head = ("Noise", "Model", "Test error above least squares, median", "p", "Steps against", "p")
    lines = [
        (
            *(_or_blank(line["noise"]), _unbroken(line["model"])),
            *(_or_blank(line["test_difference"]), _or_blank(line["test_p"])),
            *(_unbroken(line["steps_against"]), _or_blank(line["steps_p"])),
        )
        for line in result.comparisons()
    ]
    errors, steps = "Wilcoxon's signed-rank test", "the log-rank test for pairs"
    if result.overlap is not None:  # folds of one table
        errors, steps = "the corrected resampled t test", "the same test"
    return Section(
        "Tests between models",
        "Trials are paired: every model saw the same data. Differences in test error by "
        f"{errors}, steps to converge by {steps} against the shallowest network of the same kind, "
        "both with Holm's correction.",
        (
            captioned(
                table(head, lines),
                "Tests.",
                "A small p says that a difference is unlikely to be chance, not that it is large.",
            ),
        ),
    )


def _settings(result: StudyResult) -> Section:
    return Section(
        "Settings",
        "Everything needed to run it again; step sizes that were left open were chosen on other "
        "trials.",
        (folded("Settings", json.dumps(result.settings, indent=2)),),
    )


def _or_blank(value: float) -> str | float:
    return "" if np.isnan(value) else "∞" if np.isinf(value) else value


def _steps(value: float) -> str:
    return "" if np.isnan(value) else "∞" if np.isinf(value) else f"{value:,.0f}"
