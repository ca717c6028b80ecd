"""Style transfer: one operator a style between two spaces that all styles share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rectilinear.errors import ConfigError, ShapeError
from rectilinear.recipes.base import Labels, Recipe, Stage
from rectilinear.style import StyleObjective, lessons, new_model, pairs, teacher
from rectilinear.training import TrainConfig


@dataclass(frozen=True)
class StyleRecipe(Recipe):
    """Convolutional couplings on both sides of one small convolution for each style.

    The teacher is the filters of this library (``filters``), the networks of a package
    (``styletransfer``, with the extra ``style``), or none: with ``pairs``, ``data`` is the folder
    of the originals, and beside it lies a folder of the same images for each style.

    Attributes:
        teacher: Who shows the styles.
        styles: Their names: filters, numbers from 0 to 25, or folders.
        blends: The teacher's blends between each two styles that are trained on; pairs have none.
        blocks: Couplings of each network.
        width: Width of their conditioners.
        levels: Resolutions; ``size`` must be divisible by ``2^levels``.
        kernel: Side of the kernel of an operator.
        latent: Weight of the error in the latents, for images that are in a style
            already.
        shared: One network for images and styled images.
    """

    ranges: ClassVar[dict[str, tuple[float, float]]] = {
        **Recipe.ranges,
        **dict.fromkeys(("blends", "levels", "latent"), (0, inf)),
        **dict.fromkeys(("blocks", "width", "kernel"), (1, inf)),
    }

    data: str = "photos"
    size: int | None = 32
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=20_000,
            max_seconds=540.0,
            batch_size=16,
            lr=3e-3,
            warmup=50,
            schedule="cosine",
            ema=0.99,
        )
    )
    teacher: Literal["filters", "styletransfer", "pairs"] = "filters"
    styles: tuple[str, ...] = ("soft", "sepia", "negative", "dusk", "ink")
    blends: int = 3
    blocks: int = 8
    width: int = 48
    levels: int = 2
    kernel: int = 5
    latent: float = 0.02
    shared: bool = False

    def stages(self, images: Tensor, labels: Labels | None = None) -> Iterator[Stage]:  # noqa: ARG002
        _, c, h, w = images.shape
        model = new_model(
            (c, h, w),
            self.styles,
            self.blocks,
            self.width,
            self.levels,
            self.kernel,
            shared=self.shared,
        )
        rows, weights = self.lessons(images)
        yield Stage(StyleObjective(model, weights, self.latent), rows, self.training, model)

    def lessons(
        self, images: Tensor, split: Literal["train", "test"] = "train"
    ) -> tuple[Tensor, Tensor]:
        """Rows ``(n, 1 + m, c, h, w)``: image, teacher's versions; weights ``(m, styles)``."""
        if self.teacher != "pairs":
            return lessons(
                images, self.styles, teacher(self.teacher), self.blends if split == "train" else 0
            )
        if not self.styles:
            raise ConfigError(
                "no styles", "at least one", "Name the folders of the images in a style."
            )
        original = Path(self.data).expanduser()
        found = pairs(original.parent, (original.name, *self.styles), split, self.size)
        if found[original.name].shape != images.shape:
            raise ShapeError(
                f"images of shape {tuple(images.shape)}", f"{tuple(found[original.name].shape)}"
            )
        return torch.stack([*found.values()], dim=1), torch.eye(len(self.styles))
