"""Ready invertible networks: ``VectorFlow`` for vectors, ``ImageFlow`` for images.

Both are chains of couplings, each of which sees the coordinates in another order; permutations at
the end restore the order of the input, so that an untrained network is the identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from rectilinear.errors import ConfigError
from rectilinear.invertible.actnorm import ActNorm
from rectilinear.invertible.base import Invertible, Precision, check_precision
from rectilinear.invertible.chain import Chain, Inverse
from rectilinear.invertible.conditioners import MLP, ConvNet, ViT
from rectilinear.invertible.coupling import AdditiveCoupling, AffineCoupling, SplineCoupling
from rectilinear.invertible.reshape import Flatten, Patches, Permutation, Squeeze
from rectilinear.random import generator

Coupling = Literal["affine", "additive", "spline"]
_LEAST_SIDE = 7  # in pixels, of the coarsest resolution in front of principal axes
SPLINE_BINS = 8
Conditioner = Literal["conv", "vit"]


class VectorFlow(Invertible):
    """An invertible network on vectors, ``(b, dim) -> (b, dim)``: couplings with MLP conditioners.

    Each coupling sees the coordinates in another order (a permutation, no matrix product) and the
    orders undo themselves, so an untrained network is the identity, exactly. For principal axes put
    a rotation before it: ``Chain(Rotation.from_matrix(q, mean), VectorFlow(dim))``.

    Args:
        dim: number of coordinates, 2 or more.
        blocks: number of couplings.
        width: width of the conditioners.
        hidden: hidden layers of the conditioners, after the first.
        coupling: ``"affine"``, ``"additive"`` (volume preserving, best conditioned), or
            ``"spline"`` (for densities in few dimensions).
        scale_budget: bound of the sum over all couplings of the absolute log-scales.
        residual: conditioners with residual layers.
        actnorm: an :class:`ActNorm` before the couplings (needs a first batch in training mode).
        precision: ``"float32"`` (the dtype of the input), ``"bf16"`` (conditioners only), or
            ``"exact"`` (bit for bit on :func:`to_grid` inputs; additive couplings, no actnorm).
        checkpoint: recompute activations per coupling in the backward pass.
        seed: of the orders.

    Raises:
        ConfigError: for fewer than two coordinates, no blocks, or an exact precision with scales.

    Example:
        >>> import torch
        >>> g = VectorFlow(dim=6, blocks=4, width=32)
        >>> x = torch.randn(5, 6)
        >>> z, logdet = g.forward_and_logdet(x)
        >>> torch.equal(z, x), torch.allclose(g.inverse(z), x), logdet.shape
        (True, True, torch.Size([5]))
    """

    def __init__(
        self,
        dim: int,
        blocks: int = 8,
        width: int = 256,
        *,
        hidden: int = 1,
        coupling: Coupling = "affine",
        scale_budget: float = 5.0,
        residual: bool = True,
        actnorm: bool = False,
        precision: Precision = "float32",
        checkpoint: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_flow(blocks, coupling, scale_budget, precision, actnorm=actnorm)
        if dim < 2:
            raise ConfigError(
                got=f"dim={dim}", expected="two coordinates or more", fix="Pad the data with zeros."
            )
        self.shape = self.latent_shape = (dim,)
        keep = (dim + 1) // 2

        couplings = [
            vector_coupling(
                coupling,
                dim,
                keep,
                width,
                hidden,
                bound=scale_budget / blocks,
                residual=residual,
                precision=precision,
            )
            for _ in range(blocks)
        ]
        orders = [(0, order) for order in random_orders(dim, blocks, seed)]
        chain = alternate((dim,), couplings, orders, checkpoint=checkpoint)
        self.chain = Chain(ActNorm(dim), chain) if actnorm else chain

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.chain._encode(x)

    def _latents(self, x: Tensor) -> Tensor:
        return self.chain._latents(x)

    def _decode(self, z: Tensor) -> Tensor:
        return self.chain._decode(z)


class ImageFlow(Invertible):
    """An invertible network on images with flat latents, ``(b, c, h, w) -> (b, c h w)``.

    ``conditioner="conv"``: at each of ``levels`` resolutions (each half the one before) couplings
    over checkerboard, row, column and channel splits, all of them splits of the channels of the
    squeezed image. ``conditioner="vit"``: one resolution, tokens of ``patch x patch`` pixels,
    couplings over channel and token splits in turn, as in Jet. Both directions take one pass. An
    untrained network is ``x.flatten(1)``, exactly.

    Args:
        shape: ``(c, h, w)``.
        blocks: number of couplings in all.
        width: width of the conditioners.
        kernel: side of the kernels of the hidden layers, for ``"conv"``, odd; the first and the
            last are 3 x 3.
        hidden: hidden layers (attention blocks for ``"vit"``) of a conditioner.
        conditioner: ``"conv"`` or ``"vit"``.
        coupling: ``"affine"``, or ``"additive"`` (volume preserving, best conditioned).
        levels: resolutions, for ``"conv"``; height and width must be divisible by ``2^levels``.
        patch: side of a token, for ``"vit"``; must divide height and width.
        heads: attention heads, for ``"vit"``.
        scale_budget: bound of the sum over all couplings of the absolute log-scales.
        actnorm: an :class:`ActNorm` at the entry of every resolution (needs a first batch in
            training mode).
        precision: ``"float32"`` (the dtype of the input), ``"bf16"`` (conditioners only), or
            ``"exact"`` (bit for bit on :func:`to_grid` inputs; additive couplings, no actnorm).
        checkpoint: recompute activations per coupling in the backward pass.
        channels_last: memory format of the convolutions.
        seed: of the orders.

    Raises:
        ShapeError: if height or width is not divisible as needed.
        ConfigError: for settings out of range, or an exact precision with scales.

    Reference:
        Kolesnikov, Pinto, Tschannen, "Jet: a modern transformer-based normalizing flow", 2024
        (arXiv 2412.15129).

    Example:
        >>> g = ImageFlow((1, 8, 8), blocks=4, width=16)
        >>> x = torch.rand(2, 1, 8, 8)
        >>> z = g(x)
        >>> torch.equal(z, x.flatten(1)), torch.allclose(g.inverse(z), x)
        (True, True)
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        blocks: int = 8,
        width: int = 64,
        *,
        hidden: int = 1,
        conditioner: Conditioner = "conv",
        coupling: Literal["affine", "additive"] = "affine",
        kernel: int = 1,
        levels: int = 2,
        patch: int = 4,
        heads: int = 4,
        scale_budget: float = 5.0,
        actnorm: bool = False,
        precision: Precision = "float32",
        checkpoint: bool = False,
        channels_last: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_flow(
            blocks, coupling, scale_budget, precision, actnorm=actnorm, kinds=("affine", "additive")
        )
        if conditioner not in ("conv", "vit"):
            raise ConfigError(got=f"conditioner={conditioner!r}", expected="'conv' or 'vit'")
        if kernel < 1 or kernel % 2 == 0:
            raise ConfigError(got=f"kernel={kernel}", expected="an odd number")
        if not 1 <= levels <= blocks:
            raise ConfigError(got=f"levels={levels}", expected=f"1 to blocks={blocks}")
        self.shape = tuple(shape)
        self.blocks, self.width, self.hidden, self.kernel = blocks, width, hidden, kernel
        self.conditioner, self.coupling = conditioner, coupling
        self.scale_budget, self.actnorm = scale_budget, actnorm
        self.levels, self.patch, self.heads, self.seed = levels, patch, heads, seed
        self.precision, self.checkpoint, self.channels_last = precision, checkpoint, channels_last
        stages = self._vit_stages() if conditioner == "vit" else self._conv_stages()
        self.chain = Chain(*stages, Flatten(shape))
        self.latent_shape = self.chain.latent_shape
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        if self.channels_last:  # tensors from a file are contiguous
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        super()._load_from_state_dict(*args, **kwargs)

    def _conv_stages(self) -> list[Invertible]:
        stages: list[Invertible] = []
        squeezes: list[Invertible] = []
        shape = self.shape
        for level in range(self.levels):
            squeezes.append(Squeeze(shape, 2))
            shape = squeezes[-1].latent_shape
            count = self.blocks // self.levels + (level < self.blocks % self.levels)
            orders = [(0, order) for order in _phase_orders(shape[0], count, self.seed + level)]
            couplings = [self._coupling(shape, 0) for _ in range(count)]
            stages += [squeezes[-1], *([ActNorm(shape)] if self.actnorm else [])]
            stages.append(alternate(shape, couplings, orders, checkpoint=self.checkpoint))
        return stages + [Inverse(squeeze) for squeeze in reversed(squeezes)]

    def _vit_stages(self) -> list[Invertible]:
        patches = Patches(self.shape, self.patch)
        tokens, features = patches.latent_shape
        over_features = random_orders(features, self.blocks, self.seed)
        over_tokens = random_orders(tokens, self.blocks, self.seed + 1)
        # Two couplings over features, two over tokens, and again; images of one token have features
        # only.
        axes = [1 if tokens == 1 or i % 4 < 2 else 0 for i in range(self.blocks)]
        orders = [(axis, (over_tokens, over_features)[axis][i]) for i, axis in enumerate(axes)]
        couplings = [self._coupling((tokens, features), axis) for axis in axes]
        entry = [ActNorm(patches.latent_shape)] if self.actnorm else []
        chain = alternate((tokens, features), couplings, orders, checkpoint=self.checkpoint)
        return [patches, *entry, chain, Inverse(patches)]

    def _coupling(self, shape: tuple[int, ...], axis: int) -> Invertible:
        kept, moved = list(shape), list(shape)
        kept[axis] = (shape[axis] + 1) // 2
        moved[axis] = shape[axis] - kept[axis]
        channel = 0 if len(shape) == 3 else 1
        outputs = moved[channel] * (2 if self.coupling == "affine" else 1)
        net: nn.Module
        if len(shape) == 3:
            net = ConvNet(
                kept[0],
                outputs,
                self.width,
                self.hidden,
                size=(shape[1], shape[2]),
                kernel=self.kernel,
            )
        else:
            net = ViT(
                kept[0], kept[1], outputs, self.width, self.hidden, self.heads, out_tokens=moved[0]
            )
        if self.coupling == "additive":
            return AdditiveCoupling(shape, net, axis=axis, precision=self.precision)
        bound = self.scale_budget / self.blocks
        return AffineCoupling(shape, net, axis=axis, bound=bound, precision=self.precision)

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.chain._encode(x)

    def _latents(self, x: Tensor) -> Tensor:
        return self.chain._latents(x)

    def _decode(self, z: Tensor) -> Tensor:
        return self.chain._decode(z).contiguous()


