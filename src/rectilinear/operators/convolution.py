"""Convolutions, circular and zero-padded."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from rectilinear.checks import single
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.operators.base import Operator


class Convolution(Operator):
    """A convolution over arrays of ``shape`` ``(c, *spatial)``, flattened to vectors.

    ``(A z)[o, x] = sum_{i, k} kernel[o, i, k] z[i, x + k - centre]`` with ``centre = (size - 1) //
    2`` on each axis, as ``torch.nn.functional.conv`` with "same" padding. The circular kind is
    diagonal by blocks in Fourier space, where its verbs are computed, and these return
    convolutions; the zero-padded kind is not. The kernel is a parameter unless ``trainable`` is
    False.

    Args:
        shape: ``(c, *spatial)`` with one to three spatial axes.
        kernel: ``(out_channels, c, *size)``, or ``(c, *size)`` for one filter a channel
            (depth-wise).
        padding: ``"circular"`` or ``"zeros"``.

    Raises:
        ShapeError: if the kernel does not fit the shape, or is larger and circular.
        ConfigError: for another padding.

    Example:
        >>> blur = Convolution((1, 4), torch.tensor([[0.25, 0.5, 0.25]]))
        >>> blur(torch.tensor([1.0, 0.0, 0.0, 0.0])).tolist()
        [0.5, 0.25, 0.0, 0.25]
    """

    kernel: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        kernel: Tensor,
        padding: Literal["circular", "zeros"] = "circular",
        *,
        trainable: bool = True,
    ) -> None:
        super().__init__()
        self.shape, self.padding = tuple(shape), padding
        self.channels, self.spatial = self.shape[0], self.shape[1:]
        d = len(self.spatial)
        self._hold(trainable, kernel=kernel)
        if padding not in ("circular", "zeros"):
            raise ConfigError(f"padding {padding!r}", "'circular' or 'zeros'")
        if (
            not 1 <= d <= 3
            or kernel.ndim - d not in (1, 2)
            or kernel.shape[-d - 1] != self.channels
        ):
            raise ShapeError(
                f"a kernel of shape {tuple(kernel.shape)} for arrays of shape {self.shape}",
                (
                    f"({self.channels}, *size) or (out, {self.channels}, *size) with one to three "
                    "spatial axes"
                ),
                "Put the channels first.",
            )
        if padding == "circular" and any(
            k > n for k, n in zip(kernel.shape[-d:], self.spatial, strict=True)
        ):
            raise ShapeError(
                f"a kernel of size {tuple(kernel.shape[-d:])}",
                f"at most {self.spatial}",
                "Crop it.",
            )
        self.depthwise = kernel.ndim == d + 1
        self.out_shape = self.shape if self.depthwise else (kernel.shape[0], *self.spatial)
        self.in_dim, self.out_dim = prod(self.shape), prod(self.out_shape)

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial size of the kernel."""
        return tuple(self.kernel.shape[-len(self.spatial) :])

    def spectrum(self) -> Tensor:
        """Its Fourier blocks: ``(c, *spatial)`` if depth-wise, else ``(*spatial, out, in)``."""
        d = len(self.spatial)
        dims = tuple(range(-d, 0))
        pad = [
            p
            for k, n in zip(reversed(self.size), reversed(self.spatial), strict=True)
            for p in (0, n - k)
        ]
        shift = [-((k - 1) // 2) for k in self.size]
        full = torch.roll(functional.pad(single(self.kernel), pad), shift, dims)
        hat = torch.fft.ifftn(full, dim=dims, norm="forward")  # correlation, so the conjugate waves
        return hat if self.depthwise else hat.movedim((0, 1), (-2, -1))

    def with_spectrum(self, hat: Tensor) -> Convolution:
        """The circular convolution with another spectrum, laid out as :meth:`spectrum` lays it out.

        Real where ``hat(-w)`` is the conjugate of ``hat(w)``; the caller sees to that.
        """
        d = len(self.spatial)
        dims = tuple(range(-d, 0))
        hat = hat if self.depthwise else hat.movedim((-2, -1), (0, 1))
        full = torch.fft.fftn(hat, dim=dims, norm="forward")
        full = full if self.kernel.is_complex() else full.real
        kernel = torch.roll(full, [(n - 1) // 2 for n in self.spatial], dims)
        shape = self.shape if self.depthwise else (kernel.shape[1], *self.spatial)
        return Convolution(shape, kernel, trainable=False)

    def _matvec(self, z: Tensor) -> Tensor:
        if self.padding == "zeros":
            return self._zero_padded(z, adjoint=False)
        return self._circular(z, self.spectrum(), self.shape)

    def _rmatvec(self, z: Tensor) -> Tensor:
        if self.padding == "zeros":
            return self._zero_padded(z, adjoint=True)
        hat = self.spectrum()
        if self.kernel.is_complex():
            hat = hat.conj() if self.depthwise else hat.mH
        else:
            hat = (
                reflect(hat, range(-len(self.spatial), 0))
                if self.depthwise
                else self._transposed(hat)
            )
        return self._circular(z, hat, self.out_shape)

    def _transposed(self, hat: Tensor) -> Tensor:
        return reflect(hat, range(-len(self.spatial) - 2, -2)).mT

    def _circular(self, z: Tensor, hat: Tensor, shape: tuple[int, ...]) -> Tensor:
        dims = tuple(range(-len(self.spatial), 0))
        waves = torch.fft.fftn(single(z).unflatten(-1, shape), dim=dims)
        if self.depthwise:
            out = hat * waves
        else:
            out = (
                (hat @ waves.movedim(-len(shape), -1).unsqueeze(-1))
                .squeeze(-1)
                .movedim(-1, -len(shape))
            )
        out = torch.fft.ifftn(out, dim=dims).flatten(-len(shape))
        return out if z.is_complex() or self.kernel.is_complex() else out.real.to(z.dtype)

    def _zero_padded(self, z: Tensor, *, adjoint: bool) -> Tensor:
        d = len(self.spatial)
        weight = self.kernel.unsqueeze(1) if self.depthwise else self.kernel
        groups = self.channels if self.depthwise else 1
        batch = z.shape[:-1]
        z = z.reshape(-1, *(self.out_shape if adjoint else self.shape))
        if adjoint:
            full = (
                functional.conv_transpose1d,
                functional.conv_transpose2d,
                functional.conv_transpose3d,
            )[d - 1](z, weight.conj(), groups=groups)
            for axis, (k, n) in enumerate(zip(self.size, self.spatial, strict=True)):
                full = full.narrow(axis + 2, (k - 1) // 2, n)
            return full.reshape(*batch, self.in_dim)
        pad = [p for k in reversed(self.size) for p in ((k - 1) // 2, k // 2)]
        out = (functional.conv1d, functional.conv2d, functional.conv3d)[d - 1](
            functional.pad(z, pad), weight, groups=groups
        )
        return out.reshape(*batch, self.out_dim)


def reflect(hat: Tensor, dims: range) -> Tensor:
    """``hat(-w)``: the frequencies negated on the given axes."""
    axes = tuple(dims)
    return torch.roll(torch.flip(hat, axes), [1] * len(axes), axes)
