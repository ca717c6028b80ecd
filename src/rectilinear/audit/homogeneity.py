"""Whether scaling the input scales the output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rectilinear.audit.intervals import ratio
from rectilinear.audit.measure import Measure
from rectilinear.errors import NonFiniteError

if TYPE_CHECKING:
    from rectilinear.audit.subject import Subject

SCALES = (0.5, 2.0, 10.0)
ROWS = 1024


def homogeneity(subject: Subject) -> Measure:
    """The error ``|f(c x) - c f(x)| / |c f(x)|``, as a root of mean squares over rows and ``c`` in 0.5, 2 and 10.

    Exactly zero where the network is positively homogeneous by construction; the measured value is in the details.
    """
    x = subject.columns(ROWS)
    f = subject.network(x).double()
    try:
        errors = [(subject.network(c * x) - c * f).square().sum(1) / c**2 for c in SCALES]
    except NonFiniteError:
        return Measure.missing("homogeneity", "the output is not finite at multiples of the data")
    size = f.square().sum(1)
    if not float(size.sum()):
        return Measure.missing("homogeneity", "the output is zero on the data")
    squared, interval = ratio(torch.stack(errors).sum(0), len(SCALES) * size, subject.seed)
    each = {f"at_{c:g}": float((e.sum() / size.sum()) ** 0.5) for c, e in zip(SCALES, errors, strict=True)}
    details = {"measured": squared**0.5, **each}
    if subject.homogeneous:
        note = "f(cx) = c f(x) for c > 0 by construction"
        return Measure("homogeneity", 0.0, "exact", None, note, details)
    ends = None if interval is None else (interval[0] ** 0.5, interval[1] ** 0.5)
    note = "relative error of f(cx) = c f(x) at c = 0.5, 2, 10"
    return Measure("homogeneity", squared**0.5, "estimated", ends, note, details)
