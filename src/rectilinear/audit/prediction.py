"""The learning curve from the present weights, where it is known before training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rectilinear.audit.at_floor import LARGEST
from rectilinear.audit.measure import Kind, Measure
from rectilinear.audit.symmetry import signed_labels
from rectilinear.dynamics import predict
from rectilinear.errors import RectilinearError

if TYPE_CHECKING:
    from rectilinear.audit.subject import Subject

NAME = "time_course"


def time_course(subject: Subject, lr: float | None, steps: int | None) -> Measure:
    """The half time of learning from the present weights, in steps; refused with the assumption that fails."""
    if lr is None or steps is None:
        return Measure.missing(NAME, "give lr and steps to predict how these weights learn")
    y = signed_labels(subject)
    if y is None or subject.data.rows is None or subject.data.rows.numel() > LARGEST:
        return Measure.missing(NAME, "it needs all data in memory, and labels that are numbers or signs")
    try:
        found = predict(subject.network.model, subject.data.rows, y, lr, steps)
    except RectilinearError as error:
        return Measure.missing(NAME, f"{error.got}; it takes {error.expected}")
    if found.half_time is None:
        return Measure.missing(NAME, f"half of the strongest mode is not learned within {steps} steps")
    details = found.to_json()
    kind: Kind = "exact" if found.kind == "exact" else "estimated"
    return Measure(NAME, found.half_time, kind, None, f"steps until half is learned, by {found.method}", details)
