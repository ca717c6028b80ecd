"""The odd and the even part of a network on the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rectilinear.audit.intervals import ratio
from rectilinear.audit.measure import Measure
from rectilinear.dynamics.mirror import of_unit_size

if TYPE_CHECKING:
    from rectilinear.audit.subject import Subject

NEIGHBOURS = 1024
NEAR = 1.5  # times the distances of the data to their neighbours
SURE = 3.0  # standard deviations of chance that a classifier must exceed
LEVEL = 0.01  # of the test of symmetry


def parity(subject: Subject, told: Measure, flipped: Measure) -> Measure:
    """The share of the odd part ``o`` in the energy, ``<|o|^2> / (<|o|^2> + <|e|^2>)``.

    The odd part is ``o(x) = (f(x) - f(-x)) / 2``, the even part ``e(x) = (f(x) + f(-x)) / 2``.

    The note says how far ``-x`` is from the data: where it is far, the even part is not what users see. Distances tell
    little in many dimensions: it also says where a classifier tells ``x`` from ``-x`` (``told``), or where there is
    none, the test of symmetry fails (``flipped``).
    """
    odd, even, constant, n = [], [], None, 0
    for p in subject.passes():
        o, e = (p.f.double() - p.mirrored) / 2, (p.f.double() + p.mirrored) / 2
        odd.append(o.square().sum(1))
        even.append(e.square().sum(1))
        constant = e.sum(0) if constant is None else constant + e.sum(0)
        n += len(o)
    if subject.unmirrored:
        return Measure.missing("parity", subject.unmirrored)
    a, b = torch.cat(odd), torch.cat(even)
    if not float((a + b).sum()):
        return Measure.missing("parity", "the output is zero on the data and on its mirror image")
    value, interval = ratio(a, a + b, subject.seed)
    far = mirror_distance(subject)
    assert constant is not None
    details = {
        "odd_energy": float(a.mean()),
        "even_energy": float(b.mean()),
        "even_energy_of_a_constant": float((constant / n).square().sum()),
        "mirror_distance": far,
    }
    where = _where(far, told, flipped)
    return Measure("parity", value, "estimated", interval, f"share of the odd part in the energy; {where}", details)


def _where(far: float, told: Measure, flipped: Measure) -> str:
    if not far < NEAR:
        return f"-x is {far:.2g} times as far from the data as its points are"
    if told.value is not None and told.value - 0.5 > SURE / 2 * told.details["test_rows"] ** -0.5:
        return f"-x differs from the data: a classifier tells it from x in {told.value:.0%} of cases"
    if flipped.value is not None and flipped.value < LEVEL and not told.applies:
        return f"-x differs from the data: the hypothesis of symmetry has a p-value of {flipped.value:.2g}"
    return "-x lies among the data"


def mirror_distance(subject: Subject) -> float:
    """The median distance of ``-x`` to its nearest point of the sample, over that of ``x`` to its nearest other one."""
    x = of_unit_size(subject.columns(NEIGHBOURS).flatten(1)).float()
    if len(x) < 3:
        return float("inf")
    own = torch.cdist(x, x).fill_diagonal_(torch.inf).min(1).values.median()
    return float(
        torch.cdist(-x, x).min(1).values.median() / own.clamp_min(1e-6 * x.norm(dim=1).median().clamp_min(1e-30))
    )
