"""The distance between two samples seen as Gaussians."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rectilinear._shapes import check_batch, check_finite, check_floating
from rectilinear.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The Fréchet distance of the Gaussians with the means and covariances of two samples, squared as is the custom.

    ``|m_a - m_b|^2 + Tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2)``. The last trace is the nuclear norm of
    ``C_a^1/2 C_b^1/2``, and so of ``R_a R_b^T``, where ``Q R`` are the centred samples divided by ``sqrt(n - 1)``: no
    covariance is formed and no root of a zero eigenvalue taken, so that fewer rows than columns do no harm. In float64.

    Args:
        a: features ``(n, d)``.
        b: features ``(m, d)``.

    Raises:
        ShapeError: if a sample has fewer than two rows, or columns differ.
        NonFiniteError: if a feature is NaN or infinite.

    Reference: D. C. Dowson and B. V. Landau, J. Multivariate Analysis 12, 1982; M. Heusel et al., NeurIPS 2017.

    Example:
        >>> x = torch.randn(50, 3, dtype=torch.float64)
        >>> round(frechet_distance(x, x + 2), 9)
        12.0
    """
    check_pair(a, b)
    if min(len(a), len(b)) < 2:
        raise ShapeError(f"samples of {len(a)} and {len(b)} rows", "at least two each, for a covariance")
    (mean_a, root_a), (mean_b, root_b) = _moments(a), _moments(b)
    shared = torch.linalg.svdvals(root_a @ root_b.T).sum()
    distance = (mean_a - mean_b).square().sum() + root_a.square().sum() + root_b.square().sum() - 2 * shared
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
        raise ShapeError(f"a sample of shape {tuple(a.shape)}", "(n, d)", "Flatten all but the first axis.")
    for x, name in ((a, "the first sample"), (b, "the second sample")):
        check_batch(x, tuple(a.shape[1:]), name)
        check_finite(x, name)
