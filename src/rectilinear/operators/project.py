"""Orthogonal projections onto range and null space."""

from __future__ import annotations

import torch
from torch import Tensor

from rectilinear.operators.algebra import add, adjoint, compose, scale
from rectilinear.operators.base import Operator, columns
from rectilinear.operators.dense import Dense
from rectilinear.operators.diagonal import Diagonal, Identity
from rectilinear.operators.dispatch import unknown, verb
from rectilinear.operators.low_rank import Core, LowRank, ScalarPlusLowRank, to_core
from rectilinear.operators.matrix_functions import default_rtol
from rectilinear.operators.orthogonal import Idempotent
from rectilinear.operators.svd import decomposed, svd, svdvals


@verb()
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
    u, s, v = svd(A)
    return _onto(A, u, s, v, rtol)


@project_range.register(ScalarPlusLowRank)
def _(A: ScalarPlusLowRank, rtol: float | None = None) -> Operator:
    return project_range(to_core(A), rtol)


@project_range.register(Core)
def _(A: Core, rtol: float | None = None) -> Operator:
    u, s, vh = torch.linalg.svd(A.core.detach())
    largest = svdvals(A)[..., 0].detach()
    cut = (default_rtol(s.dtype, A.q.shape[-1]) if rtol is None else rtol) * largest
    mask = (s > cut[..., None]).to(s)
    if A.core.requires_grad and torch.is_grad_enabled():
        u = _moved(A.core @ _over(vh.mH, s, mask), u, mask)
    return Core((A.scale.abs() > cut).to(u), A.q, (u * mask[..., None, :]) @ u.mH)


@project_range.register(Diagonal)
def _(A: Diagonal, rtol: float | None = None) -> Operator:
    size = A.values.abs()
    return Diagonal(_mask(size, size.amax(-1, keepdim=True), rtol, 1).to(A.values), trainable=False)


@project_range.register(Idempotent)
def _(A: Idempotent, rtol: float | None = None) -> Operator:  # noqa: ARG001 - the rank is known
    return Idempotent.from_basis(A.basis, trainable=False) if A.is_oblique else A


@verb()
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


def _onto(A: Operator, u: Operator, s: Tensor, v: Operator, rtol: float | None) -> Operator:
    mask = _mask(s.detach(), s.detach()[..., :1], rtol, decomposed(A))
    if isinstance(u, Dense) and isinstance(v, Dense):
        q = u.weight
        if q.requires_grad:
            q = _moved(columns(A, _over(v.weight.detach(), s.detach(), mask)), q.detach(), mask)
        return LowRank(q * mask[..., None, :], q.conj(), trainable=False)
    return compose(u, Diagonal(mask.to(u.like), trainable=False), adjoint(u))


def _over(v: Tensor, s: Tensor, mask: Tensor) -> Tensor:
    """``v / s``, where the singular value is kept."""
    return v / torch.where(mask > 0, s, 1)[..., None, :]


def _moved(image: Tensor, u: Tensor, mask: Tensor) -> Tensor:
    """The left singular vectors ``u``, differentiable to every order as a basis of the range.

    ``image = A v / s`` spans the range of all operators of the rank of ``A`` near it, for constant
    ``v`` and ``s``; what lies inside the range, and ties of singular values, have no part in it.
    """
    return torch.linalg.qr(torch.where(mask[..., None, :] > 0, image, u)).Q


def _mask(s: Tensor, largest: Tensor, rtol: float | None, n: int) -> Tensor:
    rtol = default_rtol(s.dtype, n) if rtol is None else rtol
    return (s > rtol * largest).to(s)
