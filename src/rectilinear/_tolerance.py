"""The one tolerance of the library."""

from __future__ import annotations

import torch


def tolerance(dtype: torch.dtype, scale: float = 1.0, n: int = 1) -> float:
    """Rounding error to allow for a result of size ``scale`` that sums ``n`` terms.

    ``100 eps scale sqrt(n)``: rounding errors add like a random walk, and 100 covers the handful of operations
    that a result goes through. ``scale`` is the size of the result times the condition number of the problem.

    Example:
        >>> tolerance(torch.float64, scale=10.0, n=4) < 1e-12
        True
    """
    return 100 * torch.finfo(dtype).eps * scale * max(n, 1) ** 0.5