def on_pixels(
    shape: tuple[int, ...],
    blocks: int,
    width: int,
    conditioner: Conditioner = "conv",
    levels: int = 1,
) -> Invertible:
    """Couplings of images to put before principal axes, with flat latents.

    There are ``blocks`` at each of ``levels`` resolutions; a vision transformer has one. Without
    ``blocks`` it is :class:`Flatten` alone. Decoding, they come last: they see an image that few
    coordinates leave blurred, and draw it sharp, the coarsest resolution first.
    """
    if not blocks:
        return Flatten(shape)
    c, h, w = shape
    if conditioner == "vit":
        patch = 4 if h % 4 == w % 4 == 0 else 2
        return ImageFlow(
            (c, h, w), blocks, width, conditioner="vit", patch=patch, hidden=2, scale_budget=1.0
        )
    return ImageFlow(
        (c, h, w),
        blocks * levels,
        width,
        kernel=3,
        levels=levels,
        scale_budget=1.0,
        channels_last=True,
    )


def levels_for(h: int, w: int) -> int:
    """The number of resolutions of couplings of images: halved while 7 pixels a side are left.

    Example:
        >>> [levels_for(side, side) for side in (8, 16, 28, 32, 64)]
        [1, 1, 2, 2, 3]
    """
    levels = 1
    while (
        h % 2 ** (levels + 1) == w % 2 ** (levels + 1) == 0
        and min(h, w) >> levels + 1 >= _LEAST_SIDE
    ):
        levels += 1
    return levels


