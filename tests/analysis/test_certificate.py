import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import rectilinear as rl
from makers_data import rand
from makers_zoo import paired
from rectilinear.analysis.symmetry import energies
from rectilinear.analysis.two_layer import collapses, even_part, lower_bound, upper_bound
from rectilinear.checks import tolerance
from rectilinear.networks.trace import Activation, leaky
from rectilinear.networks.weight_matrices import TwoLayer


def two(w1, w2, alpha=0.0, b1=None):
    b = torch.zeros(len(w1)).double() if b1 is None else b1
    return TwoLayer(
        w1,
        w2,
        b,
        torch.zeros(len(w2)).double(),
        torch.zeros(len(w2), w1.shape[1]).double(),
        leaky(alpha),
    )


@given(
    seed=st.integers(0, 10**6),
    width=st.integers(1, 12),
    out=st.integers(1, 3),
    alpha=st.floats(0, 0.9),
)
@settings(deadline=None, max_examples=25)
def test_the_truth_lies_between_the_bounds(seed, width, out, alpha):
    net = two(rand(width, 2, seed=seed), rand(out, width, seed=seed + 1), alpha)
    angles = torch.linspace(0, math.pi, 20_001, dtype=torch.float64)
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    truth = float((net(circle) - circle @ net.matrix.mT).norm(dim=1).max())
    v, u = even_part(net)
    lower, where = lower_bound(v, u, seed=0)
    upper = upper_bound(v, u)
    slack = tolerance(torch.float64, scale=10 + truth)
    assert lower <= upper + slack
    assert truth <= upper + slack
    assert lower <= truth + 2e-4 * float(v.norm(dim=1).sum()), "the grid is that fine"
    assert lower >= 0.5 * truth, "ascent finds a top, if not always the highest"
    assert (net(where[None]) - where @ net.matrix.mT).norm() == pytest.approx(lower, rel=1e-9)


@given(
    seed=st.integers(0, 10**6), width=st.integers(1, 20), out=st.integers(1, 3), bias=st.booleans()
)
@settings(deadline=None, max_examples=20)
def test_pairs_have_no_even_part(seed, width, out, bias):
    w, a, scale = (
        rand(width, 4, seed=seed),
        rand(out, width, seed=seed + 1),
        rand(width, seed=seed + 2).abs() + 0.1,
    )
    b = rand(width, seed=seed + 3) if bias else torch.zeros(width).double()
    # (w, b, a) and -(c w, c b, a / c): the same line
    c = scale[:, None]
    net = two(torch.cat([w, -c * w]), torch.cat([a, -a / c.mT], 1), 0.2, torch.cat([b, -scale * b]))
    assert collapses(net)
    assert not len(even_part(net)[0])
    net = two(
        torch.cat([w, -c * w]), torch.cat([a, -0.9 * a / c.mT], 1), 0.2, torch.cat([b, -scale * b])
    )
    assert not collapses(net)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "activation", [leaky(0.0), Activation("gelu", torch.nn.functional.gelu, kappa=0.5)]
)
def test_rounding_is_forgiven_and_nothing_else(dtype, activation):
    w, a = rand(300, 500, seed=0).to(dtype), rand(1, 300, seed=1).to(dtype)
    for error, expected in ((0, True), (2, True), (1000, False)):
        moved = w * (
            1 + error * torch.finfo(dtype).eps * rand(300, 500, seed=2).clamp(-1, 1).to(dtype)
        )
        zeros = (
            torch.zeros(600, dtype=dtype),
            torch.zeros(1, dtype=dtype),
            torch.zeros(1, 500, dtype=dtype),
        )
        net = TwoLayer(torch.cat([w, -moved]), torch.cat([a, -a], 1), *zeros, activation)
        assert collapses(net) is expected, error


def test_nearly_paired_nets_are_nearly_linear():
    torch.manual_seed(0)
    model = paired(width=30, out=1).double()
    bounds = []
    for error in (1e-2, 1e-4, 1e-6):
        with torch.no_grad():
            moved = paired(width=30, out=1).double()
            moved.load_state_dict(model.state_dict())
            moved[0].weight += error * rand(60, 6, seed=1)
        bounds.append(rl.audit(moved, rand(50, 6, seed=2)).measures["certificate"].value)
    assert bounds[0] > 50 * bounds[1] > 2500 * bounds[2] > 0


def test_a_wide_network_gets_a_bound_too(monkeypatch):
    monkeypatch.setattr("rectilinear.analysis.two_layer.MATCHED_NEURONS", 5)
    v, u = rand(9, 2, seed=0), torch.nn.functional.normalize(rand(9, 3, seed=1))
    assert lower_bound(v, u, 0)[0] <= upper_bound(v, u)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("out", [1, 3])
def test_gaussian_energies_against_a_great_many_draws(alpha, out):
    net = two(rand(15, 4, seed=0), rand(out, 15, seed=1), alpha)
    root = rand(4, 4, seed=2)
    x = rand(400_000, 4, seed=3) @ root
    odd, even = energies(net, root)
    linear = x @ net.matrix.mT
    assert odd == pytest.approx(
        float(linear.square().sum(1).mean()), rel=0.02
    )  # a hundred standard errors
    assert even == pytest.approx(
        float((net(x) - linear).square().sum(1).mean()), rel=0.02, abs=1e-12
    )


def test_gaussian_energies_with_one_neuron_are_halves():
    net = two(rand(1, 5, seed=0), torch.ones(1, 1).double())
    odd, even = energies(net, torch.eye(5).double())
    assert odd == pytest.approx(even, rel=1e-12)


def test_in_the_audit_they_agree_with_the_data():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 30, bias=False), nn.ReLU(), nn.Linear(30, 1, bias=False)
    ).double()
    found = rl.audit(model, rand(4000, 4, seed=0)).measures
    assert found["gaussian_energy"].value == pytest.approx(found["parity"].value, abs=0.03)
    assert found["exact_map"].value == pytest.approx(found["parity"].value, abs=0.03)
