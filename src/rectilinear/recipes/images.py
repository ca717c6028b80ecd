"""Colour images from a folder, at a size where no matrix of pixels by pixels can be held."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from rectilinear.flow import LinearFlow, objectives
from rectilinear.invertible import Flatten, ImageFlow
from rectilinear.operators import SolvedVelocity
from rectilinear.recipes.base import Recipe, Stage
from rectilinear.training import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


@dataclass(frozen=True)
class Images(Recipe):
    """Convolutional couplings at several resolutions; likelihood of noisy data under the solved operator.

    Activations are recomputed in the backward pass and the operator is diagonal, so memory grows with the images and
    not with their square: ``rectilinear train images --set data=FOLDER``.

    Attributes:
        blocks: Couplings, over all resolutions.
        width: Width of their conditioners.
        levels: Resolutions; ``size`` must be divisible by ``2^levels``.
    """

    data: str = "images"
    size: int | None = 64
    noise: float = 0.05
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=20_000, batch_size=16, lr=1e-3, warmup=200, schedule="cosine", ema=0.998, evaluate_every=200
        )
    )
    blocks: int = 12
    width: int = 48
    levels: int = 3

    def stages(self, images: Tensor) -> Iterator[Stage]:
        _, c, h, w = images.shape
        shape = c, h, w
        g = ImageFlow(shape, self.blocks, self.width, levels=self.levels, actnorm=True, checkpoint=True)
        flow = LinearFlow(g, Flatten(shape), SolvedVelocity(torch.ones(g.dim), torch.ones(g.dim)))
        yield Stage(objectives.likelihood(flow, self.noise), images, self.training, flow)
