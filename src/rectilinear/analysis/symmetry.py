"""Symmetry under scaling and mirroring: of the network, and of its data.

Homogeneity is ``f(c x) = c f(x)`` for ``c > 0``. The odd part is ``o(x) = (f(x) - f(-x)) / 2``,
the even part ``e(x) = (f(x) + f(-x)) / 2``; their energies are taken on the data and, for two
layers, on Gaussian inputs in closed form. Data are symmetric where ``(x, y)`` and ``(-x, -y)`` are
alike.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from rectilinear.analysis.measure import Measure, Subject, ratio, two_layers_only
from rectilinear.errors import NonFiniteError
from rectilinear.learning.mirror import asymmetric_fraction, mirror_pairs, of_unit_size
from rectilinear.networks.data import row_keys
from rectilinear.networks.weight_matrices import TwoLayer
from rectilinear.numerics import wilson_interval
from rectilinear.random import stream

FEATURES = 256  # odd random features sin(w . x)
FLIPS = 999  # sign patterns of the randomisation test
RIDGE = 1e-3  # of the classifier, times the mean variance
CLASSIFIER_ROWS = 4096
MAX_DIMENSIONS = 1024  # dimensions that the classifier sees one by one; random mixtures of more
EQUAL_LABELS = 1e-9  # of the largest label: labels that differ by less are equal
SCALES = (0.5, 2.0, 10.0)  # factors of the test of homogeneity
RAY_ROWS = 1024
NEIGHBOUR_ROWS = 1024
NEAR = 1.5  # times the distances of the data to their neighbours
CLASSIFIER_DEVIATIONS = 3.0  # standard deviations of chance that a classifier must exceed
SYMMETRY_LEVEL = 0.01  # p-value below which data are not symmetric
NEURONS_AT_ONCE = 1024  # neurons whose products with all others are written out together


def pairs(subject: Subject) -> Measure:
    """The share of rows whose mirror image ``-x`` is a row too.

    With ``-y``, where labels are numbers or signs.

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
    paired_off = 1 - (
        asymmetric_fraction(x) if y is None else asymmetric_fraction(x, y)
    )  # how often rows occur counts
    details: dict[str, float | None] = {
        "rows_with_mirror": int(has_mirror.sum()),
        "share_paired_off": paired_off,
    }
    note = "share of rows x whose mirror image -x is in the data"
    if y is not None and bool(has_mirror.any()):
        odd, even, matched = _label_energies(groups, side, y, count, has_mirror)
        share = float((has_mirror & matched).double().mean())
        details |= {
            "label_odd_energy": odd,
            "label_even_energy": even,
            "share_without_labels": share_of_points,
        }
        note = "share of rows (x, y) whose mirror image (-x, -y) is in the data"
    return Measure("pairs", share, "exact", None, note, details)


def _label_energies(
    groups: Tensor, side: Tensor, y: Tensor, count: int, has_mirror: Tensor
) -> tuple[float, float, Tensor]:
    """Energies of the odd and even part of the mean labels of the two sides.

    And which rows have a mirrored label.
    """
    y = y.double().cpu()
    means = []
    for s in (1, -1):
        rows = side == s
        sums = y.new_zeros(count, y.shape[1]).index_add_(0, groups[rows], y[rows])
        number = y.new_zeros(count).index_add_(
            0, groups[rows], torch.ones(int(rows.sum()), dtype=y.dtype)
        )
        means.append(sums / number.clamp_min(1)[:, None])
    odd, even = (means[0] - means[1]) / 2, (means[0] + means[1]) / 2
    opposite = torch.where(side[:, None] == 1, means[1][groups], means[0][groups])
    matched = (y + opposite).abs().amax(1) <= EQUAL_LABELS * y.abs().amax().clamp_min(1e-30)
    paired = torch.zeros(count, dtype=torch.bool).index_put_(
        (groups[has_mirror],), torch.tensor(True)
    )
    return (
        float(odd[paired].square().sum(1).mean()),
        float(even[paired].square().sum(1).mean()),
        matched,
    )


