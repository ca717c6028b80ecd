"""The invertible network of styles: image blocks of any height and width, affine couplings."""

from __future__ import annotations

from functools import cache
from math import pi, sqrt
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectilinear.checks import check_floating
from rectilinear.errors import ConfigError, DtypeError, ShapeError
from rectilinear.invertible.conditioners import zero
from rectilinear.random import generator
from rectilinear.serialization import Configured

Basis = Literal["dct", "lapped", "pixels"]


class DilatedConvNet(Configured):
    """Residual 3 x 3 convolutions with dilation, ``(b, c, h, w) -> (b, d, h, w)``, zero at first.

    It sees ``3 + 2 sum(dilations)`` places in each direction, and no position.

    Example:
        >>> DilatedConvNet(2, 4, width=8)(torch.randn(1, 2, 6, 6)).abs().sum().item()
        0.0
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int = 48,
        dilations: tuple[int, ...] = (1, 2, 4),
    ) -> None:
        super().__init__()
        self.enter = nn.Conv2d(in_channels, width, 3, padding=1)
        self.middle = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in dilations
        )
        self.leave = zero(nn.Conv2d(width, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float32:  # the layout in which convolutions of a processor are faster
            x = x.movedim(1, 3).contiguous().movedim(3, 1)
        h = self.enter(x)
        for layer in self.middle:
            h = h + layer(functional.gelu(h))
        matrix = self.leave.weight.flatten(1)  # a product of matrices: faster than a convolution
        y = functional.linear(functional.gelu(h).movedim(1, 3), matrix, self.leave.bias)
        return y.movedim(3, 1)


class PlaceFlow(Configured):
    """An invertible network of images of any size, ``(b, c, h, w)`` to ``(b, c k^2, h/k, w/k)``.

    Every block of ``k x k`` pixels becomes one place, by the discrete cosine transform of each
    colour, of blocks that overlap or not, or as it is; then affine couplings move half of the
    channels by what the other half and the places around say. Nothing depends on the size of the
    image or on the position in it.

    Args:
        channels: ``c``, 3 for colour and 1 for grey.
        block: ``k``; height and width of an image must be multiples of it.
        couplings: their number; each exchanges the halves with the one before.
        width: of their conditioners.
        basis: ``"dct"``, which splits by frequency; ``"lapped"``, the same with blocks that overlap
            by half, so that no grid shows; or ``"pixels"``, which splits by position in the block:
            better for curves of tones, worse for brush strokes.
        bound: largest absolute log-scale of a coupling.
        seed: of the orders of the channels.

    Raises:
        ConfigError: for a number that is not positive, an odd number of channels of a place, an odd
            block that overlaps, or an unknown basis.

    Example:
        >>> g = PlaceFlow(couplings=2, width=8)
        >>> z = g(torch.rand(2, 3, 8, 12))
        >>> z.shape, g.inverse(z).shape
        (torch.Size([2, 48, 2, 3]), torch.Size([2, 3, 8, 12]))
    """

    def __init__(
        self,
        channels: int = 3,
        block: int = 4,
        couplings: int = 6,
        width: int = 48,
        basis: Basis = "dct",
        bound: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("block", block), ("width", width)):
            if value < 1:
                raise ConfigError(f"{name} = {value}", "a positive number")
        if basis not in get_args(Basis):
            raise ConfigError(f"basis {basis!r}", f"one of {', '.join(get_args(Basis))}")
        odd = channels * block**2 % 2 or (basis == "lapped" and block % 2)
        if couplings < 0 or not bound > 0 or odd:
            raise ConfigError(
                f"{couplings} couplings of bound {bound} on {channels} blocks of {block} x {block}",
                "no negative number, a positive bound, and an even number of pixels",
                "Use a block of 2 or 4 pixels.",
            )
        self.channels, self.block, self.bound = channels, block, bound
        self.places = channels * block**2
        self.basis = basis
        orders = _orders(channels, block, couplings, basis, seed)
        self._moves = _moves(orders, self.places)
        self._moves_back = _moves(orders[::-1], self.places)
        half = self.places // 2
        self.conditioners = nn.ModuleList(
            DilatedConvNet(half, 2 * half, width) for _ in range(couplings)
        )
        self.log_scale = nn.Parameter(torch.zeros(self.places))
        self.shift = nn.Parameter(torch.zeros(self.places))

    def forward(self, x: Tensor) -> Tensor:
        """The latents ``g(x)``, ``(b, c, h, w) -> (b, c k^2, h / k, w / k)``.

        Raises:
            ShapeError: for another number of channels or axes, or a side that is no multiple.
            DtypeError: for another dtype than that of the parameters.
        """
        self._check(x, self.channels, self.block)
        x = x - 0.5
        if self.basis == "lapped":
            x = _across_borders(x, self.block)
        h = self._transformed(functional.pixel_unshuffle(x, self.block))
        halves = _halves(h)
        for move, net in zip(self._moves, self.conditioners, strict=False):  # one more at the end
            kept, moved = _reordered(halves, move)
            log_scale, shift = self._affine(net, kept)
            halves = kept, torch.addcmul(shift, moved, log_scale.exp())
        h = torch.cat(_reordered(halves, self._moves[-1]), 1)
        return h * self.log_scale.exp()[:, None, None] + self.shift[:, None, None]

    def inverse(self, z: Tensor) -> Tensor:
        """The images ``g^-1(z)``, ``(b, c k^2, h, w) -> (b, c, k h, k w)``.

        Raises:
            ShapeError, DtypeError: as for ``forward``.
        """
        self._check(z, self.places, 1)
        h = (z - self.shift[:, None, None]) * (-self.log_scale).exp()[:, None, None]
        halves = _halves(h)
        for move, net in zip(self._moves_back, reversed(self.conditioners), strict=False):
            kept, moved = _reordered(halves, move)
            log_scale, shift = self._affine(net, kept)
            halves = kept, (moved - shift) * (-log_scale).exp()
        h = torch.cat(_reordered(halves, self._moves_back[-1]), 1)
        x = functional.pixel_shuffle(self._transformed(h, back=True), self.block)
        if self.basis == "lapped":
            x = _across_borders(x, self.block, back=True)
        return x + 0.5

    def _affine(self, net: nn.Module, kept: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = net(kept).chunk(2, 1)
        if self.bound == 1:
            return torch.tanh(raw), shift
        return self.bound * torch.tanh(raw / self.bound), shift

    def _transformed(self, h: Tensor, *, back: bool = False) -> Tensor:
        """Each colour's block at each place, as cosines or as it is; ``back`` to pixels."""
        if self.basis == "pixels":
            return h
        matrix = _cosines(self.block).to(h)  # orthogonal in the dtype of the image
        matrix = matrix.mT if back else matrix
        blocks = h.unflatten(1, (self.channels, self.block**2))
        return torch.einsum("ij,bcjhw->bcihw", matrix, blocks).flatten(1, 2)

    def _check(self, x: Tensor, channels: int, multiple: int) -> None:
        check_floating(x, "an array")
        if x.ndim != 4 or x.shape[1] != channels or any(n % multiple for n in x.shape[2:]):
            raise ShapeError(
                f"an array of shape {tuple(x.shape)}",
                f"(batch, {channels}, h, w) with h and w multiples of {multiple}",
                "Add the batch axis first; StyleTransfer takes images of any size.",
            )
        if x.dtype != self.shift.dtype:
            raise DtypeError(
                f"an array of {x.dtype}",
                f"{self.shift.dtype} for this network",
                "Convert the array (`x.float()`) or the network (`g.to(x.dtype)`).",
            )


