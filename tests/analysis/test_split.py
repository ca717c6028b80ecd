import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import rectilinear as rl
from rectilinear.errors import InputError, StructureError

ACTIVATIONS = {
    "relu": nn.ReLU(),
    "relu-in-place": nn.ReLU(inplace=True),
    "leaky": nn.LeakyReLU(0.3),
    "gelu": nn.GELU(),
    "gelu-tanh": nn.GELU(approximate="tanh"),
    "silu": nn.SiLU(),
    "softplus": nn.Softplus(),
    "softplus-sharp": nn.Softplus(beta=3.0),
    "hardswish": nn.Hardswish(),
    "rrelu": nn.RReLU(),
    "prelu": nn.PReLU(),
    "prelu-each": nn.PReLU(7),
}


@given(
    alpha=st.floats(0, 1),
    sizes=st.tuples(st.integers(1, 12), st.integers(1, 40), st.integers(1, 5)),
    seed=st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=25)
def test_the_split_is_exact(alpha, sizes, seed):
    random = torch.Generator().manual_seed(seed)
    d, h, o = sizes
    w1, w2, x = (
        torch.randn(a, b, generator=random, dtype=torch.float64)
        for a, b in ((h, d), (o, h), (9, d))
    )
    net = nn.Sequential(
        nn.Linear(d, h, bias=False), nn.LeakyReLU(alpha), nn.Linear(h, o, bias=False)
    ).double()
    with torch.no_grad():
        net[0].weight.copy_(w1)
        net[2].weight.copy_(w2)
    parts = rl.split(net)
    scale = float((w2.abs() @ w1.abs()).sum()) + 1
    with torch.no_grad():
        f, mirrored = net(x), net(-x)
        assert (parts.linear(x) + parts.even(x) - f).abs().max() < 1e-12 * scale
        assert (parts.linear(x) - (f - mirrored) / 2).abs().max() < 1e-12 * scale
        assert (parts.even(x) - (f + mirrored) / 2).abs().max() < 1e-12 * scale
        assert (parts.matrix - (1 + alpha) / 2 * w2 @ w1).abs().max() < 1e-12 * scale
        assert (
            parts.even(x) - (1 - alpha) / 2 * (x @ w1.mT).abs() @ w2.mT
        ).abs().max() < 1e-12 * scale


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_with_a_linear_odd_part(name):
    torch.manual_seed(0)
    net = (
        nn.Sequential(nn.Linear(4, 7, bias=False), ACTIVATIONS[name], nn.Linear(7, 2, bias=False))
        .double()
        .eval()
    )
    x = torch.randn(20, 4, dtype=torch.float64)
    parts = rl.split(net)
    with torch.no_grad():
        # softplus is cut at 20, where it is off by exp(-20)
        assert torch.allclose(parts.linear(x) + parts.even(x), net(x), atol=1e-12)
        assert torch.allclose(parts.linear(x), (net(x) - net(-x)) / 2, atol=1e-8)


def test_convolutions_and_what_passes_by():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(3, 4, 1, bias=False),
    ).double()
    x = torch.randn(5, 2, 6, 6, dtype=torch.float64)
    parts = rl.split(net, x)
    assert torch.allclose(parts.linear(x), (net(x) - net(-x)) / 2, atol=1e-12)
    assert parts.even(x).shape == net(x).shape

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 9, bias=False), nn.Linear(9, 4, bias=False)

        def forward(self, x):
            return x + self.b(torch.relu(self.a(x)))

    net, x = Residual().double(), torch.randn(5, 4, dtype=torch.float64)
    parts = rl.split(net)
    assert torch.allclose(
        parts.matrix, torch.eye(4).double() + net.b.weight @ net.a.weight / 2, atol=1e-12
    )
    assert torch.allclose(parts.linear(x) + parts.even(x), net(x), atol=1e-12)


def test_the_model_keeps_its_numbers():
    net = nn.Sequential(nn.Linear(3, 5, bias=False), nn.ReLU(), nn.Linear(5, 1, bias=False))
    parts = rl.split(net)
    before = parts.matrix.clone()
    with torch.no_grad():
        net[0].weight.zero_()
    assert torch.equal(parts.matrix, before)


REFUSED = {
    "a bias": (nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1)), "bias"),
    "tanh": (
        nn.Sequential(nn.Linear(3, 5, bias=False), nn.Tanh(), nn.Linear(5, 1, bias=False)),
        "tanh",
    ),
    "relu6": (
        nn.Sequential(nn.Linear(3, 5, bias=False), nn.ReLU6(), nn.Linear(5, 1, bias=False)),
        "hardtanh",
    ),
    "three layers": (
        nn.Sequential(
            *(m for _ in range(2) for m in (nn.Linear(3, 3), nn.ReLU())), nn.Linear(3, 1)
        ),
        "2",
    ),
    "no activation": (nn.Linear(3, 1), "no activation"),
    "softmax": (nn.Sequential(nn.Linear(3, 5, bias=False), nn.Softmax(1)), "softmax"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(name):
    model, words = REFUSED[name]
    with pytest.raises(StructureError, match=words):
        rl.split(model)


def test_asks_for_rows_where_it_needs_them():
    with pytest.raises(InputError, match="Conv2d"):
        rl.split(nn.Sequential(nn.Conv2d(1, 1, 3, bias=False), nn.ReLU()))
