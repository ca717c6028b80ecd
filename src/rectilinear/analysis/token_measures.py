"""Measurements of networks of tokens: held out by sample, with padding left out."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rectilinear.analysis.measure import Measure, ratio, ratios
from rectilinear.analysis.segments import MAX_PAIRS, MIN_PAIRS, bound_of
from rectilinear.analysis.segments import NAME as SEGMENTS
from rectilinear.analysis.symmetry import SCALES
from rectilinear.analysis.token_subject import TokenPass, TokenSubject
from rectilinear.networks.network import MARGIN
from rectilinear.networks.sample_split import sums_by_sample
from rectilinear.numerics import RIDGES, Fit, Moments

RIDGE_ROWS = 2048  # vectors on which the ridge is chosen
RAY_SAMPLES = 64  # samples whose multiples and mirror images are computed


def segments(subject: TokenSubject) -> Measure:
    """An upper bound of the share that any affine map of whole samples explains.

    One end is a sample, the other the same one with the vectors of another in its place, as far as
    both reach; the other arguments of the model, such as the mask, stay.
    """
    ends: list[list[Tensor]] = [[], [], []]
    samples: list[Tensor] = []
    pairs = 0
    for p in subject.passes(held_out=False):
        half = min(len(p.batch) // 2, MAX_PAIRS - pairs)
        if half < 1:
            continue
        one, two = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
        batch = p.batch.take(one)
        a, b = p.h[one], exchanged(p, one, two)
        for kept, h in zip(ends, (a, b, (a + b) / 2), strict=True):
            kept.append(subject.at(batch, h).double().cpu())
        samples.append(pairs + subject.one(batch).samples.cpu())
        pairs += half
        if pairs >= MAX_PAIRS:
            break
    if pairs < MIN_PAIRS:
        return Measure.missing(SEGMENTS, f"{pairs} pairs of samples; at least {MIN_PAIRS}")
    points = torch.stack([torch.cat(part) for part in ends])
    owners = torch.cat(samples)
    total = (points - points.mean((0, 1))).square().sum(0)
    gap = (points[2] - (points[0] + points[1]) / 2).square()
    return bound_of(
        sums_by_sample(gap, owners, pairs),
        sums_by_sample(total, owners, pairs),
        subject.resolution(points.flatten(0, 1)),
        len(owners),
        "at samples and halfway between pairs of them",
        subject.seed,
        each=subject.head is None,
    )


def exchanged(p: TokenPass, one: slice | Tensor, two: slice | Tensor) -> Tensor:
    """The values of some samples with the vectors of others in their place, token by token."""
    h = p.h[one].clone()
    if p.batch.mask is None or h.ndim < 3:
        return p.h[two].clone()
    for i, (mine, theirs) in enumerate(zip(p.batch.mask[one], p.batch.mask[two], strict=True)):
        to, of = mine.nonzero()[:, 0], theirs.nonzero()[:, 0]
        both = min(len(to), len(of))
        h[i, to[:both]] = p.h[two][i, of[:both]]
    return h


def affine_r2(subject: TokenSubject) -> Measure:
    """The held-out share of the variance of the output that one affine map of vectors explains.

    The interval goes from there, down by the bootstrap over samples, to what the map explains of
    the samples that it was fitted to, up by the bootstrap.
    """
    fit = fitted(subject)
    if fit is None:
        return Measure.missing("affine_r2", "too few vectors")
    model, ridge = fit
    left, total = _left(subject, model, ridge, held_out=True)
    own, own_total = _left(subject, model, 0, held_out=False)
    energy = total.sum(0)
    first = next(iter(subject.passes(held_out=True)))
    count = len(first.out) / len(first.batch) * len(total)
    rounding = subject.resolution(first.out)
    varies = energy > count * (MARGIN * rounding.stored).square()
    if not bool(varies.any()):
        return Measure.missing("affine_r2", "the output does not vary on the data")
    left, total, own, own_total = (t[:, varies] for t in (left, total, own, own_total))
    missed, interval = ratio(left.sum(1), total.sum(1), subject.seed)
    least, inner = ratio(own.sum(1), own_total.sum(1), subject.seed)
    assert interval is not None
    assert inner is not None
    each, (_, most) = ratios(left, total, subject.seed)
    fewest, (lowest, _) = ratios(own, own_total, subject.seed)
    free = model.n > len(model.s) + 1
    high = 1 - torch.minimum(lowest, fewest) * free
    worst = int(each.argmax())
    r2_each = torch.full((len(varies),), torch.nan, dtype=torch.float64)
    r2_each[varies] = 1 - each
    details = {
        "ridge": RIDGES[ridge],
        "rank": len(model.s),
        "vectors": model.n,
        "held_out_samples": len(left),
        "unexplained": missed,
        "r2_each": r2_each.tolist(),
        "worst_output": int(varies.nonzero()[worst]),
        "worst_r2": 1 - float(each[worst]),
        "worst_interval": [float(1 - torch.maximum(most, each).max()), float(high.min())],
    }
    if subject.head is not None:  # directions are no outputs
        details = {k: v for k, v in details.items() if not k.startswith(("worst", "r2_each"))}
    what = "of each token's vector" if subject.by_token else "of the mean vector of a sample"
    note = f"held-out share of the variance that one affine map {what} explains"
    if subject.head is not None:
        note += f", in {subject.head.shape[1]} random directions of the outputs"
    ends = 1 - max(interval[1], missed), 1 - min(inner[0], least, missed) * free
    tensors = {"matrix": model.matrix, "constant": model.constant}
    return Measure("affine_r2", 1 - missed, "estimated", ends, note, details, tensors)


def _left(subject: TokenSubject, fit: Fit, ridge: int, held_out: bool) -> tuple[Tensor, Tensor]:
    """Squares that the map and the constant leave, ``(samples, O)`` each."""
    left: list[Tensor] = []
    total: list[Tensor] = []
    for p in subject.passes(held_out):
        wanted = p.out.double()
        apart = (wanted - predicted(fit, p.rows, ridge)).square()
        left.append(sums_by_sample(apart, p.samples, len(p.batch)).cpu())
        deviation = (wanted - fit.mean_t).square()
        total.append(sums_by_sample(deviation, p.samples, len(p.batch)).cpu())
    return torch.cat(left), torch.cat(total)


def fitted(subject: TokenSubject) -> tuple[Fit, int] | None:
    """The best affine map of vectors on the samples that are not held out, and its ridge."""
    if "fit" in subject.found:
        return subject.found["fit"]  # type: ignore[return-value]
    moments = Moments(computed=True)
    kept: list[tuple[Tensor, Tensor]] = []
    for p in subject.passes(held_out=False):
        moments.add(p.rows, p.out)
        if sum(len(rows) for rows, _ in kept) < RIDGE_ROWS:
            kept.append((p.rows, p.out))
    if moments.n < 3:
        return None
    fit = moments.fit()
    x, t = (torch.cat(parts) for parts in zip(*kept, strict=True))
    ridge = int(fit.residuals(x, t).held_out.square().sum((1, 2)).argmin())
    subject.found["fit"] = fit, ridge
    return fit, ridge


def predicted(fit: Fit, rows: Tensor, ridge: int) -> Tensor:
    """The predictions for vectors of the map with this ridge."""
    return (rows.double() - fit.mean_x) @ fit.damped(RIDGES[ridge]).mT + fit.mean_t


def affine_score(subject: TokenSubject) -> Measure:
    """The loss at the task when the best affine map of the mean vector replaces the network."""
    name = "affine_score"
    if subject.task is None:
        return Measure.missing(name, "no labels were given")
    if subject.by_token or subject.head is not None:
        return Measure.missing(name, "known for one output a sample, and not too many outputs")
    fit = fitted(subject)
    if fit is None:
        return Measure.missing(name, "too few samples")
    old: list[Tensor] = []
    new: list[Tensor] = []
    classes = True
    for p in subject.passes(held_out=True):
        if p.batch.labels is None:
            continue
        made = predicted(*fit[:1], p.rows, fit[1]).to(p.out)
        for kept, out in ((old, p.out), (new, made)):
            loss = subject.task.losses(out, p.batch.labels).double()
            hits = subject.task.hits(out, p.batch.labels)
            classes &= hits is not None
            kept.append(torch.stack([loss, loss if hits is None else hits.double()]))
    a, b = torch.cat(old, 1).cpu(), torch.cat(new, 1).cpu()
    row = int(classes)
    change, interval = ratio(b[row] - a[row], torch.ones_like(a[row]), subject.seed)
    details = {"loss": float(a[0].mean()), "affine_loss": float(b[0].mean())}
    if classes:
        details |= {"accuracy": float(a[1].mean()), "affine_accuracy": float(b[1].mean())}
    what = "accuracy" if classes else "loss"
    values = f"{float(a[row].mean()):.4g} to {float(b[row].mean()):.4g}"
    note = f"change of the {what} when the affine copy takes over: {values}, held out"
    return Measure(name, change, "estimated", interval, note, details)


def homogeneity(subject: TokenSubject) -> Measure:
    """The relative error of ``f(c h) = c f(h)`` for vectors ``h`` at the start, over samples."""
    errors, sizes = [], []
    for p in _some(subject):
        size = len(p.batch)
        f = p.out.double()
        made = [(subject.at(p.batch, c * p.h) - c * f).square().sum(1) / c**2 for c in SCALES]
        errors.append(sums_by_sample(torch.stack(made).sum(0), p.samples, size))
        sizes.append(sums_by_sample(len(SCALES) * f.square().sum(1), p.samples, size))
    squared, interval = ratio(torch.cat(errors), torch.cat(sizes), subject.seed)
    ends = None if interval is None else (interval[0] ** 0.5, interval[1] ** 0.5)
    note = "relative error of f(ch) = c f(h) at c = 0.5, 2, 10"
    return Measure("homogeneity", squared**0.5, "estimated", ends, note)


def parity(subject: TokenSubject) -> Measure:
    """The share of the odd part in the energy, of vectors at the start and their mirror image."""
    odd: list[Tensor] = []
    even: list[Tensor] = []
    for p in _some(subject):
        f, mirrored = p.out.double(), subject.at(p.batch, -p.h).double()
        for kept, part in ((odd, f - mirrored), (even, f + mirrored)):
            kept.append(sums_by_sample((part / 2).square().sum(1), p.samples, len(p.batch)))
    a, b = torch.cat(odd), torch.cat(even)
    value, interval = ratio(a, a + b, subject.seed)
    details = {"odd_energy": float(a.mean()), "even_energy": float(b.mean())}
    note = "share of the odd part in the energy, of the vectors and their mirror image"
    return Measure("parity", value, "estimated", interval, note, details)


def _some(subject: TokenSubject) -> Iterator[TokenPass]:
    """Passes of a few samples."""
    seen = 0
    for p in subject.passes(held_out=True):
        yield p
        seen += len(p.batch)
        if seen >= RAY_SAMPLES:
            return
