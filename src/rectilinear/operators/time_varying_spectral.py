"""A velocity with a fixed orthogonal basis: its flow is known in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rectilinear.errors import ConfigError
from rectilinear.operators._chebyshev import chebyshev, chebyshev_integral
from rectilinear.operators.identity import Identity
from rectilinear.operators.spectral import Spectral
from rectilinear.operators.time_varying import TimeVarying, as_time

if TYPE_CHECKING:
    from rectilinear.operators.base import Operator


class SpectralVelocity(TimeVarying):
    """``W(t) = Q D(t) Q^T`` with ``D(t)`` of blocks ``[[a, -b], [b, a]]`` and real entries, Chebyshev series in time.

    The velocities commute, so the flow from ``s`` to ``t`` is ``Q exp(int_s^t D) Q^T``, exactly. Starts at zero.

    Args:
        dim: ``n``.
        pairs: complex pairs ``p``, by default ``n // 2``; the other ``n - 2p`` eigenvalues are real.
        degree: of the series.
        basis: orthogonal ``Q``, by default the identity (a network before it learns its own basis).

    Raises:
        ConfigError: if there are more pairs than ``n // 2``.

    Example:
        >>> W = SpectralVelocity(5)
        >>> W.transport(0.0, 1.0)(torch.ones(5)).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    def __init__(self, dim: int, pairs: int | None = None, degree: int = 4, basis: Operator | None = None) -> None:
        super().__init__()
        pairs = dim // 2 if pairs is None else pairs
        if not 0 <= 2 * pairs <= dim:
            raise ConfigError(f"{pairs} pairs in {dim} dimensions", f"0 to {dim // 2}")
        self.dim, self.degree = dim, degree
        self.basis = Identity(dim) if basis is None else basis
        self.real = nn.Parameter(torch.zeros(degree + 1, dim - pairs))
        self.imag = nn.Parameter(torch.zeros(degree + 1, pairs))

    def velocity(self, t: float | Tensor) -> Operator:
        return self._with(chebyshev(as_time(t, self.real), self.degree))

    def transport(self, s: float | Tensor, t: float | Tensor) -> Operator:
        weights = chebyshev_integral(as_time(s, self.real), as_time(t, self.real), self.degree)
        return self._with(weights).map(torch.exp)

    def _with(self, weights: Tensor) -> Spectral:
        return Spectral(self.basis, weights @ self.real, weights @ self.imag, trainable=False)
