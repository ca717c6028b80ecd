"""Runs: training a named recipe into a folder, opening that folder, loading the model in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch import Tensor

from rectilinear import datasets, training
from rectilinear.config import from_json, to_json, write_json
from rectilinear.errors import CheckpointError, ConfigError
from rectilinear.files import locked
from rectilinear.flow import LinearFlow
from rectilinear.random import seed_all
from rectilinear.recipes.base import Fitted, Recipe
from rectilinear.recipes.generators import Digits, Images, ImagesLarge, Mnist
from rectilinear.recipes.koopman import KoopmanRecipe
from rectilinear.recipes.packaged import NAMES, is_packaged, load_packaged
from rectilinear.recipes.projector import ProjectorRecipe
from rectilinear.recipes.style import StyleRecipe
from rectilinear.serialization import Configured, from_pretrained, is_saved
from rectilinear.training import TrainConfig
from rectilinear.training.distributed import is_main

RECIPES: dict[str, type[Recipe]] = {
    "digits": Digits,
    "mnist": Mnist,
    "images": Images,
    "images-large": ImagesLarge,
    "projector": ProjectorRecipe,
    "style": StyleRecipe,
    "koopman": KoopmanRecipe,
}
_FORMER = {"dynamics": "koopman"}
"""Names of recipes in runs of earlier versions, and their present names."""
_FORMER_FIELDS = {
    "koopman": {"fit.looks": "fit.lookahead_features"},
    "projector": {"damages": "corruptions"},
}
"""Fields of recipes in runs of earlier versions, as dotted names, and their present names."""
T = TypeVar("T")
M = TypeVar("M", bound=Configured)
_CONFIG, _MODEL = "config.json", "model"


@dataclass(frozen=True)
class Record:
    """The content of the ``config.json`` of a run."""

    name: str
    recipe: Recipe


@dataclass(frozen=True, eq=False)
class Run:
    """A trained model beside the recipe that made it, and the folder of both."""

    path: Path
    name: str
    recipe: Recipe
    model: Configured

    @property
    def flow(self) -> LinearFlow:
        """The model of a generator's run."""
        return self.of(LinearFlow)

    def of(self, kind: type[M]) -> M:
        """The model, which must be of this kind."""
        if not isinstance(self.model, kind):
            raise CheckpointError(
                f"the run {self.path} of the recipe '{self.name}', a {type(self.model).__name__}",
                f"a run with a {kind.__name__}",
                "Choose another run, or the command for this kind of model.",
            )
        return self.model

    @property
    def stages(self) -> list[dict[str, Any]]:
        """A row for each stage of training: its steps and seconds, and the limit that ended it.

        ``stage`` is the field of the recipe with its configuration, and ``ended_by`` the field
        there: "steps", or "max_seconds" where the time was up before ``steps_planned``. Parts that
        are solved in closed form have no row.
        """
        rows = []
        for name in (f.name for f in fields(self.recipe)):
            config = getattr(self.recipe, name)
            folder = self.path if name == "training" else self.path / name
            if not isinstance(config, TrainConfig) or not (log := training.read_log(folder)):
                continue
            step, seconds = log[-1]["step"], log[-1]["seconds"]
            rows.append(
                {
                    "stage": name,
                    "steps": step,
                    "steps_planned": config.steps,
                    "seconds": seconds,
                    "max_seconds": config.max_seconds,
                    "ended_by": "steps" if step >= config.steps else "max_seconds",
                }
            )
        return rows

    def sample(self, n: int = 64, seed: int = 0) -> Tensor:
        """``n`` samples of a generator's run, as ``rectilinear sample RUN --seed SEED`` draws them.

        See :meth:`rectilinear.flow.LinearFlow.sample`, which takes more options.
        """
        return self.flow.sample(n, seed)

    def load(
        self, split: Literal["train", "test"], data_dir: Path | None = None
    ) -> datasets.Images:
        """One split of the data that the run is about."""
        return self.recipe.split(split, data_dir)


