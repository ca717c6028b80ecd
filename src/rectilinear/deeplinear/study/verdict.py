"""Verdict of a depth study: sentences on the trials, each of them computed from the trials."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from rectilinear.deeplinear import statistical_tests
from rectilinear.deeplinear.study.design import OSCILLATING

if TYPE_CHECKING:
    from rectilinear.deeplinear.study.result import StudyResult

SIGNIFICANT = 0.05  # after Holm's correction
SAME_STEPS = 1.1  # a ratio of medians that is called the same
CAUSES = {
    "saddle": "at a saddle",
    "stationary": "at a point without a gradient",
    "undertrained": "still descending",
    "oscillating": "oscillating",
    "diverged": "diverged",
    "": "above the tolerance",
}


def verdict(result: StudyResult) -> list[str]:
    """Sentences on success, time and test error of each family of networks in ``result``.

    A sentence on steps or test errors is given only if the test behind it rejects, at 5 % after
    Holm's correction, at every level of noise.

    Example:
        >>> from rectilinear.deeplinear import DepthStudy, Synthetic, deep_linear
        >>> study = DepthStudy(deep_linear([1]), Synthetic(noise=(0.05,)), trials=5)
        >>> verdict(study.run())[0]
        'Depth 1 reaches least squares in all of the 5 trials.'
    """
    families: dict[str, list[int]] = {}
    for m, model in enumerate(result.asked):
        if model.trained:
            families.setdefault(model.family, []).append(m)
    found, lines = [], result.comparisons()
    for name, members in families.items():
        group = sorted(members, key=lambda m: result.models[m].depth)
        said = [_success(result, group), *_steps(result, group, lines)]
        if len(families) == 1:
            found += [sentence[0].upper() + sentence[1:] for sentence in said]
        else:
            found += [f"{name}: {sentence}" for sentence in said]
    return found + _test_errors(result, lines)


def _success(result: StudyResult, group: list[int]) -> str:
    """The sentence on trials that reach least squares, by depth, and on what stopped the others."""
    cells = [result.cell(m) for m in group]
    rates = [float(cell["success"].mean()) for cell in cells]
    every = f"every depth ({_depths(result, group)})" if len(group) > 1 else _layers(result, group)
    if min(rates) == 1:
        return f"{every} reaches least squares in all of the {len(cells[0]['trial'])} trials."
    if max(rates) == 0:
        none = f"no trial with {_layers(result, group)} reaches least squares"
        return f"{none}. {_stopped(result, group)}"
    low, high = (group[int(pick(rates))] for pick in (np.argmin, np.argmax))
    whole = [m for m, rate in zip(group, rates, strict=True) if rate == 1]
    text = f"{_layers(result, [low])} reaches least squares in {_share(min(rates))}"
    if whole:
        verb = "reaches" if len(whole) == 1 else "reach"
        text = (
            f"{_layers(result, whole)} always {verb} least squares, {_layers(result, [low])} in "
            f"{_share(min(rates))}"
        )
    elif len(group) > 1:
        text += f", the fewest, and {_layers(result, [high])} in {_share(max(rates))}, the most"
    return f"{text}. {_stopped(result, group)}"


def _stopped(result: StudyResult, group: list[int]) -> str:
    """The states of the trials that did not converge, the most frequent first."""
    cells = [result.cell(m) for m in group]
    states = np.concatenate([cell["state"][~cell["success"]] for cell in cells])
    parts = [
        f"{count} of {len(states)} {CAUSES.get(state, state)}"
        + (_too_large(result, group) if state == OSCILLATING else "")
        for state, count in Counter(states.tolist()).most_common()
    ]
    return f"Of those that do not, over all depths: {', '.join(parts)}."


def _too_large(result: StudyResult, group: list[int]) -> str:
    """The step of networks that oscillate beside the largest one that is stable, of the worst."""
    found = []
    for m in group:
        cell, lr = result.cell(m), result.models[m].lr
        marked = (cell["state"] == OSCILLATING) & ~cell["success"]
        if lr is not None and result.models[m].optimizer == "gd" and marked.any():
            found.append((float(np.median(cell["stable_lr"][marked])), lr, m))
    if not found or min(found)[0] >= min(found)[1]:
        return ", for their step is too large"
    stable, lr, m = min(found, key=lambda row: row[0] / row[1])
    return (
        f", for their step is too large: {lr:g} at {_layers(result, [m])}, where gradient descent "
        f"is stable below {stable:.2g} (--lr sets it)"
    )


def _steps(result: StudyResult, group: list[int], lines: list[dict[str, Any]]) -> list[str]:
    """The slowest and the fastest depth beside the shallowest, where the test tells them apart."""
    shallow = group[0]
    different = [
        m
        for m in group[1:]
        if all(line["steps_p"] < SIGNIFICANT for line in lines if line["model"] == result.names[m])
    ]
    medians = {}
    for m in (shallow, *different):
        cell = result.cell(m)
        medians[m] = statistical_tests.kaplan_meier(cell["steps"], cell["reached"]).median.value
    base = medians.pop(shallow)
    if len(group) == 1:
        return []
    if not medians:
        same = "no depth differs from the shallowest in steps by more than chance"
        folds = "" if result.overlap is None else " corrected for folds that overlap"
        test = f"log-rank test{folds}, at {100 * SIGNIFICANT:g} %"
        return [f"{same} ({test}{_medians_apart(result, group)})."]
    slow, fast = max(medians, key=medians.__getitem__), min(medians, key=medians.__getitem__)
    if not np.isfinite(base):
        return []
    found = []
    for m, chosen in (
        (slow, medians[slow] > SAME_STEPS * base),
        (fast, SAME_STEPS * medians[fast] < base),
    ):
        if chosen and np.isinf(medians[m]):
            found.append(
                f"{_layers(result, [m])} needs more than the budget of {result.steps:,} steps in "
                f"the median, {_layers(result, [shallow])} {base:,.0f}."
            )
        elif chosen:
            found.append(
                f"{_layers(result, [m])} needs {_times(medians[m], base)} the steps of "
                f"{_layers(result, [shallow])} ({medians[m]:,.0f} and {base:,.0f}, medians)."
            )
    return found


def _medians_apart(result: StudyResult, group: list[int]) -> str:
    """The medians of steps that differ although no test tells them apart, or nothing."""
    medians = []
    for m in group:
        cell = result.cell(m)
        medians.append(statistical_tests.kaplan_meier(cell["steps"], cell["reached"]).median.value)
    low, high = min(medians), max(medians)
    if not np.isfinite(high) or high <= SAME_STEPS * low:
        return ""
    return f"; medians from {low:,.0f} to {high:,.0f}"


def _test_errors(result: StudyResult, lines: list[dict[str, Any]]) -> list[str]:
    """The networks whose test error differs from that of least squares, smaller and larger."""
    if not lines:
        return []
    against, found = lines[0]["against"], []
    for word, sign in (("smaller", -1), ("larger", 1)):
        names = [
            name
            for name in dict.fromkeys(line["model"] for line in lines)
            if all(
                line["test_p"] < SIGNIFICANT and sign * line["test_difference"] > 0
                for line in lines
                if line["model"] == name
            )
        ]
        if names:
            found.append(f"Test error {word} than that of {against}: {'; '.join(names)}.")
    if not found:
        found = [
            f"No network has a test error that differs from that of {against} by more than chance"
            + (" at every level of noise." if len(result.levels) > 1 else ".")
        ]
    return found


def _depths(result: StudyResult, group: list[int]) -> str:
    depths = [result.models[m].depth for m in group]
    if len(depths) > 2 and depths == list(range(depths[0], depths[-1] + 1)):
        return f"{depths[0]} to {depths[-1]}"
    return " and ".join(filter(None, [", ".join(map(str, depths[:-1])), str(depths[-1])]))


def _layers(result: StudyResult, group: list[int]) -> str:
    return f"depth{'s'[: len(group) > 1]} {_depths(result, group)}"


def _share(rate: float) -> str:
    return "no trial" if rate == 0 else f"{100 * rate:.3g} % of the trials"


def _times(value: float, base: float) -> str:
    return f"{value / max(base, 1):.2g} times"
