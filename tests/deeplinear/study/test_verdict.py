"""The verdict at the top of the report: each sentence is borne by the trials, or is not there."""

import dataclasses

import numpy as np
import pytest

from rectilinear.deeplinear import DepthStudy, StudyResult, Synthetic, deep_linear, verdict
from rectilinear.deeplinear.study.page import study_page

CHANCE = "more than chance"


@pytest.fixture(scope="module")
def result() -> StudyResult:
    """Two depths; the second in trials that are altered below."""
    study = DepthStudy(deep_linear([1, 2]), Synthetic(noise=(0.05,), rows=50), trials=20, steps=10)
    return study.run()


def altered(result: StudyResult, **of_depth_two: object) -> StudyResult:
    """The result with all trials converged after 100 steps, but for the given columns."""
    columns = {name: column.copy() for name, column in result.columns.items()}
    trained = columns["model"] > 0
    columns["success"][:] = columns["reached"][:] = True
    columns["state"] = columns["state"].astype("U12")
    columns["state"][:] = "converged"
    columns["steps"][trained] = 100
    columns["test_error"][:] = 1.0
    for name, values in of_depth_two.items():
        columns[name][columns["model"] == 2] = values
    return dataclasses.replace(result, columns=columns, steps=1000)


def test_alike(result: StudyResult) -> None:
    assert verdict(altered(result)) == [
        "Every depth (1 and 2) reaches least squares in all of the 20 trials.",
        f"No depth differs from the shallowest in steps by {CHANCE} (log-rank test, at 5 %).",
        f"No network has a test error that differs from that of least squares by {CHANCE}.",
    ]


def test_of_folds_names_the_correction_and_the_medians_no_test_tells_apart(
    result: StudyResult,
) -> None:
    steps = np.where(np.arange(20) < 12, 300, 40)
    folds = dataclasses.replace(altered(result, steps=steps), overlap=0.9)
    assert verdict(folds)[1] == (
        f"No depth differs from the shallowest in steps by {CHANCE} (log-rank test corrected for "
        "folds that overlap, at 5 %; medians from 100 to 300)."
    )


def test_slower(result: StudyResult) -> None:
    said = verdict(altered(result, steps=400))
    assert said[1] == "Depth 2 needs 4 times the steps of depth 1 (400 and 100, medians)."


def test_failures_are_counted_and_their_causes_named(result: StudyResult) -> None:
    fails = np.arange(20) < 5
    state = np.where(fails, np.where(np.arange(20) < 4, "saddle", "diverged"), "converged")
    said = verdict(altered(result, success=~fails, reached=~fails, state=state))
    assert said[0] == (
        "Depth 1 always reaches least squares, depth 2 in 75 % of the trials. Of those that do "
        "not, over all depths: 4 of 5 at a saddle, 1 of 5 diverged."
    )


@pytest.mark.parametrize(("error", "word"), [(0.9, "smaller"), (1.1, "larger")])
def test_test_errors(result: StudyResult, error: float, word: str) -> None:
    said = verdict(altered(result, test_error=error * np.linspace(0.99, 1.01, 20)))
    assert said[-1] == f"Test error {word} than that of least squares: depth 2, gd."


@pytest.mark.whole
def test_it_is_the_top_of_the_page_and_nothing_else_is_claimed(result: StudyResult) -> None:
    page = study_page(altered(result))
    assert verdict(altered(result))[0] in page
    assert "exponentially" not in page
    assert "saddle at zero" not in page  # none is predicted for one and two layers
