"""The projector: damaged images to their originals by a network that is idempotent by construction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rectilinear.errors import ConfigError
from rectilinear.projector import (
    DensityObjective,
    ProjectorObjective,
    RandomDamage,
    from_pca,
    spline,
)
from rectilinear.projector.corruption import Kind
from rectilinear.recipes.base import Recipe, Stage, check_images
from rectilinear.training import TrainConfig

_CHUNK = 512  # images encoded at a time


@dataclass(frozen=True)
class Projection(Recipe):
    """Couplings behind principal axes and a projection of their latents, then a density of those
    that it keeps.

    1. *Projector.* It starts as PCA's, and learns to map damaged images to their originals.
    2. *Density.* A network with splines on the kept latents of the images, which is cheap; samples
    are drawn from it.

    Attributes:
        noise: Least standard deviation that a latent is held to have, and that of the noise added
            to the kept latents (as a share of the largest of theirs) while their density is
            learned.
        rank: Dimension of the range; none learns it.
        nested: Whether every rank up to ``rank`` is trained, too.
        damages: What the images suffer in training; none trains on images as they are.
        pixel_blocks: Convolutional couplings on the pixels; 2 where the sides are even and at least
            16, if not given.
        leading: Principal coordinates that the couplings work on.
        blocks: Couplings.
        width: Width of their conditioners.
        coupling: Their kind.
        rank_weight: Price of a dimension, where the rank is learned: 1 keeps what explains more
            than the mean does.
        tightness: Weight of the size of the latents relative to that of the images.
        likelihood: Weight of the likelihood of all latents.
        density_blocks: Couplings of the second stage.
        density_width: Width of their conditioners.
        density: How to train the second stage.
    """

    ranges: ClassVar[dict[str, tuple[float, float]]] = {
        **Recipe.ranges,
        **dict.fromkeys(("pixel_blocks", "rank_weight", "tightness", "likelihood"), (0, inf)),
        **dict.fromkeys(
            ("leading", "blocks", "width", "density_blocks", "density_width"), (1, inf)
        ),
    }

    noise: float = 0.05
    rank: int | None = 16
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=20_000,
            max_seconds=150.0,
            batch_size=128,
            lr=2e-3,
            warmup=100,
            schedule="cosine",
            ema=0.99,
        )
    )
    nested: bool = False
    damages: tuple[Kind, ...] = ("noise", "missing", "occlusion", "blur")
    pixel_blocks: int | None = None
    leading: int = 128
    blocks: int = 8
    width: int = 128
    coupling: Literal["additive", "affine"] = "affine"
    rank_weight: float = 1.0
    tightness: float = 0.0
    likelihood: float = 0.0
    density_blocks: int = 6
    density_width: int = 128
    density: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=4000,
            max_seconds=60.0,
            batch_size=256,
            lr=2e-3,
            warmup=100,
            schedule="cosine",
            ema=0.99,
        )
    )

    def _pixel_blocks(self, h: int, w: int) -> int:
        if self.pixel_blocks is not None:
            return self.pixel_blocks
        return 2 if min(h, w) >= 16 and h % 2 == w % 2 == 0 else 0

    def check(self, data: Tensor) -> None:
        super().check(data)
        check_images(data, self.rank, least_rank=2)  # one coordinate has no couplings

    def stages(self, images: Tensor) -> Iterator[Stage]:
        projector, lost = from_pca(
            images,
            self.rank,
            leading=self.leading,
            blocks=self.blocks,
            width=self.width,
            coupling=self.coupling,
            noise=self.noise,
            pixel_blocks=self._pixel_blocks(images.shape[-2], images.shape[-1]),
        )
        objective = ProjectorObjective(
            projector,
            lost,
            "learned" if self.rank is None else "nested" if self.nested else "fixed",
            harm=RandomDamage(self.damages) if self.damages else None,
            rank_weight=self.rank_weight,
            tightness=self.tightness,
            likelihood=self.likelihood,
        )
        yield Stage(objective, images, self.training, projector)

        if projector.rank < 2:
            raise ConfigError(
                f"a learned rank of {projector.rank}", "2 or more", "Lower rank_weight."
            )
        device = next(projector.parameters()).device
        with torch.no_grad():
            coordinates = torch.cat(
                [projector.coordinates(part.to(device)) for part in images.split(_CHUNK)]
            )
        noise = self.noise * float(coordinates.std(0).max())
        density = spline(
            coordinates, self.density_blocks, self.density_width, noise, self.training.seed
        )
        whole = projector.fitted(images.to(device), self.noise, density)
        yield Stage(
            DensityObjective(density, noise), coordinates.to(images), self.density, whole, "density"
        )
