"""Scores of generated samples: Fréchet and Wasserstein distances, precision, recall, and ROC.

:func:`evaluate_samples` puts them together, each beside the score of real samples against real
ones, which no generator can be shown to beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rectilinear.checks import check_batch, check_finite, check_floating
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.metrics.linearity import Embedding
from rectilinear.notebook import short_repr
from rectilinear.random import generator

BLOCK_ROWS = 512  # rows of a distance matrix that are held at a time
BLOCK_DIRECTIONS = 64  # directions that are projected on at a time
RADIUS_NEIGHBOUR = 3  # the neighbour whose distance is the radius in precision and recall


class Scores(NamedTuple):
    """Fréchet distance, precision and recall in features; Wasserstein distance of the values."""

    fd: float
    precision: float
    recall: float
    sliced_wasserstein: float


@dataclass(frozen=True)
class GenerationScores:
    """Scores of generated samples, each beside that of as many real samples (``..._real``).

    Attributes:
        name: what ``fd`` is a distance in, ``fd/<features>@n``. It is not an FID, and comparable
            under this name only.
        fd: Fréchet distance in the features; less is better.
        precision: share of generated samples near a real one.
        recall: share of real samples near a generated one.
        sliced_wasserstein: of the values themselves; less is better.
        n: samples on each side.
    """

    name: str
    fd: float
    precision: float
    recall: float
    sliced_wasserstein: float
    fd_real: float
    precision_real: float
    recall_real: float
    sliced_wasserstein_real: float
    n: int

    def __str__(self) -> str:
        return (
            f"{self.name} {self.fd:.4g} (real {self.fd_real:.4g}), precision {self.precision:.3f} "
            f"({self.precision_real:.3f}), recall {self.recall:.3f} ({self.recall_real:.3f}), "
            f"sliced Wasserstein {self.sliced_wasserstein:.4g} ({self.sliced_wasserstein_real:.4g})"
        )


def evaluate_samples(
    fake: Tensor,
    real: Tensor,
    features: Embedding,
    n: int | None = None,
    seed: int = 0,
    baseline: Scores | None = None,
) -> GenerationScores:
    """Scores of ``n`` generated samples against ``n`` real ones, beside those of other real ones.

    The real samples are shuffled and halved: the reference, and the held-out half that is scored
    beside the generated samples. Pass all of a test set whose halves differ, as MNIST's.

    Args:
        fake: generated images ``(m, c, h, w)`` in ``[0, 1]``.
        real: real images, at least ``2 n``.
        features: the network whose features to use.
        n: by default as many as there are: half the real ones, or all the generated ones if these
            are fewer.
        seed: of the shuffles.
        baseline: from :func:`real_scores` with the same ``real``, ``features``, ``n`` and ``seed``,
            to save time.

    Raises:
        ConfigError: if ``n`` is below 4 or more than there is.
        ShapeError: if images do not fit the features.
        NonFiniteError: if an image holds a NaN or an infinity.

    Example:
        >>> from rectilinear.metrics import FeatureNetwork
        >>> real = torch.rand(40, 1, 8, 8)
        >>> features = FeatureNetwork((1, 8, 8), 10, name="digits")
        >>> scores = evaluate_samples(real[:20] / 2, real, features)
        >>> scores.name, scores.fd > scores.fd_real
        ('fd/digits@20', True)
    """
    check_floating(fake, "generated images")
    n = _size(n, real, fake)
    reference, _ = _halves(real, n, seed)
    chosen = fake[torch.randperm(len(fake), generator=generator(seed))[:n].to(fake.device)]
    scores = _score(chosen, reference, features)
    best = real_scores(real, features, n, seed) if baseline is None else baseline
    beside = {f"{field}_real": value for field, value in best._asdict().items()}
    return GenerationScores(name=f"fd/{features.name}@{n}", n=n, **scores._asdict(), **beside)


def real_scores(real: Tensor, features: Embedding, n: int | None = None, seed: int = 0) -> Scores:
    """Scores of ``n`` real samples against ``n`` others: the best that a generator can show.

    Args:
        real: images, at least ``2 n``.
        features: the network whose features to use.
        n: by default half of them.
        seed: of the shuffle, which matters where a set is ordered.

    Raises:
        ConfigError: if ``n`` is below 4 or more than half of what there is.
    """
    n = _size(n, real, None)
    reference, held_out = _halves(real, n, seed)
    return _score(held_out, reference, features)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The squared Fréchet distance of the Gaussians fitted to two samples.

    ``|m_a - m_b|^2 + Tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2)``. The last trace is the nuclear
    norm of ``C_a^1/2 C_b^1/2``, and so of ``R_a R_b^T``, where ``Q R`` are the centred samples
    divided by ``sqrt(n - 1)``: no covariance is formed and no root of a zero eigenvalue taken, so
    that fewer rows than columns are fine. In float64.

    Args:
        a: features ``(n, d)``.
        b: features ``(m, d)``.

    Raises:
        ShapeError: if a sample has fewer than two rows, or columns differ.
        NonFiniteError: if a feature is NaN or infinite.

    Reference: D. C. Dowson and B. V. Landau, J. Multivariate Analysis 12, 1982; M. Heusel et al.,
    NeurIPS 2017.

    Example:
        >>> x = torch.randn(50, 3, dtype=torch.float64)
        >>> round(frechet_distance(x, x + 2), 9)
        12.0
    """
    check_pair(a, b)
    if min(len(a), len(b)) < 2:
        raise ShapeError(
            f"samples of {len(a)} and {len(b)} rows", "at least two each, for a covariance"
        )
    (mean_a, root_a), (mean_b, root_b) = _moments(a), _moments(b)
    shared = torch.linalg.svdvals(root_a @ root_b.T).sum()
    distance = (
        (mean_a - mean_b).square().sum()
        + root_a.square().sum()
        + root_b.square().sum()
        - 2 * shared
    )
    return max(0.0, distance.item())


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and an ``R`` with ``R^T R`` the covariance."""
    x = x.double()
    mean = x.mean(0)
    return mean, torch.linalg.qr(x - mean, mode="r").R / (len(x) - 1) ** 0.5


def check_pair(a: Tensor, b: Tensor) -> None:
    """Raise unless both are finite floating-point samples ``(n, d)`` and ``(m, d)``."""
    check_floating(a, "the first sample")
    if a.ndim != 2:
        raise ShapeError(
            f"a sample of shape {tuple(a.shape)}", "(n, d)", "Flatten all but the first axis."
        )
    for x, name in ((a, "the first sample"), (b, "the second sample")):
        check_batch(x, tuple(a.shape[1:]), name)
        check_finite(x, name)


class PrecisionRecall(NamedTuple):
    """The share of fake samples near a real one, and of real samples near a fake one."""

    precision: float
    recall: float


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """The share of generated samples near real ones (precision), and of real near generated.

    A point's neighbourhood is the closed ball that reaches to its ``k``-th nearest neighbour in its
    own sample. A few hundred rows of the distance matrices are held at a time.

    Args:
        real: features ``(n, d)``.
        fake: features ``(m, d)``, best with ``m = n``.
        k: which neighbour sets the radius.

    Raises:
        ConfigError: if ``k`` is below 1 or not below both sample sizes.
        ShapeError: if columns differ.
        NonFiniteError: if a feature is NaN or infinite.

    Reference: T. Kynkäänniemi et al., Improved precision and recall metric, NeurIPS 2019.

    Example:
        >>> x = torch.arange(10.0)[:, None]
        >>> precision_recall(x, x[:5], k=1)
        PrecisionRecall(precision=1.0, recall=0.6)
    """
    check_pair(real, fake)
    if not 1 <= k < min(len(real), len(fake)):
        raise ConfigError(
            f"k = {k} for {len(real)} real and {len(fake)} fake samples",
            "1 <= k < both",
            "Lower k.",
        )
    radius_real, radius_fake = _radii(real, k), _radii(fake, k)
    precise, recalled = 0, torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for rows, radius in zip(fake.split(BLOCK_ROWS), radius_fake.split(BLOCK_ROWS), strict=True):
        distance = _distances(rows, real)
        precise += int((distance <= radius_real).any(1).sum())
        recalled |= (distance <= radius[:, None]).any(0)
    return PrecisionRecall(precise / len(fake), int(recalled.sum()) / len(real))


def _radii(x: Tensor, k: int) -> Tensor:
    """The distance of each row to its ``k``-th nearest other."""
    return torch.cat(
        [_distances(rows, x).kthvalue(k + 1, dim=1).values for rows in x.split(BLOCK_ROWS)]
    )


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # not by |a|^2 - 2 a b + |b|^2, whose cancellation puts a point outside its own ball
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def sliced_wasserstein(
    a: Tensor, b: Tensor, projections: int = 256, p: int = 2, seed: int = 0
) -> float:
    """The sliced Wasserstein distance of two samples, ``(mean_u W_p(a u, b u)^p)^(1/p)``.

    The mean is over random unit directions ``u``. In one dimension ``W_p^p`` is the integral of
    ``|F_a^-1 - F_b^-1|^p``, exact here for samples of any two sizes.

    Args:
        a: sample ``(n, ...)``; all axes but the first are flattened.
        b: sample ``(m, ...)``.
        projections: how many random directions.
        p: the order, at least 1.
        seed: of the directions.

    Raises:
        ConfigError: if ``projections`` or ``p`` is below 1.
        ShapeError: if the flattened samples differ in columns.
        NonFiniteError: if an entry is NaN or infinite.

    Reference: N. Bonneel et al., Sliced and Radon Wasserstein barycenters of measures, JMIV 51,
    2015.

    Example:
        >>> x = torch.randn(100, 1, dtype=torch.float64)
        >>> round(sliced_wasserstein(x, x + 3), 9)
        3.0
    """
    if projections < 1 or p < 1:
        raise ConfigError(f"projections = {projections}, p = {p}", "at least 1 each")
    for sample, name in ((a, "the first sample"), (b, "the second sample")):
        check_floating(sample, name)
    a, b = a.flatten(1) if a.ndim > 1 else a, b.flatten(1) if b.ndim > 1 else b
    check_pair(a, b)
    n, m = len(a), len(b)
    # both quantile functions are constant between neighbouring multiples of 1 / n and 1 / m, here
    # in units of 1 / nm
    ends = torch.cat([m * torch.arange(1, n + 1), n * torch.arange(1, m + 1)]).unique().to(a.device)
    weights = ends.diff(prepend=ends.new_zeros(1)).to(a.dtype) / (n * m)
    directions = torch.randn(
        projections, a.shape[1], generator=generator(seed), dtype=torch.float64
    )
    directions = torch.nn.functional.normalize(directions, dim=1).to(a)
    total = 0.0
    for u in directions.split(BLOCK_DIRECTIONS):
        quantile_a = (a @ u.T).sort(dim=0).values[(ends - 1) // m]
        quantile_b = (b @ u.T).sort(dim=0).values[(ends - 1) // n]
        total += (weights @ (quantile_a - quantile_b).abs().pow(p)).sum().item()
    return (total / projections) ** (1 / p)


class ROC(NamedTuple):
    """False and true positive rates at every threshold, ``(k,)``, and the area under the curve."""

    false: Tensor
    true: Tensor
    area: float

    def __repr__(self) -> str:
        return short_repr(self)


def roc(usual: Tensor, anomalous: Tensor) -> ROC:
    """The receiver operating characteristic of a score that is to be larger for anomalies.

    The area is the probability that an anomalous sample scores above a usual one, ties counted
    half.

    Args:
        usual: scores of usual samples, ``(n,)``.
        anomalous: scores of anomalous samples, ``(m,)``.

    Raises:
        ShapeError: if there are no scores, or they are not vectors.
        NonFiniteError: if a score is NaN or infinite.

    Example:
        >>> roc(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0])).area
        0.875
    """
    for name, scores in (("usual", usual), ("anomalous", anomalous)):
        if not isinstance(scores, Tensor):
            check_floating(scores, f"{name} scores")
        if scores.ndim != 1 or not len(scores):
            raise ShapeError(
                f"{name} scores of shape {tuple(scores.shape)}",
                "a vector, not empty",
                "Flatten them.",
            )
        check_finite(scores, f"{name} scores")
    scores = torch.cat([usual, anomalous])
    is_anomalous = torch.cat([torch.zeros_like(usual), torch.ones_like(anomalous)]).double()
    values, order = scores.sort(descending=True)
    last = torch.cat(
        [values[1:] != values[:-1], values.new_ones(1, dtype=torch.bool)]
    )  # of equal scores
    true = is_anomalous[order].cumsum(0)[last] / len(anomalous)
    false = (1 - is_anomalous[order]).cumsum(0)[last] / len(usual)
    true, false = (torch.cat([x.new_zeros(1), x]) for x in (true, false))
    return ROC(false, true, torch.trapezoid(true, false).item())


def _score(fake: Tensor, reference: Tensor, features: Embedding) -> Scores:
    """One sample against a reference of the same size."""
    a, b = features.embed(fake), features.embed(reference)
    pair = precision_recall(b, a, k=RADIUS_NEIGHBOUR)
    return Scores(frechet_distance(a, b), *pair, sliced_wasserstein(fake.to(a), reference.to(a)))


def _halves(real: Tensor, n: int, seed: int) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(real), generator=generator(seed)).to(real.device)
    return real[order[:n]], real[order[n : 2 * n]]


def _size(n: int | None, real: Tensor, fake: Tensor | None) -> int:
    check_batch(real, None, "real images")
    most = len(real) // 2
    if fake is not None:
        check_batch(fake, tuple(real.shape[1:]), "generated images")
        most = min(most, len(fake))
    n = most if n is None else n
    if not RADIUS_NEIGHBOUR < n <= most:
        raise ConfigError(
            got=f"n = {n} for {len(real)} real"
            + ("" if fake is None else f" and {len(fake)} generated")
            + " images",
            expected=(
                f"between {RADIUS_NEIGHBOUR + 1} and {most}: half of the real ones are the "
                "reference"
            ),
            fix="Pass more images or a smaller n.",
        )
    return n
