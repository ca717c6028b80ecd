"""``rectilinear train`` and ``data``: train a recipe, check and download its data."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from rectilinear.cli._options import Common, UsageError

if TYPE_CHECKING:
    from rectilinear import Configured


@dataclass(frozen=True, kw_only=True)
class Train(Common):
    """Train the model of a recipe and write the run; the same command resumes it."""

    recipe: tyro.conf.Positional[str]
    """Name of the recipe: digits, mnist, images or images-large (generators, the last for a GPU),
    projector, style, koopman, or features (a network whose features score samples)."""
    out: Path | None = None
    """Folder of the run; runs/RECIPE by default."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = field(default=())
    """Change of the recipe, NAME=VALUE, such as training.steps=100; repeatable; none by default."""
    labels: Path | None = None
    """CSV file of the class of each image of a folder: file, class; sub-folders by default."""
    data_dir: Path | None = None
    """Folder of data sets; by default $RECTILINEAR_DATA, else ./data."""

    def folders(self) -> tuple[Path, ...]:
        return (self.out or Path("runs") / self.recipe,)


def train(arguments: Train) -> dict[str, Any]:
    """The folder of the run, the size of its model, and what ended each stage of its training."""
    from rectilinear import recipes

    changes = dict(map(_change, arguments.set))
    if arguments.labels is not None:
        changes["labels"] = str(arguments.labels)
    (out,) = arguments.folders()
    if arguments.recipe == "features":
        features = recipes.changed(recipes.Features(seed=arguments.seed), changes)
        network = features.train(out, arguments.data_dir)
        return {"features": network.name, "folder": str(out), "accuracy": network.accuracy}
    recipe = recipes.recipe_named(arguments.recipe, {"training.seed": arguments.seed} | changes)
    trained = recipes.train(arguments.recipe, recipe, out, arguments.data_dir)
    size = _size(trained.model)
    return {"recipe": arguments.recipe, "run": str(trained.path), **size, "stages": trained.stages}


def _size(model: "Configured") -> dict[str, int]:
    """The dimension of the model, and of its range where it has one."""
    from rectilinear.flow import LinearFlow
    from rectilinear.koopman import Koopman
    from rectilinear.projector import Projector
    from rectilinear.style import StyleTransfer

    if isinstance(model, LinearFlow):
        return {"dim": model.velocity.dim}
    if isinstance(model, StyleTransfer):
        return {"styles": len(model.styles)}
    if isinstance(model, Koopman):
        return {"dim": model.lift.dim}
    return {"dim": model.g.dim, "rank": model.rank} if isinstance(model, Projector) else {}


def _change(text: str) -> tuple[str, Any]:
    """``NAME=VALUE`` as a pair; the value is JSON, or else a string."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UsageError(f"'--set {text}' is not of the form --set NAME=VALUE.")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


@dataclass(frozen=True, kw_only=True)
class Data(Common):
    """Check a data set, and download it where it is missing."""

    name: tyro.conf.Positional[str]
    """Name of the data set, digits, mnist or fashion_mnist, or a folder of images."""
    out: Path | None = None
    """Folder of data sets; by default $RECTILINEAR_DATA, else ./data."""
    size: int | None = None
    """Side in pixels that images are scaled to; by default that of the files."""

    def folders(self) -> tuple[Path, ...]:
        return ()  # most of the time it only reads there


def data(arguments: Data) -> dict[str, Any]:
    """The folder of the data set, its numbers of images, their shape and classes.

    The folder is None of images that come with scikit-learn.
    """
    from rectilinear import datasets
    from rectilinear.datasets.load import NAMES, located
    from rectilinear.errors import DataError

    root = datasets.data_root(arguments.out)
    try:
        train = datasets.load(arguments.name, "train", root, arguments.size)
    except DataError:
        if arguments.name not in NAMES:
            raise
        datasets.download(arguments.name, root)
        train = datasets.load(arguments.name, "train", root, arguments.size)
    test = datasets.load(arguments.name, "test", root, arguments.size)
    packaged = train.name in ("digits", "photos") and located(arguments.name, root) is None
    return {
        "name": train.name,
        "folder": None if packaged else str(located(arguments.name, root) or root.resolve()),
        "train": len(train),
        "test": len(test),
        "shape": list(train.shape),
        "classes": list(train.classes),
    }
