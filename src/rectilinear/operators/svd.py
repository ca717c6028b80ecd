"""The singular value decomposition, and verbs that need singular values only."""

from __future__ import annotations

from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from rectilinear.checks import check_finite
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.notebook import short_repr, singular_values
from rectilinear.operators import matrix_functions as _matrix
from rectilinear.operators.algebra import matmul
from rectilinear.operators.base import Operator, columns, unit_columns
from rectilinear.operators.convolution import Convolution
from rectilinear.operators.dense import Dense, Kronecker, densify
from rectilinear.operators.diagonal import Diagonal, Identity, Permutation
from rectilinear.operators.dispatch import unknown, verb
from rectilinear.operators.fourier import Fourier, Spectral, svd_blocks
from rectilinear.operators.lazy import Adjoint, Scaled
from rectilinear.operators.low_rank import Core, LowRank, ScalarPlusLowRank, to_core
from rectilinear.operators.matrix_functions import default_rtol
from rectilinear.operators.orthogonal import Idempotent, Orthogonal, completion, framed


class SVD(NamedTuple):
    """``A = u diag(s) v^T``: operators ``u``, ``v`` with orthonormal columns, ``s`` descending."""

    u: Operator
    s: Tensor
    v: Operator

    def __repr__(self) -> str:
        return short_repr(self)

    def _repr_html_(self) -> str:
        """The view in a notebook: the singular values; of a batch, those of its first operator."""
        shape = f"{self.u.out_dim} x {self.v.out_dim}"
        batch = tuple(self.s.shape[:-1])
        title = f"SVD of a {shape} operator" + (f", the first of a batch {batch}" if batch else "")
        return singular_values(title, self.s.detach().reshape(-1, self.s.shape[-1])[0].tolist())


@verb()
def svd(A: object) -> SVD:
    """The singular value decomposition ``A = u diag(s) v^T``, thin.

    ``u`` ``(m x k)`` and ``v`` ``(n x k)`` are operators with orthonormal columns and ``s`` ``(...,
    k)`` is descending; ``k = min(m, n)``, or the number of factors of a low-rank operator.
    Scalar-plus-low-rank decomposes its core only, and ``u`` and ``v`` share one completing basis;
    circular convolutions and Kronecker products keep their structure.

    Raises:
        StructureError: for a large operator without a structured form.
        NonFiniteError: for NaN or infinite entries.

    Example:
        >>> u, s, v = svd(Diagonal(torch.tensor([1.0, -3.0])))
        >>> s.tolist()
        [3.0, 1.0]
    """
    raise unknown("svd", A)


@svd.register(Operator)
def _(A: Operator) -> SVD:
    return svd(densify(A, "svd"))


@svd.register(Dense)
def _(A: Dense) -> SVD:
    check_finite(A.weight.detach(), "the operator")
    u, s, vh = _matrix.svd(A.weight)
    return SVD(_dense(u), s, _dense(vh.mH))


@svd.register(LowRank)
def _(A: LowRank) -> SVD:
    if A.u.shape[-1] >= min(A.out_dim, A.in_dim):
        return svd(Dense(weight=A.u @ A.v.mT, trainable=False))
    check_finite(A.u.detach(), "u")
    check_finite(A.v.detach(), "v")
    qu, ru = torch.linalg.qr(A.u)
    qv, rv = torch.linalg.qr(A.v)
    u, s, vh = _matrix.svd(ru @ rv.mT)
    return SVD(_dense(qu @ u), s, _dense((qv @ vh.mT).conj()))


@svd.register(ScalarPlusLowRank)
def _(A: ScalarPlusLowRank) -> SVD:
    return svd(to_core(A))


@svd.register(Core)
def _(A: Core) -> SVD:
    check_finite(A.core.detach(), "the operator")
    u, s, vh = _matrix.svd(A.core)
    if A.is_full:
        return SVD(_dense(A.q @ u), s, _dense(A.q @ vh.mH))
    sign = _sign(A.scale)
    s, order = _sorted(_with_scale(A, s))
    frame, pick = completion(A.q), Permutation(order, like=A.core)
    left, right = framed(frame, A.q @ u, sign), framed(frame, A.q @ vh.mH, torch.ones_like(sign))
    return SVD(matmul(left, pick), s, matmul(right, pick))


@svd.register(Diagonal)
def _(A: Diagonal) -> SVD:
    s, order = _sorted(A.values.abs())
    v = Permutation(order, like=A.values)
    return SVD(matmul(Diagonal(_sign(A.values), trainable=False), v), s, v)


@svd.register(Identity)
@svd.register(Orthogonal)
@svd.register(Permutation)
def _(A: Identity | Orthogonal | Permutation) -> SVD:
    like = A.like
    ones = torch.ones(*A.batch_shape, A.in_dim, dtype=like.real.dtype, device=like.device)
    return SVD(A, ones, Identity(A.in_dim, like=like))


