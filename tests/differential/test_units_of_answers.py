"""Lower bounds, errors, splits and Jacobians of data of every size."""

import numpy as np
import pytest
import torch
from torch import nn

import rectilinear as rl
from makers_data import rand
from rectilinear import metrics


class Map(nn.Module):
    def __init__(self, function, width=4):
        super().__init__()
        self.function, self.last = function, nn.Linear(width, 2, bias=False)

    def forward(self, x):
        return self.last(self.function(x))


@pytest.mark.parametrize("exponent", [0, 3, 9, 15])
def test_the_lower_bound_is_least_squares_in_all_units(exponent):
    x, y = rand(30, 3), rand(30, 2, seed=1)
    x, y = torch.cat([x, -x]), torch.cat([y, -y])
    left = np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[1].sum() / 2 / len(x)
    units = torch.tensor([10.0**-exponent, 1.0, 10.0**exponent], dtype=torch.float64)
    for loss in ("square", "logistic"):
        target, known = (
            (y, left)
            if loss == "square"
            else (y[:, 0].sign(), rl.loss_floor(x, y[:, 0].sign(), loss=loss).value)
        )
        assert rl.loss_floor(x * units, target, loss=loss).value == pytest.approx(known, rel=1e-6)
    assert (
        rl.loss_floor(x * units, y, depth="any").conflicts
        == rl.loss_floor(x, y, depth="any").conflicts
        == 0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-30, 1e-20, 1.0, 1e20, 1e30])
def test_superposition_errors_know_no_unit(size, dtype):
    x, y = rand(2, 6, 3).to(dtype)
    for f in (lambda z: z.square(), lambda z: z + 1, lambda z: 2 * z):
        found = metrics.linearity(lambda z, f=f: f(z) * size, x, y)
        assert found.dtype == dtype
        assert found.tolist() == pytest.approx(
            metrics.linearity(f, x.double(), y.double()).tolist(), rel=1e-5, abs=1e-6
        )


def test_superposition_errors_of_huge_numbers_in_float64():
    x, y = rand(2, 6, 3)
    assert metrics.linearity(lambda z: z.square() * 1e200, x, y).tolist() == pytest.approx(
        metrics.linearity(torch.square, x, y).tolist()
    )


@pytest.mark.parametrize(("beta", "threshold"), [(1, 20), (3, 20), (3, 2), (1, 0.5), (1, 30)])
def test_a_softplus_with_a_jump_is_not_split(beta, threshold):
    net = nn.Sequential(
        nn.Linear(4, 8, bias=False), nn.Softplus(beta, threshold), nn.Linear(8, 2, bias=False)
    ).double()
    x = 3 * rand(50, 4)
    if threshold < 15:
        with pytest.raises(rl.errors.StructureError, match="softplus"):
            rl.split(net)
        return
    parts = rl.split(net)
    torch.testing.assert_close(parts.linear(x), (net(x) - net(-x)) / 2, atol=1e-8, rtol=0)


def test_a_jacobian_that_is_not_finite_is_refused_and_not_measured():
    net = Map(lambda x: x.abs().sqrt()).double()
    with pytest.raises(rl.errors.NonFiniteError, match="finite Jacobian"):
        rl.local_map(net, torch.zeros(4, dtype=torch.float64)).svd(1)
    x = torch.poisson(rand(40, 4).square())
    assert not x.all()
    found = rl.audit(Map(torch.sqrt).double(), x, progress=False)
    assert "not finite" in found.measures["local"].note
    with pytest.raises(rl.errors.ConfigError, match=r"k = 1\.5"):
        rl.local_map(net, torch.ones(4, dtype=torch.float64)).svd(1.5)


def test_a_model_that_has_no_derivative_is_judged():
    net = Map(lambda x: torch.from_numpy(np.sin(3 * x.numpy()))).double()
    found = rl.audit(net, rand(60, 4), progress=False)
    assert found.verdict.label == "not linear"
    assert found.measures["local"].note.startswith(
        "the model cannot be differentiated: Can't call numpy()"
    )
