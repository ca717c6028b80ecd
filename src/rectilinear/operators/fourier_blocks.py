"""Circular convolutions through their blocks in Fourier space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rectilinear.operators._ties import svd

if TYPE_CHECKING:
    from collections.abc import Callable

    from rectilinear.operators.convolution import Convolution


def map_blocks(A: Convolution, function: Callable[[Tensor], Tensor]) -> Convolution:
    """The circular convolution whose blocks are ``function`` of the blocks ``(frequencies, out, in)`` of a full ``A``.

    Each pair of conjugate frequencies is computed once, and frequencies that are their own partners in real numbers, so
    the result is real.
    """
    hat = A.spectrum()
    return A.with_spectrum(_by_pairs(hat.flatten(0, -3), A, function).unflatten(0, A.spatial))


def svd_blocks(A: Convolution) -> tuple[Convolution, Tensor, Convolution]:
    """``u``, ``s``, ``v`` with ``A = u H diag(s) H^T v^T`` for the Hartley transform ``H``; ``s`` is flat."""
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
