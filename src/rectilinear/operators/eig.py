"""The eigen-decomposition."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rectilinear.checks import check_finite
from rectilinear.notebook import short_repr
from rectilinear.operators import matrix_functions as _matrix
from rectilinear.operators.algebra import matmul
from rectilinear.operators.base import Operator, require_square, unit_columns
from rectilinear.operators.convolution import Convolution
from rectilinear.operators.dense import Dense, Kronecker, densify, to_dense
from rectilinear.operators.diagonal import Diagonal, Identity, Permutation
from rectilinear.operators.dispatch import unknown, verb
from rectilinear.operators.fourier import Fourier, Spectral
from rectilinear.operators.lazy import Product, Scaled
from rectilinear.operators.low_rank import Core, LowRank, ScalarPlusLowRank
from rectilinear.operators.matrix_functions import span
from rectilinear.operators.orthogonal import Idempotent, completion, framed


class Eig(NamedTuple):
    """``A V = V diag(values)``: complex ``values`` ``(..., n)``, largest first; operator ``V``."""

    values: Tensor
    vectors: Operator

    def __repr__(self) -> str:
        return short_repr(self)


@verb()
def eig(A: object) -> Eig:
    """The eigen-decomposition ``A V = V diag(values)`` of a square operator.

    ``values`` are complex, largest absolute value first; ``vectors`` is an operator whose columns
    are eigenvectors of norm one.

    Raises:
        ShapeError: if ``A`` is not square.
        StructureError: for a large operator without a structured form.

    Example:
        >>> eig(Diagonal(torch.tensor([1.0, -3.0]))).values.real.tolist()
        [-3.0, 1.0]
    """
    raise unknown("eig", A)


@eig.register(Operator)
def _(A: Operator) -> Eig:
    require_square(A, "eigenvalues")
    return eig(densify(A, "eig"))


@eig.register(Dense)
def _(A: Dense) -> Eig:
    require_square(A, "eigenvalues")
    check_finite(A.weight.detach(), "the operator")
    values, vectors = _matrix.eig(A.weight)
    values, order = _sorted(values)
    vectors = vectors.gather(-1, order[..., None, :].expand_as(vectors))
    return Eig(values, Dense(weight=vectors, trainable=False))


@eig.register(Diagonal)
def _(A: Diagonal) -> Eig:
    return _picked(_complex(A.values), Identity(A.in_dim, like=_complex(A.values)))


@eig.register(Identity)
def _(A: Identity) -> Eig:
    like = A.like
    return Eig(_complex(torch.ones(A.in_dim, dtype=like.dtype, device=like.device)), A)


@eig.register(LowRank)
def _(A: LowRank) -> Eig:
    require_square(A, "eigenvalues")
    return eig(ScalarPlusLowRank(A.u.new_zeros(()), A.u, A.v, trainable=False))


@eig.register(Idempotent)
def _(A: Idempotent) -> Eig:
    return eig(LowRank(*A.factors(), trainable=False))


@eig.register(ScalarPlusLowRank)
def _(A: ScalarPlusLowRank) -> Eig:
    n, r = A.u.shape[-2:]
    if r >= n:
        return eig(Dense(weight=to_dense(A), trainable=False))
    q = span(A.u)  # A maps it to itself: A q = q (scale I + q^T u v^T q)
    core = A.scale[..., None, None] * unit_columns(r, r, q) + (q.mH @ A.u) @ (A.v.mT @ q)
    return _around(A.scale, core, q, span(A.v.conj()))


@eig.register(Core)
def _(A: Core) -> Eig:
    return (
        eig(Dense(weight=to_dense(A), trainable=False))
        if A.is_full
        else _around(A.scale, A.core, A.q, A.q)
    )


def _around(scale: Tensor, core: Tensor, q: Tensor, p: Tensor) -> Eig:
    """From ``A q = q core``, and ``A z = scale z`` for all ``z`` orthogonal to ``p``."""
    check_finite(core.detach(), "the operator")
    values, vectors = _matrix.eig(core)
    lead = torch.broadcast_shapes(values.shape[:-1], scale.shape)
    rest = _complex(scale)[..., None].expand(*lead, p.shape[-2] - values.shape[-1])
    frame = framed(completion(p), q.to(vectors) @ vectors, torch.ones_like(scale))
    return _picked(torch.cat([values.expand(*lead, -1), rest], -1), frame)


@eig.register(Spectral)
def _(A: Spectral) -> Eig:
    p, values = A.imag.shape[-1], A.eigenvalues()
    pairs = torch.stack([values[..., :p], values[..., :p].conj()], -1).flatten(-2)
    return _picked(torch.cat([pairs, values[..., p:]], -1), PairVectors(A.basis, p))


@eig.register(Convolution)
def _(A: Convolution) -> Eig:
    require_square(A, "eigenvalues")
    if A.padding != "circular":
        return eig(densify(A, "eig"))
    hat = A.spectrum()
    waves = Fourier(A.shape, like=hat)
    if A.depthwise:
        return _picked(hat.flatten(), waves)
    values, vectors = _matrix.eig(hat)
    whole = Convolution(A.shape, A.kernel.to(hat.dtype), trainable=False).with_spectrum(vectors)
    return _picked(values.movedim(-1, 0).flatten(), Product(whole, waves))


@eig.register(Kronecker)
def _(A: Kronecker) -> Eig:
    require_square(A, "eigenvalues")
    if not A.a.is_square:
        return eig(densify(A, "eig"))
    a, b = eig(A.a), eig(A.b)
    return _picked(torch.outer(a.values, b.values).flatten(), Kronecker(a.vectors, b.vectors))


@eig.register(Scaled)
def _(A: Scaled) -> Eig:
    values, vectors = eig(A.operator)
    return Eig(A.value[..., None] * values, vectors)


class PairVectors(Operator):
    """Eigenvectors of ``Spectral``: ``(q_1 -+ i q_2) / sqrt 2`` of each pair, then the rest.

    Example:
        >>> z = torch.tensor([1.0 + 0j, 0.0])
        >>> PairVectors(Identity(2), 1)(z).abs().square().sum().round().item()
        1.0
    """

    _any_dtype = True

    def __init__(self, basis: Operator, pairs: int) -> None:
        super().__init__()
        self.basis, self.pairs = basis, pairs
        self.in_dim = self.out_dim = basis.in_dim

    def _matvec(self, z: Tensor) -> Tensor:
        x, y = z[..., : 2 * self.pairs : 2], z[..., 1 : 2 * self.pairs : 2]
        turned = torch.stack([x + y, -1j * (x - y)], -1).flatten(-2) / 2**0.5
        z = torch.cat([turned, z[..., 2 * self.pairs :]], -1)
        return torch.complex(self.basis(z.real.contiguous()), self.basis(z.imag.contiguous()))

    def _rmatvec(self, z: Tensor) -> Tensor:
        real, imag = (self.basis.apply_adjoint(part.contiguous()) for part in (z.real, z.imag))
        z = torch.complex(real, imag)
        x, y = z[..., : 2 * self.pairs : 2], z[..., 1 : 2 * self.pairs : 2]
        turned = torch.stack([x + 1j * y, x - 1j * y], -1).flatten(-2) / 2**0.5
        return torch.cat([turned, z[..., 2 * self.pairs :]], -1)


def _complex(x: Tensor) -> Tensor:
    return x if x.is_complex() else torch.complex(x, torch.zeros_like(x))


def _sorted(values: Tensor) -> tuple[Tensor, Tensor]:
    order = values.detach().abs().argsort(stable=True, dim=-1, descending=True)
    return values.gather(-1, order), order


def _picked(values: Tensor, vectors: Operator) -> Eig:
    values, order = _sorted(values)
    return Eig(values, matmul(vectors, Permutation(order, like=values)))
