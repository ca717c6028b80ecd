"""How much of the generated is real, and how much of the real is generated."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from rectilinear.errors import ConfigError
from rectilinear.metrics.frechet import check_pair

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 512  # of a distance matrix at a time


class PrecisionRecall(NamedTuple):
    """The share of fake samples near a real one, and of real samples near a fake one."""

    precision: float
    recall: float


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall: the share of each sample that the neighbourhoods of the other cover.

    A point's neighbourhood is the closed ball that reaches to its ``k``-th nearest neighbour in its own sample. A few
    hundred rows of the distance matrices are held at a time.

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
        raise ConfigError(f"k = {k} for {len(real)} real and {len(fake)} fake samples", "1 <= k < both", "Lower k.")
    radius_real, radius_fake = _radii(real, k), _radii(fake, k)
    precise, recalled = 0, torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for rows, radius in zip(fake.split(ROWS), radius_fake.split(ROWS), strict=True):
        distance = _distances(rows, real)
        precise += int((distance <= radius_real).any(1).sum())
        recalled |= (distance <= radius[:, None]).any(0)
    return PrecisionRecall(precise / len(fake), int(recalled.sum()) / len(real))


def _radii(x: Tensor, k: int) -> Tensor:
    """The distance of each row to its ``k``-th nearest other."""
    return torch.cat([_distances(rows, x).kthvalue(k + 1, dim=1).values for rows in x.split(ROWS)])


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # not by |a|^2 - 2 a b + |b|^2, whose cancellation puts a point outside its own ball
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
