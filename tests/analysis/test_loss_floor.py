import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch.nn.functional import softplus

import rectilinear as rl
from rectilinear.errors import ConfigError, RectilinearError

LOSSES = {
    "square": lambda f, y: (f - y).square() / 2,
    "logistic": lambda f, y: softplus(-f * y),
    "hinge": lambda f, y: (1 - f * y).clamp_min(0),
}


def slow_floor(x, y, loss, depth):
    """By brute force: one free number for each ray, tied by ``m`` for two layers; a smooth solver
    from scratch.
    """
    lengths = x.norm(dim=1)
    unit = x / lengths[:, None]
    rays: list[torch.Tensor] = []
    which = []
    for u in unit:
        hit = [k for k, v in enumerate(rays) if (u - v).norm() < 1e-7]
        which.append(hit[0] if hit else len(rays))
        rays += [] if hit else [u]
    partner = {
        k: j
        for k, u in enumerate(rays)
        for j, v in enumerate(rays)
        if k < j and (u + v).norm() < 1e-7
    }
    which = torch.tensor(which)
    d, k = x.shape[1], len(rays)

    def outputs(theta):
        c = theta[:k].clone()
        if depth == 2:
            m = theta[k:]
            for a, b in partner.items():  # f(u) - f(-u) = 2 m . u
                c = torch.cat([c[:b], (c[a] - 2 * m @ rays[a])[None], c[b + 1 :]])
        return lengths * c[which]

    def objective(values):
        theta = torch.tensor(values, requires_grad=True)
        value = LOSSES[loss](outputs(theta), y).mean()
        (slope,) = torch.autograd.grad(value, theta)
        return value.item(), slope.numpy()

    start = torch.zeros(k + d, dtype=torch.float64).numpy()
    if loss == "hinge":  # not smooth: softened, then from there
        return None
    return minimize(
        objective, start, jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 3000}
    ).fun


@st.composite
def clouds(draw):
    random = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    n, d = draw(st.integers(3, 9)), draw(st.integers(1, 3))
    x = torch.randn(n, d, generator=random, dtype=torch.float64)
    again = torch.tensor([-1.0, -2.0, 0.5, 1.0]).double()[torch.randint(4, (n,), generator=random)]
    y = torch.where(torch.rand(2 * n, generator=random) < 0.5, -1.0, 1.0).double()
    return torch.cat([x, x * again[:, None]]), y


@given(clouds(), st.sampled_from([2, "any"]))
@settings(deadline=None, max_examples=15)
def test_square_floor_is_the_infimum(cloud, depth):
    x, y = cloud
    assert rl.loss_floor(x, y, "square", depth).value == pytest.approx(
        slow_floor(x, y, "square", depth), abs=1e-7
    )


@given(clouds(), st.sampled_from([2, "any"]))
@settings(deadline=None, max_examples=15)
def test_logistic_floor_is_the_infimum(cloud, depth):
    x, y = cloud
    found, slow = rl.loss_floor(x, y, "logistic", depth), slow_floor(x, y, "logistic", depth)
    assert found.value <= found.attained + 1e-12
    assert found.value <= slow + 1e-9
    assert found.attained == pytest.approx(slow, abs=1e-4)  # at infinity both are cut off somewhere


@given(clouds(), st.sampled_from([2, "any"]))
@settings(deadline=None, max_examples=15)
def test_hinge_floor_is_below_every_net(cloud, depth):
    x, y = cloud
    found = rl.loss_floor(x, y, "hinge", depth).value
    assert found <= 1 + 1e-9, "the zero net"
    random = torch.Generator().manual_seed(0)
    for _ in range(20):
        w1, w2 = (
            torch.randn(a, b, generator=random, dtype=torch.float64)
            for a, b in ((x.shape[1], 9), (9, 1))
        )
        f = (torch.relu(x @ w1) @ w2)[:, 0]
        assert LOSSES["hinge"](f, y).mean() >= found - 1e-9


def test_closed_data_have_the_floor_of_the_best_linear_map():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = x[:, 0] ** 3 + x[:, 1].abs()
    x, y = torch.cat([x, -x]), torch.cat([y, -y])
    w = torch.linalg.lstsq(x, y[:, None]).solution
    assert rl.loss_floor(x, y).value == pytest.approx(
        float((y - (x @ w)[:, 0]).square().mean() / 2), rel=1e-12
    )
    assert rl.loss_floor(x, y, depth="any").value == pytest.approx(0, abs=1e-25)


def test_circle_of_two_radii():
    angles = torch.arange(36) * 2 * math.pi / 36
    ring = torch.stack([angles.cos(), angles.sin()], 1)
    x, y = torch.cat([ring, 2 * ring]), torch.cat([torch.ones(36), -torch.ones(36)])
    for depth in (2, "any"):
        found = rl.loss_floor(x, y, "logistic", depth)
        assert found.value == pytest.approx(0.641953, abs=1e-6)
        assert (found.conflicts, found.lines, found.rows) == (36, 18, 72)


def test_fan_of_alternating_labels():
    centres = torch.arange(6, dtype=torch.float64) * math.pi / 3
    angles = (
        centres[:, None] + torch.linspace(-20, 20, 8, dtype=torch.float64) * math.pi / 180
    ).flatten()
    y = torch.tensor([1.0, -1.0]).repeat(3).repeat_interleave(8)
    x = torch.cat([r * torch.stack([angles.cos(), angles.sin()], 1) for r in (0.5, 1.0, 1.5)])
    y = y.repeat(3)
    assert rl.loss_floor(x, y, "logistic").value == pytest.approx(math.log(2), abs=1e-9)
    assert rl.loss_floor(x, y, "logistic", "any").value == 0


def test_many_outputs_are_summed():
    x = torch.randn(20, 3, dtype=torch.float64)
    y = torch.randn(20, 2, dtype=torch.float64)
    x, y = torch.cat([x, -x]), torch.cat([y, -y])
    whole = rl.loss_floor(x, y).value
    assert whole == pytest.approx(
        rl.loss_floor(x, y[:, :1]).value + rl.loss_floor(x, y[:, 1:]).value, rel=1e-10
    )


def test_without_homogeneity_only_points_count():
    x = torch.tensor([[1.0], [2.0], [-1.0], [-2.0]])
    y = torch.tensor([1.0, -1.0, 1.0, -1.0])
    assert rl.loss_floor(x, y, "square").value > 0.1
    assert rl.loss_floor(x, y, "square", homogeneous=False).value == pytest.approx(0, abs=1e-12)


def test_zero_is_always_mapped_to_zero():
    assert rl.loss_floor(torch.zeros(2, 3), torch.tensor([1.0, 3.0])).value == pytest.approx(2.5)
    assert rl.loss_floor(torch.zeros(1, 3), torch.tensor([1]), "hinge").value == 1


def test_mistakes():
    x, y = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    for wrong in ((x, y, "other"), (x, y, "square", 3)):
        with pytest.raises(ConfigError):
            rl.loss_floor(*wrong)
    for wrong in ((x, y[:3]), (x, torch.arange(4), "logistic"), (x[0], y), (x / 0, y), (x, 3)):
        with pytest.raises(RectilinearError):
            rl.loss_floor(*wrong)
