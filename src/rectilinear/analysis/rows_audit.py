"""The audit of a network of rows: its measurements in the order of the table, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rectilinear.analysis.blocks_and_jacobians import block_replacement, jacobian_likeness
from rectilinear.analysis.measure import NOT_ASKED_FOR, Measure, Subject
from rectilinear.analysis.segments import segments
from rectilinear.analysis.subspaces import subspaces
from rectilinear.analysis.surrogate import affine_r2, affine_score, is_in_span, odd_linearity
from rectilinear.analysis.symmetry import (
    gaussian_energy,
    homogeneity,
    mirror_classifier,
    pairs,
    parity,
    sign_flip,
)
from rectilinear.analysis.training_outcome import floor_and_loss, signs, time_course, weights
from rectilinear.analysis.two_layer import certificate, exact_map
from rectilinear.analysis.verdict import Verdict, by_segments, by_subspaces, verdict
from rectilinear.errors import ConfigError

MEASURES: dict[str, Callable[[Subject], Measure]] = {  # in the order of the table
    "homogeneity": homogeneity,
    "parity": parity,
    "odd_linearity": odd_linearity,
    "segments": segments,
    "subspaces": subspaces,
    "affine_r2": affine_r2,
    "affine_score": affine_score,
    "exact_map": exact_map,
    "gaussian_energy": gaussian_energy,
    "certificate": certificate,
    "pairs": pairs,
    "sign_flip": sign_flip,
    "mirror_classifier": mirror_classifier,
    "floor": floor_and_loss,
    "weights": weights,
    "sign_imbalance": signs,
    "time_course": time_course,
    "blocks": block_replacement,
    "local": jacobian_likeness,
}
VERDICT = "verdict"  # the name of the measurements that decide, and no others


def chosen(measures: str | Sequence[str] | None) -> set[str]:
    """The names of the measurements asked for; with those that the verdict needs.

    Example:
        >>> sorted(chosen("verdict")), len(chosen(None)) == len(MEASURES)
        (['affine_r2', 'segments'], True)
    """
    if measures is None:
        return set(MEASURES)
    asked = {measures} if isinstance(measures, str) else set(measures)
    if unknown := sorted(asked - {*MEASURES, VERDICT}):
        raise ConfigError(
            f"measures = {', '.join(map(repr, unknown))}",
            f"some of {VERDICT}, {', '.join(MEASURES)}",
        )
    return (asked - {VERDICT}) | {"segments", "affine_r2"}


def measured(
    subject: Subject,
    asked: set[str],
    brief: bool,
    threshold: float,
    each: bool,
    advance: Callable[[str], None],
) -> tuple[dict[str, Measure], Verdict]:
    """The measurements asked for, the deciding ones first, and the verdict.

    With ``brief`` no map is fitted where it could not decide and the segment test does. Subspaces
    are only looked at where they are asked for by name, or nothing else decides.
    """
    found = {name: Measure.missing(name, NOT_ASKED_FOR) for name in MEASURES}
    advance("segments")
    found["segments"] = subject.once(segments)
    decided = is_in_span(subject) and by_segments(found["segments"], threshold, each) is not None
    late = set() if "subspaces" in asked and len(asked) < len(MEASURES) else {"subspaces"}
    for name in sorted(asked - {"segments"} - late, key=lambda name: name != "affine_r2"):
        if name == "affine_r2" and brief and decided:
            continue
        advance(name.replace("_", " "))
        found[name] = subject.once(MEASURES[name])
    judged = verdict(subject, found, threshold, each)
    if judged.label == "undecided" and is_in_span(subject):
        advance("subspaces")
        found["subspaces"] = subject.once(subspaces)
        if (last := by_subspaces(found["subspaces"], threshold, each)) is not None:
            judged = Verdict(last[0], (last[1], *judged.reasons))
    return found, judged
