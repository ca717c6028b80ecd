"""Whether the data look the same in the mirror, ``(x, y)`` and ``(-x, -y)`` alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rectilinear.audit.intervals import wilson
from rectilinear.audit.measure import Measure
from rectilinear.audit.randomness import stream
from rectilinear.dynamics.mirror import mirror_pairs, of_unit_size
from rectilinear.dynamics.moments import unmirrored

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear.audit.subject import Subject

FEATURES = 256  # odd random features sin(w . x)
FLIPS = 999  # sign patterns of the randomisation test
RIDGE = 1e-3  # of the classifier, times the mean variance
ROWS = 4096
WIDEST = 1024  # dimensions that the classifier sees one by one; random mixtures of more
SAME = 1e-9  # of the largest label: labels that differ by less are equal


def pairs(subject: Subject) -> Measure:
    """The share of rows whose mirror image ``-x`` is a row too (with ``-y``, where labels are numbers or signs).

    With labels the details hold the odd and the even energy of the labels over the pairs.
    """
    if subject.data.rows is None:
        return Measure.missing("pairs", "the data are read in batches and not held together")
    x = subject.data.rows.flatten(1)
    y = signed_labels(subject)
    groups, side = found = mirror_pairs(x)
    count = int(groups.max()) + 1
    has_mirror = (found.counts() > 0).all(0)[groups] | (side == 0)
    share = share_of_points = float(has_mirror.double().mean())
    paired_off = 1 - (unmirrored(x) if y is None else unmirrored(x, y))  # how often rows occur counts
    details: dict[str, float | None] = {"rows_with_mirror": int(has_mirror.sum()), "share_paired_off": paired_off}
    note = "share of rows x whose mirror image -x is in the data"
    if y is not None and bool(has_mirror.any()):
        odd, even, matched = _label_energies(groups, side, y, count, has_mirror)
        share = float((has_mirror & matched).double().mean())
        details |= {"label_odd_energy": odd, "label_even_energy": even, "share_without_labels": share_of_points}
        note = "share of rows (x, y) whose mirror image (-x, -y) is in the data"
    return Measure("pairs", share, "exact", None, note, details)


def _label_energies(
    groups: Tensor, side: Tensor, y: Tensor, count: int, has_mirror: Tensor
) -> tuple[float, float, Tensor]:
    """Energies of the odd and even part of the mean labels of the two sides, and which rows have a mirrored label."""
    y = y.double().cpu()
    means = []
    for s in (1, -1):
        rows = side == s
        sums = y.new_zeros(count, y.shape[1]).index_add_(0, groups[rows], y[rows])
        number = y.new_zeros(count).index_add_(0, groups[rows], torch.ones(int(rows.sum()), dtype=y.dtype))
        means.append(sums / number.clamp_min(1)[:, None])
    odd, even = (means[0] - means[1]) / 2, (means[0] + means[1]) / 2
    opposite = torch.where(side[:, None] == 1, means[1][groups], means[0][groups])
    matched = (y + opposite).abs().amax(1) <= SAME * y.abs().amax().clamp_min(1e-30)
    paired = torch.zeros(count, dtype=torch.bool).index_put_((groups[has_mirror],), torch.tensor(True))
    return float(odd[paired].square().sum(1).mean()), float(even[paired].square().sum(1).mean()), matched


def sign_flip(subject: Subject) -> Measure:
    """The p-value of symmetry: ``|mean of odd features|`` against its law when each row's sign is a coin.

    Features are ``sin(w . x)`` with random ``w``, which is a maximum mean discrepancy of ``(x, y)`` and ``(-x, -y)``.
    """
    phi = _odd_features(subject, with_labels=True)
    n = len(phi)
    signs = torch.randint(0, 2, (FLIPS, n), generator=stream(subject.seed, "signs")).to(phi) * 2 - 1
    statistic = (phi.sum(0) / n).norm()
    null = ((signs @ phi) / n).norm(dim=1)
    p = (1 + int((null >= statistic * (1 - 1e-9)).sum())) / (FLIPS + 1)
    labelled = " and the labels" if signed_labels(subject) is not None else ""
    note = f"p-value of the hypothesis that the points{labelled} are symmetric"
    details = {"statistic": float(statistic), "median_when_symmetric": float(null.median())}
    return Measure("sign_flip", p, "estimated", wilson(p, FLIPS + 1), note, details)


def mirror_classifier(subject: Subject) -> Measure:
    """The held-out accuracy of a classifier telling ``x`` from ``-x``: a half on symmetric data.

    Ridge regression on the odd features ``x``, ``x |x|`` and ``sin(w . x)``; rows that are each other's mirror stay
    together.
    """
    flat = subject.columns(ROWS).flatten(1)
    groups, _ = mirror_pairs(flat)
    draws = torch.rand(int(groups.max()) + 1, generator=stream(subject.seed, "folds"))
    train = (draws < 0.5)[groups]
    if not 10 <= int(train.sum()) <= len(train) - 10:
        return Measure.missing("mirror_classifier", f"{len(train)} rows are too few to train and to test")
    flat = of_unit_size(flat)
    if flat.shape[1] > WIDEST:
        mixing = torch.randn(flat.shape[1], WIDEST, generator=stream(subject.seed, "mixing"), dtype=torch.float64)
        flat = flat @ mixing.to(flat.device)
    scaled = flat / flat.square().mean().sqrt().clamp_min(1e-30)
    phi = torch.cat([scaled, scaled * scaled.abs(), _odd_features(subject, with_labels=False)], 1).cpu()
    a = phi[train]
    gram = a.mT @ a
    gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()) + 1e-30)
    weight = torch.linalg.solve(gram, a.sum(0))
    score = phi[~train] @ weight
    trials = len(score)
    hits = float((score > 0).sum() + (score == 0).sum() / 2)
    note = "held-out accuracy of telling x from -x; one half where they look alike"
    return Measure(
        "mirror_classifier", hits / trials, "estimated", wilson(hits / trials, trials), note, {"test_rows": trials}
    )


def signed_labels(subject: Subject, sample: bool = False) -> Tensor | None:
    """Labels ``(n, O)`` for which ``-y`` means something: signs or numbers, not classes."""
    y = subject.column_labels(ROWS) if sample else subject.data.labels
    if subject.task is None or y is None or subject.task.loss == "cross_entropy":
        return None
    if subject.task.loss == "given" and not y.is_floating_point():
        return None
    values = y.double().reshape(len(y), -1)
    cut = subject.task.cut
    return torch.where(values > values.mean(), 1.0, -1.0).double() if cut is not None else values


def _odd_features(subject: Subject, with_labels: bool) -> Tensor:
    """``sin(w . (x, y))`` ``(n, FEATURES)`` with ``w`` at the scale of the distances between points."""
    x = of_unit_size(subject.columns(ROWS).flatten(1))
    y = signed_labels(subject, sample=True) if with_labels else None
    if y is not None:
        y = of_unit_size(y).to(x)
        spread = x.square().sum(1).mean().sqrt()
        x = torch.cat([x, y * spread / y.square().sum(1).mean().sqrt().clamp_min(1e-30)], 1)
    some = x[:: max(1, len(x) // 256)][:256]
    width = torch.cdist(some, -some).median().clamp_min(1e-30)
    w = torch.randn(x.shape[1], FEATURES, generator=stream(subject.seed, "features"), dtype=torch.float64).to(x.device)
    return (x @ (w / width)).sin()