def vector_coupling(
    kind: Coupling,
    dim: int,
    keep: int,
    width: int,
    hidden: int,
    *,
    bound: float,
    residual: bool = True,
    precision: Precision = "float32",
) -> Invertible:
    """One coupling of vectors: an MLP of the first ``keep`` coordinates moves the others."""
    moved = dim - keep
    if kind == "spline":
        conditioner = MLP(keep, moved * (3 * SPLINE_BINS + 1), width, hidden, residual=residual)
        return SplineCoupling(
            dim, conditioner, keep=keep, bins=SPLINE_BINS, bound=bound, precision=precision
        )
    conditioner = MLP(
        keep, moved if kind == "additive" else 2 * moved, width, hidden, residual=residual
    )
    if kind == "additive":
        return AdditiveCoupling(dim, conditioner, keep=keep, precision=precision)
    return AffineCoupling(dim, conditioner, keep=keep, bound=bound, precision=precision)


def check_flow(
    blocks: int,
    coupling: str,
    scale_budget: float,
    precision: Precision,
    *,
    actnorm: bool,
    kinds: tuple[str, ...] = get_args(Coupling),
) -> None:
    """Raise ConfigError for settings that no ready network has."""
    check_precision(precision)
    if blocks < 1:
        raise ConfigError(got=f"blocks={blocks}", expected="one coupling or more")
    if coupling not in kinds:
        raise ConfigError(got=f"coupling={coupling!r}", expected=f"one of {', '.join(kinds)}")
    if not scale_budget > 0:
        raise ConfigError(
            got=f"scale_budget={scale_budget}", expected="a positive bound of the total log-scale"
        )
    if precision.startswith("exact") and (coupling != "additive" or actnorm):
        raise ConfigError(
            got=f"precision={precision!r} with {'actnorm' if actnorm else f'{coupling} couplings'}",
            expected="additive couplings only: scales are not exact",
            fix="Set coupling='additive' and actnorm=False.",
        )


