"""How well one affine map stands in for the network on the data, and one linear map for its odd part."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from rectilinear.audit.intervals import ratio
from rectilinear.audit.measure import Measure
from rectilinear.audit.randomness import stream
from rectilinear.audit.subject import Pass, vanishing
from rectilinear.numerics import RIDGES, Fit, Moments, Residuals

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear.audit.subject import Subject

LARGEST = 4096  # dimensions up to which the covariance of the data is written out
SPAN = 1024  # rows whose span stands for the space in more dimensions, or where they are fewer than dimensions
OUTPUTS = 256  # random directions that stand for more outputs
MANY = 200_000  # rows from which on their numbers are summed in groups
GROUP = 64


@dataclass(eq=False)
class _Rows:
    """Sums of squares by row (or by group of rows), of what an affine map leaves."""

    own: list[Tensor] = field(default_factory=list)
    held_out: list[Tensor] = field(default_factory=list)
    total: list[Tensor] = field(default_factory=list)

    def add(self, r: Residuals, group: bool) -> None:
        for kept, values in ((self.own, r.own), (self.held_out, r.held_out), (self.total, r.total)):
            kept.append(_grouped(values.square().sum(-1), group))

    def joined(self) -> tuple[Tensor, Tensor, Tensor]:
        return torch.cat(self.own), torch.cat(self.held_out, -1), torch.cat(self.total)


@dataclass(frozen=True, eq=False)
class Surrogate:
    """The best affine map, with the three measurements that come from it."""

    affine: Measure
    task: Measure
    odd: Measure
    fit: Fit
    is_constant: bool


def surrogate(subject: Subject) -> Surrogate:
    """Fit the network and its odd part in one pass, and judge both fits in a second.

    The value is held out: every row is predicted by a map that was fitted without it. The interval goes from there,
    down by the bootstrap, to what the map explains of its own rows, up by the bootstrap: the best map lies between.
    """
    data, outputs = subject.data, subject.network.out_dim
    in_span = subject.network.in_dim > LARGEST or (data.n <= subject.network.in_dim > SPAN)
    coordinates = _Span(subject) if in_span else None
    head = _head(subject)

    def parts(p: Pass) -> tuple[Tensor, Tensor]:
        both = torch.cat([p.f @ head, (p.f - p.mirrored) / 2 @ head], 1) if head is not None else None
        return p.x.flatten(1), both if both is not None else torch.cat([p.f, (p.f - p.mirrored) / 2], 1)

    passes = subject.passes if coordinates is None else coordinates.passes
    moments = Moments()
    for p in passes():
        moments.add(*parts(p))
    width = outputs if head is None else OUTPUTS
    whole, odd = moments.fit(slice(0, width)), moments.fit(slice(width, None), centred=False)
    rows, odd_rows = _Rows(), _Rows()
    scores: list[Tensor] = []
    for p in passes():
        x, t = parts(p)
        r = whole.residuals(x, t[:, :width])
        rows.add(r, moments.n > MANY)
        odd_rows.add(odd.residuals(x, t[:, width:]), moments.n > MANY)
        if subject.task is not None and p.y is not None and head is None:
            scores.append(_scores(subject, p, r))
    scale = float((whole.total + whole.n * whole.mean_t.square()).sum())
    note = _note(subject, moments.n, in_span, head is not None)
    affine = _r2("affine_r2", whole, rows, subject, scale, note)
    return Surrogate(
        affine,
        _task(subject, scores, int(affine.details["ridge_index"])) if affine.applies else _no_task(subject),
        _odd(odd, odd_rows, subject, scale),
        whole,
        not affine.applies,
    )


def _r2(name: str, fit: Fit, rows: _Rows, subject: Subject, scale: float, note: str) -> Measure:
    """One minus the share of the variance that is left."""
    if vanishing(float(fit.total.sum()), scale, subject.network.like.dtype):
        return Measure.missing(name, "the output does not vary on the data")
    own, held_out, total = rows.joined()
    best = int(held_out.sum(-1).argmin())
    left, interval = ratio(held_out[best], total, subject.seed)
    least, inner = ratio(own, total, subject.seed)
    outside = least if fit.n > len(fit.s) + fit.centred else 0.0
    low, high = (interval[1] if interval else left), (min(inner[0] if inner else least, outside))
    return Measure(
        name,
        1 - left,
        "estimated",
        (1 - max(low, left), 1 - min(high, left)),
        note,
        {
            "unexplained": left,
            "unexplained_on_own_rows": least,
            "ridge": RIDGES[best],
            "ridge_index": best,
            "rank": len(fit.s),
            "rows": fit.n,
        },
        {"matrix": fit.matrix, "constant": fit.constant},
    )


def _odd(fit: Fit, rows: _Rows, subject: Subject, scale: float) -> Measure:
    """How linear the odd part is; one by construction for two layers without bias, where the measurement is a test."""
    name = "odd_linearity"
    if vanishing(float(fit.total.sum()), scale, subject.network.like.dtype):
        return Measure.missing(name, "the odd part vanishes on the data")
    measured = _r2(name, fit, rows, subject, scale, "held-out share of the odd part that one linear map explains")
    if not subject.has_linear_odd_part:
        return measured
    left = measured.details["unexplained_on_own_rows"]
    test = "passed" if left < 1e4 * torch.finfo(subject.network.like.dtype).eps else f"failed: {left:.1e} is left"
    note = f"linear by construction (two layers, no bias); self-test on the data {test}"
    return Measure(name, 1.0, "exact", None, note, {**measured.details, "self_test": test == "passed"})


def _scores(subject: Subject, p: Pass, r: Residuals) -> Tensor:
    """Loss and hit of the network and of its held-out affine copies, ``(2, 1 + R, b)``; NaN without classes."""
    assert subject.task is not None
    assert p.y is not None
    rows = []
    for out in (p.f, *(p.f - left.to(p.f) for left in r.held_out)):
        hits = subject.task.hits(out, p.y)
        loss = subject.task.losses(out, p.y).double()
        rows.append(torch.stack([loss, torch.full_like(loss, torch.nan) if hits is None else hits.double()]))
    return torch.stack(rows, 1)


def _task(subject: Subject, scores: list[Tensor], ridge: int) -> Measure:
    """What the affine copy loses at the task: accuracy where there are classes, else the loss."""
    if not scores:
        return _no_task(subject)
    both = torch.cat(scores, -1)[:, [0, 1 + ridge]]
    losses, hits = both[0].mean(-1).tolist(), both[1].mean(-1).tolist()
    classes = bool(both[1].isfinite().all())
    picked = both[1] if classes else both[0]
    change, interval = ratio(picked[1] - picked[0], torch.ones_like(picked[0]), subject.seed)
    details = {"loss": losses[0], "affine_loss": losses[1]}
    if classes:
        details |= {"accuracy": hits[0], "affine_accuracy": hits[1]}
    what = "accuracy" if classes else "loss"
    old, new = hits if classes else losses
    note = f"change of the {what} when the affine copy takes over: {old:.4g} to {new:.4g}, held out"
    return Measure("affine_score", change, "estimated", interval, note, details)


def _no_task(subject: Subject) -> Measure:
    reason = "no labels were given" if subject.task is None else "the affine copy has too many outputs, or none vary"
    return Measure.missing("affine_score", reason)


def _note(subject: Subject, n: int, in_span: bool, headed: bool) -> str:
    note = "held-out share of the variance that one affine map explains"
    if in_span:
        note += f", on the span of {n} rows of a sample"
    if headed:
        note += f", in {OUTPUTS} random directions of {subject.network.out_dim} outputs"
    return note


def _head(subject: Subject) -> Tensor | None:
    """Random directions that keep energies in the mean, for many outputs."""
    outputs = subject.network.out_dim
    if outputs <= 4 * OUTPUTS:
        return None
    draw = torch.randn(outputs, OUTPUTS, generator=stream(subject.seed, "outputs"), dtype=torch.float64) / OUTPUTS**0.5
    return draw.to(subject.network.like)


def _grouped(squares: Tensor, group: bool) -> Tensor:
    """Sums over groups of rows, where there are many rows."""
    if not group:
        return squares
    return torch.stack([part.sum(-1) for part in squares.split(GROUP, -1)], -1)


class _Span:
    """Rows of the sample in an orthonormal basis of their span: an isometry, in fewer dimensions."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        rows = subject.columns(SPAN)
        flat = rows.flatten(1).double()
        s, u = torch.linalg.eigh(flat @ flat.mT)
        keep = s > s[-1] * len(s) * torch.finfo(s.dtype).eps
        self._rows, self._coordinates = rows, u[:, keep] * s[keep].sqrt()
        labels = subject.data.sample_labels
        self._labels = None if labels is None else labels[:SPAN]

    def passes(self) -> list[Pass]:
        """One batch, with coordinates in place of rows."""
        network = self._subject.network
        return [Pass(self._coordinates, network(self._rows), network(-self._rows), self._labels)]
