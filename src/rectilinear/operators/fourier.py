"""Fourier bases, Fourier blocks of circular convolutions, and normal operators."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Size, Tensor

from rectilinear.checks import single
from rectilinear.errors import DtypeError, ShapeError
from rectilinear.operators.base import Operator
from rectilinear.operators.convolution import Convolution
from rectilinear.operators.matrix_functions import svd


class Fourier(Operator):
    """The unitary inverse Fourier transform of each channel of ``shape`` ``(c, *spatial)``.

    With ``real=True`` the Hartley transform, ``cos + sin`` instead of ``cos + i sin``: real,
    symmetric, orthogonal. ``like`` gives the dtype and device of its matrix.

    Reference: Bracewell, The Hartley transform (1986).

    Example:
        >>> A = Fourier((1, 4), real=True)
        >>> z = torch.randn(4)
        >>> bool(torch.allclose(A(A(z)), z, atol=1e-6))
        True
    """

    _any_dtype = True

    def __init__(
        self, shape: tuple[int, ...], *, real: bool = False, like: Tensor | None = None
    ) -> None:
        super().__init__()
        self.shape, self.real = tuple(shape), real
        self.in_dim = self.out_dim = torch.Size(self.shape).numel()
        self.register_buffer("marker", (torch.empty(0) if like is None else like.new_empty(0)))

    def _matvec(self, z: Tensor) -> Tensor:
        if self.real and z.is_complex():
            return torch.complex(self._matvec(z.real), self._matvec(z.imag))
        dims = tuple(range(1 - len(self.shape), 0))
        out = torch.fft.ifftn(single(z).unflatten(-1, self.shape), dim=dims, norm="ortho")
        return ((out.real + out.imag).to(z.dtype) if self.real else out).flatten(-len(self.shape))

    def _rmatvec(self, z: Tensor) -> Tensor:
        if self.real:
            return self._matvec(z)  # the matrix is symmetric
        dims = tuple(range(1 - len(self.shape), 0))
        return torch.fft.fftn(z.unflatten(-1, self.shape), dim=dims, norm="ortho").flatten(
            -len(self.shape)
        )


def map_blocks(A: Convolution, function: Callable[[Tensor], Tensor]) -> Convolution:
    """The circular convolution with blocks ``function(blocks of A)``, ``(frequencies, out, in)``.

    Each pair of conjugate frequencies is computed once, and frequencies that are their own partners
    in real numbers, so the result is real.
    """
    hat = A.spectrum()
    return A.with_spectrum(_by_pairs(hat.flatten(0, -3), A, function).unflatten(0, A.spatial))


def svd_blocks(A: Convolution) -> tuple[Convolution, Tensor, Convolution]:
    """``u``, ``s`` (flat), ``v``: ``A = u H diag(s) H^T v^T``, ``H`` the Hartley transform."""
    if A.depthwise:
        hat = A.spectrum()
        size = hat.abs()
        phase = torch.where(size == 0, 1, hat / torch.where(size == 0, 1, size))
        return A.with_spectrum(phase), size.flatten(), A.with_spectrum(torch.ones_like(hat))
    k = min(A.channels, A.out_shape[0])

    def decompose(blocks: Tensor) -> Tensor:
        u, s, vh = svd(blocks)
        return torch.cat([u, vh.mH, s.to(u)[..., None, :]], -2)

    stacked = _by_pairs(A.spectrum().flatten(0, -3), A, decompose)
    u, v, s = stacked.split([A.out_shape[0], A.channels, 1], -2)
    s = s.real.squeeze(-2).reshape(*A.spatial, k).movedim(-1, 0).flatten()
    return A.with_spectrum(u.unflatten(0, A.spatial)), s, A.with_spectrum(v.unflatten(0, A.spatial))


def _by_pairs(blocks: Tensor, A: Convolution, function: Callable[[Tensor], Tensor]) -> Tensor:
    if A.kernel.is_complex():  # no conjugate pairs
        return function(blocks)
    spatial = A.spatial
    index = torch.arange(len(blocks), device=blocks.device)
    grid = index.reshape(spatial)
    partner = grid
    for axis in range(len(spatial)):
        partner = torch.roll(torch.flip(partner, (axis,)), 1, axis)
    partner = partner.flatten()
    single, first = index[partner == index], index[index < partner]
    alone = function(blocks[single].real)
    alone = alone if alone.is_complex() else torch.complex(alone, torch.zeros_like(alone))
    pairs = function(blocks[first])
    where = torch.cat([single, first, partner[first]])
    return torch.cat([alone, pairs, pairs.conj()])[where.argsort()]


class Spectral(Operator):
    """``A = Q D Q^T``: orthogonal ``Q``; ``D`` has ``p`` blocks ``[[a, -b], [b, a]]``, then reals.

    ``basis`` is ``Q``; ``real`` ``(..., n - p)`` holds the real parts of all eigenvalues, pairs
    first; ``imag`` ``(..., p)`` the ``b`` of the pairs; both are parameters if ``trainable``. Every
    function of ``A`` with ``f(conj x) = conj f(x)`` acts on the eigenvalues alone.

    Raises:
        ShapeError: if the numbers of eigenvalues and of coordinates disagree.

    Example:
        >>> from rectilinear.operators.diagonal import Identity
        >>> turn = Spectral(Identity(2), torch.zeros(1), torch.ones(1))
        >>> turn(torch.tensor([1.0, 0.0])).tolist()
        [0.0, 1.0]
    """

    real: Tensor
    imag: Tensor

    def __init__(
        self, basis: Operator, real: Tensor, imag: Tensor, *, trainable: bool = True
    ) -> None:
        super().__init__()
        if real.is_complex() or imag.is_complex():
            raise _complex_parts()
        n, m, p = basis.in_dim, real.shape[-1], imag.shape[-1]
        if m + p != n or p > m or not basis.is_square:
            raise ShapeError(
                f"{m} real and {p} imaginary parts", f"n - p and p for a basis of n = {n}"
            )
        self.basis = basis
        self._hold(trainable, real=real, imag=imag)
        self.in_dim = self.out_dim = n

    @property
    def batch_shape(self) -> Size:
        return torch.broadcast_shapes(
            self.real.shape[:-1], self.imag.shape[:-1], self.basis.batch_shape
        )

    def eigenvalues(self) -> Tensor:
        """``(..., n - p)`` complex: one of each pair, then the real ones."""
        if self.real.is_complex():
            raise _complex_parts()
        pairs, rest = self.imag.shape[-1], self.real.shape[-1] - self.imag.shape[-1]
        zeros = self.real.new_zeros(*self.real.shape[:-1], rest)
        imag = self.imag.expand(
            *torch.broadcast_shapes(self.imag.shape[:-1], self.real.shape[:-1]), pairs
        )
        zeros = zeros.expand(*imag.shape[:-1], rest)
        return torch.complex(
            self.real.expand(*imag.shape[:-1], -1).contiguous(), torch.cat([imag, zeros], -1)
        )

    def map(self, function: Callable[[Tensor], Tensor]) -> Spectral:
        """``f(A)`` for a function of the eigenvalues."""
        values = function(self.eigenvalues())
        return Spectral(
            self.basis, values.real, values.imag[..., : self.imag.shape[-1]], trainable=False
        )

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
        "Pass real and imag, or use Dense or Diagonal.",
    )
