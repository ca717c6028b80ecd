"""Sums, products, multiples and adjoints: in closed form where one exists, lazy otherwise.

No rule makes an operator with more entries than those it is made from.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectilinear.errors import DtypeError
from rectilinear.operators.base import Operator, adjoint_columns, as_factor, columns, unit_columns
from rectilinear.operators.convolution import Convolution, reflect
from rectilinear.operators.dense import Dense, Kronecker, to_dense
from rectilinear.operators.diagonal import Diagonal, Identity, Permutation
from rectilinear.operators.dispatch import rules
from rectilinear.operators.fourier import Fourier, Spectral
from rectilinear.operators.lazy import Adjoint, Product, Scaled, Sum, check_product, check_sum
from rectilinear.operators.low_rank import Core, LowRank, ScalarPlusLowRank, from_core
from rectilinear.operators.orthogonal import Idempotent

_SMALL = (Dense, Diagonal, Identity, Permutation, LowRank, ScalarPlusLowRank, Core, Scaled)


@rules()
def adjoint(A: Operator) -> Operator:
    """``A^T``, with ``<A z, y> = <z, A^T y>``.

    Example:
        >>> adjoint(Dense(3, 5)).in_dim
        5
    """
    match A:
        case Dense():
            return Dense(weight=A.weight.mH, trainable=False)
        case Diagonal() if A.values.is_complex():
            return Diagonal(A.values.conj(), trainable=False)
        case Diagonal() | Identity():
            return A
        case Permutation():
            return Permutation(A.order.argsort(-1), like=A.like)
        case LowRank():
            return LowRank(A.v.conj(), A.u.conj(), trainable=False)
        case ScalarPlusLowRank():
            return ScalarPlusLowRank(A.scale.conj(), A.v.conj(), A.u.conj(), trainable=False)
        case Core():
            return Core(A.scale.conj(), A.q, A.core.mH)
        case Idempotent() if not A.is_oblique:
            return A
        case Convolution():
            return _adjoint_convolution(A)
        case Fourier() if A.real:
            return A
        case Spectral():
            return Spectral(A.basis, A.real, -A.imag, trainable=False)
        case Kronecker():
            return Kronecker(adjoint(A.a), adjoint(A.b))
        case Scaled():
            return Scaled(
                adjoint(A.operator), A.factor.conj() if A.factor.is_complex() else A.factor
            )
        case Sum():
            return Sum(*map(adjoint, A.parts()))
        case Product():
            return Product(*map(adjoint, reversed(list(A.parts()))))
        case Adjoint():
            return A.operator
        case _:
            return Adjoint(A)


@rules()
def scale(A: Operator, factor: float | Tensor) -> Operator:
    """``factor A`` with a number or a tensor of batch shape.

    Example:
        >>> scale(Diagonal(torch.ones(2)), 3.0).values.tolist()
        [3.0, 3.0]
    """
    exact = as_factor(factor, A)
    c = exact.to(A.like)
    match A:
        case Dense():
            return Dense(weight=c[..., None, None] * A.weight, trainable=False)
        case Diagonal():
            return Diagonal(c[..., None] * A.values, trainable=False)
        case LowRank():
            return LowRank(c[..., None, None] * A.u, A.v, trainable=False)
        case ScalarPlusLowRank():
            return ScalarPlusLowRank(c * A.scale, c[..., None, None] * A.u, A.v, trainable=False)
        case Core():
            return Core(c * A.scale, A.q, c[..., None, None] * A.core)
        case Convolution() if c.ndim == 0:
            return Convolution(A.shape, c * A.kernel, A.padding, trainable=False)
        case Spectral():
            return Spectral(A.basis, c[..., None] * A.real, c[..., None] * A.imag, trainable=False)
        case Kronecker() if c.ndim == 0:
            return Kronecker(scale(A.a, exact), A.b)
        case Sum():
            return Sum(*(scale(part, exact) for part in A.parts()))
        case Scaled() if not isinstance(A.factor, nn.Parameter):
            return Scaled(A.operator, exact.to(A.factor.device) * A.factor)
        case _:
            return Scaled(A, exact)


def compose(*operators: Operator) -> Operator:
    """``A_1 A_2 ... A_k``: the last is applied first.

    Example:
        >>> compose(Dense(3, 4), Dense(2, 3), Dense(2, 2)).in_dim
        2
    """
    return reduce(matmul, operators)


def _check_product(A: Operator, B: Operator) -> None:
    check_product(A, B)
    _check_dtypes(A, B, "product")


def _check_sum(A: Operator, B: Operator) -> None:
    check_sum(A, B)
    _check_dtypes(A, B, "sum")


def _check_dtypes(A: Operator, B: Operator, what: str) -> None:
    if A._any_dtype or B._any_dtype or (a := A.like.dtype) == (b := B.like.dtype):
        return
    raise DtypeError(
        f"a {what} of operators of dtype {a} and {b}", "one dtype", f"Convert one with .to({b})."
    )


@rules(_check_product)
def matmul(A: Operator, B: Operator) -> Operator:
    """``A B``: ``B`` is applied first.

    Raises:
        ShapeError: if the inner dimensions differ.

    Example:
        >>> A, B = Diagonal(torch.tensor([1.0, 2.0])), Diagonal(torch.tensor([3.0, 4.0]))
        >>> matmul(A, B).values.tolist()
        [3.0, 8.0]
    """
    match A, B:
        case Identity(), _:
            return B
        case _, Identity():
            return A
        case Scaled(), _ if not isinstance(A.factor, nn.Parameter):
            return scale(matmul(A.operator, B), A.factor)
        case _, Scaled() if not isinstance(B.factor, nn.Parameter):
            return scale(matmul(A, B.operator), B.factor)
        case Idempotent(), Idempotent() if A is B:
            return A
        case Idempotent(), _:
            return matmul(_as_low_rank(A), B)
        case _, Idempotent():
            return matmul(A, _as_low_rank(B))
        case Diagonal(), Diagonal():
            return Diagonal(A.values * B.values, trainable=False)
        case Permutation(), Permutation() if not A.batch_shape and not B.batch_shape:
            return Permutation(A.order[B.order], like=A.like)
        case Dense(), Dense():
            if A.in_dim * (A.out_dim + B.in_dim) < A.out_dim * B.in_dim:
                return LowRank(A.weight, B.weight.mT, trainable=False)
            return Dense(weight=A.weight @ B.weight, trainable=False)
        case (ScalarPlusLowRank() | Core(), ScalarPlusLowRank() | Core()):
            return _scalar_product(_as_scalar(A), _as_scalar(B))
        case LowRank(), _:
            return LowRank(A.u, adjoint_columns(B, A.v.conj()).conj(), trainable=False)
        case _, LowRank():
            return LowRank(columns(A, B.u), B.v, trainable=False)
        case Convolution(), Convolution() if (
            _circular(A, B) and A.shape == B.out_shape and A.depthwise == B.depthwise
        ):
            hat = A.spectrum() * B.spectrum() if A.depthwise else A.spectrum() @ B.spectrum()
            return B.with_spectrum(hat)
        case Spectral(), Spectral() if _same_basis(A, B):
            return _with_eigenvalues(A, A.eigenvalues() * B.eigenvalues())
        case Kronecker(), Kronecker() if A.a.in_dim == B.a.out_dim and A.b.in_dim == B.b.out_dim:
            return Kronecker(matmul(A.a, B.a), matmul(A.b, B.b))
        case Dense(), _ if B.in_dim <= B.out_dim:
            return Dense(weight=adjoint_columns(B, A.weight.mH).mH, trainable=False)
        case _, Dense() if A.out_dim <= A.in_dim:
            return Dense(weight=columns(A, B.weight), trainable=False)
        case _:
            return Product(*_flat(A, Product), *_flat(B, Product))


@rules(_check_sum)
def add(A: Operator, B: Operator) -> Operator:
    """``A + B``.

    Raises:
        ShapeError: if the shapes differ.

    Example:
        >>> add(Identity(3), LowRank(torch.ones(3, 1), torch.ones(3, 1)))
        ScalarPlusLowRank(3 x 3)
    """
    A, B = _as_low_rank(A), _as_low_rank(B)
    for left, right in ((A, B), (B, A)):
        if isinstance(left, Dense) and isinstance(right, _SMALL):
            return Dense(weight=left.weight + to_dense(right).to(left.weight), trainable=False)
        if (total := _add_multiple(left, right)) is not None:
            return total
    match A, B:
        case Diagonal(), Diagonal():
            return Diagonal(A.values + B.values, trainable=False)
        case LowRank(), LowRank():
            return _low_rank_or_dense(_cat(A.u, B.u), _cat(A.v, B.v))
        case (ScalarPlusLowRank() | Core() | LowRank(), ScalarPlusLowRank() | Core() | LowRank()):
            a, b = _as_scalar(A), _as_scalar(B)
            return _scalar_or_dense(a.scale + b.scale, _cat(a.u, b.u), _cat(a.v, b.v))
        case Convolution(), Convolution() if _same_frame(A, B):
            size = tuple(map(max, A.size, B.size))
            return Convolution(
                A.shape, _grown(A, size) + _grown(B, size), A.padding, trainable=False
            )
        case Spectral(), Spectral() if _same_basis(A, B):
            return _with_eigenvalues(A, A.eigenvalues() + B.eigenvalues())
        case _:
            return Sum(*_flat(A, Sum), *_flat(B, Sum))


def _add_multiple(A: Operator, B: Operator) -> Operator | None:
    """``A + c I`` where ``B`` is ``c I`` and that has a closed form."""
    if (exact := _multiple_of_one(B)) is None:
        return None
    if (other := _multiple_of_one(A)) is not None:
        return Scaled(Identity(A.in_dim, like=A.like), exact + other)
    c = exact.to(A.like)
    match A:
        case Diagonal():
            return Diagonal(A.values + c[..., None], trainable=False)
        case LowRank():
            return ScalarPlusLowRank(c, A.u, A.v, trainable=False)
        case ScalarPlusLowRank():
            return ScalarPlusLowRank(A.scale + c, A.u, A.v, trainable=False)
        case Core():
            k = A.q.shape[-1]
            return Core(A.scale + c, A.q, A.core + c[..., None, None] * unit_columns(k, k, A.q))
        case Spectral():
            return Spectral(A.basis, A.real + c[..., None], A.imag, trainable=False)
        case Convolution() if c.ndim == 0:
            delta = torch.zeros_like(A.kernel)
            centre = tuple((k - 1) // 2 for k in A.size)
            diagonal = delta
            for index in reversed(centre):
                diagonal = diagonal.select(-1, index)
            (diagonal if A.depthwise else diagonal.diagonal()).fill_(1)
            return Convolution(A.shape, A.kernel + c * delta, A.padding, trainable=False)
        case _:
            return None


def _multiple_of_one(A: Operator) -> Tensor | None:
    """``c`` where ``A`` is ``c I``."""
    match A:
        case Identity():
            return torch.ones((), dtype=torch.float64, device=A.like.device)
        case Scaled() if isinstance(A.operator, Identity):
            return A.factor
    return None


def _as_low_rank(A: Operator) -> Operator:
    """A multiple of a projection as its factors; any other operator as it is."""
    if isinstance(A, Scaled) and isinstance(A.operator, Idempotent):
        return scale(_as_low_rank(A.operator), A.factor)
    return LowRank(*A.factors(), trainable=False) if isinstance(A, Idempotent) else A


def _as_scalar(A: Operator) -> ScalarPlusLowRank:
    match A:
        case ScalarPlusLowRank():
            return A
        case Core():
            return from_core(A)
        case LowRank():
            return ScalarPlusLowRank(A.u.new_zeros(()), A.u, A.v, trainable=False)
    raise AssertionError(type(A))


def _scalar_product(A: ScalarPlusLowRank, B: ScalarPlusLowRank) -> Operator:
    """``(s I + u v^T)(t I + x y^T) = s t I + u (t v + y x^T v)^T + s x y^T``."""
    v = B.scale[..., None, None] * A.v + B.v @ (B.u.mT @ A.v)
    u = A.scale[..., None, None] * B.u
    return _scalar_or_dense(A.scale * B.scale, _cat(A.u, u), _cat(v, B.v))


def _scalar_or_dense(scale: Tensor, u: Tensor, v: Tensor) -> Operator:
    n, r = u.shape[-2:]
    if 2 * r <= n:
        return ScalarPlusLowRank(scale, u, v, trainable=False)
    return Dense(weight=scale[..., None, None] * unit_columns(n, n, u) + u @ v.mT, trainable=False)


def _low_rank_or_dense(u: Tensor, v: Tensor) -> Operator:
    (m, r), n = u.shape[-2:], v.shape[-2]
    return (
        LowRank(u, v, trainable=False)
        if r * (m + n) <= m * n
        else Dense(weight=u @ v.mT, trainable=False)
    )


def _cat(a: Tensor, b: Tensor) -> Tensor:
    batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return torch.cat([a.expand(*batch, -1, -1), b.expand(*batch, -1, -1)], -1)


def _adjoint_convolution(A: Convolution) -> Convolution:
    """The flipped kernel; an even axis grows by a zero, which moves the centre to the adjoint's."""
    d = len(A.spatial)
    if (
        any(k % 2 == 0 and k == n for k, n in zip(A.size, A.spatial, strict=True))
        and A.padding == "circular"
    ):
        hat = A.spectrum()
        axes = range(-d, 0) if A.depthwise else range(-d - 2, -2)
        hat = hat.conj() if A.kernel.is_complex() else reflect(hat, axes)
        return A.with_spectrum(hat if A.depthwise else hat.mT)
    pad = [p for k in reversed(A.size) for p in (0, 1 - k % 2)]
    kernel = functional.pad(torch.flip(A.kernel, tuple(range(-d, 0))).conj(), pad)
    return Convolution(
        A.out_shape, kernel if A.depthwise else kernel.transpose(0, 1), A.padding, trainable=False
    )


def _grown(A: Convolution, size: tuple[int, ...]) -> Tensor:
    """The kernel padded with zeros to ``size``, its centre in the centre."""
    pad = []
    for k, new in zip(reversed(A.size), reversed(size), strict=True):
        before = (new - 1) // 2 - (k - 1) // 2
        pad += [before, new - k - before]
    return functional.pad(A.kernel, pad)


def _circular(A: Convolution, B: Convolution) -> bool:
    return A.padding == B.padding == "circular"


def _same_frame(A: Convolution, B: Convolution) -> bool:
    return (A.padding, A.shape, A.kernel.ndim) == (B.padding, B.shape, B.kernel.ndim)


def _same_basis(A: Spectral, B: Spectral) -> bool:
    return A.basis is B.basis and A.imag.shape[-1] == B.imag.shape[-1]


def _with_eigenvalues(A: Spectral, values: Tensor) -> Spectral:
    return A.map(lambda _: values)


def _flat(A: Operator, kind: type[Sum | Product]) -> list[Operator]:
    return list(A.parts()) if isinstance(A, kind) else [A]
