"""Recipes of generators: digits, MNIST, and images from a folder.

Each trains one network that generates in one step, projects onto every rank, and orders its
directions as PCA does. The operator is diagonal, so that no matrix of pixels by pixels is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor

from rectilinear.flow import LinearFlow, objectives
from rectilinear.flow.velocities import SolvedVelocity
from rectilinear.invertible import (
    MLP,
    AffineCoupling,
    Chain,
    Flatten,
    Identity,
    Invertible,
    Leading,
    Reflections,
    Rotation,
    Scaling,
    VectorFlow,
)
from rectilinear.invertible.flows import on_pixels
from rectilinear.metrics import pca
from rectilinear.recipes.base import Recipe, Stage, check_images, check_range
from rectilinear.training import TrainConfig


@dataclass(frozen=True)
class Digits(Recipe):
    """Digits, 8 x 8: additive couplings behind principal axes, trained in a few minutes.

    Likelihood of noisy data, and reconstruction from nested ranks.

    Attributes:
        blocks: Couplings.
        width: Width of their conditioners.
        nested: Weight of the reconstruction through the leading ``k`` latents, ``k`` drawn at
            random.
    """

    ranges: ClassVar[dict[str, tuple[float, float]]] = {
        **Recipe.ranges,
        "blocks": (0, inf),
        "width": (1, inf),
        "nested": (0, inf),
    }

    noise: float = 0.15
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=4000, max_seconds=150.0, batch_size=256, lr=1e-3, schedule="cosine", warmup=100
        )
    )
    blocks: int = 12
    width: int = 128
    nested: float = 3.0

    def check(self, data: Tensor) -> None:
        super().check(data)
        check_images(data, self.rank)

    def stages(self, images: Tensor) -> Iterator[Stage]:
        mean, axes, _ = pca(images, complete=True)
        n = len(mean)
        g = Chain(
            Flatten(tuple(images.shape[1:])),
            Rotation.from_matrix(axes.float(), mean.float()),
            VectorFlow(n, self.blocks, self.width, coupling="additive"),
        )
        flow = LinearFlow(
            g,
            Flatten(tuple(images.shape[1:])),
            SolvedVelocity(torch.ones(n), torch.ones(n)),
            noise_level=self.noise,
            rank=self.rank,
        )
        yield Stage(objectives.nested(flow, self.noise, self.nested), images, self.training, flow)


_CHUNK_IMAGES = 512  # encoded at a time
_MAX_AXES_IMAGES = 8192  # that leading axes are found from


@dataclass(frozen=True)
class Nested(Recipe):
    """Couplings behind principal axes, then a density of their leading latents.

    1. *Order.* Likelihood of noisy images, and reconstruction from nested ranks. The network starts
       as PCA. Behind the principal axes affine couplings work on the ``leading`` coordinates at
       unit scale, and the others move by one
       coupling that reads the leading ones. Before the axes a few convolutional couplings work on
       the pixels: decoding, they come last, and draw the strokes sharp that few coordinates leave
       blurred. The operator is PCA's standard
       deviations and stays so: were it to follow the latents, the likelihood would not care for
       their scale, and the singular values would lose their order.
    2. *Density.* The leading latents of images without noise are few, and not Gaussian. A network
       with splines makes them so, trained on the latents alone, which costs little; its own nested
       ranks keep their order.

    The second stage is what makes good samples: the first models noisy images, and its leading
    latents carry the noise.

    Attributes:
        pixel_blocks: Convolutional couplings on the pixels, at half their resolution; 0 for sides
            that are odd.
        pixel_width: Channels of their conditioners.
        axes: Principal axes that are found, for images so large that all of them are too many; none
            finds all.
        leading: Principal coordinates that the couplings work on, at most.
        blocks: Couplings there.
        width: Width of their conditioners.
        tail_width: Width of the conditioner that moves the other coordinates.
        nested: Weight of the reconstruction through rank ``k``, relative to PCA's error at that
            rank. Half of the ``k`` are ``rank``, where one is given.
        lowest: Least ``k`` drawn; the largest is ``leading``.
        share: Share of a batch in the nested term.
        latents: Leading latents whose density is learned; 0 leaves out the second stage.
        density_blocks: Couplings of the second stage.
        density_width: Width of their conditioners.
        density_noise: Standard deviation of the noise added to the latents, which have the scale of
            the images.
        density_nested: Weight of the reconstruction of the leading latents through their own nested
            ranks.
        density: How to train the second stage.

    Reference: Dai and Wipf, "Diagnosing and enhancing VAE models", 2019 (arXiv 1903.05789), for two
    stages.
    """

    ranges: ClassVar[dict[str, tuple[float, float]]] = {
        **Recipe.ranges,
        **dict.fromkeys(
            ("noise", "nested", "density_noise", "density_nested", "pixel_blocks", "latents"),
            (0, inf),
        ),
        **dict.fromkeys(
            ("pixel_width", "axes", "leading", "blocks", "width", "tail_width", "lowest"), (1, inf)
        ),
        **dict.fromkeys(("density_blocks", "density_width"), (1, inf)),
        "share": (0, 1),
    }

    noise: float = 0.1
    pixel_blocks: int = 2
    pixel_width: int = 32
    axes: int | None = None
    leading: int = 128
    blocks: int = 8
    width: int = 256
    tail_width: int = 128
    nested: float = 0.5
    lowest: int = 4
    share: float = 0.5
    latents: int = 32
    density_blocks: int = 8
    density_width: int = 256
    density_noise: float = 0.05
    density_nested: float = 0.05
    density: TrainConfig = field(default_factory=TrainConfig)

    def check(self, data: Tensor) -> None:
        super().check(data)
        check_images(data, self.rank)
        n = data[0].numel()
        if self.latents:
            check_range(
                "latents", self.latents, 2, n, "the values of an image; 0 leaves out their density"
            )
        highest = min(self.leading, n)
        if self.nested:
            check_range(
                "lowest", self.lowest, 1, highest, "the coordinates that the couplings work on"
            )
            check_range("rank", self.rank, self.lowest, highest, "from lowest to leading")

    def stages(self, images: Tensor) -> Iterator[Stage]:
        n, shape = images[0].numel(), tuple(images.shape[1:])
        rotation, std = principal_axes(images, self.axes)
        scale = (std.square() + self.noise**2).sqrt()
        at_unit_scale = Scaling(1 / scale), *self._couplings(n), Scaling(scale)
        encoder = Chain(
            on_pixels(shape, self.pixel_blocks, self.pixel_width), rotation, *at_unit_scale
        )
        noise, velocity = Flatten(shape), SolvedVelocity(torch.ones(n), scale.square())
        samples: dict[str, Any] = {"noise_level": self.noise, "rank": self.rank}
        flow = LinearFlow(encoder, noise, velocity, **samples)
        lost = std.square().flip(0).cumsum(0).flip(0)  # by PCA of rank k = 0, 1, ...
        order = self._objective(flow, lost / n, self.leading, self.noise, self.nested, self.rank)
        yield Stage(order, images, self.training, flow)

        if k := self.latents:
            latents, scale = leading_latents(encoder, images, k), scale[:k]
            couplings = VectorFlow(
                k, self.density_blocks, self.density_width, coupling="spline", scale_budget=8.0
            )
            density = Chain(Scaling(1 / scale), couplings, Scaling(scale))
            alone = LinearFlow(density, Identity(k), SolvedVelocity(torch.ones(k), scale.square()))
            lost = latents.var(0).flip(0).cumsum(0).flip(0)
            objective = self._objective(
                alone, lost / k, k - 1, self.density_noise, self.density_nested
            )
            whole = LinearFlow(Chain(encoder, Leading(density, n)), noise, velocity, **samples)
            yield Stage(objective, latents, self.density, whole, "density")

    def _couplings(self, n: int) -> tuple[Invertible, ...]:
        m = min(self.leading, n)
        leading = VectorFlow(m, self.blocks, self.width, scale_budget=float(self.blocks))
        if m == n:
            return (leading,)
        tail = MLP(m, 2 * (n - m), self.tail_width, hidden=0)
        return Leading(leading, n), AffineCoupling(n, tail, keep=m)

    def _objective(
        self,
        flow: LinearFlow,
        lost: Tensor,
        highest: int,
        noise: float,
        weight: float,
        focus: int | None = None,
    ) -> objectives.Objective:
        """Likelihood, and reconstruction from the leading ``k`` latents relative to ``lost[k]``."""
        lost = lost.clamp(min=1e-4 * lost[0].item())
        terms: dict[str, tuple[float, objectives.Term]] = {"nll": (1.0, objectives.Likelihood())}
        if weight:
            highest = min(highest, len(lost) - 1)
            term = objectives.NestedRank(
                min(self.lowest, highest), highest, baseline=lost, share=self.share, focus=focus
            )
            terms["nested"] = (weight, term)
        return objectives.Objective(flow, terms, noise, momentum=0.0)


def principal_axes(images: Tensor, count: int | None) -> tuple[Invertible, Tensor]:
    """The rotation to principal coordinates (``count`` of them, or all), and their deviations."""
    n = images[0].numel()
    if count is None:
        mean, axes, std = (part.float() for part in pca(images, complete=True))
        return Rotation.from_matrix(axes, mean), std
    some = images[:: -(-len(images) // _MAX_AXES_IMAGES)]
    mean, axes, std = (part.float() for part in pca(some, min(count, len(some) - 1, n)))
    rest = n - len(std)
    lost = some.flatten(1).var(0).sum() - std.square().sum()
    return Reflections(axes, mean), torch.cat(
        [std, (lost.clamp(min=0) / max(rest, 1)).sqrt().expand(rest)]
    )


@torch.no_grad()
def leading_latents(encoder: Invertible, images: Tensor, k: int) -> Tensor:
    """The ``k`` leading latents of each image, ``(n, k)``, on the device of ``images``."""
    device = next(encoder.parameters()).device
    return torch.cat([encoder(part.to(device))[:, :k] for part in images.split(_CHUNK_IMAGES)]).to(
        images.device
    )


ORDER = TrainConfig(
    steps=60_000,
    max_seconds=1500.0,
    batch_size=64,
    lr=3e-3,
    betas=(0.5, 0.99),
    weight_decay=1e-4,
    warmup=200,
    schedule="cosine",
    grad_clip=10.0,
    ema=0.998,
    evaluate_every=1000,
)
DENSITY = TrainConfig(
    steps=60_000,
    max_seconds=900.0,
    batch_size=256,
    lr=2e-3,
    betas=(0.9, 0.99),
    warmup=100,
    schedule="cosine",
    grad_clip=5.0,
    ema=0.99,
)


@dataclass(frozen=True)
class Mnist(Nested):
    """The nested generator on MNIST, 28 x 28."""

    data: str = "mnist"
    rank: int | None = 32
    training: TrainConfig = ORDER
    density: TrainConfig = DENSITY


@dataclass(frozen=True)
class Images(Nested):
    """The nested generator of a folder of images: ``rectilinear train images --set data=FOLDER``.

    It starts from the leading principal axes only, as reflections, and the operator is diagonal, so
    that memory grows with the images and not with their square.
    """

    data: str = "images"
    size: int | None = 64
    noise: float = 0.05
    rank: int | None = 64
    axes: int | None = 256
    latents: int = 64
    density_noise: float = 0.3
    training: TrainConfig = field(
        default_factory=lambda: replace(
            ORDER, steps=10_000, max_seconds=2400.0, batch_size=16, lr=2e-3, evaluate_every=500
        )
    )
    density: TrainConfig = field(
        default_factory=lambda: replace(DENSITY, steps=2000, max_seconds=600.0, lr=1e-3)
    )