@svd.register(Idempotent)
def _(A: Idempotent) -> SVD:
    u, v = A.factors()
    if not A.is_oblique:
        return SVD(_dense(u), torch.ones_like(u[0].real), _dense(v.conj()))
    return svd(LowRank(u, v, trainable=False))


@svd.register(Spectral)
def _(A: Spectral) -> SVD:
    p = A.imag.shape[-1]
    size = A.eigenvalues().abs()
    size = torch.cat([size[..., :p].repeat_interleave(2, -1), size[..., p:]], -1)
    s, order = _sorted(size)
    v = matmul(A.basis, Permutation(order, like=s))
    phase = A.map(lambda x: torch.where(x == 0, 1, x / torch.where(x == 0, 1, x.abs())))
    return SVD(matmul(phase, v), s, v)


@svd.register(Convolution)
def _(A: Convolution) -> SVD:
    if A.padding != "circular":
        return svd(densify(A, "svd"))
    u, values, v = svd_blocks(A)
    s, order = _sorted(values)
    waves = Fourier(
        (values.numel() // torch.Size(A.spatial).numel(), *A.spatial),
        real=not A.kernel.is_complex(),
        like=A.kernel,
    )
    basis = matmul(waves, Permutation(order, like=s))
    return SVD(matmul(u, basis), s, matmul(v, basis))


@svd.register(Kronecker)
def _(A: Kronecker) -> SVD:
    a, b = svd(A.a), svd(A.b)
    s, order = _sorted(torch.outer(a.s, b.s).flatten())
    pick = Permutation(order, like=s)
    return SVD(matmul(Kronecker(a.u, b.u), pick), s, matmul(Kronecker(a.v, b.v), pick))


@svd.register(Scaled)
def _(A: Scaled) -> SVD:
    u, s, v = svd(A.operator)
    c = A.value
    if c.ndim:
        return SVD(Scaled(u, _sign(c)), c.abs()[..., None] * s, v)
    if c.is_complex():
        return SVD(u * _sign(c), c.abs() * s, v)
    return SVD(-u if c < 0 else u, c.abs() * s, v)


@svd.register(Adjoint)
def _(A: Adjoint) -> SVD:
    u, s, v = svd(A.operator)
    return SVD(v, s, u)


@verb()
def svdvals(A: object) -> Tensor:
    """The singular values, descending, ``(..., k)``.

    Example:
        >>> svdvals(Dense(weight=torch.eye(2))).tolist()
        [1.0, 1.0]
    """
    if isinstance(A, Dense):
        check_finite(A.weight.detach(), "the operator")
        return torch.linalg.svdvals(A.weight)
    if isinstance(A, ScalarPlusLowRank):
        A = to_core(A)
    if isinstance(A, Core):
        check_finite(A.core.detach(), "the operator")
        s = torch.linalg.svdvals(A.core)
        return s if A.is_full else _sorted(_with_scale(A, s))[0]
    return svd(A).s


@verb()
def rank(A: object, rtol: float | None = None) -> Tensor:  # noqa: ARG001 - the registered ones use it
    """The number of singular values of ``A`` above ``rtol`` times the largest, of batch shape.

    Example:
        >>> int(rank(LowRank(torch.ones(4, 2), torch.ones(4, 2))))
        1
    """
    raise unknown("rank", A)


@rank.register(Operator)
def _(A: Operator, rtol: float | None = None) -> Tensor:
    s = svdvals(A)
    rtol = default_rtol(s.dtype, decomposed(A)) if rtol is None else rtol
    return (s > rtol * s[..., :1]).sum(-1)


@verb(infinite=True)
def cond(A: object) -> Tensor:
    """The condition number of ``A``, largest over smallest singular value; infinite if singular.

    Example:
        >>> cond(Diagonal(torch.tensor([1.0, 4.0]))).item()
        4.0
    """
    raise unknown("cond", A)


@cond.register(Operator)
def _(A: Operator) -> Tensor:
    _check_not_empty(A, "a condition number")
    s = svdvals(A)
    if s.shape[-1] < min(A.out_dim, A.in_dim):
        return torch.full_like(s[..., 0], float("inf"))
    return torch.where(s[..., -1] > 0, s[..., 0] / s[..., -1], float("inf"))


@verb()
def norm(A: object, kind: str = "spectral") -> Tensor:  # noqa: ARG001 - the registered ones use it
    """The norm of ``A`` of this ``kind``: ``"spectral"`` (largest singular value) by default.

    The others are ``"frobenius"`` and ``"nuclear"``.

    Example:
        >>> norm(Diagonal(torch.tensor([3.0, 4.0])), "frobenius").item()
        5.0
    """
    raise unknown("norm", A)


@norm.register(Operator)
def _(A: Operator, kind: str = "spectral") -> Tensor:
    _check_not_empty(A, "a norm")
    s = svdvals(A)
    match kind:
        case "spectral":
            return s.amax(-1)
        case "frobenius":
            return _length(s)
        case "nuclear":
            return s.sum(-1)
    raise ConfigError(f"norm {kind!r}", "'spectral', 'frobenius' or 'nuclear'")


@verb()
def truncate(A: object, k: int) -> Operator:  # noqa: ARG001 - the registered ones use it
    """The best approximation of ``A`` of rank ``k``: the leading terms ``sum_{i<k} s_i u_i v_i^T``.

    Raises:
        ConfigError: if ``k`` is not between 1 and the number of singular values.

    Reference: Eckart and Young, The approximation of one matrix by another of lower rank (1936).

    Example:
        >>> truncate(Diagonal(torch.tensor([1.0, 3.0])), 1)(torch.ones(2)).tolist()
        [0.0, 3.0]
    """
    raise unknown("truncate", A)


@truncate.register(Operator)
def _(A: Operator, k: int) -> Operator:
    u, s, v = svd(A)
    _check_rank(k, s.shape[-1])
    left, right = (columns(x, unit_columns(s.shape[-1], k, A.like)) for x in (u, v))
    return LowRank(left * s[..., None, :k], right.conj(), trainable=False)


@truncate.register(Dense)
def _(A: Dense, k: int) -> Operator:
    _check_rank(k, min(A.weight.shape[-2:]))
    if not (A.weight.requires_grad and torch.is_grad_enabled()):
        return truncate.dispatch(Operator)(A, k)
    right = _matrix.lead(A.weight, k)
    return LowRank(A.weight @ right, right.conj(), trainable=False)


@truncate.register(Idempotent)
def _(A: Idempotent, k: int) -> Operator:
    if A.is_oblique:
        return truncate(LowRank(*A.factors(), trainable=False), k)
    _check_rank(k, A.rank)
    return Idempotent.from_basis(A.factors()[0][:, :k], trainable=False)


def decomposed(A: Operator) -> int:
    """The size of the largest matrix that the SVD of ``A`` decomposes, for its rounding."""
    match A:
        case Diagonal() | Identity() | Permutation() | Orthogonal() | Spectral():
            return 1
        case LowRank():
            return min(A.u.shape[-1], A.out_dim, A.in_dim)
        case ScalarPlusLowRank():
            return min(2 * A.u.shape[-1], A.in_dim)
        case Core():
            return A.q.shape[-1]
        case Idempotent():
            return A.rank
        case Convolution() if A.padding == "circular":
            return 1 if A.depthwise else A.channels
        case Kronecker():
            return max(decomposed(A.a), decomposed(A.b))
        case Scaled() | Adjoint():
            return decomposed(A.operator)
    return max(A.out_dim, A.in_dim)


def _check_not_empty(A: Operator, what: str) -> None:
    if not min(A.out_dim, A.in_dim):
        raise ShapeError(
            f"{what} of a {A.out_dim} x {A.in_dim} operator", "at least one row and column"
        )


def _check_rank(k: int, most: int) -> None:
    if not isinstance(k, Integral) or not 1 <= k <= most:
        raise ConfigError(f"rank {k!r}", f"1 to {most}", "Choose how many singular values to keep.")


def _sign(x: Tensor) -> Tensor:
    """``x / |x|``, and 1 at zero."""
    if not x.is_complex():
        return torch.where(x < 0, -1.0, 1.0).to(x)
    return torch.where(x == 0, 1, x / torch.where(x == 0, 1, x.abs()))


def _length(s: Tensor) -> Tensor:
    """``|s|`` over the last axis, also where the squares over- or underflow."""
    top = s.detach().amax(-1, keepdim=True)
    top = torch.where((top > 1e15) | ((top < 1e-15) & (top > 0)), top, 1)
    return torch.linalg.vector_norm(s / top, dim=-1) * top[..., 0]


def _dense(columns: Tensor) -> Dense:
    return Dense(weight=columns, trainable=False)


def _sorted(s: Tensor) -> tuple[Tensor, Tensor]:
    order = s.detach().argsort(stable=True, dim=-1, descending=True)
    return s.gather(-1, order), order


def _with_scale(A: Core, s: Tensor) -> Tensor:
    """The singular values of the core, and ``|scale|`` for the rest."""
    lead = torch.broadcast_shapes(s.shape[:-1], A.scale.shape)
    rest = A.scale.abs()[..., None].expand(*lead, A.in_dim - s.shape[-1])
    return torch.cat([s.expand(*lead, -1), rest], -1)
