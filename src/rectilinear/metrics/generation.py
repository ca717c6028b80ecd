"""Generated samples scored against real ones, beside what real ones score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from rectilinear._seed import generator
from rectilinear._shapes import check_batch
from rectilinear.errors import ConfigError
from rectilinear.metrics.frechet import frechet_distance
from rectilinear.metrics.precision_recall import precision_recall
from rectilinear.metrics.sliced_wasserstein import sliced_wasserstein

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear.metrics._types import Embedding

NEIGHBOUR = 3


class Scores(NamedTuple):
    """Fréchet distance, precision and recall in features, and sliced Wasserstein distance of the values themselves."""

    fd: float
    precision: float
    recall: float
    sliced_wasserstein: float


@dataclass(frozen=True)
class GenerationScores:
    """Scores of generated samples, each beside its floor: that of as many real samples against the same reference.

    Attributes:
        name: what ``fd`` is a distance in, ``fd/<features>@n``. It is not an FID, and comparable under this name only.
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
    fd_floor: float
    precision_floor: float
    recall_floor: float
    sliced_wasserstein_floor: float
    n: int

    def __str__(self) -> str:
        return (
            f"{self.name} {self.fd:.4g} (floor {self.fd_floor:.4g}), precision {self.precision:.3f} "
            f"({self.precision_floor:.3f}), recall {self.recall:.3f} ({self.recall_floor:.3f}), "
            f"sliced Wasserstein {self.sliced_wasserstein:.4g} ({self.sliced_wasserstein_floor:.4g})"
        )


def evaluate_samples(
    fake: Tensor,
    real: Tensor,
    features: Embedding,
    n: int | None = None,
    seed: int = 0,
    floor_scores: Scores | None = None,
) -> GenerationScores:
    """Score ``n`` generated samples against ``n`` real ones, and ``n`` other real ones against the same.

    The real samples are shuffled and halved: the reference, and the held-out half that gives the floor. Pass all of a
    test set whose halves differ, as MNIST's.

    Args:
        fake: generated images ``(m, c, h, w)`` in ``[0, 1]``.
        real: real images, at least ``2 n``.
        features: the network whose features to use.
        n: by default as many as there are: half the real ones, or all the generated ones if these are fewer.
        seed: of the shuffles.
        floor_scores: from :func:`floor` with the same ``real``, ``features``, ``n`` and ``seed``, to save time.

    Raises:
        ConfigError: if ``n`` is below 4 or more than there is.
        ShapeError: if images do not fit the features.
        NonFiniteError: if an image holds a NaN or an infinity.

    Example:
        >>> from rectilinear.metrics import FeatureNetwork
        >>> real = torch.rand(40, 1, 8, 8)
        >>> scores = evaluate_samples(real[:20] / 2, real, FeatureNetwork((1, 8, 8), 10, name="digits"))
        >>> scores.name, scores.fd > scores.fd_floor
        ('fd/digits@20', True)
    """
    n = _size(n, real, fake)
    reference, _ = _halves(real, n, seed)
    chosen = fake[torch.randperm(len(fake), generator=generator(seed))[:n].to(fake.device)]
    scores = _score(chosen, reference, features)
    least = floor(real, features, n, seed) if floor_scores is None else floor_scores
    floors = {f"{field}_floor": value for field, value in least._asdict().items()}
    return GenerationScores(name=f"fd/{features.name}@{n}", n=n, **scores._asdict(), **floors)


def floor(real: Tensor, features: Embedding, n: int | None = None, seed: int = 0) -> Scores:
    """What ``n`` real samples score against ``n`` others of the same set: no generator can be told to be better.

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


def _score(fake: Tensor, reference: Tensor, features: Embedding) -> Scores:
    """One sample against a reference of the same size."""
    a, b = features.embed(fake), features.embed(reference)
    pair = precision_recall(b, a, k=NEIGHBOUR)
    return Scores(frechet_distance(a, b), *pair, sliced_wasserstein(fake.to(a), reference.to(a)))


def _halves(real: Tensor, n: int, seed: int) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(real), generator=generator(seed)).to(real.device)
    return real[order[:n]], real[order[n : 2 * n]]


def _size(n: int | None, real: Tensor, fake: Tensor | None) -> int:
    check_batch(real, tuple(real.shape[1:]), "real images")
    most = len(real) // 2
    if fake is not None:
        check_batch(fake, tuple(real.shape[1:]), "generated images")
        most = min(most, len(fake))
    n = most if n is None else n
    if not NEIGHBOUR < n <= most:
        raise ConfigError(
            got=f"n = {n} for {len(real)} real" + ("" if fake is None else f" and {len(fake)} generated") + " images",
            expected=f"between {NEIGHBOUR + 1} and {most}: half of the real ones are for the floor",
            fix="Pass more images or a smaller n.",
        )
    return n
