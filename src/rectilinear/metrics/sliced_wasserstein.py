"""The Wasserstein distance along random directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rectilinear._seed import generator
from rectilinear.errors import ConfigError
from rectilinear.metrics.frechet import check_pair

if TYPE_CHECKING:
    from torch import Tensor

DIRECTIONS = 64  # projected on at a time


def sliced_wasserstein(a: Tensor, b: Tensor, projections: int = 256, p: int = 2, seed: int = 0) -> float:
    """The sliced Wasserstein distance of two samples, ``(mean_u W_p(a u, b u)^p)^(1/p)`` over unit directions ``u``.

    In one dimension ``W_p^p`` is the integral of ``|F_a^-1 - F_b^-1|^p``, exact here for samples of any two sizes.

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

    Reference: N. Bonneel et al., Sliced and Radon Wasserstein barycenters of measures, JMIV 51, 2015.

    Example:
        >>> x = torch.randn(100, 1, dtype=torch.float64)
        >>> round(sliced_wasserstein(x, x + 3), 9)
        3.0
    """
    if projections < 1 or p < 1:
        raise ConfigError(f"projections = {projections}, p = {p}", "at least 1 each", "Raise it.")
    a, b = a.flatten(1) if a.ndim > 1 else a, b.flatten(1) if b.ndim > 1 else b
    check_pair(a, b)
    n, m = len(a), len(b)
    # both quantile functions are constant between neighbouring multiples of 1 / n and 1 / m, here in units of 1 / nm
    ends = torch.cat([m * torch.arange(1, n + 1), n * torch.arange(1, m + 1)]).unique().to(a.device)
    weights = ends.diff(prepend=ends.new_zeros(1)).to(a.dtype) / (n * m)
    directions = torch.randn(projections, a.shape[1], generator=generator(seed), dtype=torch.float64)
    directions = torch.nn.functional.normalize(directions, dim=1).to(a)
    total = 0.0
    for u in directions.split(DIRECTIONS):
        quantile_a = (a @ u.T).sort(dim=0).values[(ends - 1) // m]
        quantile_b = (b @ u.T).sort(dim=0).values[(ends - 1) // n]
        total += (weights @ (quantile_a - quantile_b).abs().pow(p)).sum().item()
    return (total / projections) ** (1 / p)