def alternate(
    shape: tuple[int, ...],
    couplings: Sequence[Invertible],
    orders: Sequence[tuple[int, Tensor]],
    *,
    checkpoint: bool = False,
) -> Chain:
    """A chain whose coupling ``i`` sees axis ``orders[i][0]`` in the order ``orders[i][1]``.

    The last permutations restore the order of the input, so the chain is the identity where every
    coupling is.
    """
    current = {axis: torch.arange(size, device="cpu") for axis, size in enumerate(shape)}

    def move(axis: int, order: Tensor) -> list[Invertible]:
        index = current[axis].argsort()[order]
        current[axis] = order
        return (
            []
            if torch.equal(index, torch.arange(len(index), device="cpu"))
            else [Permutation(shape, index, axis)]
        )

    blocks: list[Invertible] = []
    for coupling, (axis, order) in zip(couplings, orders, strict=True):
        parts = [*move(axis, order), coupling]
        blocks.append(Chain(*parts) if len(parts) > 1 else coupling)
    for axis, size in enumerate(shape):
        blocks += move(axis, torch.arange(size, device="cpu"))
    return Chain(*blocks, checkpoint=checkpoint)


def random_orders(size: int, count: int, seed: int) -> list[Tensor]:
    """``count`` orders of ``size`` entries: the given and random ones, each with halves exchanged.

    Two successive couplings that keep the first half move every entry once.
    """
    random = generator(seed)
    orders: list[Tensor] = []
    for i in range(count):
        if i % 2:
            orders.append(orders[-1].roll(size // 2))
        else:
            first = torch.arange(size, device="cpu")
            orders.append(torch.randperm(size, generator=random, device="cpu") if i else first)
    return orders


def _phase_orders(channels: int, count: int, seed: int) -> list[Tensor]:
    """Orders of squeezed channels: first half a checkerboard, rows, columns, or random.

    Each comes twice, the second time with its halves exchanged. Channel ``4 c + 2 dy + dx`` is the
    phase ``(dy, dx)``.
    """
    dy, dx = (torch.arange(channels, device="cpu") // step % 2 for step in (2, 1))
    splits = [(dy + dx) % 2, dy, dx]
    random = random_orders(channels, count, seed)
    orders: list[Tensor] = []
    for i in range(count):
        if i % 2:
            orders.append(orders[-1].roll(channels // 2))
        else:
            which = i // 2 % 4
            orders.append(random[i] if which == 3 else splits[which].argsort(stable=True))
    return orders
