"""Linear systems, damped least squares, Moore-Penrose inverse, projections onto subspaces."""

from __future__ import annotations

import torch
from torch import Tensor

from rectilinear.operators import matrix_functions as _matrix
from rectilinear.operators.algebra import add, adjoint, compose, matmul, scale
from rectilinear.operators.base import Operator, columns, matvec, unit_columns
from rectilinear.operators.convolution import Convolution
from rectilinear.operators.dense import Dense, Kronecker, densify
from rectilinear.operators.diagonal import Diagonal, Identity, Permutation
from rectilinear.operators.dispatch import unknown, verb
from rectilinear.operators.fourier import Fourier, Spectral, map_blocks
from rectilinear.operators.lazy import Adjoint, Product, Scaled
from rectilinear.operators.low_rank import Core, LowRank, ScalarPlusLowRank, balanced, to_core
from rectilinear.operators.matrix_functions import default_rtol
from rectilinear.operators.orthogonal import Idempotent, Orthogonal
from rectilinear.operators.svd import decomposed, rank, svd, svdvals


@verb()
def solve(A: object, y: Tensor, damping: float = 0.0) -> Tensor:  # noqa: ARG001 - the registered ones use it
    """The ``x`` that minimises ``|A x - y|^2 + damping |x|^2``; the shortest one without damping.

    ``y`` ``(..., m)`` and ``x`` ``(..., n)``. Without damping ``x = A^+ y``; with it ``x = (A^T A +
    damping I)^-1 A^T y``, computed without forming ``A^T A``.

    Raises:
        ConfigError: if ``damping`` is negative or not finite.
        DtypeError: if ``y`` is no tensor, or of another dtype.
        NonFiniteError: for NaN or infinite entries in ``y``.
        ShapeError: if the last axis of ``y`` is not ``out_dim``.

    Example:
        >>> solve(Diagonal(torch.tensor([2.0, 0.0])), torch.tensor([4.0, 1.0])).tolist()
        [2.0, 0.0]
        >>> solve(Diagonal(torch.tensor([1.0])), torch.tensor([4.0]), damping=1.0).tolist()
        [2.0]
    """
    raise unknown("solve", A)


@solve.register(Operator)
def _(A: Operator, y: Tensor, damping: float = 0.0) -> Tensor:
    A._check(y, A.out_dim)
    return _damped(A, y, damping) if damping else pinv(A)(y)


def _damped(A: Operator, y: Tensor, damping: float) -> Tensor:
    match A:
        case Dense():
            return matvec(damped_inverse(A.weight, damping), y)
        case Diagonal():
            return damped_reciprocal(A.values, damping) * y
        case ScalarPlusLowRank() if not A.has_gradient:
            return _damped(to_core(A), y, damping)
        case ScalarPlusLowRank():  # normal equations, smooth also at dependent factors
            gram = add(matmul(A.T, A), Scaled(Identity(A.in_dim, like=A.u), damping))
            return pinv(gram)(A.apply_adjoint(y))
        case Core():
            c = matvec(A.q.mH, y)
            rest = damped_reciprocal(A.scale, damping)
            inner = matvec(damped_inverse(A.core, damping), c)
            return rest[..., None] * y + matvec(A.q, inner - rest[..., None] * c)
        case LowRank() if A.u.shape[-1] < min(A.out_dim, A.in_dim):
            qu, qv = _matrix.span(A.u), _matrix.span(A.v.conj())
            core = (qu.mH @ A.u) @ (A.v.mT @ qv)
            return matvec(qv, matvec(damped_inverse(core, damping), matvec(qu.mH, y)))
        case Spectral():
            return A.map(lambda x: damped_reciprocal(x, damping))(y)
        case Convolution() if A.padding == "circular" and A.depthwise:
            hat = A.spectrum()
            return A.with_spectrum(damped_reciprocal(hat, damping))(y)
        case _:
            u, s, v = svd(A)
            return v(damped_reciprocal(s, damping) * u.apply_adjoint(y))


