"""The recipe ``style``: a style transfer model trained on photos and their paintings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rectilinear.errors import ConfigError
from rectilinear.recipes.base import Fitted, Labels, Recipe, Stage
from rectilinear.style import Lessons, StyleObjective, new_model, teacher, with_ways_back
from rectilinear.style.features import mobilenet
from rectilinear.style.photos import paint, pairs, read_photos
from rectilinear.training import TrainConfig


@dataclass(frozen=True)
class StyleRecipe(Recipe):
    """Whole photos, painted by a teacher: filters of this library, networks, or your own pairs.

    The teacher is the filters of this library (``filters``), the networks of a package
    (``styletransfer``, with the extra ``style``), or none: with ``pairs``, ``data`` is the folder
    of the photos, and beside it lies a folder of the same images for each style.

    Attributes:
        size: Shorter side of the photos in pixels; larger ones are scaled down, nothing is cropped.
        teacher: Who shows the styles.
        styles: Their names: filters, numbers from 0 to 25, or folders.
        blocks: Couplings of the network.
        width: Width of their conditioners.
        basis: Of the network: "lapped" for brush strokes, "pixels" for filters; "auto" takes the
            one for the teacher. "dct" has blocks that do not overlap.
        generator: Operators that are exponentials, so that every power of a style is real.
        features: File of the weights of torchvision's MobileNetV2, for a loss of features beside
            that of pixels; none by default.
        tile: Side of the training tiles in pixels, a multiple of 4.
    """

    ranges: ClassVar[dict[str, tuple[float, float]]] = {
        **Recipe.ranges,
        **dict.fromkeys(("blocks", "width"), (1, inf)),
        "tile": (4, inf),
    }

    data: str = "photos"
    size: int | None = 224
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=1_000_000,
            max_seconds=540.0,
            batch_size=4,
            lr=2e-3,
            betas=(0.9, 0.99),
            warmup=20,
            schedule="cosine",
            ema=None,
            log_every=50,
        )
    )
    teacher: Literal["filters", "styletransfer", "pairs"] = "filters"
    styles: tuple[str, ...] = ("soft", "sepia", "negative", "dusk", "ink", "rose")
    blocks: int = 4
    width: int = 48
    basis: Literal["auto", "dct", "lapped", "pixels"] = "auto"
    generator: bool = True
    features: str | None = None
    tile: int = 64

    def load(self, data_dir: Path | None = None) -> Tensor:  # noqa: ARG002 - data is located
        """The number of each photo; the photos themselves are of different sizes."""
        return torch.arange(len(self.photos("train")), dtype=torch.float32)

    def photos(self, split: Literal["train", "test"]) -> list[Tensor]:
        """The whole photos of one split, bytes ``(c, h, w)``."""
        return read_photos(self.data, split, self.size)

    def stages(self, data: Tensor, labels: Labels | None = None) -> Iterator[Stage | Fitted]:  # noqa: ARG002
        lessons = self.lessons()
        basis = self.basis
        if basis == "auto":
            basis = "pixels" if self.teacher == "filters" else "lapped"
        model = new_model(
            self.styles,
            lessons.channels,
            self.blocks,
            self.width,
            basis=basis,
            generator=self.generator,
            seed=self.training.seed,
        )
        features = None if self.features is None else mobilenet(self.features)
        objective = StyleObjective(model, lessons, features, self.tile)
        yield Stage(objective, lessons.rows(), self.training, model)
        model = with_ways_back(model.cpu(), lessons.photos)
        yield Fitted(model, {"ways_back": list(model.styles), "photos": len(lessons.photos)})

    def lessons(self, split: Literal["train", "test"] = "train") -> Lessons:
        """The photos of one split and the teacher's paintings of them."""
        if not self.styles or len(set(self.styles)) != len(self.styles):
            raise ConfigError(
                f"styles {', '.join(self.styles) or '(none)'}",
                "different names, at least one",
                "Name each once.",
            )
        if self.teacher != "pairs":
            return paint(self.photos(split), self.styles, teacher(self.teacher))
        root = Path(self.data).expanduser()
        return pairs(root, {name: root.parent / name for name in self.styles}, split, self.size)
