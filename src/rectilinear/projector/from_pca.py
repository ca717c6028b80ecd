"""The projector to start from: that of PCA, with couplings that have yet to bend it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rectilinear.errors import ConfigError
from rectilinear.invertible import (
    MLP,
    AdditiveCoupling,
    AffineCoupling,
    Chain,
    Invertible,
    Leading,
    Rotation,
    Scaling,
    VectorFlow,
)
from rectilinear.invertible.image import on_pixels
from rectilinear.metrics import pca
from rectilinear.projector.model import Projector
from rectilinear.projector.selection import Selection, informative

_NEGLIGIBLE = 1e-4  # of the total error: less than this no rank is held to leave


def from_pca(
    images: Tensor,
    rank: int | None,
    *,
    leading: int = 128,
    blocks: int = 8,
    width: int = 128,
    coupling: Literal["additive", "affine"] = "affine",
    noise: float = 0.05,
    pixel_blocks: int = 0,
    pixel_width: int = 32,
) -> tuple[Projector, Tensor]:
    """A projector equal to that of PCA until it is trained, and the mean square errors of PCA of
    rank 0, 1, ..., n.

    ``g`` turns images to principal coordinates at unit scale, couples the leading ones, moves the
    others by one coupling that reads the leading ones, and scales back.

    Args:
        images: ``(b, *shape)``; where they are fewer than the ``n`` values of one, axes that no
            image needs come last.
        rank: of the range; learned from Kaiser's rule on where None.
        leading: principal coordinates that the couplings work on.
        blocks: couplings.
        width: width of their conditioners.
        coupling: their kind.
        noise: least standard deviation that a latent is held to have.
        pixel_blocks: convolutional couplings on the pixels, before the axes; the sides must be
            even.
        pixel_width: channels of their conditioners.

    Returns:
        The projector and the errors, ``(n + 1,)``.

    Raises:
        ConfigError: if the rank is out of range.

    Example:
        >>> x = torch.randn(99, 1, 2, 3)
        >>> f, lost = from_pca(x, rank=2, blocks=2, width=8)
        >>> torch.allclose((f(x) - x).square().mean(), lost[2], rtol=0.05)
        True
    """
    mean, axes, std = (part.to(images) for part in pca(images, complete=True))
    n, shape, variances = len(mean), tuple(images.shape[1:]), std.square()
    if rank is not None and not 1 <= rank <= n:
        raise ConfigError(f"rank {rank}", f"1 to {n}, the size of an image", "Correct the rank.")
    scale, m = (variances + noise**2).sqrt(), min(leading, n)
    vectors = VectorFlow(m, blocks, width, coupling=coupling, scale_budget=blocks / 2)
    couplings: list[Invertible] = [Leading(vectors, n)]
    if m < n and coupling == "additive":
        couplings.append(AdditiveCoupling(n, MLP(m, n - m, width, hidden=0), keep=m))
    elif m < n:
        couplings.append(AffineCoupling(n, MLP(m, 2 * (n - m), width, hidden=0), keep=m))
    into = (
        on_pixels(shape, pixel_blocks, pixel_width),
        Rotation.from_matrix(axes, mean),
        Scaling(1 / scale),
    )
    g = Chain(*into, *couplings, Scaling(scale)).to(images)
    selection = (
        Selection(informative(variances)) if rank is None else Selection.leading(n, rank).to(images)
    )
    lost = torch.cat([variances.flip(0).cumsum(0).flip(0), variances.new_zeros(1)]) / n
    return Projector(g, selection, spread=scale), lost.clamp(min=_NEGLIGIBLE * lost[0].item())
