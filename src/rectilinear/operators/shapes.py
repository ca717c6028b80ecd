"""Checks and conversions that the operator classes share."""

from __future__ import annotations

import torch
from torch import Tensor

from rectilinear.errors import DtypeError, ShapeError
from rectilinear.operators.base import Operator


def matvec(m: Tensor, z: Tensor) -> Tensor:
    """``m z`` over the last axis, with the batch axes of ``m`` against the leading axes of ``z``."""
    return z @ m.mT if m.ndim == 2 else (m @ z.unsqueeze(-1)).squeeze(-1)


def columns(A: Operator, m: Tensor) -> Tensor:
    """``A m``: the operator on each column of ``m`` ``(..., in_dim, k)``, giving ``(..., out_dim,
    k)``.
    """
    return A(_rows(A, m)).movedim(0, -1)


def adjoint_columns(A: Operator, m: Tensor) -> Tensor:
    """``A^T m``: the adjoint on each column of ``m`` ``(..., out_dim, k)``, giving ``(..., in_dim,
    k)``.
    """
    return A.apply_adjoint(_rows(A, m)).movedim(0, -1)


def _rows(A: Operator, m: Tensor) -> Tensor:
    batch = torch.broadcast_shapes(A.batch_shape, m.shape[:-2])
    return m.expand(*batch, *m.shape[-2:]).movedim(-1, 0)


def as_factor(factor: complex | Tensor, A: Operator) -> Tensor:
    """A number in double precision, a tensor as it is: what multiplies ``A``.

    Raises:
        DtypeError: for a complex multiple of a real operator, whose imaginary part would be lost.
    """
    if not isinstance(factor, Tensor):
        kind = torch.complex128 if isinstance(factor, complex) else torch.float64
        factor = torch.tensor(factor, dtype=kind, device="cpu")
    if factor.is_complex() and not A.like.is_complex():
        raise DtypeError(
            f"a complex multiple of an operator of dtype {A.like.dtype}",
            "a real number or a complex operator",
            "Convert the operator with .to(torch.complex64).",
        )
    return factor


def unit_columns(n: int, k: int, like: Tensor) -> Tensor:
    """The first ``k`` columns of the ``n x n`` identity."""
    return torch.eye(n, k, dtype=like.dtype, device=like.device)


def require_square(A: Operator, what: str) -> None:
    """Raise ``ShapeError`` unless ``A`` is square."""
    if not A.is_square:
        raise ShapeError(
            f"a {A.out_dim} x {A.in_dim} {type(A).__name__}", f"a square operator for {what}"
        )


def require_matrix(m: Tensor, name: str) -> None:
    """Raise ``ShapeError`` unless ``m`` has rows and columns."""
    if m.ndim < 2:
        raise ShapeError(
            f"{name} of shape {tuple(m.shape)}", "(..., rows, columns)", "Add the missing axis."
        )
