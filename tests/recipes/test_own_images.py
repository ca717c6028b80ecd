"""The recipe of a folder of images chooses its sizes from the images."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from rectilinear import recipes
from rectilinear.errors import ConfigError, DataError
from rectilinear.recipes.base import Labels
from rectilinear.recipes.generators import Images, latents_for
from rectilinear.recipes.mixture import mixture_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.whole
@pytest.mark.parametrize(("side", "mode", "values"), [(16, "L", 256), (17, "RGB", 768)])
def test_sizes_are_those_of_the_images(side: int, mode: str, values: int, tmp_path: Path) -> None:
    data, random = tmp_path / "data", np.random.default_rng(0)
    data.mkdir()
    for i in range(50):
        pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(data / f"{i}.png")
    changes = {"data": str(data), "blocks": 2, "width": 4, "pixel_width": 4, "training.steps": 2}
    recipe = recipes.recipe_named("images", {**changes, "training.device": "cpu"})
    run = recipes.train("images", recipe, tmp_path / "run")
    assert run.flow.velocity.dim == values
    assert (run.recipe.size, run.recipe.rank, run.flow.rank) == (16, 5, 5)
    assert json.loads((tmp_path / "run/config.json").read_text())["recipe"]["latents"] == 5
    assert run.sample(3).shape == (3, values // 256, 16, 16)
    again = recipes.train("images", recipe, tmp_path / "run")
    assert torch.equal(again.sample(3), run.sample(3))


def test_what_is_given_stays() -> None:
    images = torch.rand(100, 1, 15, 15)
    recipe = Images(latents=7, rank=6, training=Images().training).fitted_to(images)
    assert (recipe.latents, recipe.rank, recipe.pixel_blocks) == (7, 6, 0)
    assert recipe.training.steps == 1400
    assert Images(epochs=1).fitted_to(images).training.steps == 300


def test_latents_grow_with_the_images() -> None:
    found = [latents_for(n, 4096) for n in (10, 50, 400, 3000, 20_000)]
    assert found == sorted(found)
    assert found[0] >= 2


@pytest.mark.parametrize(("rows", "components"), [(8, 1), (20, 1), (90, 6), (4000, 160)])
def test_one_component_for_fifteen_images_of_a_class(rows: int, components: int) -> None:
    x = torch.randn(2 * rows, 3, generator=torch.Generator().manual_seed(0))
    labels = Labels(torch.arange(2 * rows) % 2, ("a", "b"))
    fit, classes = mixture_of(x, labels, None, 10, 0)
    assert (fit.components, classes) == (components, labels)
    assert mixture_of(x, labels, 2, 10, 0)[0].components == 2


def test_clusters_stand_for_classes_where_there_are_no_labels() -> None:
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    fit, classes = mixture_of(x, None, None, 2, 0)
    assert classes.classes == ("cluster 1", "cluster 2")
    assert fit.components == int(torch.bincount(classes.labels).double().median()) // 15


def test_couplings_work_on_all_latents_that_have_a_density() -> None:
    recipe = Images().fitted_to(torch.rand(1, 1, 64, 64).expand(8000, -1, -1, -1))
    assert (recipe.latents, recipe.rank, recipe.leading) == (192, 192, 192)
    given = Images(leading=16).fitted_to(torch.rand(1, 1, 64, 64).expand(8000, -1, -1, -1))
    assert (given.latents, given.rank, given.leading) == (192, 16, 16)


def test_without_data_the_error_says_how_to_name_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="--set data=FOLDER"):
        recipes.train("images", recipes.recipe_named("images"), tmp_path / "run")
    with pytest.raises(DataError, match=r"'elsewhere'.*Check the spelling"):
        recipes.train("images", recipes.recipe_named("images", {"data": "elsewhere"}), tmp_path)
    with pytest.raises(ConfigError, match=r"steps = 3\.5; expected an integer\."):
        recipes.recipe_named("images", {"training.steps": 3.5})


def test_the_large_recipe_computes_few_images_at_a_time_on_a_cpu_and_says_so() -> None:
    images = torch.rand(60, 1, 16, 16)
    large = {"training.device": "cpu", "training.steps": 7}
    with pytest.warns(UserWarning, match="a recipe for a GPU: on this CPU a step of 256 images"):
        found = recipes.recipe_named("images-large", large).fitted_to(images)
    assert (found.training.batch_size, found.training.micro_batch) == (256, 4)
    with pytest.warns(UserWarning, match="rectilinear train images"):
        found = recipes.recipe_named(
            "images-large", {**large, "training.micro_batch": 9}
        ).fitted_to(images)
    assert found.training.micro_batch == 9
    assert recipes.recipe_named("images", large).fitted_to(images).training.micro_batch is None
