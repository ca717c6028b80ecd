"""Gaussian mixtures by expectation maximisation with a prior, their size by held-out likelihood."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rectilinear.checks import (
    check_classes,
    check_finite,
    check_floating,
    check_tensor,
    is_within,
    whole,
)
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.invertible.mixture import MixtureMap
from rectilinear.random import generator

_BLOCK_NUMBERS = 2**23  # rows x features that are held at a time
_MIN_GAIN = 2e-4  # nats a coordinate that an iteration, or more components, must gain
_MAX_ITERATIONS = 30
_KMEANS_ITERATIONS = 8
_SPREAD_ROWS = 10_000  # rows that the first centres are chosen among
_HELD_OUT = 10  # one row in so many chooses the number of components
_MAX_HELD_OUT_ROWS = 5000
_MIN_ROWS = 6  # rows for each component, on average, up to which more are tried
_COMPONENTS = (1, 2, 5, 10, 20, 40, 80, 160, 320)
_MAX_ROWS = 3000  # rows for each component, from which on fewer are not tried
_CLASS_SPREAD = 1.5  # of the variances of a background, relative to those of its class
_FAR_SPREAD = 2.0  # of those of the background far off, relative to those of all rows
_FAR_WEIGHT = 0.1  # of it, relative to that of all the background
_VARIANCE = 1e-3  # added to every variance, relative to that of the coordinate


@dataclass(frozen=True)
class MixtureFit:
    """A fitted mixture, and how its size was chosen.

    Attributes:
        map: the mixture as an invertible network.
        components: components of each class, without the background.
        tried: negative log-likelihood of held-out rows, in nats a coordinate, by the number of
            components of a class; joint with the labels where there are any.
    """

    map: MixtureMap
    components: int
    tried: dict[int, float]


@torch.no_grad()
def fit_mixture(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    components: int | Sequence[int] | None = None,
    pseudo_counts: float = 10.0,
    background: float = 1e-3,
    iterations: int | None = None,
    standardise: bool = True,
    seed: int = 0,
) -> MixtureFit:
    """The Gaussian mixture of the rows of ``x``, as a :class:`MixtureMap`, with its record.

    Expectation maximisation from k-means, in float64. Covariances are drawn to the pooled one,
    ``(S_k + c S) / (N_k + c)`` with ``c = pseudo_counts``, so that light components stay regular.
    More components are taken as long as the likelihood of a tenth of the rows, held out for it,
    rises by more than its standard error; the mixture is then fitted to all rows. A *background* is
    added to each class: a component of 1.5 times the covariance of the class, which takes rows that
    no other component expects, and with a tenth of its weight one of twice the covariance of all
    rows, which keeps the map well-conditioned far off the data.

    With ``labels`` each class has components of its own, and the weight of its share of the rows.

    Args:
        x: rows ``(n, d)``, two or more.
        labels: ``(n,)`` integers from 0.
        components: components of a class, or the numbers to choose among; by default among 1 to
            320, as far as rows suffice.
        pseudo_counts: rows that the pooled covariance counts for.
        background: weight of the background of each class, 0 for none.
        iterations: of expectation maximisation, 0 for the clusters of k-means; by default as long
            as the likelihood of held-out rows rises.
        standardise: True for k-means of coordinates at unit deviation, False for those of ``x``.
        seed: of k-means and of the choice of held-out rows.

    Returns:
        The fit; parameters have the dtype of ``x``, and :attr:`MixtureMap.classes` are the labels.

    Raises:
        ShapeError: for fewer than two rows, or labels that do not fit them.
        DtypeError: if ``x`` is not floating-point or labels are not integers.
        NonFiniteError: if an entry is NaN or infinite.
        ConfigError: for arguments out of range.

    Reference: A. Dempster, N. Laird, D. Rubin, JRSS B 39, 1977; C. Fraley and A. Raftery, Bayesian
    regularization for normal mixture estimation, J. Classification 24, 2007.

    Example:
        >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
        >>> labels = torch.arange(500) % 2
        >>> fit = fit_mixture(x + 9 * labels[:, None], labels, components=1)
        >>> fit.map.given(1).means[0].round().tolist()
        [9.0, 9.0]
    """
    _check_rows(x, labels, pseudo_counts, background)
    if iterations is not None:
        whole(iterations, "iterations", 0)
    scale = x.double().std(0)
    scale = torch.where(scale > 0, scale, scale.max().clamp(min=1e-300))
    mean = x.double().mean(0)
    rows = (x.double() - mean) / scale
    labels = torch.zeros(len(x), dtype=torch.int64) if labels is None else labels.long()
    candidates = _candidates(components, labels)
    order = torch.randperm(len(x), generator=generator(seed)).to(x.device)
    cut = min(_MAX_HELD_OUT_ROWS, len(x) // _HELD_OUT)
    held_out, others = order[:cut], order[cut:]
    tried: dict[int, float] = {}
    count, chosen = iterations, candidates[0]
    units = None if standardise else scale
    best: Tensor | None = None
    settled = not cut or (iterations is not None and len(candidates) == 1)
    for k in () if settled else candidates:
        em = _EM(rows[others], labels[others], k, pseudo_counts, seed, units)
        losses, found = em.run(rows[held_out], labels[held_out], iterations)
        tried[k] = float(losses.mean())
        if best is not None and not _is_better(losses, best):
            break
        best, chosen = losses, k
        count = max(1, found) if iterations is None else iterations
    em = _EM(rows, labels, chosen, pseudo_counts, seed, units)
    for _ in range(_MAX_ITERATIONS // 2 if count is None else count):
        em.step()
    return MixtureFit(_as_map(em, mean, scale, background).to(x.dtype), chosen, tried)


class _EM:
    """Expectation maximisation of the mixtures of all classes at once, at unit scale.

    The joint log-density of a row and a component is linear in ``(1, x_i, x_i x_j)``, so that both
    steps are one matrix product each.
    """

    state: list[tuple[Tensor, Tensor, Tensor]]
    """Weights, means and covariances of each class that has rows."""

    def __init__(
        self,
        x: Tensor,
        labels: Tensor,
        components: int,
        pseudo_counts: float,
        seed: int,
        units: Tensor | None = None,
    ) -> None:
        self.d, self.pseudo_counts = x.shape[1], pseudo_counts
        self.i, self.j = torch.triu_indices(self.d, self.d, device=x.device)
        self.parts = [x[labels == c] for c in range(int(labels.max()) + 1)]
        self.present = [c for c, part in enumerate(self.parts) if len(part)]
        self.share = [len(part) / len(x) for part in self.parts]
        self.counts = [min(components, max(1, len(part) // 2)) for part in self.parts]
        moments = []
        for c in self.present:
            part = self.parts[c]
            near = kmeans(part if units is None else part * units, self.counts[c], seed)
            sums = part.new_zeros(self.counts[c], 1 + self.d + len(self.i))
            for block, which in zip(self._blocks(part), self._blocks(near), strict=True):
                sums.index_add_(0, which, self._features(block))
            moments.append(sums)
        self._maximise(moments)

    def run(self, held_out: Tensor, labels: Tensor, iterations: int | None) -> tuple[Tensor, int]:
        """Iterate until held-out rows gain no more: their losses, and the number of iterations."""
        if iterations is not None:
            for _ in range(iterations):
                self.step()
            return self.losses(held_out, labels), iterations
        best, count, kept = self.losses(held_out, labels), 0, self.state
        for iteration in range(1, _MAX_ITERATIONS + 1):
            self.step()
            losses = self.losses(held_out, labels)
            gain = float(best.mean() - losses.mean())
            if gain > 0:
                best, count, kept = losses, iteration, self.state
            if gain < _MIN_GAIN:
                break
        self.state = kept
        return best, count

    def step(self) -> None:
        """One iteration: responsibilities and their moments, then parameters."""
        moments = []
        for c, (weights, means, covariances) in zip(self.present, self.state, strict=True):
            table = self._coefficients(weights, means, covariances)
            sums = means.new_zeros(len(weights), 1 + self.d + len(self.i))
            for block in self._blocks(self.parts[c]):
                features = self._features(block)
                sums += (features @ table.T).softmax(1).T @ features
            moments.append(sums)
        self._maximise(moments)

    def losses(self, x: Tensor, labels: Tensor) -> Tensor:
        """Negative log-likelihoods of rows with their labels, in nats a coordinate."""
        found = x.new_zeros(len(x))
        for c, state in zip(self.present, self.state, strict=True):
            table, rows = self._coefficients(*state), (labels == c).nonzero()[:, 0]
            for part in self._blocks(rows):
                found[part] = (self._features(x[part]) @ table.T).logsumexp(1)
            found[rows] += math.log(self.share[c])
        return -found / self.d

    def _maximise(self, moments: list[Tensor]) -> None:
        """Parameters ``(weights, means, covariances)`` of each class from its moments."""
        scatters, found = [], []
        for sums in moments:
            count = sums[:, 0].clamp(min=1e-9)
            means = sums[:, 1 : 1 + self.d] / count[:, None]
            scatter = self._symmetric(sums[:, 1 + self.d :])
            scatters.append(scatter - count[:, None, None] * means[:, :, None] * means[:, None, :])
            found.append((count, means))
        total = sum(float(count.sum()) for count, _ in found)
        pooled = torch.stack([s.sum(0) for s in scatters]).sum(0) / total
        eye = _VARIANCE * torch.eye(self.d, dtype=pooled.dtype, device=pooled.device)
        self.state = [
            (
                count / count.sum(),
                means,
                (s + self.pseudo_counts * pooled)
                / (count + self.pseudo_counts + 1e-9)[:, None, None]
                + eye,
            )
            for s, (count, means) in zip(scatters, found, strict=True)
        ]

    def _coefficients(self, weights: Tensor, means: Tensor, covariances: Tensor) -> Tensor:
        """Of ``log w_k + log N(x; k)`` in the features, ``(K, 1 + d + d (d + 1) / 2)``."""
        root = torch.linalg.cholesky(covariances)
        precision = torch.cholesky_inverse(root)
        linear = (precision @ means[:, :, None])[..., 0]
        constant = (
            weights.log()
            - root.diagonal(dim1=1, dim2=2).log().sum(1)
            - 0.5 * (linear * means).sum(1)
            - 0.5 * self.d * math.log(2 * math.pi)
        )
        double = torch.where(self.i == self.j, -0.5, -1.0).to(means)
        return torch.cat([constant[:, None], linear, precision[:, self.i, self.j] * double], 1)

    def _features(self, x: Tensor) -> Tensor:
        return torch.cat([x.new_ones(len(x), 1), x, x[:, self.i] * x[:, self.j]], 1)

    def _symmetric(self, upper: Tensor) -> Tensor:
        full = upper.new_zeros(len(upper), self.d, self.d)
        full[:, self.i, self.j] = upper
        full[:, self.j, self.i] = upper
        return full

    def _blocks(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split(max(1, _BLOCK_NUMBERS // (1 + self.d + len(self.i))))


@torch.no_grad()
def kmeans(x: Tensor, clusters: int, seed: int = 0) -> Tensor:
    """The cluster of each row, ``(n,)``: k-means++, and a few iterations of Lloyd's algorithm.

    Reference: D. Arthur and S. Vassilvitskii, k-means++, SODA 2007.

    Example:
        >>> kmeans(torch.tensor([[0.0], [9.0], [0.1], [9.1]]), 2).diff().abs().tolist()
        [1, 1, 1]
    """
    random = generator(seed)
    centres = _spread(x, clusters, random)
    nearest = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for _ in range(_KMEANS_ITERATIONS):
        size = centres.square().sum(1)
        nearest = torch.cat([(size - 2 * part @ centres.T).argmin(1) for part in x.split(8192)])
        count = torch.bincount(nearest, minlength=clusters)
        centres = torch.zeros_like(centres).index_add_(0, nearest, x)
        centres /= count.clamp(min=1)[:, None]
        if empty := int((count == 0).sum()):
            again = torch.randint(len(x), (empty,), generator=random).to(x.device)
            centres[count == 0] = x[again]
    return nearest


def _spread(x: Tensor, clusters: int, random: torch.Generator) -> Tensor:
    """Rows far from each other: each is drawn by its squared distance to those before it."""
    if len(x) > _SPREAD_ROWS:
        x = x[torch.randperm(len(x), generator=random)[:_SPREAD_ROWS].to(x.device)]
    chosen = [int(torch.randint(len(x), (1,), generator=random))]
    distance = (x - x[chosen[0]]).square().sum(1)
    for _ in range(clusters - 1):
        u = torch.rand((), generator=random, dtype=torch.float64).to(x)
        total = distance.cumsum(0)
        chosen.append(min(int(torch.searchsorted(total, u * total[-1])), len(x) - 1))
        distance = torch.minimum(distance, (x - x[chosen[-1]]).square().sum(1))
    return x[chosen].clone()


def _as_map(em: _EM, mean: Tensor, scale: Tensor, background: float) -> MixtureMap:
    """The map in the units of the rows, components of no weight left out, with backgrounds."""
    weights, means, covariances, classes = [], [], [], []
    for c, (weight, centres, spread) in zip(em.present, em.state, strict=True):
        kept = weight * len(em.parts[c]) > 0.5
        weights.append(em.share[c] * (1 - background) * weight[kept] / weight[kept].sum())
        means.append(centres[kept])
        covariances.append(spread[kept])
        classes += [c] * len(centres[kept])
    if background:
        light = mean.new_tensor([1 - _FAR_WEIGHT, _FAR_WEIGHT]) * background
        for c, centres, spread in zip(em.present, *_backgrounds(em), strict=True):
            weights.append(em.share[c] * light)
            means.append(centres)
            covariances.append(spread)
            classes += [c] * 2
    return MixtureMap.from_moments(
        torch.cat(weights),
        torch.cat(means) * scale + mean,
        torch.cat(covariances) * scale[:, None] * scale,
        torch.tensor(classes, device=mean.device),
    )


def _backgrounds(em: _EM) -> tuple[Tensor, Tensor]:
    """Means ``(classes, 2, d)`` and covariances of each class, and of what is far off any class.

    The covariance far off is that of all rows, scaled until it exceeds that of each class in every
    direction. Where another component were wider, it would be the nearest there, and the inverse of
    the map would lose digits.
    """
    everything = torch.cat(em.parts)
    variance = _VARIANCE * torch.eye(em.d, dtype=everything.dtype, device=everything.device)
    centre, total = everything.mean(0), everything.T.cov(correction=0).reshape(em.d, em.d)
    parts = [em.parts[c] for c in em.present]
    own = torch.stack([len(part) * part.T.cov(correction=0).reshape(em.d, em.d) for part in parts])
    count = own.new_tensor([len(part) for part in parts])[:, None, None]
    own = _CLASS_SPREAD * (own + em.pseudo_counts * total) / (count + em.pseudo_counts) + variance
    root = torch.linalg.cholesky(total + variance)
    relative = torch.linalg.solve_triangular(root, own, upper=False)
    relative = torch.linalg.solve_triangular(root, relative.mT, upper=False)
    widest = float(torch.linalg.eigvalsh(relative).max())
    far = (max(_FAR_SPREAD, _FAR_SPREAD / _CLASS_SPREAD * widest) * (total + variance)).expand_as(
        own
    )
    means = torch.stack([part.mean(0) for part in parts])
    return torch.stack([means, centre.expand_as(means)], 1), torch.stack([own, far], 1)


def _is_better(losses: Tensor, best: Tensor) -> bool:
    """True if the held-out likelihood gains enough, and more than its standard error."""
    gain = best - losses
    error = float(gain.std(correction=0)) / len(gain) ** 0.5
    return float(gain.mean()) > max(_MIN_GAIN, error)


def _candidates(components: int | Sequence[int] | None, labels: Tensor) -> list[int]:
    """Numbers of components to try, ascending."""
    if isinstance(components, int):
        return [whole(components, "components", 1)]
    if components is not None:
        if not len(components):
            raise ConfigError(
                "no numbers of components", "at least one", "Leave components out to choose it."
            )
        return sorted({whole(k, "components", 1) for k in components})
    count = torch.bincount(labels)
    most = int(count[count > 0].double().median()) // _MIN_ROWS
    fewest = min(_COMPONENTS[-1], most * _MIN_ROWS // _MAX_ROWS)
    return [k for k in _COMPONENTS if fewest <= k <= max(1, most)]


def _check_rows(x: Tensor, labels: Tensor | None, pseudo_counts: float, background: float) -> None:
    check_floating(x, "x")
    if x.ndim != 2 or len(x) < 2:
        raise ShapeError(
            f"x of shape {tuple(x.shape)}",
            "(n, d) with two rows or more",
            "" if x.ndim == 2 else "Write images as x.flatten(1), one column as x[:, None].",
        )
    check_finite(x, "x")
    if labels is not None:
        check_tensor(labels, "labels")
        check_classes(labels.long() if labels.dtype == torch.bool else labels, len(x), "labels")
    if not is_within(pseudo_counts, 0):
        raise ConfigError(f"pseudo_counts={pseudo_counts!r}", "a number of at least 0")
    if not is_within(background, 0, 1):
        raise ConfigError(f"background={background!r}", "a weight of at least 0 and below 1")
