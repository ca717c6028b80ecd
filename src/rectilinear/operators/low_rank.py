"""Operators of low rank, and multiples of the identity plus one, held by their factors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Size, Tensor

from rectilinear.checks import check_finite
from rectilinear.errors import ShapeError
from rectilinear.operators.base import Operator, matvec, require_matrix, unit_columns
from rectilinear.operators.dispatch import verb
from rectilinear.operators.matrix_functions import span


class LowRank(Operator):
    """The operator ``A = u v^T``, ``R^n -> R^m``: ``u`` ``(..., m, r)``, ``v`` ``(..., n, r)``.

    The factors are parameters unless ``trainable`` is False.

    Raises:
        ShapeError: if the factors have different numbers of columns.

    Example:
        >>> LowRank(torch.ones(3, 1), torch.ones(2, 1))(torch.tensor([1.0, 2.0])).tolist()
        [3.0, 3.0, 3.0]
    """

    u: Tensor
    v: Tensor

    def __init__(self, u: Tensor, v: Tensor, *, trainable: bool = True) -> None:
        super().__init__()
        self._hold(trainable, u=u, v=v)
        check_factors(u, v)
        self.out_dim, self.in_dim = u.shape[-2], v.shape[-2]

    @property
    def batch_shape(self) -> Size:
        return torch.broadcast_shapes(self.u.shape[:-2], self.v.shape[:-2])

    def _matvec(self, z: Tensor) -> Tensor:
        return matvec(self.u, matvec(self.v.mT, z))

    def _rmatvec(self, z: Tensor) -> Tensor:
        return matvec(self.v.conj(), matvec(self.u.mH, z))


def check_factors(u: Tensor, v: Tensor) -> None:
    """Raise unless ``u`` and ``v`` are matrices with equally many columns."""
    require_matrix(u, "u")
    require_matrix(v, "v")
    if u.shape[-1] != v.shape[-1]:
        raise ShapeError(
            f"u of shape {tuple(u.shape)} and v of shape {tuple(v.shape)}",
            "equal numbers of columns",
            "A = u v^T.",
        )


class ScalarPlusLowRank(Operator):
    """``A = scale I + u v^T`` with ``scale`` ``(...)`` and ``u``, ``v`` ``(..., n, r)``.

    All three are parameters unless ``trainable`` is False. Closed under sum, product, adjoint,
    inverse, pseudo-inverse, exponential, logarithm and powers; no verb decomposes more than a ``2r
    x 2r`` matrix.

    Raises:
        ShapeError: if ``u`` and ``v`` have different shapes.

    Example:
        >>> A = ScalarPlusLowRank(torch.tensor(2.0), torch.ones(3, 1), torch.ones(3, 1))
        >>> A(torch.tensor([1.0, 0.0, 0.0])).tolist()
        [3.0, 1.0, 1.0]
    """

    scale: Tensor
    u: Tensor
    v: Tensor

    def __init__(self, scale: Tensor, u: Tensor, v: Tensor, *, trainable: bool = True) -> None:
        super().__init__()
        self._hold(trainable, scale=scale, u=u, v=v)
        check_factors(u, v)
        if u.shape[-2] != v.shape[-2]:
            raise ShapeError(
                f"u with {u.shape[-2]} rows and v with {v.shape[-2]}",
                "equally many",
                "A is square.",
            )
        self.in_dim = self.out_dim = u.shape[-2]

    @property
    def batch_shape(self) -> Size:
        return torch.broadcast_shapes(self.scale.shape, self.u.shape[:-2], self.v.shape[:-2])

    @property
    def has_gradient(self) -> bool:
        """True if results are part of a graph: verbs are then smooth at dependent factors, too."""
        return torch.is_grad_enabled() and any(
            x.requires_grad for x in (self.scale, self.u, self.v)
        )

    def _matvec(self, z: Tensor) -> Tensor:
        return self.scale[..., None] * z + matvec(self.u, matvec(self.v.mT, z))

    def _rmatvec(self, z: Tensor) -> Tensor:
        return self.scale.conj()[..., None] * z + matvec(self.v.conj(), matvec(self.u.mH, z))


class Core(Operator):
    """``A = scale (I - q q^H) + q core q^H``: a multiple of the identity but for a small core.

    ``scale`` ``(...)``, ``q`` ``(..., n, k)`` with orthonormal columns, ``core`` ``(..., k, k)``. A
    matrix function of ``A`` is that of ``scale`` and of ``core``.

    Example:
        >>> A = Core(torch.tensor(2.0), torch.eye(3, 1), torch.tensor([[5.0]]))
        >>> A(torch.ones(3)).tolist()
        [5.0, 2.0, 2.0]
    """

    scale: Tensor
    q: Tensor
    core: Tensor

    def __init__(self, scale: Tensor, q: Tensor, core: Tensor, *, trainable: bool = False) -> None:
        super().__init__()
        self._hold(trainable, scale=scale, q=q, core=core)
        k = q.shape[-1]
        if core.shape[-2:] != (k, k):
            raise ShapeError(
                f"a core of shape {tuple(core.shape)}", f"(..., {k}, {k}), as q has {k} columns"
            )
        self.in_dim = self.out_dim = q.shape[-2]

    @property
    def batch_shape(self) -> Size:
        return torch.broadcast_shapes(self.scale.shape, self.q.shape[:-2], self.core.shape[:-2])

    @property
    def is_full(self) -> bool:
        """True if the core is all of ``A``, and ``scale`` has no part in it."""
        return self.q.shape[-1] == self.in_dim

    def _matvec(self, z: Tensor) -> Tensor:
        return self._times(self.core, self.scale, z)

    def _rmatvec(self, z: Tensor) -> Tensor:
        return self._times(self.core.mH, self.scale.conj(), z)

    def _times(self, core: Tensor, scale: Tensor, z: Tensor) -> Tensor:
        c, scale = matvec(self.q.mH, z), scale[..., None]
        return scale * z + matvec(self.q, matvec(core, c) - scale * c)


def balanced(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Factors ``u t`` (nearly orthonormal) and ``v t^-T`` of the same ``u v^T``, ``t`` a constant.

    What is computed from ``v^T u`` is then as well conditioned as ``u v^T`` allows. Dependent
    columns stay small.
    """
    if not u.shape[-1]:
        return u, v
    for factor in (u, v):
        check_finite(factor.detach(), "an operator's factors")
    with torch.no_grad():
        s, vh = torch.linalg.svd(torch.linalg.qr(u).R)[1:]
        s = torch.maximum(s, 1e-3 * s[..., :1])
        s = torch.where(s == 0, 1, s)[..., None, :]
    return u @ (vh.mH / s), v @ (vh.mT * s)


