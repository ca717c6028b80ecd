from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

import rectilinear as rl
from makers_data import images
from rectilinear.errors import InputError
from rectilinear.metrics import pca_curve
from rectilinear.recipes.base import Labels
from rectilinear.recipes.generators import Images, Nested
from rectilinear.recipes.run import RECIPES, train
from rectilinear.training import TrainConfig

if TYPE_CHECKING:
    from pathlib import Path

    from rectilinear.recipes.base import Recipe, Stage

RANKS = [2, 5, 9]


def first(recipe: Recipe, x: torch.Tensor) -> Stage:
    return next(recipe.stages(x))


@pytest.mark.parametrize("leading", [8, 16])
def test_the_nested_generator_starts_as_pca(leading: int) -> None:
    x = images()
    flow = first(Nested(leading=leading, blocks=2, width=8, rank=4), x).model
    f = rl.flow.collapse(flow, steps=100)
    truncated = [rl.project_range(rl.truncate(f, k)) for k in RANKS]
    errors = torch.tensor([(p(x) - x).square().mean() for p in truncated])
    assert torch.allclose(errors, pca_curve(x, x, RANKS).float(), rtol=1e-3)


def test_the_nested_generator_keeps_its_operator_and_trains_every_part() -> None:
    x = images()
    objective = first(Nested(leading=8, blocks=2, width=8, rank=4, lowest=1), x).objective
    objective.prepare(x)
    before = objective.flow.velocity.s1.clone()
    terms = objective.train()(x)
    terms["loss"].backward()
    assert set(terms) == {"loss", "nll", "nested"}
    assert torch.equal(objective.flow.velocity.s1, before)
    last = [p for name, p in objective.flow.named_parameters() if "leave" in name]
    assert last
    assert all(p.grad.abs().max() > 0 for p in last)


def test_colour_images_train_and_come_back() -> None:
    x = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    objective = first(
        Images(axes=12, leading=16, blocks=2, width=8, rank=8, latents=8), x
    ).objective
    objective.prepare(x)
    loss = objective.train()(x)["loss"]
    loss.backward()
    f = rl.flow.collapse(objective.flow.eval(), steps=100)
    noise = rl.flow.invert(f, x)
    assert torch.isfinite(loss)
    assert torch.allclose(f(noise), x, atol=1e-4)  # float32 through four couplings


@pytest.mark.whole
def test_a_few_principal_axes_are_a_start_as_well_as_all() -> None:
    x = images()
    flows = [
        first(Nested(axes=axes, leading=8, blocks=2, width=8, rank=4), x).model
        for axes in (6, None)
    ]
    assert (
        flows[0].velocity.s1[6:].unique().numel() == 1
    )  # the other coordinates share what variance is left
    few, every = (rl.flow.collapse(flow, steps=100) for flow in flows)
    for k in (1, 4, 6):
        torch.testing.assert_close(
            *(rl.project_range(rl.truncate(f, k))(x) for f in (few, every)), rtol=0, atol=1e-4
        )


def test_the_density_of_the_latents_is_a_part_of_the_whole_model() -> None:
    x = images()
    recipe = Nested(
        leading=8,
        blocks=2,
        width=8,
        latents=4,
        lowest=1,
        density_model="splines",
        density_blocks=2,
        density_width=8,
    )
    order, density = recipe.stages(x)
    assert density.data.shape == (200, 4)
    torch.testing.assert_close(
        order.model.g_data(x), density.model.g_data(x)
    )  # it starts as the identity
    with torch.no_grad():
        for p in density.objective.parameters():
            p += 0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2))
    before, after = (stage.model.g_data(x) for stage in (order, density))
    assert ((before - after).abs().amax(0) > 1e-3).tolist() == [True] * 4 + [False] * 12
    g = density.model.g_data.double()
    torch.testing.assert_close(g.inverse(g(x.double())), x.double())


