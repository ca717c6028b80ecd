"""Digits, 8 x 8: one network that generates, inverts and orders, in a few minutes of two cores."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, ClassVar

import torch

from rectilinear.flow import LinearFlow, objectives
from rectilinear.invertible import Chain, Flatten, Rotation, VectorFlow
from rectilinear.metrics import pca
from rectilinear.operators import SolvedVelocity
from rectilinear.recipes.base import Recipe, Stage, check_images
from rectilinear.training import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


@dataclass(frozen=True)
class Digits(Recipe):
    """Additive couplings behind principal axes; likelihood of noisy data, and reconstruction from nested ranks.

    Attributes:
        blocks: Couplings.
        width: Width of their conditioners.
        nested: Weight of the reconstruction through the leading ``k`` latents, ``k`` drawn at random.
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
        flow = LinearFlow(g, Flatten(tuple(images.shape[1:])), SolvedVelocity(torch.ones(n), torch.ones(n)))
        yield Stage(objectives.nested(flow, self.noise, self.nested), images, self.training, flow)
