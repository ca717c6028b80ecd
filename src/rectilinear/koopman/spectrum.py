"""Eigenvalues of a Koopman model: complex pairs and reals, per unit of time, inside the unit circle where asked."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rectilinear._pretrained import Configured
from rectilinear.operators import Identity, Spectral


class Spectrum(Configured):
    """The operators ``A^t = exp(t L)``, with blocks ``[[a, -b], [b, a]]`` and then reals in ``L``.

    With ``stable=True`` the real parts are ``-|growth|``: no eigenvalue of ``A`` leaves the unit circle, whatever the
    training does. Any real matrix with a basis of eigenvectors is similar to such an ``A``; the network absorbs the
    basis. ``t`` is any real time.

    Args:
        growth: real parts, pairs first and then reals, ``(h + r,)``, per unit of time.
        frequency: imaginary parts of the pairs, ``(h,)``, in radians per unit of time.
        stable: keep the spectral radius at most 1.

    Example:
        >>> spectrum = Spectrum(torch.tensor([0.1, -0.2]), torch.tensor([1.0]), stable=True)
        >>> spectrum.operator(2.0).eigenvalues().abs().max() <= 1
        tensor(True)
    """

    def __init__(self, growth: Tensor, frequency: Tensor, *, stable: bool = True) -> None:
        super().__init__()
        self.growth, self.frequency = nn.Parameter(growth.detach()), nn.Parameter(frequency.detach())
        self.stable = stable
        self.dim = len(growth) + len(frequency)

    def exponents(self) -> Tensor:
        """One eigenvalue of ``L`` of each pair, then the real ones: ``(h + r,)`` complex."""
        growth = -self.growth.abs() if self.stable else self.growth
        rest = len(growth) - len(self.frequency)
        return torch.complex(growth, torch.cat([self.frequency, self.frequency.new_zeros(rest)]))

    def operator(self, t: float | Tensor = 1.0) -> Spectral:
        """``A^t``; for ``t`` of shape ``(...,)`` an operator of that batch shape."""
        exponents = self.exponents()
        time = torch.as_tensor(t, dtype=self.growth.dtype, device=self.growth.device)
        values = torch.exp(time[..., None] * exponents)
        identity = Identity(self.dim, like=self.growth)
        return Spectral(identity, values.real, values.imag[..., : len(self.frequency)], trainable=False)
