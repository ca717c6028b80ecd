"""The rounding errors of a network's outputs, below which nothing about it can be measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear.audit.network import Network

ROWS = 64  # rows on which the arithmetic is repeated in another precision
MARGIN = 4.0  # rounding errors that a variation must exceed to be one
TO_DEVIATION = 1.4826  # from the median of normal errors to their standard deviation


@dataclass(frozen=True, eq=False)
class Resolution:
    """Sizes (roots of mean squares) of rounding errors of each output, ``(O,)`` in float64.

    Attributes:
        stored: of writing down the output in its dtype, a twelfth of the square of its last digit.
        computed: of the arithmetic of the whole network, at least those.
        dtype: its name.
        hides: whether outputs vary in the other precision.
    """

    stored: Tensor
    computed: Tensor
    dtype: str
    hides: bool = False

    def scaled(self, factor: float) -> Resolution:
        """Of outputs times a number, of which it is not known whether they vary elsewhere."""
        return Resolution(factor * self.stored, factor * self.computed, self.dtype)

    def mixed(self, head: Tensor) -> Resolution:
        """Of linear combinations of the outputs, ``(O, k)``."""
        squares = head.double().cpu().square()
        stored, computed = ((sizes.square() @ squares).sqrt() for sizes in (self.stored, self.computed))
        return Resolution(stored, computed, self.dtype, self.hides)


def resolution(network: Network, rows: Tensor) -> Resolution:
    """The rounding errors of the outputs on these rows, measured against the same arithmetic in another precision.

    Half precision and float32 are compared with float64; the errors of float64 are those that float32 makes, times the
    ratio of the two resolutions. Where the network runs in its own precision only, what remains is
    the last digit of its outputs.

    Example:
        >>> from rectilinear.audit.network import as_network
        >>> net = torch.nn.Linear(3, 1)
        >>> _ = torch.nn.init.constant_(net.bias, 1e4)
        >>> x = torch.randn(50, 3)
        >>> 1e-4 < float(resolution(as_network(net, x), x).stored) < 1e-3
        True
    """
    rows = rows[:ROWS]
    dtype = network.like.dtype
    eps = torch.finfo(dtype).eps
    f = network(rows).double().cpu()
    size = f.abs()
    digit = torch.where(size > 0, eps * torch.exp2(size.clamp_min(1e-300).log2().floor()), torch.zeros_like(size))
    stored = (digit.square().mean(0) / 12).sqrt()
    other = torch.float32 if dtype == torch.float64 else torch.float64
    wide = network.in_precision(other)
    if wide is None:
        return Resolution(stored, stored, _name(dtype))
    with torch.no_grad():
        out = wide.raw(rows).double().cpu()
    gap = (out - f).abs()
    if dtype == torch.float64:
        gap = gap * (eps / torch.finfo(other).eps)
    measured = TO_DEVIATION * gap.median(0).values.nan_to_num(0.0, posinf=0.0)  # float32 overflows before float64
    return Resolution(stored, torch.maximum(stored, measured), _name(dtype), bool((out != out[:1]).any()))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