def _across_borders(x: Tensor, block: int, *, back: bool = False) -> Tensor:
    """The images, pixels near the borders of blocks mixed: before blocks of cosines, they overlap.

    An orthogonal matrix of the ``block`` pixels about each border between two blocks, in rows and
    in columns; ``back`` undoes it.
    """
    matrix = _border(block).to(x)
    matrix = matrix.mT if back else matrix
    for axis in (2, 3):
        n, half = x.shape[axis], block // 2
        if n > block:
            first, inner, last = x.split([half, n - block, half], axis)
            mixed = inner.movedim(axis, 3).unflatten(3, (-1, block)) @ matrix.mT
            x = torch.cat([first, mixed.flatten(3).movedim(3, axis), last], axis)
    return x


@cache
def _border(n: int) -> Tensor:
    """The matrix of ``n`` pixels, half of them on each side, that makes block cosines overlap.

    Butterflies about ``diag(1, V)``, ``V`` of two cosine transforms: a constant stays as it is.

    Reference: T. Tran, J. Liang, C. Tu, "Lapped transform via time-domain pre- and post-filtering",
    IEEE Transactions on Signal Processing, 2003: the lapped orthogonal transform.
    """
    half = n // 2
    k = torch.arange(half, dtype=torch.float64, device="cpu")
    fourth = torch.cos(pi * (k[None] + 0.5) * (k[:, None] + 0.5) / half) * sqrt(2 / half)
    eye = torch.eye(half, dtype=torch.float64, device="cpu")
    flip = eye.flip(0)
    inner = torch.block_diag(eye, flip @ _cosine_rows(half).mT @ fourth @ flip)
    butterfly = torch.cat([torch.cat([eye, flip], 1), torch.cat([flip, -eye], 1)])
    return butterfly @ inner @ butterfly / 2


