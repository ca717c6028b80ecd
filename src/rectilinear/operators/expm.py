"""Exponential and logarithm."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rectilinear.checks import check_finite
from rectilinear.errors import DtypeError
from rectilinear.operators import matrix_functions as _matrix
from rectilinear.operators.algebra import add, adjoint, scale
from rectilinear.operators.base import Operator, require_square
from rectilinear.operators.convolution import Convolution
from rectilinear.operators.dense import Dense, Kronecker, densify
from rectilinear.operators.diagonal import Diagonal, Identity
from rectilinear.operators.dispatch import unknown, verb
from rectilinear.operators.fourier import Spectral, map_blocks
from rectilinear.operators.lazy import Adjoint, Scaled, Sum
from rectilinear.operators.low_rank import Core, LowRank, ScalarPlusLowRank
from rectilinear.operators.orthogonal import Idempotent
from rectilinear.operators.power import core_function, function_of, is_principal


@verb()
def expm(A: object, t: float | Tensor = 1.0) -> Operator:  # noqa: ARG001 - the registered ones use it
    """The exponential ``exp(t A)``, the flow of ``dz/dt = A z`` over the time ``t``.

    ``t`` is a number or a tensor of batch shape. ``expm(A, s) @ expm(A, t) == expm(A, s + t)``.

    Raises:
        ShapeError: if ``A`` is not square.
        DtypeError: if ``t`` is no number, or complex with a real operator.
        StructureError: for a large operator without a structured form.

    Example:
        >>> expm(Diagonal(torch.zeros(2)), 5.0)(torch.ones(2)).tolist()
        [1.0, 1.0]
    """
    raise unknown("expm", A)


@expm.register(Operator)
def _(A: Operator, t: float | Tensor = 1.0) -> Operator:
    require_square(A, "an exponential")
    return expm(densify(A, "expm"), t)


@expm.register(Dense)
def _(A: Dense, t: float | Tensor = 1.0) -> Operator:
    require_square(A, "an exponential")
    return Dense(weight=_matrix.expm(_time(t, A)[..., None, None] * A.weight), trainable=False)


@expm.register(Diagonal)
def _(A: Diagonal, t: float | Tensor = 1.0) -> Operator:
    return Diagonal(torch.exp(_time(t, A)[..., None] * A.values), trainable=False)


@expm.register(LowRank)
def _(A: LowRank, t: float | Tensor = 1.0) -> Operator:
    require_square(A, "an exponential")
    return expm(ScalarPlusLowRank(A.u.new_zeros(()), A.u, A.v, trainable=False), t)


@expm.register(ScalarPlusLowRank)
def _(A: ScalarPlusLowRank, t: float | Tensor = 1.0) -> Operator:
    time = _time(t, A)[..., None, None]
    return function_of(A, lambda m: _matrix.expm(time * m))


@expm.register(Core)
def _(A: Core, t: float | Tensor = 1.0) -> Operator:
    time = _time(t, A)[..., None, None]
    return core_function(A, lambda m: _matrix.expm(time * m))


@expm.register(Identity)
def _(A: Identity, t: float | Tensor = 1.0) -> Operator:
    return Scaled(A, _time(t, A).exp())


@expm.register(Idempotent)
def _(A: Idempotent, t: float | Tensor = 1.0) -> Operator:
    return add(Identity(A.dim, like=A.like), scale(A, torch.expm1(_time(t, A))))


@expm.register(Spectral)
def _(A: Spectral, t: float | Tensor = 1.0) -> Operator:
    time = _time(t, A)[..., None]
    return A.map(lambda x: torch.exp(time * x))


@expm.register(Convolution)
def _(A: Convolution, t: float | Tensor = 1.0) -> Operator:
    require_square(A, "an exponential")
    time = _time(t, A)
    if A.padding != "circular" or time.ndim:
        return expm(densify(A, "expm"), t)
    if A.depthwise:
        return A.with_spectrum(torch.exp(time * A.spectrum()))
    return map_blocks(A, lambda blocks: _matrix.expm(time * blocks))


@expm.register(Scaled)
def _(A: Scaled, t: float | Tensor = 1.0) -> Operator:
    return expm(A.operator, _time(t, A) * A.value)


@expm.register(Adjoint)
def _(A: Adjoint, t: float | Tensor = 1.0) -> Operator:
    return adjoint(expm(A.operator, t))


@verb()
def logm(A: object) -> Operator:
    """The principal logarithm: ``expm(logm(A)) == A``.

    Raises:
        SingularOperatorError: if an eigenvalue is zero or on the negative real axis.
        ShapeError: if ``A`` is not square.
        StructureError: for a large operator without a structured form.

    Reference: Higham, Functions of Matrices (2008), chapter 11.

    Example:
        >>> logm(Diagonal(torch.ones(2)))(torch.ones(2)).tolist()
        [0.0, 0.0]
    """
    raise unknown("logm", A)


@logm.register(Operator)
def _(A: Operator) -> Operator:
    require_square(A, "a logarithm")
    return logm(densify(A, "logm"))


@logm.register(Dense)
def _(A: Dense) -> Operator:
    require_square(A, "a logarithm")
    return Dense(weight=_matrix.logm(A.weight), trainable=False)


@logm.register(Diagonal)
def _(A: Diagonal) -> Operator:
    return Diagonal(_log(A.values, 0.0), trainable=False)


@logm.register(LowRank)
def _(A: LowRank) -> Operator:
    require_square(A, "a logarithm")
    for factor in (A.u, A.v):
        check_finite(factor.detach(), "an operator's factors")
    if A.u.shape[-1] < A.in_dim:
        raise _matrix.singular("logarithm")
    return logm(Dense(weight=A.u @ A.v.mT, trainable=False))


@logm.register(ScalarPlusLowRank)
def _(A: ScalarPlusLowRank) -> Operator:
    return function_of(A, _matrix.logm)


@logm.register(Core)
def _(A: Core) -> Operator:
    return core_function(A, _matrix.logm)


@logm.register(Identity)
def _(A: Identity) -> Operator:
    return Scaled(A, 0.0)


@logm.register(Spectral)
def _(A: Spectral) -> Operator:
    return A.map(lambda x: _log(x, 0.0))


@logm.register(Convolution)
def _(A: Convolution) -> Operator:
    require_square(A, "a logarithm")
    if A.padding != "circular":
        return logm(densify(A, "logm"))
    if not A.depthwise:
        return map_blocks(A, _matrix.logm)
    return A.with_spectrum(_log(A.spectrum(), _matrix.default_rtol(A.kernel.dtype, 1)))


@logm.register(Kronecker)
def _(A: Kronecker) -> Operator:
    require_square(A, "a logarithm")
    if not is_principal(A):
        return logm(densify(A, "logm"))
    one_a, one_b = Identity(A.a.in_dim, like=A.like), Identity(A.b.in_dim, like=A.like)
    return Sum(Kronecker(logm(A.a), one_b), Kronecker(one_a, logm(A.b)))


@logm.register(Scaled)
def _(A: Scaled) -> Operator:
    if not A.value.is_complex() and bool((A.value > 0).all()):
        return add(logm(A.operator), Scaled(Identity(A.in_dim, like=A.like), A.value.log()))
    require_square(A, "a logarithm")
    return logm(densify(A, "logm"))


@logm.register(Adjoint)
def _(A: Adjoint) -> Operator:
    return adjoint(logm(A.operator))


def _time(t: float | Tensor, A: Operator) -> Tensor:
    """``t`` in the dtype of the operator."""
    try:
        time = t if isinstance(t, Tensor) else torch.as_tensor(np.asarray(t), device="cpu")
    except TypeError as error:
        raise DtypeError(
            f"t of type {type(t).__name__}", "a number or a tensor of numbers"
        ) from error
    if time.is_complex() and not A.like.is_complex():
        raise DtypeError(
            f"a complex t for an operator of dtype {A.like.dtype}",
            "a real t or a complex operator",
            "Convert the operator with .to(torch.complex64).",
        )
    return time.to(A.like)


def _log(values: Tensor, rtol: float) -> Tensor:
    _matrix.check_principal(values.detach(), "logarithm", zero_allowed=False, rtol=rtol)
    return values.log()