def recipe_named(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe ``name``, with ``changes`` of its fields: dotted names to JSON values.

    Example:
        >>> recipe_named("digits", {"training.steps": 7}).training.steps
        7
    """
    if name in _FORMER:
        raise ConfigError(f"recipe '{name}'", f"its new name '{_FORMER[name]}'")
    if name not in RECIPES:
        raise ConfigError(
            f"recipe '{name}'",
            f"one of {', '.join(RECIPES)}, or on the command line features",
        )
    return changed(RECIPES[name](), changes or {})


def changed(config: T, changes: Mapping[str, Any]) -> T:
    """The dataclass with other values of some fields: dotted names to JSON values."""
    values = to_json(config)
    for dotted, value in changes.items():
        *parents, key = dotted.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigError(
                    f"'{dotted}'",
                    f"a field of the recipe, and '{parent}' has none",
                )
        place[key] = value
    return from_json(type(config), values)


def train(name: str, recipe: Recipe, out: Path, data_dir: Path | None = None) -> Run:
    """The run of ``recipe`` in the folder ``out``: trained, resumed, or opened if it is finished.

    Raises:
        ConfigError: if ``out`` holds another run, or a field of the recipe is out of range.
        LockedError: if another process is training in ``out``.
    """
    recipe = recipe.located(data_dir)
    data, labels = recipe.load_labelled(data_dir)
    recipe = recipe.fitted_to(data)
    recipe.check(data)
    seed_all(recipe.training.seed)
    with locked(out) if is_main() else nullcontext():
        for stage in recipe.stages(data, labels):
            if isinstance(stage, Fitted):
                if not stage.name:  # nothing is trained that would leave the record of the run
                    _keep_record(out, Record(name, recipe))
                write_json(out / stage.name / "fit.json", stage.record)
                continue
            run = Record(name, recipe) if not stage.name else None
            training.train(stage.objective, stage.data, stage.training, out / stage.name, run=run)
        stage.model.cpu().save_pretrained(out / _MODEL)
        return open_run(out)


def _keep_record(out: Path, record: Record) -> None:
    """The record of a run in its folder, which must hold no other."""
    if (out / _CONFIG).exists() and _read(out / _CONFIG) != record:
        raise ConfigError(
            f"a run with another configuration in {out}",
            "an empty folder, or the same configuration",
            "Choose another folder.",
        )
    write_json(out / _CONFIG, to_json(record))


def open_run(path: Path | str) -> Run:
    """The finished run in a folder: its recipe, and its model ready to use.

    Args:
        path: folder that ``rectilinear train`` or ``rectilinear demo`` wrote.

    Raises:
        CheckpointError: if there is none, or it is damaged.

    Example:
        >>> import rectilinear as rl
        >>> run = rl.open_run("runs/demo")                                   # doctest: +SKIP
        >>> run.sample(64, seed=0).shape                                     # doctest: +SKIP
        torch.Size([64, 1, 8, 8])
    """
    path = Path(path)
    record = _read(path / _CONFIG)
    if not is_saved(path / _MODEL):
        raise CheckpointError(
            f"no model in {path}",
            "a run that has finished",
            "Run the training command again: it resumes.",
        )
    model = from_pretrained(path / _MODEL)
    if isinstance(model, LinearFlow) and not model.noise_level and model.rank is None:
        model = LinearFlow(  # what older versions saved without; the recipe says how to sample
            model.g_data,
            None if model.g_noise is model.g_data else model.g_noise,
            model.velocity,
            model.end,
            record.recipe.noise,
            record.recipe.rank,
            model.classes,
            model.limits,
        ).eval()
    return Run(path, record.name, record.recipe, model.requires_grad_(requires_grad=False))


def load(source: Path | str) -> Configured:
    """The model of a name, in a run's folder, in a saved folder, or on the Hugging Face hub.

    On the CPU and in evaluation mode. A generator of a run samples as the run does.

    Args:
        source: the name of a model of the package, ``"mnist"`` or ``"styles"``; the folder of a
            finished run; a folder that ``save_pretrained`` wrote; or ``"owner/name"`` on the hub. A
            folder of the same name comes before the package.

    Raises:
        CheckpointError: if there is no model, or it is damaged.
        MissingDependencyError: if there is no such folder and huggingface_hub is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import torch, rectilinear as rl
        >>> with TemporaryDirectory() as folder:
        ...     rl.operators.Diagonal(torch.tensor([1.0, 2.0])).save_pretrained(folder)
        ...     rl.load(folder)
        Diagonal(2 x 2)
        >>> rl.load("mnist").given(7).sample(5, seed=0).shape
        torch.Size([5, 1, 28, 28])
    """
    if is_packaged(source):
        return load_packaged(str(source))
    folder = Path(source)
    if not folder.exists() and "/" not in str(source):
        raise CheckpointError(
            f"no model '{source}'",
            f"one of {', '.join(NAMES)}, the folder of a run, or owner/name on the hub",
        )
    return open_run(folder).model if is_saved(folder / _MODEL) else from_pretrained(source)


def _read(path: Path) -> Record:
    try:
        text = json.loads(path.read_text(encoding="utf-8"))
        name, fields = _FORMER.get(text["name"], text["name"]), text["recipe"]
        if name == "style" and "kernel" in fields:
            raise CheckpointError(
                f"a run of styles of square tiles in {path.parent}, of an earlier version",
                "a run of whole photos",
                "Train it again: rectilinear train style.",
            )
        for old, new in _FORMER_FIELDS.get(name, {}).items():
            *parents, key = old.split(".")
            place = fields
            for parent in parents:
                place = place.get(parent, {})
            if key in place:
                place[new.rpartition(".")[2]] = place.pop(key)
        return Record(name, from_json(RECIPES[name], fields))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"no run in {path.parent}",
            f"a folder with {path.name}",
            "Train one with rectilinear train.",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"an unreadable record of a run in {path}",
            "the file as training wrote it",
            "Train in another folder.",
        ) from error
