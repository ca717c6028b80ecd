"""Recipes: the contract of a named run, its stages, checks of fields, and feature networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from torch import Tensor, nn

from rectilinear import datasets
from rectilinear.datasets.load import located
from rectilinear.errors import ConfigError, DataError
from rectilinear.files import locked
from rectilinear.metrics import FeatureNetwork, train_features
from rectilinear.serialization import Configured, is_saved
from rectilinear.training import TrainConfig


@dataclass(frozen=True, eq=False)
class Stage:
    """One training run of a recipe, in the sub-folder ``name`` of the run, or in the run's folder.

    ``model`` is the whole model: it holds the modules that ``objective`` trains.
    """

    objective: nn.Module
    data: Tensor
    training: TrainConfig
    model: Configured
    name: str = ""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A part of a recipe that is solved in closed form: ``model`` is the whole model with it.

    ``record`` is written to ``fit.json`` in the sub-folder ``name`` of the run.
    """

    model: Configured
    record: dict[str, Any]
    name: str = ""


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels ``(n,)`` of images, and the names of their classes."""

    labels: Tensor
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Recipe(ABC):
    """A named run: data, model and training as one frozen configuration.

    Attributes:
        data: Name of the data set, or a folder of images.
        size: Side of the square images; none keeps that of the files.
        labels: CSV file of the class of each image of a folder; none has sub-folders as classes.
        noise: Standard deviation of the noise that training adds to the data.
        rank: Rank of the operator that samples are drawn with; none is the full rank.
        training: How to train.
    """

    ranges: ClassVar[dict[str, tuple[float, float]]] = {
        "noise": (0, inf),
        "rank": (1, inf),
        "size": (1, inf),
    }
    """The least and the largest value of fields that are numbers; infinity itself is none."""

    data: str = "digits"
    size: int | None = None
    labels: str | None = None
    noise: float = 0.0
    rank: int | None = None
    training: TrainConfig = field(default_factory=TrainConfig)

    def located(self, data_dir: Path | None = None) -> Self:
        """The recipe with the absolute path of its data, so that they are found from any folder."""
        try:
            path = located(self.data, data_dir)
        except DataError:
            if self.data != type(self).data:
                raise
            raise DataError(
                f"no data, and no folder '{self.data}', which they are in by default",
                "a folder of images",
                "Name it: --set data=FOLDER.",
            ) from None
        if self.labels is not None and not Path(self.labels).expanduser().is_file():
            raise DataError(f"no table of labels '{self.labels}'", "a CSV file: file, class")
        labels = self.labels and str(Path(self.labels).expanduser().absolute())
        return replace(self, data=self.data if path is None else str(path), labels=labels)

    def load(self, data_dir: Path | None = None) -> Tensor:
        """The training data: images ``(n, c, h, w)`` unless the recipe says otherwise."""
        return self.split("train", data_dir).images

    def split(
        self, split: Literal["train", "test"], data_dir: Path | None = None
    ) -> datasets.Images:
        """One split of the data, with its labels."""
        return datasets.load(self.data, split, data_dir, self.size, self.labels)

    def load_labelled(self, data_dir: Path | None = None) -> tuple[Tensor, Labels | None]:
        """The data, and their labels where the recipe makes use of them."""
        if self.labels is not None:
            raise ConfigError(
                f"labels = '{self.labels}'", "a recipe that uses labels", "Leave them out."
            )
        return self.load(data_dir), None

    def fitted_to(self, data: Tensor) -> Self:  # noqa: ARG002 - recipes override it
        """The recipe with the fields that are chosen from the data, where it leaves some out."""
        return self

    def check(self, data: Tensor) -> None:
        """Raise before training for what would fail only at the end, or not at all.

        Raises:
            ConfigError: for a field out of its range.
            DataError: for too few images.
        """
        if not len(data):
            raise DataError("no data to train on", "rows")
        for name, (low, high) in self.ranges.items():
            check_range(name, getattr(self, name), low, high)

    @abstractmethod
    def stages(self, data: Tensor, labels: Labels | None = None) -> Iterator[Stage | Fitted]:
        """The stages of the training on ``data``, each asked for when the one before it is done.

        What is solved in closed form comes as :class:`Fitted`.
        """


def check_range(name: str, value: float | None, low: float, high: float, what: str = "") -> None:
    """Raise ConfigError unless the field is None, or finite and from ``low`` to ``high``.

    Example:
        >>> check_range("rank", 9, 1, 8, "pixels")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rectilinear.errors.ConfigError: Got rank = 9; expected 1 to 8, pixels. On the command ...
    """
    if value is None or (low <= value <= high and abs(value) < inf):
        return
    expected = f"a number from {low:g}" if high == inf else f"{low:g} to {high:g}"
    raise ConfigError(
        f"{name} = {value}",
        expected + (f", {what}" if what else ""),
        f"On the command line, --set {name}=VALUE.",
    )


def check_images(images: Tensor, rank: int | None = None, least_rank: int = 1) -> None:
    """Raise unless there are two images, and ``rank`` is one of their space."""
    if len(images) < 2:
        raise DataError(
            "one image to train on",
            "two or more",
            "Add images: every tenth, from the first, is for tests.",
        )
    n = images[0].numel()
    check_range("rank", rank, least_rank, n, f"the values of an image {tuple(images.shape[1:])}")


@dataclass(frozen=True)
class Features:
    """A classifier of a labelled data set.

    Attributes:
        data: Name of the data set, or a folder of images with a subfolder a class.
        size: Side of the square images; none keeps that of the files.
        labels: CSV file of the class of each image of a folder; none has sub-folders as classes.
        epochs: Passes over the images; none takes as many as suffice.
        seed: Of weights, order and shifts.
    """

    data: str = "digits"
    size: int | None = None
    labels: str | None = None
    epochs: int | None = None
    seed: int = 0

    def train(self, out: Path, data_dir: Path | None = None) -> FeatureNetwork:
        """Train, and save in the folder ``out``; where that is done already, load.

        Raises:
            LockedError: if another process is training in ``out``.
        """
        if not is_saved(out):
            with locked(out):
                train, test = (
                    datasets.load(self.data, split, data_dir, self.size, self.labels)
                    for split in ("train", "test")
                )
                train_features(
                    train.images,
                    train.labels,
                    (test.images, test.labels),
                    name=train.name,
                    seed=self.seed,
                    epochs=self.epochs,
                ).save_pretrained(out)
        return FeatureNetwork.from_pretrained(out)
