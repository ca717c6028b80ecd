"""The verdict in words, from the measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from rectilinear.analysis.measure import Measure, Subject
from rectilinear.analysis.two_layer import collapses
from rectilinear.networks.weight_matrices import TwoLayer
from rectilinear.scalars import share_text

Label = Literal["linear", "effectively linear", "not linear", "undecided"]
UNCOVERED: tuple[str, ...] = ("LayerNorm", "RMSNorm", "GroupNorm", "MultiheadAttention", "Softmax")
MIN_DISTINCT_ROWS = 5  # distinct rows from which on data say anything
ROUGH = 0.1  # share of rounding in what is not explained from which on it is named
ALL_OF_IT = 0.9995  # share that is called all
AT_THE_BOUND = 0.01  # relative distance of the loss to its lower bound


@dataclass(frozen=True)
class Verdict:
    """The verdict of an audit, in words.

    Attributes:
        label: "linear" (an affine map everywhere: proved), "effectively linear" (on the data, one
            affine map explains at least the asked share of the variance), "not linear" (none does),
            or "undecided".
        reasons: why, the deciding one first.
    """

    label: Label
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([self.label, *(f"  - {reason}" for reason in self.reasons)])


def verdict(
    subject: Subject, measures: Mapping[str, Measure], threshold: float, each: bool = True
) -> Verdict:
    """The verdict: a proof decides, else the share that one affine map explains on the data.

    The share is that of all outputs together, and of ``each`` by itself: a large output does not
    hide a small one.
    """
    label, reason = _decide(subject, measures["affine_r2"], threshold, each)
    if label == "undecided" and distinct_rows(subject, measures) >= MIN_DISTINCT_ROWS:
        label, reason = by_segments(measures["segments"], threshold, each) or (label, reason)
    more = [
        _parts(subject, measures),
        _copy(measures),
        _floor(measures),
        _symmetry(measures),
        _depth(subject, label),
        _outside(subject),
    ]
    return Verdict(label, (reason, *(text for text in more if text)))


def distinct_rows(subject: Subject, measures: Mapping[str, Measure]) -> int:
    """The number of distinct rows of the data, as far as it is known."""
    return int(measures["affine_r2"].details.get("distinct_rows", subject.data.n))


def by_segments(found: Measure, threshold: float, each: bool) -> tuple[Label, str] | None:
    """The verdict from the outputs halfway between data, if they prove one."""
    if found.interval is None:
        return None
    high = found.interval[1]
    worst = found.details.get("worst_bound", 1.0)
    of = "its variance"
    if each and worst < threshold <= high:
        high, of = worst, f"the variance of output {found.details['worst_output']}"
    if high >= threshold:
        return None
    said = (
        f"no affine map explains more than {high:.3g} of {of} at the data and halfway between them"
    )
    pairs = (
        f"on {found.details['pairs']} pairs, outputs there are not the means of those at the ends"
    )
    return "not linear", f"{said[:1].upper()}{said[1:]}: {pairs}; {threshold:g} was asked for."


def by_subspaces(found: Measure, threshold: float, each: bool) -> tuple[Label, str] | None:
    """The verdict from random subspaces through the data, if they give one."""
    if found.interval is None or found.value is None:
        return None
    low, high = found.interval
    worst_low, worst_high = found.details.get("worst_interval", (1.0, 1.0))
    if each:
        low, high = min(low, worst_low), min(high, worst_high)
    where = (
        f"in {found.details['spaces']} random subspaces of {found.details['dimensions']} "
        "dimensions through the data"
    )
    asked = f"{threshold:g} was asked for."
    if low >= threshold:
        share = f"one affine map each explains {share_text(found.value)} of the variance, held out"
        said = f"{where[:1].upper()}{where[1:]} {share}; {asked} The data alone cannot tell."
        return "effectively linear", said
    if high < threshold:
        said = f"No affine map explains more than {high:.3g} of the variance {where}; {asked}"
        return "not linear", said
    return None


def _decide(subject: Subject, fit: Measure, threshold: float, each: bool) -> tuple[Label, str]:
    if subject.structure.is_affine:
        return (
            "linear",
            f"Every operation of the network is affine: it is {_kind(subject)}, everywhere.",
        )
    if isinstance(subject.two_layer, TwoLayer) and collapses(subject.two_layer, subject.units):
        said = f"the even part vanishes and it is {_kind(subject)}, everywhere"
        return "linear", f"Its neurons cancel in pairs: {said}."
    distinct = fit.details.get("distinct_rows", subject.data.n)
    if distinct < MIN_DISTINCT_ROWS:
        rows = f"{distinct} distinct row{'s' * (distinct > 1)}"
        return (
            "undecided",
            f"The data have {rows}, which cannot tell; at least {MIN_DISTINCT_ROWS} can.",
        )
    if fit.value is None or fit.interval is None:
        if not fit.applies and "vary" in fit.note:
            size = fit.note.partition(", ")[2]
            return (
                "effectively linear",
                f"Its output is constant on the data{', ' * bool(size)}{size}.",
            )
        return "undecided", f"How much one affine map explains is not known: {fit.note}."
    label, reason = _together(fit, threshold)
    if label == "not linear" or not each or "worst_interval" not in fit.details:
        return label, reason
    return _worst(fit, threshold, label, reason)


def _together(fit: Measure, threshold: float) -> tuple[Label, str]:
    """By the variance of all outputs."""
    assert fit.interval is not None
    assert fit.value is not None
    low, high = fit.interval
    if low >= threshold:
        left = fit.details["unexplained"]
        share = (
            f"{fit.value:.4g}"
            if left > 1e-3
            else f"all but {left:.1g}"
            if left > 1e-9
            else "all, to rounding,"
        )
        share = f"one affine map explains {share} of its variance, held out"
        return (
            "effectively linear",
            f"On the data {share}; {threshold:g} was asked for. Elsewhere nothing is proved.",
        )
    if high < threshold:
        return (
            "not linear",
            (
                f"On the data no affine map explains more than {high:.3g} of its variance; "
                f"{threshold:g} was asked for."
            ),
        )
    rows, rank = fit.details["distinct_rows"], fit.details["rank"]
    rough = fit.details["rounding"] > ROUGH * max(fit.details["unexplained"], 1 - threshold)
    why = (
        f"{rows} points in {rank} dimensions cannot tell"
        if rows <= rank + 1
        else "the share of its variance that one affine map explains lies between "
        f"{share_text(low)} and {share_text(high)}"
    )
    more = "A wider dtype would: rounding hides the rest" if rough else "More points would"
    return "undecided", f"On these data {why}; {threshold:g} decides. {more}."


def _worst(fit: Measure, threshold: float, label: Label, reason: str) -> tuple[Label, str]:
    """The verdict by the output of which the least is explained.

    Where that changes what all outputs together say.
    """
    (low, high), worst = fit.details["worst_interval"], fit.details["worst_output"]
    if low >= threshold or (label == "undecided" and high >= threshold):
        return label, reason
    assert fit.value is not None
    share = share_text(fit.value)
    together = f"of all outputs together it explains {share}, but large ones outweigh small ones"
    if high < threshold:
        most = f"more than {high:.3g} of the variance of output {worst}"
        said = f"On the data no affine map explains {most}"
        return "not linear", f"{said}; {threshold:g} was asked for ({together})."
    said = (
        f"On these data the share of output {worst} that one affine map explains "
        f"lies between {share_text(low)} and {share_text(high)}"
    )
    more = (
        "A wider dtype"
        if fit.details["worst_rounding"] > ROUGH * (1 - threshold)
        else "More points"
    )
    return "undecided", f"{said}; {threshold:g} decides ({together}). {more} would."


def _kind(subject: Subject) -> str:
    zero = subject.network(subject.network.like.new_zeros(1, subject.network.in_dim))
    return "an affine map" if bool(zero.any()) else "a linear map"


def _parts(subject: Subject, measures: Mapping[str, Measure]) -> str:
    odd, even = measures["odd_linearity"], measures["parity"]
    if even.value is None:
        return ""
    even_share = 1 - even.value
    share = f"{'all' if even_share > ALL_OF_IT else f'{even_share:.3g}'} of its energy is even"
    if subject.has_linear_odd_part:
        return (
            f"Two layers without bias: its odd part is exactly linear; {share} on the data and "
            "their mirror image."
        )
    if odd.value is None:
        return f"{share[:1].upper()}{share[1:]} on the data and their mirror image."
    part = "all" if odd.value > 1 - 1e-9 else share_text(odd.value)
    return (
        f"One linear map explains {part} of its odd part, and {share}, on the data and their "
        "mirror image."
    )


def _copy(measures: Mapping[str, Measure]) -> str:
    task = measures["affine_score"]
    if task.value is None:
        return ""
    key = "accuracy" if "accuracy" in task.details else "loss"
    return (
        f"Its affine copy has {'an' if key == 'accuracy' else 'a'} {key} of "
        f"{task.details[f'affine_{key}']:.4g} "
        f"where the network has {task.details[key]:.4g}."
    )


def _floor(measures: Mapping[str, Measure]) -> str:
    found = measures["floor"]
    if found.value is None or found.value <= 0:
        return ""
    achieved, depth = found.details["achieved"], found.details["depth"]
    kind = "two-layer bias-free" if depth == 2 else "bias-free"
    if achieved <= (1 + AT_THE_BOUND) * found.value:
        return (
            f"Its loss, {achieved:.4g}, is at the lower bound for these data: no wider or longer "
            f"trained {kind} net can help."
        )
    return (
        f"No {kind} net has a loss below {found.value:.4g} on these data; this one has "
        f"{achieved:.4g}."
    )


def _symmetry(measures: Mapping[str, Measure]) -> str:
    found, classified = measures["pairs"], measures["mirror_classifier"]
    if found.value == 1 and found.details["share_paired_off"] == 1:
        return "The data are closed under the mirror image."
    if (
        classified.value is not None
        and classified.interval is not None
        and classified.interval[0] > 0.5
    ):
        return (
            "The data are not symmetric: a classifier tells x from -x in "
            f"{classified.value:.0%} of "
            "cases."
        )
    return ""


def _depth(subject: Subject, label: Label) -> str:
    if label == "not linear" and subject.homogeneous and subject.structure.depth > 1:
        return (
            "Without biases it takes more than two layers to have an odd part that is not linear; "
            "this one has more."
        )
    return ""


def _outside(subject: Subject) -> str:
    """The properties of the network that the theorems do not cover."""
    modules = list(subject.network.model.modules())
    kinds = {base.__name__ for m in modules for base in type(m).__mro__}  # subclasses, too
    found = [name for name in UNCOVERED if name in kinds]
    gated = any(isinstance(m, nn.GLU | nn.Bilinear) for m in modules)
    found += ["a bilinear gate"] * gated
    several = subject.task is not None and subject.task.loss == "cross_entropy"
    found += ["a softmax over classes"] * several
    return f"Measured only, for no theorem covers it: {', '.join(found)}." if found else ""