def sign_flip(subject: Subject) -> Measure:
    """The p-value of the hypothesis that the data are symmetric, by a randomisation test.

    The statistic is ``|mean of odd features|``; its distribution under symmetry gives each row
    a random sign.

    Features are ``sin(w . x)`` with random ``w``, which is a maximum mean discrepancy of ``(x, y)``
    and ``(-x, -y)``.
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
    return Measure("sign_flip", p, "estimated", wilson_interval(p, FLIPS + 1), note, details)


def mirror_classifier(subject: Subject) -> Measure:
    """The held-out accuracy of a classifier telling ``x`` from ``-x``: a half on symmetric data.

    Ridge regression on the odd features ``x``, ``x |x|`` and ``sin(w . x)``; rows that are each
    other's mirror stay together.
    """
    flat = subject.columns(CLASSIFIER_ROWS).flatten(1)
    groups, _ = mirror_pairs(flat)
    draws = torch.rand(int(groups.max()) + 1, generator=stream(subject.seed, "folds"))
    train = (draws < 0.5)[groups]
    if not 10 <= int(train.sum()) <= len(train) - 10:
        return Measure.missing(
            "mirror_classifier", f"{len(train)} rows are too few to train and to test"
        )
    flat = of_unit_size(flat)
    if flat.shape[1] > MAX_DIMENSIONS:
        mixing = torch.randn(
            flat.shape[1],
            MAX_DIMENSIONS,
            generator=stream(subject.seed, "mixing"),
            dtype=torch.float64,
        )
        flat = flat @ mixing.to(flat.device)
    scaled = flat / flat.square().mean().sqrt().clamp_min(1e-30)
    phi = torch.cat(
        [scaled, scaled * scaled.abs(), _odd_features(subject, with_labels=False)], 1
    ).cpu()
    a = phi[train]
    gram = a.mT @ a
    gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()) + 1e-30)
    weight = torch.linalg.solve(gram, a.sum(0))
    score = phi[~train] @ weight
    trials = len(score)
    hits = float((score > 0).sum() + (score == 0).sum() / 2)
    note = "held-out accuracy of telling x from -x; one half where they look alike"
    return Measure(
        "mirror_classifier",
        hits / trials,
        "estimated",
        wilson_interval(hits / trials, trials),
        note,
        {"test_rows": trials},
    )


def signed_labels(subject: Subject, sample: bool = False) -> Tensor | None:
    """Labels ``(n, O)`` for which ``-y`` means something: signs or numbers, not classes."""
    y = subject.column_labels(CLASSIFIER_ROWS) if sample else subject.data.labels
    if subject.task is None or y is None or subject.task.loss == "cross_entropy":
        return None
    if subject.task.loss == "given" and not y.is_floating_point():
        return None
    values = y.double().reshape(len(y), -1)
    cut = subject.task.cut
    return torch.where(values > values.mean(), 1.0, -1.0).double() if cut is not None else values


def _odd_features(subject: Subject, with_labels: bool) -> Tensor:
    """Odd random features ``sin(w . (x, y))`` ``(n, FEATURES)``.

    ``w`` is at the scale of the distances between points.
    """
    x = of_unit_size(subject.columns(CLASSIFIER_ROWS).flatten(1))
    y = signed_labels(subject, sample=True) if with_labels else None
    if y is not None:
        y = of_unit_size(y).to(x)
        spread = x.square().sum(1).mean().sqrt()
        x = torch.cat([x, y * spread / y.square().sum(1).mean().sqrt().clamp_min(1e-30)], 1)
    some = x[:: max(1, len(x) // 256)][:256]
    width = torch.cdist(some, -some).median().clamp_min(1e-30)
    w = torch.randn(
        x.shape[1], FEATURES, generator=stream(subject.seed, "features"), dtype=torch.float64
    ).to(x.device)
    return (x @ (w / width)).sin()


def homogeneity(subject: Subject) -> Measure:
    """The error ``|f(c x) - c f(x)| / |c f(x)|`` of positive homogeneity.

    A root of mean squares over rows and ``c`` in 0.5, 2 and 10.

    Exactly zero where the network is positively homogeneous by construction; the measured value is
    in the details.
    """
    x = subject.columns(RAY_ROWS)
    f = subject.network(x).double()
    try:
        errors = [(subject.network(c * x) - c * f).square().sum(1) / c**2 for c in SCALES]
    except NonFiniteError:
        return Measure.missing("homogeneity", "the output is not finite at multiples of the data")
    size = f.square().sum(1)
    if not float(size.sum()):
        return Measure.missing("homogeneity", "the output is zero on the data")
    squared, interval = ratio(torch.stack(errors).sum(0), len(SCALES) * size, subject.seed)
    each = {
        f"at_{c:g}": float((e.sum() / size.sum()) ** 0.5)
        for c, e in zip(SCALES, errors, strict=True)
    }
    details = {"measured": squared**0.5, **each}
    if subject.homogeneous:
        note = "f(cx) = c f(x) for c > 0 by construction"
        return Measure("homogeneity", 0.0, "exact", None, note, details)
    ends = None if interval is None else (interval[0] ** 0.5, interval[1] ** 0.5)
    note = "relative error of f(cx) = c f(x) at c = 0.5, 2, 10"
    return Measure("homogeneity", squared**0.5, "estimated", ends, note, details)


def parity(subject: Subject) -> Measure:
    """The share of the odd part ``o`` in the energy, ``<|o|^2> / (<|o|^2> + <|e|^2>)``.

    The odd part is ``o(x) = (f(x) - f(-x)) / 2``, the even part ``e(x) = (f(x) + f(-x)) / 2``.

    The note says how far ``-x`` is from the data: where it is far, the even part does not matter
    to users. Distances tell little in many dimensions: the note also says where a classifier tells
    ``x`` from ``-x`` or, where there is none, where the test of symmetry fails.
    """
    odd, even, keys, constant, n = [], [], [], None, 0
    for p in subject.passes():
        keys.append(row_keys(p.x))
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
    _, rows = torch.cat(keys).unique(return_inverse=True)  # equal rows are resampled together
    sums = torch.stack([a, a + b]).cpu()
    sums = sums.new_zeros(2, int(rows.max()) + 1).index_add_(1, rows.cpu(), sums)
    value, interval = ratio(sums[0], sums[1], subject.seed)
    far = mirror_distance(subject)
    assert constant is not None
    details = {
        "odd_energy": float(a.mean()),
        "even_energy": float(b.mean()),
        "even_energy_of_a_constant": float((constant / n).square().sum()),
        "mirror_distance": far,
    }
    where = _where(far, subject.once(mirror_classifier), subject.once(sign_flip))
    return Measure(
        "parity",
        value,
        "estimated",
        interval,
        f"share of the odd part in the energy; {where}",
        details,
    )


def _where(far: float, classified: Measure, flipped: Measure) -> str:
    if not far < NEAR:
        return f"-x is {far:.2g} times as far from the data as its points are"
    if (
        classified.value is not None
        and classified.value - 0.5
        > CLASSIFIER_DEVIATIONS / 2 * classified.details["test_rows"] ** -0.5
    ):
        return (
            f"-x differs from the data: a classifier tells it from x in {classified.value:.0%} of "
            "cases"
        )
    if flipped.value is not None and flipped.value < SYMMETRY_LEVEL and not classified.applies:
        return (
            "-x differs from the data: the hypothesis of symmetry has a p-value of "
            f"{flipped.value:.2g}"
        )
    return "-x lies among the data"


def mirror_distance(subject: Subject) -> float:
    """The median distance of ``-x`` to the sample, relative to that of ``x``.

    To the nearest point; for ``x``, to the nearest other one.
    """
    x = of_unit_size(subject.columns(NEIGHBOUR_ROWS).flatten(1)).float()
    if len(x) < 3:
        return float("inf")
    own = torch.cdist(x, x).fill_diagonal_(torch.inf).min(1).values.median()
    return float(
        torch.cdist(-x, x).min(1).values.median()
        / own.clamp_min(1e-6 * x.norm(dim=1).median().clamp_min(1e-30))
    )


def gaussian_energy(subject: Subject) -> Measure:
    """The share of the odd part in ``<|f|^2>`` for ``x ~ N(0, I)``.

    In the details, for the data's second moments too.

    With ``h = W1 x`` Gaussian, ``<|h_i| |h_j|> = 2/pi s_i s_j (sqrt(1 - r^2) + r asin r)``: the
    arc-sine kernel.
    """
    name, two = "gaussian_energy", subject.two_layer
    if isinstance(two, str):
        return two_layers_only(name, two)
    if two.activation.slope is None:
        return Measure.missing(name, f"no closed form for {two.activation.name}")
    if two.has_bias:
        return Measure.missing(name, "no closed form with a bias")
    x = subject.data.sample.to(two.W1).flatten(1).double() / len(subject.data.sample) ** 0.5
    eye = torch.eye(two.W1.shape[1], dtype=torch.float64, device=two.W1.device)
    (odd, even), (data_odd, data_even) = energies(two, eye), energies(two, x)
    if not odd + even:
        return Measure.missing(name, "the network is zero")
    details: dict[str, float | None] = {
        "odd": odd,
        "even": even,
        "data_odd": data_odd,
        "data_even": data_even,
    }
    details["data_odd_share"] = data_odd / (data_odd + data_even) if data_odd + data_even else None
    note = "odd share of the energy for x ~ N(0, I), by the arc-sine kernel"
    return Measure(name, odd / (odd + even), "exact", None, note, details)


def energies(two: TwoLayer, root: Tensor) -> tuple[float, float]:
    """``<|M x|^2>`` and ``<|e(x)|^2>`` for ``x ~ N(0, R^T R)`` and a root ``R`` ``(k, D)``.

    Example:
        >>> from rectilinear.networks.trace import leaky
        >>> from rectilinear.networks.weight_matrices import TwoLayer
        >>> one, zero = torch.ones(1, 1), torch.zeros(1)
        >>> energies(TwoLayer(one, one, zero, zero, 0 * one, leaky(0.0)), torch.ones(1, 1).double())
        (0.25, 0.25)
    """
    slope = two.activation.slope
    assert slope is not None
    odd = float((root @ two.matrix.double().mT).square().sum())
    h = root @ two.W1.double().mT
    c = two.W2.double() * (1 - torch.as_tensor(slope, dtype=torch.float64, device=h.device)) / 2
    s, even = h.norm(dim=0), 0.0
    for part in torch.arange(h.shape[1], device=h.device).split(NEURONS_AT_ONCE):
        size = torch.outer(s[part], s)
        r = (h[:, part].mT @ h / size.clamp_min(torch.finfo(size.dtype).tiny)).clamp(-1, 1)
        products = 2 / pi * size * ((1 - r.square()).sqrt() + r * r.asin())
        even += float(((c[:, part] @ products) * c).sum())
    return odd, max(even, 0.0)