@cache
def _cosines(n: int) -> Tensor:
    """The orthogonal matrix of the cosine transform of blocks ``n x n``, a frequency a row."""
    return torch.kron(_cosine_rows(n), _cosine_rows(n))


def _cosine_rows(n: int) -> Tensor:
    k = torch.arange(n, dtype=torch.float64, device="cpu")
    rows = torch.cos(pi * (k[None] + 0.5) * k[:, None] / n) * sqrt(2 / n)
    rows[0] /= sqrt(2)
    return rows


def _halves(h: Tensor) -> tuple[Tensor, Tensor]:
    """Both halves of the channels, in the layout of memory in which convolutions are faster."""
    first, second = (x.contiguous().movedim(3, 1) for x in h.movedim(1, 3).chunk(2, 3))
    return first, second


def _reordered(halves: tuple[Tensor, Tensor], move: list[int] | None) -> tuple[Tensor, Tensor]:
    """The halves after a move of the channels; None exchanges them."""
    if move is None:
        return halves[1], halves[0]
    first, second = torch.cat(halves, 1).movedim(1, 3)[..., move].movedim(3, 1).chunk(2, 1)
    return first, second


def _moves(orders: list[Tensor], n: int) -> list[list[int] | None]:
    """From the given order of ``n`` channels to the first, to each next one, and back."""
    plain = torch.arange(n, device="cpu")
    moves = [
        last.argsort()[order]
        for last, order in zip([plain, *orders], [*orders, plain], strict=True)
    ]
    return [None if torch.equal(move, plain.roll(n // 2)) else move.tolist() for move in moves]


def _orders(channels: int, block: int, count: int, basis: Basis, seed: int) -> list[Tensor]:
    """Orders of the channels, first half kept: each comes again with its halves exchanged.

    Low against high frequencies and random splits in turn; or, of pixels, a checkerboard, rows and
    columns, random.
    """
    random = generator(seed)
    n = channels * block**2
    y, x = (torch.arange(n, device="cpu") % block**2 // s % block for s in (block, 1))
    keys = [y + x, None] if basis != "pixels" else [(y + x) % 2, y % 2, x % 2, None]
    orders: list[Tensor] = []
    for i in range(count):
        if i % 2:
            orders.append(orders[-1].roll(n // 2))
            continue
        key = keys[i // 2 % len(keys)]
        noise = torch.rand(n, generator=random, device="cpu")
        orders.append((noise if key is None else key + 0.5 * noise).argsort())
    return orders
