"""Linear systems, least squares and damping."""

from __future__ import annotations

import torch
from torch import Tensor

from rectilinear.operators import _matrix
from rectilinear.operators._shape import matvec, unit_columns
from rectilinear.operators._verb import verb
from rectilinear.operators.algebra import add, matmul
from rectilinear.operators.base import Operator
from rectilinear.operators.convert import unknown
from rectilinear.operators.convolution import Convolution
from rectilinear.operators.dense import Dense
from rectilinear.operators.diagonal import Diagonal
from rectilinear.operators.identity import Identity
from rectilinear.operators.lazy import Scaled
from rectilinear.operators.low_rank import LowRank
from rectilinear.operators.pinv import pinv
from rectilinear.operators.scalar_low_rank import Core, ScalarPlusLowRank, to_core
from rectilinear.operators.spectral import Spectral
from rectilinear.operators.svd import svd


@verb()
def solve(A: object, y: Tensor, damping: float = 0.0) -> Tensor:  # noqa: ARG001 - the registered ones use it
    """The ``x`` that minimises ``|A x - y|^2 + damping |x|^2``; the shortest one without damping.

    ``y`` ``(..., m)`` and ``x`` ``(..., n)``. Without damping ``x = A^+ y``; with it
    ``x = (A^T A + damping I)^-1 A^T y``, computed without forming ``A^T A``.

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
        case ScalarPlusLowRank():  # the normal equations, smooth also where the factors are dependent
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
    """``(m^T m + damping I)^-1 m^T`` by a QR of ``[m; sqrt(damping) I]``, without squaring its condition number."""
    rows, n = m.shape[-2:]
    eye = unit_columns(n, n, m).expand(*m.shape[:-2], n, n)
    q, r = torch.linalg.qr(torch.cat([m, damping**0.5 * eye], -2))
    return torch.linalg.solve_triangular(r, q[..., :rows, :].mH, upper=True)
