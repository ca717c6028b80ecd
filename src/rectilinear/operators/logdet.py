"""The logarithm of the absolute determinant."""

from __future__ import annotations

import torch
from torch import Tensor

from rectilinear.operators.base import Operator, require_square, unit_columns
from rectilinear.operators.convolution import Convolution
from rectilinear.operators.dense import Dense, Kronecker, densify
from rectilinear.operators.diagonal import Diagonal, Identity, Permutation
from rectilinear.operators.dispatch import unknown, verb
from rectilinear.operators.fourier import Fourier, Spectral
from rectilinear.operators.lazy import Adjoint, Product, Scaled
from rectilinear.operators.low_rank import Core, LowRank, ScalarPlusLowRank, balanced
from rectilinear.operators.orthogonal import Idempotent, Orthogonal


@verb(infinite=True)
def logdet(A: object) -> Tensor:
    """``log |det A|`` of a square operator, of batch shape; ``-inf`` for a singular one.

    Raises:
        ShapeError: if ``A`` is not square.
        StructureError: for a large operator without a structured form.

    Example:
        >>> logdet(ScalarPlusLowRank(torch.tensor(1.0), torch.zeros(5, 1), torch.ones(5, 1))).item()
        0.0
    """
    raise unknown("logdet", A)


@logdet.register(Operator)
def _(A: Operator) -> Tensor:
    require_square(A, "a determinant")
    return logdet(densify(A, "logdet"))


@logdet.register(Dense)
def _(A: Dense) -> Tensor:
    require_square(A, "a determinant")
    return torch.linalg.slogdet(A.weight).logabsdet


@logdet.register(Diagonal)
def _(A: Diagonal) -> Tensor:
    return A.values.abs().log().sum(-1)


@logdet.register(LowRank)
@logdet.register(Idempotent)
def _(A: LowRank | Idempotent) -> Tensor:
    require_square(A, "a determinant")
    u, v = A.factors() if isinstance(A, Idempotent) else (A.u, A.v)
    if u.shape[-1] < A.in_dim:
        return torch.full(A.batch_shape, float("-inf"), dtype=u.real.dtype, device=u.device)
    return torch.linalg.slogdet(u @ v.mT).logabsdet


@logdet.register(ScalarPlusLowRank)
def _(A: ScalarPlusLowRank) -> Tensor:
    n, r = A.u.shape[-2:]
    if r >= n:
        return logdet(
            Dense(
                weight=A.scale[..., None, None] * unit_columns(n, n, A.u) + A.u @ A.v.mT,
                trainable=False,
            )
        )
    u, v = balanced(A.u, A.v)
    core = A.scale[..., None, None] * unit_columns(r, r, u) + v.mT @ u
    return (n - r) * A.scale.abs().log() + torch.linalg.slogdet(core).logabsdet


@logdet.register(Core)
def _(A: Core) -> Tensor:
    inner = torch.linalg.slogdet(A.core).logabsdet
    return inner if A.is_full else (A.in_dim - A.q.shape[-1]) * A.scale.abs().log() + inner


@logdet.register(Identity)
@logdet.register(Orthogonal)
@logdet.register(Permutation)
@logdet.register(Fourier)
def _(A: Operator) -> Tensor:
    like = A.like
    return torch.zeros(A.batch_shape, dtype=like.real.dtype, device=like.device)


@logdet.register(Spectral)
def _(A: Spectral) -> Tensor:
    size = A.eigenvalues().abs().log()
    return size.sum(-1) + size[..., : A.imag.shape[-1]].sum(-1)


@logdet.register(Convolution)
def _(A: Convolution) -> Tensor:
    require_square(A, "a determinant")
    if A.padding != "circular":
        return logdet(densify(A, "logdet"))
    hat = A.spectrum()
    return hat.abs().log().sum() if A.depthwise else torch.linalg.slogdet(hat).logabsdet.sum()


@logdet.register(Kronecker)
def _(A: Kronecker) -> Tensor:
    if not A.a.is_square:
        require_square(A, "a determinant")
        return torch.full((), float("-inf"), dtype=A.like.real.dtype, device=A.like.device)
    return A.b.in_dim * logdet(A.a) + A.a.in_dim * logdet(A.b)


@logdet.register(Scaled)
def _(A: Scaled) -> Tensor:
    return A.in_dim * A.value.abs().log() + logdet(A.operator)


@logdet.register(Adjoint)
def _(A: Adjoint) -> Tensor:
    return logdet(A.operator)


@logdet.register(Product)
def _(A: Product) -> Tensor:
    parts = list(A.parts())
    if not all(part.is_square for part in parts):
        require_square(A, "a determinant")
        return logdet(densify(A, "logdet"))
    return torch.stack(torch.broadcast_tensors(*map(logdet, parts))).sum(0)
