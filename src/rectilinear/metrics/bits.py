"""Log-likelihoods in the unit that compression counts in."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

from rectilinear._shapes import check_finite, check_floating
from rectilinear.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


def bits_per_dimension(log_prob: Tensor, dim: int, levels: int = 256) -> Tensor:
    """Bits that a density costs for each coordinate of quantised data, ``log2(levels) - log_prob / (dim log 2)``.

    ``log_prob`` is the natural log-density of data on the unit range, whose neighbouring levels lie ``1 / levels``
    apart and to which uniform noise of that width was added. A uniform density costs ``log2(levels)``.

    Args:
        log_prob: log-densities, any shape.
        dim: coordinates of one sample.
        levels: steps of quantisation on the unit range, 256 for bytes divided by 256.

    Returns:
        Bits per dimension, the shape of ``log_prob``.

    Raises:
        ConfigError: if ``dim`` or ``levels`` is below 1.
        NonFiniteError: if a log-density is NaN or infinite.

    Reference: L. Theis, A. van den Oord, M. Bethge, A note on the evaluation of generative models, ICLR 2016.

    Example:
        >>> import torch
        >>> bits_per_dimension(torch.zeros(2), dim=784)
        tensor([8., 8.])
    """
    check_floating(log_prob, "log_prob")
    check_finite(log_prob, "log_prob")
    if dim < 1 or levels < 1:
        raise ConfigError(f"dim = {dim}, levels = {levels}", "at least 1 each", "Correct it.")
    return log(levels, 2) - log_prob / (dim * log(2))
