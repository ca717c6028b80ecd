"""The projector recipe: initialised from PCA, two stages, resumption, and errors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from makers_data import images
from rectilinear import flow, recipes
from rectilinear.errors import CheckpointError, ConfigError, DataError
from rectilinear.metrics import pca_curve
from rectilinear.projector import Projector
from rectilinear.recipes.projector import ProjectorRecipe
from rectilinear.training import TrainConfig

if TYPE_CHECKING:
    from pathlib import Path

SHORT = TrainConfig(steps=4, batch_size=20, device="cpu")
TINY = ProjectorRecipe(
    rank=5,
    blocks=2,
    width=8,
    leading=32,
    density_blocks=2,
    density_width=8,
    training=SHORT,
    density=SHORT,
)


@pytest.mark.parametrize("leading", [8, 16, 128])
@pytest.mark.parametrize("coupling", ["affine", "additive"])
def test_it_starts_as_pca(leading: int, coupling: str) -> None:
    x = images()
    stage = next(replace(TINY, leading=leading, coupling=coupling).stages(x))
    error = (stage.model(x) - x).square().mean()
    torch.testing.assert_close(error.double(), pca_curve(x, x, [5])[0], rtol=1e-3, atol=0)
    objective = replace(TINY, leading=leading, corruptions=())
    assert next(objective.stages(x)).objective(x)["error"].item() == pytest.approx(
        float(pca_curve(x, x, [5])[0] / pca_curve(x, x, [0])[0]), rel=1e-2
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rank": None},
        {"nested": True},
        {"tightness": 0.1, "likelihood": 0.1},
        {"corruptions": ()},
    ],
)
def test_every_way_to_train_reaches_every_part(changes: dict[str, object]) -> None:
    x = images()
    stage = next(replace(TINY, leading=8, **changes).stages(x))
    terms = stage.objective(x)
    terms["loss"].backward()
    extra = {name for name in ("tightness",) if changes.get(name)} | (
        {"nll"} if "likelihood" in changes else set()
    )
    assert set(terms) == {"loss", "error", *extra, *({"rank"} if "rank" in changes else ())}
    last = [p for name, p in stage.model.named_parameters() if "leave" in name or "logits" in name]
    assert last
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in last)


def test_a_run_goes_on_opens_and_is_told_from_a_generator(tmp_path: Path) -> None:
    made = recipes.train("projector", TINY, tmp_path)
    f = made.of(Projector)
    assert (tmp_path / "density" / "checkpoint.safetensors").exists()
    again = recipes.train("projector", TINY, tmp_path).of(Projector)
    assert all(torch.equal(x, f.state_dict()[name]) for name, x in again.state_dict().items())
    assert f.sample(3).shape == (3, 1, 8, 8)
    x = made.load("test").images
    assert (f(f(x)) - f(x)).abs().max() < 1e-5
    assert torch.isfinite(f.log_prob(x)).all()
    with pytest.raises(CheckpointError, match="LinearFlow"):
        flow.collapse(made.flow, 1)


@pytest.mark.parametrize("rank", [0, 1, 17])
def test_ranks_out_of_range_are_refused(rank: int) -> None:
    with pytest.raises(ConfigError, match=f"rank = {rank}"):
        replace(TINY, rank=rank).check(images())


def test_a_learned_rank_of_nothing_is_refused() -> None:
    stages = replace(TINY, rank=None).stages(images())
    first = next(stages)
    first.model.selection.logits.data.fill_(-1.0)
    with pytest.raises(ConfigError, match="rank_weight"):
        next(stages)


def test_fewer_images_than_values_are_enough() -> None:
    x = images(10)
    f = next(TINY.stages(x)).model
    assert f.g.dim == x[0].numel()
    assert torch.isfinite(f(x)).all()
    with pytest.raises(DataError, match="one image"):
        TINY.check(x[:1])
