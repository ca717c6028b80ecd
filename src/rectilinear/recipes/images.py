"""Colour images from a folder, at a size where no matrix of pixels by pixels can be held."""

from __future__ import annotations

from dataclasses import dataclass, field

from rectilinear.recipes.nested import Nested
from rectilinear.training import TrainConfig


@dataclass(frozen=True)
class Images(Nested):
    """The nested generator of a folder of images: ``rectilinear train images --set data=FOLDER``.

    It starts from the leading principal axes only, as reflections, and the operator is diagonal, so that memory grows
    with the images and not with their square.
    """

    data: str = "images"
    size: int | None = 64
    noise: float = 0.05
    rank: int | None = 64
    axes: int | None = 256
    latents: int = 64
    density_noise: float = 0.3
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=10_000,
            max_seconds=2400.0,
            batch_size=16,
            lr=2e-3,
            betas=(0.5, 0.99),
            weight_decay=1e-4,
            warmup=200,
            schedule="cosine",
            grad_clip=10.0,
            ema=0.998,
            evaluate_every=500,
        )
    )
    density: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=2000,
            max_seconds=600.0,
            batch_size=256,
            lr=1e-3,
            betas=(0.9, 0.99),
            warmup=100,
            schedule="cosine",
            grad_clip=5.0,
            ema=0.99,
        )
    )
