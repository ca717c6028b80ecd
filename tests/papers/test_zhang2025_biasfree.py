"""Data and numbers behind the figures on bias-free networks."""

import math

import pytest
import torch

from rectilinear.learning import Networks, asymmetric_fraction
from rectilinear.papers.zhang2025_biasfree import fig1, fig2, fig4, fig5, large_step
from rectilinear.papers.zhang2025_biasfree._setup import rescaled, sine_task, weight_distance


def test_tasks_are_what_they_are_called() -> None:
    assert asymmetric_fraction(*(part.reshape(len(part), -1) for part in fig1.fan())) == 0
    x, y = fig1.circles()
    assert len(x) == 72
    assert torch.allclose(x[y < 0], 2 * x[y > 0]), "both labels on every ray"
    x, y = sine_task(7, 3, seed=0)
    assert asymmetric_fraction(x, y[:, None]) == 0


def test_the_lower_bound_of_a_ray_by_search() -> None:
    c = torch.linspace(-3, 3, 60_001, dtype=torch.float64)
    loss = (torch.log1p(torch.exp(-c)) + torch.log1p(torch.exp(2 * c))) / 2
    assert fig1.ray_bound() == pytest.approx(float(loss.min()), abs=1e-8)


def test_three_layers_compute_the_function_and_a_line_leaves_its_bound() -> None:
    angle = torch.arange(3600, dtype=torch.float64) * (2 * math.pi / 3600)
    x = torch.stack([angle.cos(), angle.sin()], dim=1)
    y = fig2.g(x)
    with torch.no_grad():
        assert torch.equal(fig2.exact()(x)[:, 0], y)
    slope = x.mT @ y / x.square().sum(0)
    left = (y - x @ slope).square().sum() / y.square().sum()
    assert pytest.approx(float(left), abs=1e-5) == fig2.LINEAR_BOUND


def test_strengths_of_a_random_start() -> None:
    x, y = torch.eye(2, dtype=torch.float64), torch.tensor([1.0, -1.0], dtype=torch.float64)
    w = torch.tensor([[0.3, -1.0], [0.1, 0.2], [-1.0, 0.4]], dtype=torch.float64)
    a = torch.tensor([0.1, -0.5, 0.1], dtype=torch.float64)
    expected = torch.tensor([(0.1 + 0.3) ** 2, (0.5 + 0.2) ** 2 + (-0.1 + 0.4) ** 2]) / 4
    assert torch.allclose(fig4.initial_strengths(w, a, x, y).float(), expected)


def test_blocks_of_a_network_in_two_blocks() -> None:
    v = torch.tensor([0.5, 0.5, -0.5, -0.5])
    first, last = v.outer(torch.tensor([1.0, 0.0])), v[None]
    middle = v.clamp(min=0).outer(v.clamp(min=0)) + v.clamp(max=0).outer(v.clamp(max=0))
    for sign in (1, -1):
        expected = fig5.blocks([sign * first, middle, last])
        assert torch.allclose(
            expected / expected.norm(), middle / middle.norm(), atol=1e-6
        )  # float32


def test_the_largest_step_is_that_of_the_hessian() -> None:
    x, y = sine_task(30, 3, seed=0)
    data = large_step.Moments.of(x, y)
    w = data.optimum()[0]
    root = w.norm().sqrt()

    def loss(flat: torch.Tensor) -> torch.Tensor:
        return ((y - x @ flat[:3] * flat[3]) ** 2).mean() / 2

    hessian = torch.autograd.functional.hessian(loss, torch.cat([w / root, root[None]]))
    assert large_step.sharpness(data) == pytest.approx(
        float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-9
    )


def test_distance_of_weights_knows_no_slope() -> None:
    networks = rescaled(Networks.gaussian(3, width=4, alpha=[0.0, 0.5, 1.0], seed=0))
    assert float(weight_distance(networks, networks[2:]).max()) < 1e-15
    moved = rescaled(Networks.gaussian(3, width=4, alpha=[0.0, 1.0], seed=1))
    assert float(weight_distance(moved[:1], networks[2:]).min()) > 0.5
