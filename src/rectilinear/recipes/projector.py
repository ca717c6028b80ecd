"""The recipe ``projector``: a projector of images, initialised from PCA, and its density."""

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
    RandomCorruption,
    from_pca,
    spline,
)
from rectilinear.recipes.base import Labels, Recipe, Stage, check_images
from rectilinear.training import TrainConfig

CHUNK_IMAGES = 512  # encoded at a time
MAX_ALL_AXES = 4096  # values of an image up to which all principal axes are found
AXES = 512  # that are found for larger images


@dataclass(frozen=True)
class ProjectorRecipe(Recipe):
    """A projector that starts as PCA and learns to restore corrupted images, then a density.

    1. *Projector.* Couplings behind principal axes, initialised as PCA, learn to map corrupted
       images to clean ones.
    2. *Density.* A spline flow on the kept latents of the images, which samples are drawn from.

    Attributes:
        noise: Noise level of the latents: a lower bound of their standard deviations; the density
            is trained with noise of this share of the largest one.
        rank: Dimension of the range; null learns it.
        nested: Whether every rank up to ``rank`` is trained, too.
        corruptions: Corruptions of the training images; an empty list trains on clean images.
        pixel_blocks: Convolutional couplings on the pixels; by default 2 where the sides are even
            and at least 16, else 0.
        axes: Principal axes that are found, for images so large that all of them are too many; by
            default all, or 512 for images of more than 4096 values.
        leading: Principal coordinates that the couplings act on.
        blocks: Number of couplings.
        width: Hidden width of their conditioner networks.
        coupling: Kind of the couplings, affine or additive.
        rank_weight: Weight of the rank where it is learned; 1 keeps coordinates that explain more
            variance than the mean one.
        tightness: Weight of the term that keeps latents at the scale of the images.
        likelihood: Weight of the likelihood of all latents.
        density_blocks: Couplings of the density.
        density_width: Hidden width of their conditioner networks.
        density: Training of the density.
    """

    ranges: ClassVar[dict[str, tuple[float, float]]] = {
        **Recipe.ranges,
        **dict.fromkeys(("pixel_blocks", "rank_weight", "tightness", "likelihood"), (0, inf)),
        **dict.fromkeys(
            ("axes", "leading", "blocks", "width", "density_blocks", "density_width"), (1, inf)
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
    corruptions: tuple[str, ...] = ("noise", "missing", "occlusion", "blur")
    pixel_blocks: int | None = None
    axes: int | None = None
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

    def _axes(self, values: int) -> int | None:
        if self.axes is not None or values <= MAX_ALL_AXES:
            return self.axes
        return max(AXES, self.rank or 0)

    def check(self, data: Tensor) -> None:
        super().check(data)
        check_images(data, self.rank, least_rank=2)  # a density of one coordinate has no couplings
        RandomCorruption(self.corruptions)

    def stages(self, images: Tensor, labels: Labels | None = None) -> Iterator[Stage]:  # noqa: ARG002
        projector, errors = from_pca(
            images,
            self.rank,
            leading=self.leading,
            blocks=self.blocks,
            width=self.width,
            coupling=self.coupling,
            noise=self.noise,
            pixel_blocks=self._pixel_blocks(images.shape[-2], images.shape[-1]),
            axes=self._axes(images[0].numel()),
        )
        objective = ProjectorObjective(
            projector,
            errors,
            "learned" if self.rank is None else "nested" if self.nested else "fixed",
            corruption=RandomCorruption(self.corruptions) if self.corruptions else None,
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
                [projector.coordinates(part.to(device)) for part in images.split(CHUNK_IMAGES)]
            )
        noise = self.noise * float(coordinates.std(0).max())
        density = spline(
            coordinates, self.density_blocks, self.density_width, noise, self.training.seed
        )
        whole = projector.fitted(images.to(device), self.noise, density)
        yield Stage(
            DensityObjective(density, noise), coordinates.to(images), self.density, whole, "density"
        )
