"""A velocity whose factors are polynomials in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rectilinear.operators._chebyshev import chebyshev
from rectilinear.operators.scalar_low_rank import ScalarPlusLowRank
from rectilinear.operators.time_varying import TimeVarying, as_time

if TYPE_CHECKING:
    from rectilinear.operators.base import Operator


class ChebyshevVelocity(TimeVarying):
    """``W(t) = a(t) I + U(t) V(t)^T``, all three Chebyshev series: ``U(t) = sum_k T_k(2 t - 1) U_k``.

    ``(degree + 1) (2 dim rank + 1)`` parameters, where networks of the time need millions.

    Example:
        >>> ChebyshevVelocity(6, rank=2).velocity(torch.tensor([0.0, 0.5, 1.0])).batch_shape
        torch.Size([3])
    """

    def __init__(self, dim: int, rank: int, degree: int = 4) -> None:
        super().__init__()
        self.dim, self.rank, self.degree = dim, rank, degree
        self.a = nn.Parameter(torch.zeros(degree + 1))
        self.u, self.v = (nn.Parameter(self._start()) for _ in range(2))

    def _start(self) -> Tensor:
        coefficients = torch.zeros(self.degree + 1, self.dim, self.rank)
        coefficients[0] = torch.randn(self.dim, self.rank) / self.dim**0.5
        return coefficients

    def velocity(self, t: float | Tensor) -> Operator:
        basis = chebyshev(as_time(t, self.a), self.degree)
        u, v = (torch.einsum("...k,knr->...nr", basis, x) for x in (self.u, self.v))
        return ScalarPlusLowRank(basis @ self.a, u, v, trainable=False)
