"""A new model of styles, ready to train."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rectilinear.errors import ConfigError
from rectilinear.invertible import ImageFlow
from rectilinear.operators import Convolution
from rectilinear.style.model import StyleTransfer

if TYPE_CHECKING:
    from collections.abc import Sequence


def new_model(
    shape: tuple[int, int, int],
    styles: Sequence[str],
    blocks: int = 8,
    width: int = 32,
    levels: int = 2,
    kernel: int = 5,
    *,
    shared: bool = False,
) -> StyleTransfer:
    """Two convolutional networks on pictures of ``shape`` ``(c, h, w)``, and a circular convolution for each style.

    Such operators are small, diagonal (in blocks of ``c x c``) in a Fourier basis, and closed under sums, products,
    pseudo-inverses and powers. They start at zero: :class:`StyleObjective` starts them at least squares.

    Args:
        shape: of the pictures; height and width must be divisible by ``2^levels``.
        styles: their names.
        blocks: couplings of each network.
        width: of their conditioners.
        levels: resolutions of each network.
        kernel: side of the operators' kernels, odd.
        shared: one network for pictures and for styled pictures, which makes the styles operators of one space.

    Raises:
        ConfigError: for no styles, two of one name, or an even kernel.
        ShapeError: if the shape does not fit the levels or the kernel.

    Example:
        >>> model = new_model((3, 16, 16), ["soft", "ink"], blocks=4, width=16)
        >>> model.names, model.operator("ink").kernel.shape
        (('soft', 'ink'), torch.Size([3, 3, 5, 5]))
    """
    if len(set(styles)) != len(styles):
        raise ConfigError(f"styles {', '.join(styles)}", "different names", "Name each once.")
    if kernel < 1 or kernel % 2 == 0:
        raise ConfigError(f"kernel = {kernel}", "an odd number", "Kernels have a centre.")
    g_in, *g_out = (
        ImageFlow(shape, blocks, width, levels=levels, actnorm=True, seed=seed) for seed in range(1 if shared else 2)
    )
    operators = {name: Convolution(shape, torch.zeros(shape[0], shape[0], kernel, kernel)) for name in styles}
    return StyleTransfer(g_in, operators, *g_out)