def damped_reciprocal(x: Tensor, damping: float) -> Tensor:
    """``conj(x) / (|x|^2 + damping)``, also where the square over- or underflows."""
    size = x.detach().abs().clamp_min(damping**0.5)
    if bool(((size < 1e15) & (size > 1e-15)).all()):
        return x.conj() / (x.abs() ** 2 + damping)
    unit = x / size
    return unit.conj() / (unit.abs() ** 2 + damping / size / size) / size


def damped_inverse(m: Tensor, damping: float) -> Tensor:
    """``(m^T m + damping I)^-1 m^T`` by a QR of ``[m; sqrt(damping) I]``, without ``m^T m``."""
    rows, n = m.shape[-2:]
    eye = unit_columns(n, n, m).expand(*m.shape[:-2], n, n)
    q, r = torch.linalg.qr(torch.cat([m, damping**0.5 * eye], -2))
    return torch.linalg.solve_triangular(r, q[..., :rows, :].mH, upper=True)


@verb()
def pinv(A: object, rtol: float | None = None) -> Operator:  # noqa: ARG001 - the registered ones use it
    """The Moore-Penrose inverse: ``A X A = A``, ``X A X = X``, ``A X`` and ``X A`` symmetric.

    Singular values below ``rtol`` times the largest count as zero. The inverse, where there is one.

    Raises:
        StructureError: for a large operator without a structured form.
        NonFiniteError: for NaN or infinite entries.

    Reference: Penrose, A generalized inverse for matrices (1955).

    Example:
        >>> pinv(Diagonal(torch.tensor([0.0, 2.0])))(torch.ones(2)).tolist()
        [0.0, 0.5]
    """
    raise unknown("pinv", A)


@pinv.register(Operator)
def _(A: Operator, rtol: float | None = None) -> Operator:
    return pinv(densify(A, "pinv"), rtol)


@pinv.register(Dense)
def _(A: Dense, rtol: float | None = None) -> Operator:
    return Dense(weight=_matrix.pinv(A.weight, rtol), trainable=False)


@pinv.register(Diagonal)
def _(A: Diagonal, rtol: float | None = None) -> Operator:
    return Diagonal(_inverse(A.values, A.values.abs(), 1, rtol), trainable=False)


@pinv.register(LowRank)
def _(A: LowRank, rtol: float | None = None) -> Operator:
    qu, qv = (_matrix.span(x) if x.shape[-1] <= x.shape[-2] else None for x in (A.u, A.v.conj()))
    if qu is None or qv is None:
        return pinv(Dense(weight=A.u @ A.v.mT, trainable=False), rtol)
    core = _matrix.pinv((qu.mH @ A.u) @ (A.v.mT @ qv), rtol)
    return LowRank(qv @ core, qu.conj(), trainable=False)


@pinv.register(ScalarPlusLowRank)
def _(A: ScalarPlusLowRank, rtol: float | None = None) -> Operator:
    if A.has_gradient and (inverse := _woodbury(A, rtol)) is not None:
        return inverse
    return pinv(to_core(A), rtol)


def _woodbury(A: ScalarPlusLowRank, rtol: float | None) -> Operator | None:
    """``(s I + u v^T)^-1 = (I - u (s I + v^T u)^-1 v^T) / s``; None where inaccurate."""
    r = A.u.shape[-1]
    u, v = balanced(A.u, A.v)
    core = A.scale[..., None, None] * unit_columns(r, r, u) + v.mT @ u
    rtol = _matrix.default_rtol(core.dtype, r) if rtol is None else rtol
    small = rtol * torch.linalg.matrix_norm(core.detach()) if r else torch.zeros_like(A.scale.abs())
    if bool((A.scale.detach().abs() <= small).any()):
        return None
    inverse = _matrix.inverse_if_safe(core, rtol)
    if inverse is None:
        return None
    s, left = A.scale[..., None, None], -(u @ inverse)
    if bool(torch.isfinite(left.detach() / s.detach()).all()):
        return ScalarPlusLowRank(1 / A.scale, left / s, v, trainable=False)
    return ScalarPlusLowRank(1 / A.scale, left, v / s, trainable=False)


