"""The measurements of an audit in the order of the table, and the verdict: of rows, of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from rectilinear.analysis import token_measures as of_tokens
from rectilinear.analysis.blocks_and_jacobians import block_replacement, jacobian_likeness
from rectilinear.analysis.measure import NOT_ASKED_FOR, NOT_FOR_TOKENS, Measure, Subject
from rectilinear.analysis.segments import segments
from rectilinear.analysis.subspaces import subspaces, token_subspaces
from rectilinear.analysis.surrogate import affine_r2, affine_score, is_in_span, odd_linearity
from rectilinear.analysis.symmetry import (
    gaussian_energy,
    homogeneity,
    mirror_classifier,
    pairs,
    parity,
    sign_flip,
)
from rectilinear.analysis.token_blocks import block_replacement as token_block_replacement
from rectilinear.analysis.token_subject import TokenSubject
from rectilinear.analysis.training_outcome import (
    floor_and_loss,
    signs,
    time_course,
    weights,
    weights_of,
)
from rectilinear.analysis.two_layer import certificate, exact_map
from rectilinear.analysis.verdict import Label, Verdict, by_segments, by_subspaces, verdict
from rectilinear.errors import ConfigError
from rectilinear.networks.places import inner
from rectilinear.scalars import share_text

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
TOKEN_MEASURES: dict[str, Callable[[TokenSubject], Measure]] = {
    "homogeneity": of_tokens.homogeneity,
    "parity": of_tokens.parity,
    "segments": of_tokens.segments,
    "subspaces": token_subspaces,
    "affine_r2": of_tokens.affine_r2,
    "affine_score": of_tokens.affine_score,
    "weights": lambda subject: weights_of(subject.model, None),
    "blocks": token_block_replacement,
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
    early = _early(asked) - {"segments"}
    for name in sorted(early, key=lambda name: name != "affine_r2"):
        if name == "affine_r2" and brief and decided:
            continue
        advance(name.replace("_", " "))
        found[name] = subject.once(MEASURES[name])
    judged = verdict(subject, found, threshold, each)
    if judged.label == "undecided" and is_in_span(subject):
        advance("subspaces")
        found["subspaces"] = subject.once(subspaces)
        judged = _by_subspaces(judged, found["subspaces"], threshold, each)
    return found, judged


def measured_tokens(
    subject: TokenSubject,
    asked: set[str],
    threshold: float,
    each: bool,
    advance: Callable[[str], None],
) -> tuple[dict[str, Measure], Verdict]:
    """The measurements asked for, the deciding ones first, and the verdict."""
    found = {name: Measure.missing(name, NOT_ASKED_FOR) for name in MEASURES}
    first = ("segments", "affine_r2")
    for name in sorted(_early(asked), key=lambda n: (n not in first, list(MEASURES).index(n))):
        advance(name.replace("_", " "))
        measure = TOKEN_MEASURES.get(name)
        found[name] = Measure.missing(name, NOT_FOR_TOKENS) if measure is None else measure(subject)
    judged = verdict_of_tokens(subject, found, threshold, each)
    if judged.label == "undecided":
        advance("subspaces")
        found["subspaces"] = token_subspaces(subject)
        judged = _by_subspaces(judged, found["subspaces"], threshold, each)
    return found, judged


def _early(asked: set[str]) -> set[str]:
    """The measurements before the verdict: subspaces only where they are asked for by name."""
    by_name = "subspaces" in asked and len(asked) < len(MEASURES)
    return asked if by_name else asked - {"subspaces"}


def _by_subspaces(judged: Verdict, found: Measure, threshold: float, each: bool) -> Verdict:
    """The verdict, or that of the subspaces where they decide."""
    last = by_subspaces(found, threshold, each)
    return judged if last is None else Verdict(last[0], (last[1], *judged.reasons))


def verdict_of_tokens(
    subject: TokenSubject, found: dict[str, Measure], threshold: float, each: bool
) -> Verdict:
    """The verdict: linear by the map of single tokens, not linear by the segment test.

    A network that mixes tokens may be affine although no map of single tokens explains it: only the
    segment test proves that it is not linear.
    """
    fit = found["affine_r2"]
    label: Label = "undecided"
    what = "of each token" if subject.by_token else "of the mean over the tokens of a sample"
    if fit.interval is None or fit.value is None:
        reason = f"How much one affine map explains is not known: {fit.note}."
    else:
        low = min(fit.interval[0], fit.details.get("worst_interval", [1.0])[0] if each else 1.0)
        between = f"{share_text(fit.value)}{fit.range_text()}"
        reason = f"One affine map {what} explains {between} of its variance, held out by sample"
        reason += f"; {threshold:g} was asked for."
        if each and "worst_interval" not in fit.details:
            reason += f" It is that of all {subject.width:,} outputs together."
        label = "effectively linear" if low >= threshold else "undecided"
    proof = None if label != "undecided" else by_segments(found["segments"], threshold, each)
    reasons = [reason]
    if proof is not None:
        label, first = proof
        reasons = [first, reason]
    if subject.start.side == "input" and not subject.start.name:
        return Verdict(label, tuple(reasons))
    reasons.append(f"The map starts at the embeddings' output, {subject.start}.")
    return Verdict(label, (*reasons, *_layers(found["blocks"]), *_outside(subject.model)))


def _layers(blocks: Measure) -> list[str]:
    """The most and the least linear layers."""
    rows = [row for row in blocks.details.get("blocks", ()) if row["update_r2"] is not None]
    if len(rows) < 2:
        return []
    most, least = (pick(rows, key=lambda row: row["output_r2"]) for pick in (max, min))
    said = "An affine map in place of"
    shares = f"{most['output_r2']:.3g} of the output's variance"
    return [f"{said} {most['name']} keeps {shares}, of {least['name']} {least['output_r2']:.3g}."]


def _outside(model: nn.Module) -> list[str]:
    kinds = {type(m).__name__ for m in inner(model).modules()}
    found = sorted(k for k in kinds if "Norm" in k or "Attention" in k)[:4]
    return [f"Measured only, for no theorem covers it: {', '.join(found)}."] if found else []
