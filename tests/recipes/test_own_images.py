"""The recipe of a folder of images chooses its sizes from the images."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from rectilinear import recipes
from rectilinear.recipes.generators import Images, latents_for

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