@pytest.mark.whole
@pytest.mark.parametrize("density_model", ["mixture", "splines"])
def test_a_recipe_of_two_stages_trains_in_one_folder_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, density_model: str
) -> None:
    monkeypatch.setitem(RECIPES, "nested", Nested)
    training = TrainConfig(steps=4, batch_size=16, device="cpu")
    recipe = Nested(
        data="digits",
        leading=8,
        blocks=2,
        width=8,
        latents=4,
        lowest=1,
        density_model=density_model,
        components=2,
        training=training,
        density=training,
    )
    made = train("nested", recipe, tmp_path)
    weights = made.flow.state_dict()
    left = "fit.json" if density_model == "mixture" else "checkpoint.safetensors"
    assert (tmp_path / "density" / left).exists()
    again = train("nested", recipe, tmp_path)
    assert all(torch.equal(x, weights[name]) for name, x in again.flow.state_dict().items())
    assert made.flow.classes == (tuple("0123456789") if density_model == "mixture" else ())


@pytest.fixture(scope="module")
def generator() -> rl.flow.LinearFlow:
    """The nested generator of 4 x 4 images of two classes, not trained, with its mixture."""
    x = images(400)
    labels = (x.flatten(1) @ torch.linspace(-1, 1, 16) > 0).long()
    recipe = Nested(leading=8, blocks=2, width=8, latents=6, lowest=1, components=3, rank=6)
    _, fitted = recipe.stages(x, Labels(labels, ("minus", "plus")))
    return fitted.model.double().eval()


@pytest.mark.whole
def test_a_class_is_the_same_operator_and_its_density_exact(
    generator: rl.flow.LinearFlow,
) -> None:
    x = images(50).double()
    plus = generator.given("plus")
    assert plus.velocity is generator.velocity
    assert torch.equal(plus.sample(5, 1), generator.given(1).sample(5, 1))
    assert not torch.equal(plus.sample(5, 1), generator.sample(5, 1))
    shares = torch.stack([generator.log_prob(x, c) for c in (0, 1)], 1)
    joint = generator.class_probabilities(x).log() + generator.log_prob(x)[:, None]
    prior = joint - shares
    torch.testing.assert_close(prior, prior[:1].expand_as(prior), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(prior[0].exp().sum(), torch.tensor(1.0, dtype=torch.float64))
    drawn = plus.sample(400, 0)
    assert (generator.classify(drawn) == 1).double().mean() > 0.8
    for wrong in ("none", 2):
        with pytest.raises(InputError, match="minus, plus"):
            generator.given(wrong)


@pytest.mark.whole
def test_samples_are_one_operator_and_clipped_in_any_batches(
    generator: rl.flow.LinearFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    f = rl.truncate(rl.flow.collapse(generator), 6)
    noise = generator.noise(40, torch.Generator().manual_seed(3))
    drawn = generator.sample(40, 3, scale=3.0)
    torch.testing.assert_close(drawn, f(3 * noise).clamp(0, 1))
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    monkeypatch.setattr("rectilinear.flow.generator.BATCH_NUMBERS", 7 * 16)
    torch.testing.assert_close(generator.sample(40, 3, scale=3.0), drawn)
    torch.testing.assert_close(
        generator.sample(40, 3, scale=3.0, stepwise=True), drawn, rtol=0, atol=1e-4
    )


def test_images_without_labels_have_clusters() -> None:
    x = torch.cat([images(200), images(200) + 2])
    _, fitted = Nested(leading=8, blocks=2, width=8, latents=4, lowest=1, clusters=2).stages(x)
    flow = fitted.model
    assert flow.classes == ("cluster 1", "cluster 2")
    found = flow.classify(x)
    assert found[:200].unique().numel() == found[200:].unique().numel() == 1
    _, alone = Nested(leading=8, blocks=2, width=8, latents=4, lowest=1).stages(images(40))
    assert alone.model.classes == ()
    assert alone.record["components"] >= 2