def to_core(A: ScalarPlusLowRank) -> Core:
    """``A`` as a :class:`Core`, on an orthonormal basis of the span of ``u`` and ``v``."""
    n, r = A.u.shape[-2:]
    u, v = torch.broadcast_tensors(A.u, A.v)
    q = unit_columns(n, n, u) if 2 * r >= n else span(torch.cat([u, v.conj()], -1))
    k = q.shape[-1]
    core = A.scale[..., None, None] * unit_columns(k, k, u) + (q.mH @ u) @ (v.mT @ q)
    return Core(A.scale, q, core)


def from_core(A: Core) -> ScalarPlusLowRank:
    """``A`` as ``scale I + (q (core - scale I)) q^T``."""
    k = A.q.shape[-1]
    u = A.q @ (A.core - A.scale[..., None, None] * unit_columns(k, k, A.q))
    return ScalarPlusLowRank(A.scale, u, A.q.conj(), trainable=False)


class Compressed(NamedTuple):
    """An operator of lower rank, and the spectral norm of what was left out."""

    operator: ScalarPlusLowRank
    error: Tensor


@verb()
def compress(A: ScalarPlusLowRank, tol: float = 0.0, max_rank: int | None = None) -> Compressed:
    """The nearest ``scale I + (rank k)``, smallest ``k`` with a spectral error of at most ``tol``.

    ``scale`` is kept and ``u v^T`` truncated: the error is the first singular value left out, for
    every batch element. ``max_rank`` bounds ``k`` and may make the error larger than ``tol``.

    Example:
        >>> A = ScalarPlusLowRank(torch.tensor(1.0), torch.ones(4, 3), torch.ones(4, 3))
        >>> compress(A, tol=1e-4).operator.u.shape
        torch.Size([4, 1])
    """
    qu, qv = torch.linalg.qr(A.u), torch.linalg.qr(A.v)
    left, s, right = torch.linalg.svd(qu.R @ qv.R.mT)
    keep = int((s > tol).sum(-1).max()) if s.numel() else 0
    keep = keep if max_rank is None else min(keep, max_rank)
    error = s[..., keep] if keep < s.shape[-1] else torch.zeros_like(s[..., :1].sum(-1))
    u = qu.Q @ (left[..., :keep] * s[..., None, :keep])
    v = qv.Q @ right.mT[..., :keep]
    return Compressed(ScalarPlusLowRank(A.scale, u, v, trainable=False), error)
