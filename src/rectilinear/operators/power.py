"""Powers with real exponents."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rectilinear.operators import matrix_functions as _matrix
from rectilinear.operators.algebra import adjoint, matmul, scale
from rectilinear.operators.base import ALGEBRA, Operator, require_square, unit_columns
from rectilinear.operators.convolution import Convolution
from rectilinear.operators.dense import Dense, Kronecker, densify, to_dense
from rectilinear.operators.diagonal import Diagonal, Identity
from rectilinear.operators.dispatch import unknown, verb
from rectilinear.operators.eig import eig
from rectilinear.operators.fourier import Spectral, map_blocks
from rectilinear.operators.lazy import Adjoint, Product, Scaled
from rectilinear.operators.low_rank import Core, LowRank, ScalarPlusLowRank, balanced
from rectilinear.operators.matrix_functions import check_principal, default_rtol, singular
from rectilinear.operators.orthogonal import Idempotent
from rectilinear.operators.solve import pinv
from rectilinear.operators.svd import rank

MAX_PARTS = 1000  # factors of a power that is applied factor by factor


@verb()
def power(A: object, p: float) -> Operator:  # noqa: ARG001 - the registered ones use it
    """The principal power ``A^p`` for a real ``p``: ``A^p A^q = A^(p + q)``, where all three exist.

    Raises:
        SingularOperatorError: if no real principal power exists (an eigenvalue on the negative real
            axis, or a defective eigenvalue zero), or ``A`` is singular and ``p`` negative.
        ConfigError: if ``p`` is not finite, or above 2^53 in size.
        ShapeError: if ``A`` is not square.
        StructureError: for a large operator without a structured form, also where an integer power
            above 1000 could only be applied factor by factor.

    Reference: Higham, Functions of Matrices (2008), chapters 6, 7 and 11.

    Example:
        >>> power(Diagonal(torch.tensor([4.0, 9.0])), 0.5)(torch.ones(2)).tolist()
        [2.0, 3.0]
    """
    raise unknown("power", A)


@power.register(Operator)
def _(A: Operator, p: float) -> Operator:
    require_square(A, "a power")
    if float(p).is_integer():
        return _integer(A, int(p))
    return power(densify(A, "power"), p)


def _integer(A: Operator, p: int) -> Operator:
    """The power by repeated squaring, which keeps structure where products do.

    A product of many parts takes as many steps each time that it is applied, and its list as much
    memory.
    """
    if p < 0:
        if bool((rank(A) < A.in_dim).any()):
            raise singular(f"power {p}")
        A, p = pinv(A), -p
    if p > MAX_PARTS and isinstance(matmul(A, A), Product):
        return power(densify(A, "power"), p)
    result: Operator = Identity(A.in_dim, like=A.like)
    while p:
        if p & 1:
            result = matmul(result, A)
        A, p = (matmul(A, A), p >> 1) if p > 1 else (A, 0)
    return result


@power.register(Dense)
def _(A: Dense, p: float) -> Operator:
    require_square(A, "a power")
    return Dense(weight=_matrix.powm(A.weight, p), trainable=False)


@power.register(Diagonal)
def _(A: Diagonal, p: float) -> Operator:
    return Diagonal(power_of(A.values, p), trainable=False)


@power.register(LowRank)
def _(A: LowRank, p: float) -> Operator:
    require_square(A, "a power")
    if p <= 0:
        return _integer(A, 0) if p == 0 else _fail(p)
    if p == 1:
        return A
    u, v = balanced(A.u, A.v)
    middle = v.mT @ u
    if not float(p).is_integer() and bool((rank(Dense(weight=middle)) < middle.shape[-1]).any()):
        return power(Dense(weight=A.u @ A.v.mT, trainable=False), p)  # the factors are not minimal
    return LowRank(u @ _matrix.powm(middle, p - 1), v, trainable=False)


@power.register(ScalarPlusLowRank)
def _(A: ScalarPlusLowRank, p: float) -> Operator:
    if not float(p).is_integer() and bool((A.scale == 0).all()):
        return power(LowRank(A.u, A.v, trainable=False), p)
    return function_of(A, lambda m: _matrix.powm(m, p))


@power.register(Core)
def _(A: Core, p: float) -> Operator:
    return core_function(A, lambda m: _matrix.powm(m, p))


@power.register(Spectral)
def _(A: Spectral, p: float) -> Operator:
    return A.map(lambda x: power_of(x, p))


@power.register(Convolution)
def _(A: Convolution, p: float) -> Operator:
    require_square(A, "a power")
    if A.padding != "circular":
        return _integer(A, int(p)) if float(p).is_integer() else power(densify(A, "power"), p)
    if A.depthwise:
        return A.with_spectrum(power_of(A.spectrum(), p, default_rtol(A.kernel.dtype, 1)))
    return map_blocks(A, lambda blocks: _matrix.powm(blocks, p))


@power.register(Identity)
def _(A: Identity, p: float) -> Operator:  # noqa: ARG001 - every power is the identity
    return A


@power.register(Idempotent)
def _(A: Idempotent, p: float) -> Operator:
    return A if p > 0 or A.rank == A.dim else _integer(A, 0) if p == 0 else _fail(p)


@power.register(Kronecker)
def _(A: Kronecker, p: float) -> Operator:
    require_square(A, "a power")
    if float(p).is_integer() and A.a.is_square:
        return Kronecker(power(A.a, p), power(A.b, p))
    if is_principal(A):
        return Kronecker(power(A.a, p), power(A.b, p))
    return power(densify(A, "power"), p)


@power.register(Scaled)
def _(A: Scaled, p: float) -> Operator:
    require_square(A, "a power")
    if float(p).is_integer() and p >= 0:
        return scale(power(A.operator, p), A.value**p)
    if not A.value.is_complex() and bool((A.value > 0).all()):
        return scale(power(A.operator, p), A.value**p)
    return _integer(A, int(p)) if float(p).is_integer() else power(densify(A, "power"), p)


@power.register(Adjoint)
def _(A: Adjoint, p: float) -> Operator:
    return adjoint(power(A.operator, p))


def power_of(x: Tensor, p: float, rtol: float = 0.0) -> Tensor:
    """``x^p`` of real or complex eigenvalues; zero for those up to ``rtol`` times the largest."""
    if float(p).is_integer() and p >= 0:
        return x ** int(p)
    zero = x.detach().abs() <= rtol * x.detach().abs().max()
    if p < 0 and bool(zero.any()):
        raise singular(f"power {p:g}")
    if float(p).is_integer():
        return x ** int(p)
    check_principal(x.detach(), f"power {p:g}", zero_allowed=p > 0, rtol=rtol)
    return torch.where(zero, 0, torch.where(zero, 1, x) ** p)


def function_of(A: ScalarPlusLowRank, f: Callable[[Tensor], Tensor]) -> Operator:
    """``f(s I + u v^T) = f(s) I + u D v^T``, ``D`` the divided difference of ``f``.

    At ``s I + v^T u`` and ``s I``.

    ``D`` is the upper right block of ``f([[s I + v^T u, I], [0, s I]])``: nothing is
    orthogonalised, so the gradient is finite also at ``u = 0`` and for dependent columns.
    """
    n, r = A.u.shape[-2:]
    if 2 * r >= n:
        return Dense(weight=f(to_dense(A)), trainable=False)
    s = A.scale[..., None, None]
    if r == 0:
        return ScalarPlusLowRank(f(s)[..., 0, 0], A.u, A.v, trainable=False)
    u, v = balanced(A.u, A.v)
    eye = unit_columns(r, r, u)
    top = s * eye + v.mT @ u
    ones, low = torch.broadcast_tensors(eye, s * eye)
    blocks = torch.broadcast_tensors(top, ones, torch.zeros_like(eye), low)
    value = f(torch.cat([torch.cat(blocks[:2], -1), torch.cat(blocks[2:], -1)], -2))
    return ScalarPlusLowRank(value[..., -1, -1], u @ value[..., :r, r:], v, trainable=False)


def core_function(A: Core, f: Callable[[Tensor], Tensor]) -> Core:
    """``f(A)``: ``f`` of the scale and of the core."""
    if A.is_full:
        return Core(A.scale, A.q, f(A.core))
    return Core(f(A.scale[..., None, None])[..., 0, 0], A.q, f(A.core))


def is_principal(A: Kronecker) -> bool:
    """True if angles of eigenvalues add up to less than pi: functions then act on the factors."""
    if not (A.a.is_square and A.b.is_square):
        return False
    angles = [float(eig(part).values.detach().angle().abs().max()) for part in (A.a, A.b)]
    return sum(angles) < torch.pi


def _fail(p: float) -> Operator:
    raise singular(f"power {p:g}")


ALGEBRA["power"] = power
