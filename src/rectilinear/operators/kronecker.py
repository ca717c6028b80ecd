"""The Kronecker product of two operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rectilinear._once import SameAs, other
from rectilinear.errors import ShapeError
from rectilinear.operators.base import Operator

if TYPE_CHECKING:
    from torch import Tensor


class Kronecker(Operator):
    """``A = a (x) b``: on ``z`` read as a matrix ``Z`` ``(a.in_dim, b.in_dim)``, row by row, ``a Z b^T``.

    Raises:
        ShapeError: if a factor is batched.

    Example:
        >>> import torch
        >>> from rectilinear.operators.diagonal import Diagonal
        >>> Kronecker(Diagonal(torch.tensor([1.0, 2.0])), Diagonal(torch.tensor([1.0, 10.0])))(torch.ones(4)).tolist()
        [1.0, 10.0, 2.0, 20.0]
    """

    _any_dtype = True

    b = SameAs[Operator]("a")

    def __init__(self, a: Operator, b: Operator) -> None:
        super().__init__()
        if a.batch_shape or b.batch_shape:
            raise ShapeError(f"factors of batch shape {a.batch_shape} and {b.batch_shape}", "single operators")
        self.a, self.b = a, other(a, b)
        self.in_dim, self.out_dim = a.in_dim * b.in_dim, a.out_dim * b.out_dim

    def _matvec(self, z: Tensor) -> Tensor:
        z = self.b(z.unflatten(-1, (self.a.in_dim, self.b.in_dim)))
        return self.a(z.mT).mT.flatten(-2)

    def _rmatvec(self, z: Tensor) -> Tensor:
        z = self.b.apply_adjoint(z.unflatten(-1, (self.a.out_dim, self.b.out_dim)))
        return self.a.apply_adjoint(z.mT).mT.flatten(-2)
