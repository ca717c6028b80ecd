"""Projections: operators that equal their square whatever their parameters."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from rectilinear.checks import single
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.operators.base import Operator
from rectilinear.operators.shapes import matvec, require_matrix


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
                raise ShapeError(f"{name} of shape {tuple(tensor.shape)}", f"({dim}, {rank})")
            else:
                self._hold(trainable, **{name: tensor})

    @classmethod
    def from_basis(
        cls, basis: Tensor, cobasis: Tensor | None = None, *, trainable: bool = True
    ) -> Self:
        """The projection onto the span of ``basis`` ``(n, r)``; along the complement of ``cobasis``
        where given.
        """
        require_matrix(basis, "basis")
        return cls(
            basis.shape[0], basis.shape[1], basis=basis, cobasis=cobasis, trainable=trainable
        )

    @property
    def is_oblique(self) -> bool:
        return self.cobasis is not None

    def factors(self) -> tuple[Tensor, Tensor]:
        """``u``, ``v`` with ``A = u v^T`` and ``v^T u = I``; equal and orthonormal for an
        orthogonal projection.
        """
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
