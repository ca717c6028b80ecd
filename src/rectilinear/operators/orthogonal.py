"""Orthogonal operators, projections (idempotent operators), completions of orthonormal bases."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from rectilinear.checks import single, tolerance
from rectilinear.errors import ConfigError, InputError, ShapeError
from rectilinear.operators.base import Operator, matvec, require_matrix, unit_columns
from rectilinear.operators.low_rank import ScalarPlusLowRank


class Orthogonal(Operator):
    """A product ``H_1 ... H_k`` of reflections ``I - 2 w_i w_i^T / |w_i|^2``: always orthogonal.

    Applied as ``I - W S^-1 W^T`` (compact WY), where ``S`` is the upper triangle of ``W^T W`` with
    half its diagonal: ``4 n k`` operations and a ``k x k`` triangular solve. ``k = dim`` reaches
    every orthogonal matrix.

    Args:
        dim: ``n``.
        reflections: ``k``, by default ``n``.
        matrix: a fixed orthogonal matrix instead, as :meth:`from_matrix` sets it.

    Reference: Joffrain et al., Accumulating Householder transformations, revisited (2006).

    Example:
        >>> A = Orthogonal(5)
        >>> z = torch.randn(5)
        >>> bool(torch.isclose(A(z).norm(), z.norm()))
        True
    """

    reflectors: Tensor
    matrix: Tensor | None

    def __init__(
        self, dim: int, reflections: int | None = None, matrix: Tensor | None = None
    ) -> None:
        super().__init__()
        self.in_dim = self.out_dim = self.dim = dim
        if matrix is None:
            self._hold(
                True, reflectors=torch.randn(dim, dim if reflections is None else reflections)
            )
            self.matrix = None
        else:
            _check_orthogonal(matrix)
            self._hold(False, matrix=matrix)

    @classmethod
    def from_matrix(cls, q: Tensor) -> Self:
        """The operator of a given orthogonal matrix ``(n, n)``, held as a buffer.

        Raises:
            InputError: if ``q`` is not square with orthonormal columns.
        """
        require_matrix(q, "q")
        return cls(q.shape[-1], matrix=q)

    def _matvec(self, z: Tensor) -> Tensor:
        return self._times(z, adjoint=False)

    def _rmatvec(self, z: Tensor) -> Tensor:
        return self._times(z, adjoint=True)

    def _times(self, z: Tensor, *, adjoint: bool) -> Tensor:
        if self.matrix is not None:
            return matvec(self.matrix.mH if adjoint else self.matrix, z)
        w = self.reflectors
        gram = w.mH @ w
        upper = gram.triu(1) + torch.diag_embed(gram.diagonal() / 2)
        inner = z @ w.conj()
        flat = inner.flatten(0, -2).mT if inner.ndim > 1 else inner[:, None]
        upper = single(upper.mH if adjoint else upper)
        middle = torch.linalg.solve_triangular(upper, single(flat), upper=not adjoint).to(
            flat.dtype
        )
        return z - middle.mT.reshape(inner.shape) @ w.mT


def _check_orthogonal(q: Tensor) -> None:
    n = q.shape[-1]
    if q.shape != (n, n):
        raise InputError(
            f"a matrix of shape {tuple(q.shape)}", "a square one", "Complete the basis first."
        )
    error = float((q.mH @ q - torch.eye(n, dtype=q.dtype, device=q.device)).abs().max())
    if not error <= tolerance(q.dtype, n=n):
        raise InputError(
            f"a matrix with |q^T q - I| = {error:.2g}",
            "an orthogonal one",
            "Use torch.linalg.qr(q).Q.",
        )


class Completion(NamedTuple):
    """A unitary ``G = I - y t y^H``; its first ``k`` columns span those of ``q``."""

    y: Tensor
    yt: Tensor
    lead: Tensor


@torch.no_grad()
def completion(q: Tensor) -> Completion:
    """Complete an orthonormal ``q`` ``(..., n, k)``.

    With ``q_1 = U S V^H`` its top block, ``z = -V U^H`` and ``E`` the first unit columns, ``y = q z
    - E`` and ``t = U (I + S)^-1 U^H`` give ``G E = q z``. The condition number of ``I + S`` is at
      most 2, so every ``q`` will do,
    and ``y`` does not change when the basis is turned inside its span.
    """
    n, k = q.shape[-2:]
    u, s, vh = torch.linalg.svd(q[..., :k, :])
    lead = -q @ (vh.mH @ u.mH)
    y = lead - unit_columns(n, k, q)
    return Completion(y, y @ (u / (1 + s)[..., None, :]) @ u.mH, lead)


def framed(frame: Completion, lead: Tensor, sign: Tensor) -> ScalarPlusLowRank:
    """The operator with first columns ``lead``, then ``sign`` times the completing ones."""
    n, k = lead.shape[-2:]
    c = sign[..., None, None]
    y = frame.y.to(lead)
    first = lead - (c * frame.lead).to(lead)
    u = torch.cat(torch.broadcast_tensors(-(c * frame.yt).to(lead), first), -1)
    v = torch.cat(torch.broadcast_tensors(y.conj(), unit_columns(n, k, lead).expand_as(y)), -1)
    return ScalarPlusLowRank(sign.to(lead), u, v, trainable=False)


class Idempotent(Operator):
    """A projection of rank ``r``, with ``A A = A`` for all values of its parameters.

    Orthogonal, ``A = Q Q^T`` with ``Q`` an orthonormal basis of ``basis`` ``(n, r)``, or oblique
    along the complement of another basis, ``A = P (R^T P)^-1 R^T``.

    Args:
        dim: ``n``.
        rank: ``r <= n``.
        oblique: learn a second basis, ``cobasis`` ``(n, r)``.
        basis: the basis to start from.
        cobasis: the second basis to start from; implies ``oblique``.

    Raises:
        ConfigError: if the rank is not between 1 and ``dim``.

    Example:
        >>> A = Idempotent(6, 2)
        >>> z = torch.randn(6)
        >>> bool(torch.allclose(A(A(z)), A(z), atol=1e-6))
        True
    """

    basis: Tensor
    cobasis: Tensor | None

    def __init__(
        self,
        dim: int,
        rank: int,
        *,
        oblique: bool = False,
        basis: Tensor | None = None,
        cobasis: Tensor | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__()
        if not 1 <= rank <= dim:
            raise ConfigError(f"rank {rank}", f"1 to {dim}", "A rank of 0 is 0 * Identity(dim).")
        self.in_dim = self.out_dim = self.dim = dim
        self.rank = rank
        basis = torch.randn(dim, rank) if basis is None else basis
        if cobasis is None and oblique:
            cobasis = (
                basis.detach() + torch.randn_like(basis) / 4
            )  # near the orthogonal one, so well conditioned
        for name, tensor in (("basis", basis), ("cobasis", cobasis)):
            if tensor is None:
                self.register_buffer(name, None)
            elif tensor.shape != (dim, rank):
                raise ShapeError(
                    f"{name} of shape {tuple(tensor.shape)}",
                    f"({dim}, {rank})",
                    f"Write {name}.T." if tensor.shape == (rank, dim) else "",
                )
            else:
                self._hold(trainable, **{name: tensor})

    @classmethod
    def from_basis(
        cls, basis: Tensor, cobasis: Tensor | None = None, *, trainable: bool = True
    ) -> Self:
        """The projection onto the span of ``basis`` ``(n, r)``: ``z - A z`` normal to ``cobasis``.

        By default ``cobasis`` is ``basis``: the orthogonal projection. Both are parameters unless
        ``trainable`` is False.
        """
        require_matrix(basis, "basis")
        return cls(
            basis.shape[0], basis.shape[1], basis=basis, cobasis=cobasis, trainable=trainable
        )

    @property
    def is_oblique(self) -> bool:
        return self.cobasis is not None

    def factors(self) -> tuple[Tensor, Tensor]:
        """``u``, ``v`` with ``A = u v^T`` and ``v^T u = I``; equal for an orthogonal projection."""
        q = torch.linalg.qr(single(self.basis)).Q
        if self.cobasis is None:
            q = q.to(self.basis.dtype)
            return q, q.conj()
        r = torch.linalg.qr(single(self.cobasis)).Q
        return q.to(self.basis.dtype), torch.linalg.solve(r.mH @ q, r.mH).mT.to(self.basis.dtype)

    def _matvec(self, z: Tensor) -> Tensor:
        u, v = self.factors()
        return matvec(u, z @ v)

    def _rmatvec(self, z: Tensor) -> Tensor:
        u, v = self.factors()
        return matvec(v.conj(), z @ u.conj())
