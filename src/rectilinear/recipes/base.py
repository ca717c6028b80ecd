"""The contract of a recipe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rectilinear import datasets
from rectilinear.training import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor, nn

    from rectilinear._pretrained import Configured


@dataclass(frozen=True, eq=False)
class Stage:
    """One training run of a recipe, in a folder ``name`` of the run's; without a name, in the run's own.

    ``model`` is the whole model: it holds the modules that ``objective`` trains.
    """

    objective: nn.Module
    data: Tensor
    training: TrainConfig
    model: Configured
    name: str = ""


@dataclass(frozen=True)
class Recipe(ABC):
    """A named run: data, model and training as one frozen configuration.

    Attributes:
        data: Name of the data set, or a folder of images.
        size: Side of the square images; none keeps that of the files.
        noise: Standard deviation of the noise that training adds to the data.
        rank: Rank at which samples are to be drawn; none draws them at full rank.
        training: How to train.
    """

    data: str = "digits"
    size: int | None = None
    noise: float = 0.0
    rank: int | None = None
    training: TrainConfig = field(default_factory=TrainConfig)

    def load(self, data_dir: Path | None = None) -> Tensor:
        """The data to train on: images ``(n, c, h, w)``, where the recipe does not say otherwise."""
        return datasets.load(self.data, "train", data_dir, self.size).images

    @abstractmethod
    def stages(self, data: Tensor) -> Iterator[Stage]:
        """What to train on ``data``, in turn: each is asked for when the one before it is done."""
