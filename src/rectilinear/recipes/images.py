"""Colour images from a folder, at a size where no matrix of pixels by pixels can be held."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from rectilinear.recipes.nested import DENSITY, ORDER, Nested
from rectilinear.training import TrainConfig  # noqa: TC001 - a configuration is read by its annotations


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
        default_factory=lambda: replace(
            ORDER, steps=10_000, max_seconds=2400.0, batch_size=16, lr=2e-3, evaluate_every=500
        )
    )
    density: TrainConfig = field(default_factory=lambda: replace(DENSITY, steps=2000, max_seconds=600.0, lr=1e-3))
