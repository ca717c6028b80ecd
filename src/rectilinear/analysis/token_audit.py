"""The audit of a network of tokens: its measurements, and the verdict."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from rectilinear.analysis import token_measures as of_tokens
from rectilinear.analysis.measure import NOT_ASKED_FOR, NOT_FOR_TOKENS, Measure
from rectilinear.analysis.rows_audit import MEASURES
from rectilinear.analysis.subspaces import token_subspaces
from rectilinear.analysis.token_blocks import block_replacement
from rectilinear.analysis.token_subject import TokenSubject
from rectilinear.analysis.training_outcome import weights_of
from rectilinear.analysis.verdict import Label, Verdict, by_segments, by_subspaces
from rectilinear.networks.places import inner
from rectilinear.scalars import share_text

TOKEN_MEASURES: dict[str, Callable[[TokenSubject], Measure]] = {
    "homogeneity": of_tokens.homogeneity,
    "parity": of_tokens.parity,
    "segments": of_tokens.segments,
    "subspaces": token_subspaces,
    "affine_r2": of_tokens.affine_r2,
    "affine_score": of_tokens.affine_score,
    "weights": lambda subject: weights_of(subject.model, None),
    "blocks": block_replacement,
}


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
    late = set() if "subspaces" in asked and len(asked) < len(MEASURES) else {"subspaces"}
    for name in sorted(asked - late, key=lambda n: (n not in first, list(MEASURES).index(n))):
        advance(name.replace("_", " "))
        measure = TOKEN_MEASURES.get(name)
        found[name] = Measure.missing(name, NOT_FOR_TOKENS) if measure is None else measure(subject)
    judged = verdict_of_tokens(subject, found, threshold, each)
    if judged.label == "undecided":
        advance("subspaces")
        found["subspaces"] = token_subspaces(subject)
        if (decided := by_subspaces(found["subspaces"], threshold, each)) is not None:
            judged = Verdict(decided[0], (decided[1], *judged.reasons))
    return found, judged


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