@pinv.register(Core)
def _(A: Core, rtol: float | None = None) -> Operator:
    if A.is_full:
        return Core(A.scale, A.q, _matrix.pinv(A.core, rtol))
    rtol = _matrix.default_rtol(A.core.dtype, A.q.shape[-1]) if rtol is None else rtol
    size = A.scale.detach().abs()
    largest = svdvals(A)[..., 0].detach()
    core = _matrix.inverse_if_safe(A.core, rtol) if bool((size > rtol * largest).all()) else None
    if core is None:
        core = torch.linalg.pinv(A.core, atol=rtol * largest, rtol=0.0)
    return Core(_matrix.masked_inverse(A.scale, size > rtol * largest), A.q, core)


@pinv.register(Identity)
@pinv.register(Orthogonal)
@pinv.register(Permutation)
def _(A: Operator, rtol: float | None = None) -> Operator:  # noqa: ARG001 - the singular values are one
    return adjoint(A)


@pinv.register(Fourier)
def _(A: Fourier, rtol: float | None = None) -> Operator:  # noqa: ARG001 - the singular values are one
    return adjoint(A)


@pinv.register(Idempotent)
def _(A: Idempotent, rtol: float | None = None) -> Operator:
    return pinv(LowRank(*A.factors(), trainable=False), rtol) if A.is_oblique else A


@pinv.register(Spectral)
def _(A: Spectral, rtol: float | None = None) -> Operator:
    return A.map(lambda x: _inverse(x, x.abs(), 1, rtol))


@pinv.register(Convolution)
def _(A: Convolution, rtol: float | None = None) -> Operator:
    if A.padding != "circular":
        return pinv(densify(A, "pinv"), rtol)
    hat = A.spectrum()
    if A.depthwise:
        flat = hat.flatten()
        return A.with_spectrum(_inverse(flat, flat.abs(), 1, rtol).reshape(hat.shape))
    rtol = _matrix.default_rtol(A.kernel.dtype, A.channels) if rtol is None else rtol
    cut = float(rtol * torch.linalg.matrix_norm(hat.detach(), 2).max())
    return map_blocks(A, lambda blocks: torch.linalg.pinv(blocks, atol=cut, rtol=0.0))


@pinv.register(Kronecker)
def _(A: Kronecker, rtol: float | None = None) -> Operator:
    return Kronecker(pinv(A.a, rtol), pinv(A.b, rtol))


@pinv.register(Scaled)
def _(A: Scaled, rtol: float | None = None) -> Operator:
    return scale(pinv(A.operator, rtol), _matrix.masked_inverse(A.value, A.value != 0))


@pinv.register(Adjoint)
def _(A: Adjoint, rtol: float | None = None) -> Operator:
    return adjoint(pinv(A.operator, rtol))


@pinv.register(Product)
def _(A: Product, rtol: float | None = None) -> Operator:
    parts = list(A.parts())
    if all(p.is_square and bool((rank(p, rtol) == p.in_dim).all()) for p in parts):
        return compose(*(pinv(p, rtol) for p in reversed(parts)))
    return pinv(densify(A, "pinv"), rtol)


def _inverse(values: Tensor, size: Tensor, n: int, rtol: float | None) -> Tensor:
    rtol = _matrix.default_rtol(size.dtype, n) if rtol is None else rtol
    size = size.detach()
    return _matrix.masked_inverse(values, size > rtol * size.amax(-1, keepdim=True))


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

    Singular values below ``rtol`` times the largest count as zero.

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
