"""Audits in any precision, and at any offset and size of outputs, against those of the same
weights.

The function that half-precision weights define is known in float64: there is the reference.
"""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

import rectilinear as rl
from makers_data import rand
from makers_zoo import D, Map, paired
from rectilinear.networks.data import row_keys
from rectilinear.networks.network import as_network, resolution

HALF = (torch.float16, torch.bfloat16)


def two_layers(bias: bool = False) -> nn.Module:
    return nn.Sequential(nn.Linear(D, 24, bias=bias), nn.ReLU(), nn.Linear(24, 2, bias=bias))


NETS = {
    "two layers": two_layers,
    "with biases": lambda: two_layers(bias=True),
    "tanh": lambda: nn.Sequential(nn.Linear(D, 24), nn.Tanh(), nn.Linear(24, 3)),
    "deep": lambda: nn.Sequential(
        nn.Linear(D, 16), nn.GELU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1)
    ),
    "affine": lambda: nn.Sequential(nn.Linear(D, 9), nn.Linear(9, 2)),
    "paired": paired,
    "normalised": lambda: nn.Sequential(
        nn.Linear(D, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 2)
    ),
    "residual": lambda: Map(lambda x, a: x + 0.1 * torch.relu(a(x)), nn.Linear(D, D)),
}
CLOSE = (
    "affine_r2",
    "parity",
    "odd_linearity",
    "exact_map",
    "gaussian_energy",
    "certificate",
    "local",
    "blocks",
)


EACH = [(name, HALF[k % 2]) for k, name in enumerate(NETS)] + [
    ("two layers", torch.bfloat16),
    ("tanh", torch.bfloat16),
]


@pytest.mark.parametrize(("name", "dtype"), EACH)
def test_half_precision_is_judged_like_the_same_weights_in_double(name, dtype):
    torch.manual_seed(3)
    model = NETS[name]().to(dtype)
    x = rand(200, D).to(dtype)
    half = rl.audit(model, x, progress=False)
    double = rl.audit(deepcopy(model).double(), x.double(), progress=False)
    assert half.verdict.label == double.verdict.label
    for measure in CLOSE:
        a, b = half.measures[measure], double.measures[measure]
        assert a.applies == b.applies, measure
        if b.applies:
            assert a.value == pytest.approx(b.value, abs=0.02), measure
            assert a.kind == b.kind, measure


@pytest.mark.parametrize("dtype", HALF)
def test_low_rank_stand_ins_in_half_precision(dtype):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(D, 12), nn.GELU(), nn.Linear(12, 2)).to(dtype)
    found = rl.linearize(net, rand(300, D), blocks="1", rank=4, progress=False)
    assert found.model(rand(3, D).to(dtype)).dtype == dtype


OFFSETS = (0.0, 1e2, 1e6, 1e12)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("straight", [True, False])
@pytest.mark.each_value
def test_an_offset_hides_no_more_than_its_rounding(offset, dtype, straight):
    """While the outputs vary by more than their last digit, what varies is judged; below, they are
    constant.
    """
    torch.manual_seed(0)
    size = 0.0 if straight else 1.0
    inner = [nn.Linear(D, 2), nn.Linear(D, 2)]
    model = Map(lambda x, a, b: a(x) + size * b(x).abs() + 1e-3 * b(x).sin() + offset, *inner).to(
        dtype
    )
    found = rl.audit(model, rand(400, D), progress=False)
    steps = 1.0 / max(
        torch.finfo(dtype).eps * max(offset, 1.0), 1e-30
    )  # of the rounding, in the deviation
    label = found.verdict.label
    if steps > 100:
        assert label == ("effectively linear" if straight else "not linear"), found.verdict
        assert found.measures["odd_linearity"].applies
    elif steps < 0.05:
        assert label == "effectively linear"
        assert "constant on the data, to the resolution of" in found.verdict.reasons[0]
    else:
        assert label != ("not linear" if straight else "linear"), found.verdict


@pytest.mark.parametrize("scale", [1e-140, 1e30])
def test_verdicts_know_no_units(scale):
    torch.manual_seed(2)
    model, x = two_layers().double(), rand(200, D)
    one = rl.audit(model, x, progress=False)
    small = Map(lambda x, net: net(x) * scale, model)
    for other in (rl.audit(small, x, progress=False), rl.audit(model, x * scale, progress=False)):
        assert other.verdict.label == one.verdict.label
        for name in (
            "affine_r2",
            "parity",
            "odd_linearity",
            "pairs",
            "sign_flip",
            "mirror_classifier",
            "local",
        ):
            assert other.measures[name].value == pytest.approx(
                one.measures[name].value, rel=1e-6
            ), name


def test_measured_rounding_is_the_error_of_the_arithmetic():
    torch.manual_seed(0)
    x = rand(64, D)
    for dtype, reference in ((torch.float32, torch.float64), (torch.bfloat16, torch.float64)):
        net = nn.Sequential(nn.Linear(D, 50), nn.Tanh(), nn.Linear(50, 3)).to(dtype)
        f = net(x.to(dtype)).double()
        error = (deepcopy(net).to(reference)(x.to(dtype).to(reference)) - f).square().mean(0).sqrt()
        measured = resolution(as_network(net, x), x).computed
        assert ((measured / error).log().abs() < 1).all(), (measured, error)
    net = net.double()  # in float64 it is predicted from the errors of float32
    measured = resolution(as_network(net, x), x).computed
    assert (measured > 1e-18).all()
    assert (measured < 1e-14).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_shared_weights_and_modules_run_in_another_precision_and_stay_as_they_were(dtype):
    torch.manual_seed(0)
    layer, tied = nn.Linear(D, D), nn.Linear(D, D)
    tied.weight = layer.weight
    model = nn.ModuleDict({"a": layer, "b": tied, "again": layer, "norm": nn.BatchNorm1d(D)}).to(
        dtype
    )
    net = Map(lambda x, m: m["again"](m["norm"](m["b"](m["a"](x)))).sin(), model).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = rand(20, D).to(dtype)
    network = as_network(net, x)
    wide = network.in_precision(torch.float64 if dtype != torch.float64 else torch.float32)
    assert torch.allclose(
        wide(x).double(), network(x).double(), atol=0.05 if dtype == torch.bfloat16 else 1e-4
    )
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(value.dtype == before[name].dtype for name, value in net.state_dict().items())
    assert net(x).dtype == dtype


@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
def test_keys_are_equal_where_rows_are(dtype):
    x = rand(50, 3, 2).mul(3).round().to(dtype)
    x = torch.cat([x, -x, x.flip(1), 2 * x, x / 3, x.clone().fill_(0.0), -x.clone().fill_(0.0)])
    keys = row_keys(x)
    for i in range(0, len(x), 7):
        same = (x == x[i]).flatten(1).all(1)
        assert torch.equal(keys == keys[i], same)
    assert len(row_keys(rand(20000, 2)).unique()) == 20000
