"""The Fourier basis: complex, and its real counterpart."""

from __future__ import annotations

import torch
from torch import Tensor

from rectilinear._shapes import single
from rectilinear.operators.base import Operator


class Fourier(Operator):
    """The unitary inverse Fourier transform of each channel of ``shape`` ``(c, *spatial)``; columns are waves.

    With ``real=True`` the Hartley transform, ``cos + sin`` instead of ``cos + i sin``: real, symmetric, orthogonal.

    Reference: Bracewell, The Hartley transform (1986).

    Example:
        >>> A = Fourier((1, 4), real=True)
        >>> z = torch.randn(4)
        >>> bool(torch.allclose(A(A(z)), z, atol=1e-6))
        True
    """

    _any_dtype = True

    def __init__(self, shape: tuple[int, ...], *, real: bool = False, like: Tensor | None = None) -> None:
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
        return torch.fft.fftn(z.unflatten(-1, self.shape), dim=dims, norm="ortho").flatten(-len(self.shape))
