"""Operators that are orthogonal whatever their parameters."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from rectilinear._shapes import single
from rectilinear._tolerance import tolerance
from rectilinear.errors import InputError
from rectilinear.operators._shape import matvec, require_matrix
from rectilinear.operators.base import Operator


class Orthogonal(Operator):
    """A product of ``k`` reflections, ``A = H_1 ... H_k`` with ``H_i = I - 2 w_i w_i^T / |w_i|^2``: always orthogonal.

    Applied as ``I - W S^-1 W^T`` (compact WY), where ``S`` is the upper triangle of ``W^T W`` with half its diagonal:
    ``4 n k`` operations and a ``k x k`` triangular solve. ``k = dim`` reaches every orthogonal matrix.

    Args:
        dim: ``n``.
        reflections: ``k``, by default ``n``.
        matrix: a fixed orthogonal matrix instead, as :meth:`from_matrix` sets it.

    Reference: Joffrain et al., Accumulating Householder transformations, revisited (2006).

    Example:
        >>> A = Orthogonal(5)
        >>> z = torch.randn(5)
        >>> bool(torch.isclose(A(z).norm(), z.norm()))
        True
    """

    reflectors: Tensor
    matrix: Tensor | None

    def __init__(self, dim: int, reflections: int | None = None, matrix: Tensor | None = None) -> None:
        super().__init__()
        self.in_dim = self.out_dim = self.dim = dim
        if matrix is None:
            self._hold(True, reflectors=torch.randn(dim, dim if reflections is None else reflections))
            self.matrix = None
        else:
            _check_orthogonal(matrix)
            self._hold(False, matrix=matrix)

    @classmethod
    def from_matrix(cls, q: Tensor) -> Self:
        """The operator of a given orthogonal matrix ``(n, n)``, held as a buffer.

        Raises:
            InputError: if ``q`` is not square with orthonormal columns.
        """
        require_matrix(q, "q")
        return cls(q.shape[-1], matrix=q)

    def _matvec(self, z: Tensor) -> Tensor:
        return self._times(z, adjoint=False)

    def _rmatvec(self, z: Tensor) -> Tensor:
        return self._times(z, adjoint=True)

    def _times(self, z: Tensor, *, adjoint: bool) -> Tensor:
        if self.matrix is not None:
            return matvec(self.matrix.mH if adjoint else self.matrix, z)
        w = self.reflectors
        gram = w.mH @ w
        upper = gram.triu(1) + torch.diag_embed(gram.diagonal() / 2)
        inner = z @ w.conj()
        flat = inner.flatten(0, -2).mT if inner.ndim > 1 else inner[:, None]
        upper = single(upper.mH if adjoint else upper)
        middle = torch.linalg.solve_triangular(upper, single(flat), upper=not adjoint).to(flat.dtype)
        return z - middle.mT.reshape(inner.shape) @ w.mT


def _check_orthogonal(q: Tensor) -> None:
    n = q.shape[-1]
    if q.shape != (n, n):
        raise InputError(f"a matrix of shape {tuple(q.shape)}", "a square one", "Complete the basis first.")
    error = float((q.mH @ q - torch.eye(n, dtype=q.dtype, device=q.device)).abs().max())
    if not error <= tolerance(q.dtype, n=n):
        raise InputError(f"a matrix with |q^T q - I| = {error:.2g}", "an orthogonal one", "Use torch.linalg.qr(q).Q.")
