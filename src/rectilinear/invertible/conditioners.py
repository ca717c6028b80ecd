"""Networks inside couplings; their last layer is zero at first, so a coupling is the identity."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor  # no public name says it
from torch.autograd.forward_ad import unpack_dual
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from rectilinear.errors import ConfigError
from rectilinear.serialization import Configured


class MLP(Configured):
    """A multilayer perceptron ``(b, in_dim) -> (b, out_dim)`` with GELU.

    It has ``hidden`` layers of ``width`` after the first, residual ones if ``residual``.

    Example:
        >>> MLP(3, 5, width=16)(torch.randn(2, 3)).abs().sum().item()
        0.0
    """

    def __init__(
        self, in_dim: int, out_dim: int, width: int = 256, hidden: int = 1, *, residual: bool = True
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(in_dim, width)
        self.middle = nn.ModuleList(nn.Linear(width, width) for _ in range(hidden))
        self.leave = zero(nn.Linear(width, out_dim))
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        for layer in self.middle:
            step = layer(functional.gelu(h))
            h = h + step if self.residual else step
        return self.leave(functional.gelu(h))


class ConvNet(Configured):
    """A residual convolutional network ``(b, in_channels, h, w) -> (b, out_channels, h, w)``.

    First and last layer have 3 x 3 kernels. The hidden layers have kernels of their own size,
    ``kernel``, odd; 1 x 1, as in Glow, learns faster per second.

    With ``size=(h, w)`` a learned bias at every position tells the network where it is.

    Example:
        >>> ConvNet(2, 4, width=8)(torch.randn(1, 2, 6, 6)).shape
        torch.Size([1, 4, 6, 6])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int = 64,
        hidden: int = 1,
        size: tuple[int, int] | None = None,
        kernel: int = 1,
    ) -> None:
        super().__init__()
        self.enter = nn.Conv2d(in_channels, width, 3, padding=1)
        self.position = nn.Parameter(torch.zeros(1, width, *size)) if size else None
        self.middle = nn.ModuleList(
            nn.Conv2d(width, width, kernel, padding=kernel // 2) for _ in range(hidden)
        )
        self.leave = zero(nn.Conv2d(width, out_channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        if self.position is not None:
            h = h + self.position
        for layer in self.middle:
            h = h + layer(functional.gelu(h))
        return self.leave(functional.gelu(h))


class ViT(Configured):
    """A vision transformer ``(b, tokens, in_dim) -> (b, out_tokens, out_dim)``.

    It has ``hidden`` attention blocks and learned positions. With fewer ``out_tokens`` than
    ``tokens`` (a split of an odd number) the last tokens have no output.

    Reference:
        Kolesnikov, Pinto, Tschannen, "Jet: a modern transformer-based normalizing flow", 2024
        (arXiv 2412.15129).

    Raises:
        ConfigError: if the heads do not divide the width.

    Example:
        >>> ViT(tokens=4, in_dim=6, out_dim=12, width=32, heads=2)(torch.randn(1, 4, 6)).shape
        torch.Size([1, 4, 12])
    """

    def __init__(
        self,
        tokens: int,
        in_dim: int,
        out_dim: int,
        width: int = 128,
        hidden: int = 2,
        heads: int = 4,
        out_tokens: int | None = None,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(
                got=f"width={width} and heads={heads}",
                expected="a width divisible by the heads",
                fix=f"Use width={-(-width // heads) * heads}.",
            )
        self.out_tokens = tokens if out_tokens is None else out_tokens
        self.enter = nn.Linear(in_dim, width)
        self.position = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.middle = nn.ModuleList(_AttentionBlock(width, heads) for _ in range(hidden))
        self.norm = nn.LayerNorm(width)
        self.leave = zero(nn.Linear(width, out_dim))

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x) + self.position
        for block in self.middle:
            h = block(h)
        return self.leave(self.norm(h[..., : self.out_tokens, :]))


class _AttentionBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        qkv = self.qkv(self.attention_norm(h)).unflatten(-1, (3, self.heads, -1))
        # Each (b, heads, tokens, width / heads).
        q, k, v = (part.transpose(-2, -3) for part in qkv.unbind(-3))
        h = h + self.mix(attend(q, k, v).transpose(-2, -3).flatten(-2))
        return h + self.down(functional.gelu(self.up(self.mlp_norm(h))))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``softmax(q k^T / sqrt(d)) v``, also under vmap and forward-mode derivatives."""
    if torch.compiler.is_compiling() or not (
        is_functorch_wrapped_tensor(q) or unpack_dual(q).tangent is not None
    ):
        return functional.scaled_dot_product_attention(q, k, v)
    with sdpa_kernel(SDPBackend.MATH):
        return functional.scaled_dot_product_attention(q, k, v)


def zero(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """The layer with weight and bias set to zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
