"""An operator of low rank, held by its factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rectilinear.errors import ShapeError
from rectilinear.operators._shape import matvec, require_matrix
from rectilinear.operators.base import Operator

if TYPE_CHECKING:
    from torch import Size


class LowRank(Operator):
    """The operator ``A = u v^T`` with ``u`` ``(..., m, r)`` and ``v`` ``(..., n, r)``: ``R^n -> R^m``.

    Raises:
        ShapeError: if the factors have different numbers of columns.

    Example:
        >>> LowRank(torch.ones(3, 1), torch.ones(2, 1))(torch.tensor([1.0, 2.0])).tolist()
        [3.0, 3.0, 3.0]
    """

    u: Tensor
    v: Tensor

    def __init__(self, u: Tensor, v: Tensor, *, trainable: bool = True) -> None:
        super().__init__()
        self._hold(trainable, u=u, v=v)
        check_factors(u, v)
        self.out_dim, self.in_dim = u.shape[-2], v.shape[-2]

    @property
    def batch_shape(self) -> Size:
        return torch.broadcast_shapes(self.u.shape[:-2], self.v.shape[:-2])

    def _matvec(self, z: Tensor) -> Tensor:
        return matvec(self.u, matvec(self.v.mT, z))

    def _rmatvec(self, z: Tensor) -> Tensor:
        return matvec(self.v.conj(), matvec(self.u.mH, z))


def check_factors(u: Tensor, v: Tensor) -> None:
    """Raise unless ``u`` and ``v`` are matrices with equally many columns."""
    require_matrix(u, "u")
    require_matrix(v, "v")
    if u.shape[-1] != v.shape[-1]:
        raise ShapeError(
            f"u of shape {tuple(u.shape)} and v of shape {tuple(v.shape)}", "equal numbers of columns", "A = u v^T."
        )
