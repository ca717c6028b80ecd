"""Affine maps in place of a block of a network: their shapes, their module and their fit."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv2d, linear, pad

from rectilinear.errors import StructureError
from rectilinear.networks.token_vectors import Layout

Form = Literal["rows", "tokens", "convolution"]
WIDEST = 1024  # numbers in a row up to which all of them are mixed
KERNEL = 3
CHUNK = 64  # rows whose patches are written out together


@dataclass(frozen=True)
class Shapes:
    """Shapes of one row before and after a block, and the class of affine maps between them.

    ``rows`` mixes all entries; ``tokens`` acts on the last axis of ``(t, d)`` at every position;
    ``convolution`` has kernels of 3 x 3 on images ``(c, h, w)``, of 3 on signals ``(c, t)``, and
    the block's stride.
    """

    inside: tuple[int, ...]
    outside: tuple[int, ...]
    form: Form
    stride: int = 1

    @classmethod
    def between(
        cls, inside: tuple[int, ...], outside: tuple[int, ...], layout: Layout | None = None
    ) -> Shapes:
        """The largest class of affine maps from ``inside`` to ``outside`` that can be fitted.

        Example:
            >>> Shapes.between((64, 32, 32), (128, 16, 16)).stride
            2
            >>> Shapes.between((7, 16), (7, 16)).form
            'tokens'
            >>> Shapes.between((7, 40), (5, 20), "channels").form
            'convolution'
        """
        places = inside[:-1] == outside[:-1] and len(inside) > 1
        if places and (layout == "tokens" or (len(inside) == 2 and layout != "channels")):
            return cls(inside, outside, "tokens")
        signals = len(inside) == 2 == len(outside) and layout == "channels"
        images = len(inside) == 3 == len(outside) and _numel(inside) > WIDEST
        if signals or (images and layout != "tokens"):
            stride = -(-inside[1] // outside[1])
            if outside[1:] == tuple((side - 1) // stride + 1 for side in inside[1:]):
                return cls(inside, outside, "convolution", stride)
        if _numel(inside) <= WIDEST and _numel(outside) <= 4 * WIDEST:
            return cls(inside, outside, "rows")
        raise StructureError(
            f"a block from {inside} to {outside}",
            f"rows of at most {WIDEST} numbers, equal numbers of tokens, or images or signals with "
            "a whole stride",
            "Choose another block, or a span of blocks that keeps the shape.",
        )

    @property
    def sides(self) -> tuple[int, int]:
        """The numbers of rows and columns of the matrix that acts at one position."""
        if self.form == "rows":
            return _numel(self.outside), _numel(self.inside)
        if self.form == "tokens":
            return self.outside[-1], self.inside[-1]
        return self.outside[0], self.inside[0] * self.taps

    @property
    def kernel(self) -> tuple[int, ...]:
        """The sides of a kernel of the convolution."""
        return (KERNEL,) * (len(self.inside) - 1)

    @property
    def taps(self) -> int:
        """The number of weights that a kernel has for a channel."""
        return KERNEL ** len(self.kernel)

    @property
    def have_identity(self) -> bool:
        """True if the identity is in the class."""
        return self.inside == self.outside and self.stride == 1

    def features(self, x: Tensor) -> Tensor:
        """The vectors that the matrix acts on, ``(b p, k)``, with ``p`` positions a row."""
        if self.form == "rows":
            return x.reshape(len(x), -1)
        if self.form == "tokens":
            return x.flatten(0, -2)
        patches = pad(x, [KERNEL // 2] * 2 * len(self.kernel))
        for axis in range(2, x.ndim):
            patches = patches.unfold(axis, KERNEL, self.stride)
        return patches.movedim(1, x.ndim - 1).flatten(x.ndim - 1).flatten(0, -2)

    def targets(self, out: Tensor) -> Tensor:
        """The vectors that the matrix should give, ``(b p, o)``."""
        if self.form == "rows":
            return out.reshape(len(out), -1)
        return out.flatten(0, -2) if self.form == "tokens" else out.flatten(2).mT.flatten(0, 1)


class AffineBlock(nn.Module):
    """The affine map ``W x + b`` as a module in place of a block.

    ``W = U V`` for a rank at which this is smaller, and ``I + U V`` with ``identity``. Arguments
    after the first, such as attention masks, are ignored.

    Example:
        >>> block = AffineBlock(Shapes.between((3,), (2,)), torch.ones(2, 3), torch.zeros(2))
        >>> block(torch.ones(1, 3)).tolist()
        [[3.0, 3.0]]
    """

    identity: bool = False

    def __init__(
        self,
        shapes: Shapes,
        matrix: Tensor,
        constant: Tensor,
        rank: int | None = None,
        identity: bool = False,
    ) -> None:
        super().__init__()
        self.shapes, self.identity = shapes, identity
        self.bias = nn.Parameter(constant)
        o, k = matrix.shape
        if rank is None or rank * (o + k) >= o * k:
            factors = [matrix]
        else:
            u, s, vh = (
                m.to(matrix) for m in torch.linalg.svd(matrix.double(), full_matrices=False)
            )
            root = s[:rank].sqrt()
            factors = [root[:, None] * vh[:rank], u[:, :rank] * root]
        self.factors = nn.ParameterList([nn.Parameter(factor.contiguous()) for factor in factors])

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """``W x + b`` for every row."""
        out = self._convolved(x) if self.shapes.form == "convolution" else self._mapped(x)
        return out + x if self.identity else out

    def _convolved(self, x: Tensor) -> Tensor:
        *inner, last = self.factors
        shapes = self.shapes
        convolve = conv2d if len(shapes.kernel) == 2 else conv1d
        whole, strided = (-1, shapes.inside[0], *shapes.kernel), (shapes.stride, KERNEL // 2)
        for weight in inner:
            x = convolve(x, weight.reshape(whole), None, *strided)
        if inner:
            return convolve(x, last.reshape(*last.shape, *[1] * len(shapes.kernel)), self.bias)
        return convolve(x, last.reshape(whole), self.bias, *strided)

    def _mapped(self, x: Tensor) -> Tensor:
        *inner, last = self.factors
        x = x.reshape(len(x), -1) if self.shapes.form == "rows" else x
        for weight in inner:
            x = linear(x, weight)
        x = linear(x, last, self.bias)
        return x.reshape(len(x), *self.shapes.outside) if self.shapes.form == "rows" else x

    def standing_in_for(self, block: nn.Module) -> AffineBlock:
        """This module with the attributes that containers read, such as ``batch_first``."""
        if isinstance(attention := getattr(block, "self_attn", None), nn.MultiheadAttention):
            self.self_attn = SimpleNamespace(batch_first=attention.batch_first)
        return self

    def plain(self) -> nn.Module:
        """The same map as torch layers, which can be folded, where it maps vectors to vectors."""
        if (
            self.shapes.form != "rows"
            or {len(self.shapes.inside), len(self.shapes.outside)} != {1}
            or self.identity
        ):
            return self
        layers = []
        for weight in self.factors:
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=weight is self.factors[-1]).to(
                weight
            )
            layer.weight = nn.Parameter(weight.detach())
            layers.append(layer)
        layers[-1].bias = nn.Parameter(self.bias.detach())
        return layers[0] if len(layers) == 1 else nn.Sequential(*layers)

    def extra_repr(self) -> str:
        added = ", plus the identity" if self.identity else ""
        return f"{self.shapes.form}, {self.shapes.inside} to {self.shapes.outside}{added}"


def _numel(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()
