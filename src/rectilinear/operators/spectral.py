"""Normal operators: a fixed orthogonal basis, real eigenvalues and complex pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rectilinear.errors import DtypeError, ShapeError
from rectilinear.operators.base import Operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Size


class Spectral(Operator):
    """``A = Q D Q^T`` with orthogonal ``Q`` and ``D`` of ``p`` blocks ``[[a, -b], [b, a]]`` and then ``n - 2p`` reals.

    ``real`` ``(..., n - p)`` holds the real parts of all eigenvalues, pairs first; ``imag`` ``(..., p)`` the ``b`` of
    the pairs.
    Every function of ``A`` with ``f(conj x) = conj f(x)`` acts on the eigenvalues alone.

    Raises:
        ShapeError: if the numbers of eigenvalues and of coordinates disagree.

    Example:
        >>> from rectilinear.operators.identity import Identity
        >>> turn = Spectral(Identity(2), torch.zeros(1), torch.ones(1))
        >>> turn(torch.tensor([1.0, 0.0])).tolist()
        [0.0, 1.0]
    """

    real: Tensor
    imag: Tensor

    def __init__(self, basis: Operator, real: Tensor, imag: Tensor, *, trainable: bool = True) -> None:
        super().__init__()
        if real.is_complex() or imag.is_complex():
            raise _complex_parts()
        n, m, p = basis.in_dim, real.shape[-1], imag.shape[-1]
        if m + p != n or p > m or not basis.is_square:
            raise ShapeError(f"{m} real and {p} imaginary parts", f"n - p and p for a basis of n = {n}")
        self.basis = basis
        self._hold(trainable, real=real, imag=imag)
        self.in_dim = self.out_dim = n

    @property
    def batch_shape(self) -> Size:
        return torch.broadcast_shapes(self.real.shape[:-1], self.imag.shape[:-1], self.basis.batch_shape)

    def eigenvalues(self) -> Tensor:
        """``(..., n - p)`` complex: one of each pair, then the real ones."""
        if self.real.is_complex():
            raise _complex_parts()
        pairs, rest = self.imag.shape[-1], self.real.shape[-1] - self.imag.shape[-1]
        zeros = self.real.new_zeros(*self.real.shape[:-1], rest)
        imag = self.imag.expand(*torch.broadcast_shapes(self.imag.shape[:-1], self.real.shape[:-1]), pairs)
        zeros = zeros.expand(*imag.shape[:-1], rest)
        return torch.complex(self.real.expand(*imag.shape[:-1], -1).contiguous(), torch.cat([imag, zeros], -1))

    def map(self, function: Callable[[Tensor], Tensor]) -> Spectral:
        """``f(A)`` for a function of the eigenvalues."""
        values = function(self.eigenvalues())
        return Spectral(self.basis, values.real, values.imag[..., : self.imag.shape[-1]], trainable=False)

    def _matvec(self, z: Tensor) -> Tensor:
        return self._times(z, self.imag)

    def _rmatvec(self, z: Tensor) -> Tensor:
        return self._times(z, -self.imag)

    def _times(self, z: Tensor, b: Tensor) -> Tensor:
        if self.real.is_complex():
            raise _complex_parts()
        z = self.basis.apply_adjoint(z)
        p = b.shape[-1]
        a, rest = self.real[..., :p], self.real[..., p:]
        x, y = z[..., : 2 * p : 2], z[..., 1 : 2 * p : 2]
        pairs = torch.stack(torch.broadcast_tensors(a * x - b * y, b * x + a * y), -1).flatten(-2)
        tail = rest * z[..., 2 * p :]
        lead = torch.broadcast_shapes(pairs.shape[:-1], tail.shape[:-1])
        return self.basis(torch.cat([pairs.expand(*lead, -1), tail.expand(*lead, -1)], -1))


def _complex_parts() -> DtypeError:
    return DtypeError(
        "complex numbers for a Spectral operator",
        "real and imaginary parts as two real tensors",
        "Use Dense or Diagonal.",
    )
