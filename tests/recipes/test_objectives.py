from __future__ import annotations

import pytest
import torch

import rectilinear as rl
from rectilinear.metrics import pca_curve
from rectilinear.recipes.images import Images
from rectilinear.recipes.nested import Nested

RANKS = [2, 5, 9]


def images(n: int = 200) -> torch.Tensor:
    mix = torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
    z = torch.randn(n, 20, generator=torch.Generator().manual_seed(1))
    return (0.5 + 0.1 * z @ mix).unflatten(1, (1, 4, 4))


@pytest.mark.parametrize("leading", [8, 16])
def test_the_nested_generator_starts_as_pca(leading: int) -> None:
    x = images()
    flow = Nested(leading=leading, blocks=2, width=8, rank=4).objective(x).flow
    f = rl.flow.collapse(flow, steps=100)
    truncated = [rl.project_range(rl.truncate(f, k)) for k in RANKS]
    errors = torch.tensor([(p(x) - x).square().mean() for p in truncated])
    assert torch.allclose(errors, pca_curve(x, x, RANKS).float(), rtol=1e-3)


def test_the_nested_generator_keeps_its_operator_and_trains_every_part() -> None:
    x = images()
    objective = Nested(leading=8, blocks=2, width=8, rank=4, lowest=1).objective(x)
    objective.prepare(x)
    before = objective.flow.velocity.s1.clone()
    terms = objective.train()(x)
    terms["loss"].backward()
    assert set(terms) == {"loss", "nll", "nested", "adversarial_generator", "adversarial_critic"}
    assert torch.equal(objective.flow.velocity.s1, before)
    last = [p for name, p in objective.flow.named_parameters() if "leave" in name]
    assert last
    assert all(p.grad.abs().max() > 0 for p in last)


def test_colour_images_train_and_come_back() -> None:
    x = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    objective = Images(blocks=4, width=8, levels=2).objective(x)
    objective.prepare(x)
    loss = objective.train()(x)["loss"]
    loss.backward()
    f = rl.flow.collapse(objective.flow.eval(), steps=100)
    noise = rl.flow.invert(f, x)
    assert torch.isfinite(loss)
    assert torch.allclose(f(noise), x, atol=1e-4)  # float32 through four couplings
