"""Orthogonal projections onto range and null space."""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor

from rectilinear.operators._matrix import default_rtol
from rectilinear.operators.algebra import add, adjoint, compose, scale
from rectilinear.operators.base import Operator
from rectilinear.operators.convert import unknown
from rectilinear.operators.dense import Dense
from rectilinear.operators.diagonal import Diagonal
from rectilinear.operators.idempotent import Idempotent
from rectilinear.operators.identity import Identity
from rectilinear.operators.low_rank import LowRank
from rectilinear.operators.scalar_low_rank import Core, ScalarPlusLowRank, to_core
from rectilinear.operators.svd import decomposed, svd, svdvals


@singledispatch
def project_range(A: object, rtol: float | None = None) -> Operator:  # noqa: ARG001 - the registered ones use it
    """The orthogonal projection onto the range, ``A A^+``.

    Singular values below ``rtol`` times the largest count as zero.

    Example:
        >>> project_range(Diagonal(torch.tensor([5.0, 0.0])))(torch.ones(2)).tolist()
        [1.0, 0.0]
    """
    raise unknown("project_range", A)


@project_range.register(Operator)
def _(A: Operator, rtol: float | None = None) -> Operator:
    u, s, _ = svd(A)
    return _onto(A, u, s, rtol)


@project_range.register(ScalarPlusLowRank)
def _(A: ScalarPlusLowRank, rtol: float | None = None) -> Operator:
    return project_range(to_core(A), rtol)


@project_range.register(Core)
def _(A: Core, rtol: float | None = None) -> Operator:
    u, s, _ = torch.linalg.svd(A.core)
    largest = svdvals(A)[..., 0]
    cut = (default_rtol(s.dtype, A.q.shape[-1]) if rtol is None else rtol) * largest
    kept = u * (s > cut[..., None]).to(u)[..., None, :]
    return Core((A.scale.abs() > cut).to(u), A.q, kept @ u.mT)


@project_range.register(Diagonal)
def _(A: Diagonal, rtol: float | None = None) -> Operator:
    size = A.values.abs()
    return Diagonal(_mask(size, size.amax(-1, keepdim=True), rtol, 1), trainable=False)


@project_range.register(Idempotent)
def _(A: Idempotent, rtol: float | None = None) -> Operator:  # noqa: ARG001 - the rank is known
    return Idempotent.from_basis(A.basis, trainable=False) if A.is_oblique else A


@singledispatch
def project_null(A: object, rtol: float | None = None) -> Operator:  # noqa: ARG001 - the registered ones use it
    """The orthogonal projection onto the null space, ``I - A^+ A``.

    Example:
        >>> project_null(Diagonal(torch.tensor([5.0, 0.0])))(torch.ones(2)).tolist()
        [0.0, 1.0]
    """
    raise unknown("project_null", A)


@project_null.register(Operator)
def _(A: Operator, rtol: float | None = None) -> Operator:
    rows = project_range(adjoint(A), rtol)
    return add(Identity(A.in_dim, like=A.like), scale(rows, -1.0))


def _onto(A: Operator, u: Operator, s: Tensor, rtol: float | None) -> Operator:
    mask = _mask(s, s[..., :1], rtol, decomposed(A))
    if isinstance(u, Dense):
        return LowRank(u.weight * mask[..., None, :], u.weight, trainable=False)
    return compose(u, Diagonal(mask, trainable=False), adjoint(u))


def _mask(s: Tensor, largest: Tensor, rtol: float | None, n: int) -> Tensor:
    rtol = default_rtol(s.dtype, n) if rtol is None else rtol
    return (s > rtol * largest).to(s)
