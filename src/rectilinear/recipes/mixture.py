"""The Gaussian mixture of the latents of images, class by class or cluster by cluster."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rectilinear.invertible import fit_mixture
from rectilinear.invertible.mixture_fit import MixtureFit, kmeans
from rectilinear.recipes.base import Labels

_ROWS = 15  # of a component
_PSEUDO_COUNTS, _CLUSTER_PSEUDO_COUNTS = 10.0, 3.0  # of a covariance, with labels and without
_MAX_COMPONENTS = 160  # of a class
_MIN_CLUSTER_IMAGES = 50  # of a cluster, on average


def mixture_of(
    latents: Tensor, labels: Labels | None, components: int | None, clusters: int, seed: int
) -> tuple[MixtureFit, Labels]:
    """The mixture of latents ``(n, d)`` whose samples decode best, and its classes.

    Components are the clusters of k-means at the scale of the latents, one for 15 rows of a class
    and 160 at most, unless their number is given. Without labels, clusters stand for classes,
    ``clusters`` at most. Held-out likelihood prefers fewer and wider components (20 for the 6,000
    images of a class of MNIST), whose samples are worse: see
    benchmarks/results/generator-designs.md.

    Example:
        >>> x = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
        >>> [mixture_of(part, None, None, 1, 0)[0].components for part in (x, x[:20])]
        [66, 1]
    """
    counts = _CLUSTER_PSEUDO_COUNTS if labels is None else _PSEUDO_COUNTS
    labels = labels or clustered(latents, clusters, seed)
    given: dict[str, Any] = {"pseudo_counts": counts, "seed": seed}
    if components is None:
        rows = torch.bincount(labels.labels)
        most = int(rows[rows > 0].double().median()) // _ROWS
        components = max(1, min(_MAX_COMPONENTS, most))
        given |= {"iterations": 0, "standardise": False}
    return fit_mixture(latents, labels.labels, components=components, **given), labels


def clustered(latents: Tensor, count: int, seed: int) -> Labels:
    """Clusters of latents as labels; fewer where there are few rows."""
    count = max(1, min(count, len(latents) // _MIN_CLUSTER_IMAGES))
    names = tuple(f"cluster {i}" for i in range(1, count + 1)) if count > 1 else ()
    return Labels(kmeans(latents, count, seed), names)
