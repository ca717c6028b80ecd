"""No proof of linearity for nonlinear networks: hidden operations, rounding, units."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from rectilinear import audit, split

pytestmark = pytest.mark.usefixtures("rewound")


class Inside(nn.Module):
    """A linear layer behind a function."""

    def __init__(self, before, width=6, bias=True):
        super().__init__()
        self.before, self.last = before, nn.Linear(width, 2, bias=bias)

    def forward(self, x):
        return self.last(self.before(x))


def elsewhere(function):
    def run(x):
        with ThreadPoolExecutor(1) as pool, torch.no_grad():
            return pool.submit(function, x).result()

    return run


def direction_times_largest(x):
    return x / x.norm(dim=1, keepdim=True) * x.abs().amax(1, keepdim=True)


def label(model, x):
    return audit(model, x, progress=False).verdict.label


HIDDEN = {
    "whole part of a quotient": (lambda x: torch.div(x, 1.0, rounding_mode="trunc"), 6, False),
    "eight bits": (lambda x: x.to(torch.float8_e5m2).to(x.dtype), 6, False),
    "eight bits written": (
        lambda x: torch.empty_like(x, dtype=torch.float8_e5m2).copy_(x).to(x.dtype),
        6,
        False,
    ),
    "a median in another thread": (
        elsewhere(lambda x: x.unfold(1, 3, 1).median(-1).values),
        4,
        True,
    ),
    "odd and homogeneous in another thread": (elsewhere(direction_times_largest), 6, True),
    "the other bits": (lambda x: x.view(torch.float16)[:, 1::2].to(x.dtype), 6, False),
}


@pytest.mark.parametrize(("before", "width", "bias"), HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("scale", [0.04, 1.0, 2.0])
def test_hidden_operations_are_no_proof(before, width, bias, scale):
    x = scale * torch.randint(-5, 6, (80, 6), generator=torch.Generator().manual_seed(0)).float()
    x = x[x.any(1)] + (0.7 if width == 6 else 0.0)
    assert label(Inside(before, width, bias), x) != "linear"


def pairs(first, last, bias=None, dtype=torch.float64):
    first, last = torch.tensor(first, dtype=dtype), torch.tensor(last, dtype=dtype)
    net = nn.Sequential(
        nn.Linear(first.shape[1], 2, bias=bias is not None),
        nn.ReLU(),
        nn.Linear(2, len(last), bias=False),
    )
    net = net.to(dtype)
    net[0].weight.data, net[2].weight.data = first, last
    if bias is not None:
        net[0].bias.data = torch.tensor(bias, dtype=dtype)
    return net


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neurons_cancel_for_each_output_in_its_own_unit(dtype):
    x = torch.randn(60, 2, dtype=dtype)
    directions = [[1.0, 0.5], [-1.0, -0.5]]
    for big in (1.0, 1e6, 1e15):
        assert label(pairs(directions, [[big, -big], [1.0, 1.0]], dtype=dtype), x) == "not linear"
        assert label(pairs(directions, [[big, -big], [1.0, -1.0]], dtype=dtype), x) == "linear"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neurons_cancel_in_the_units_of_the_inputs(dtype):
    for big in (1.0, 1e6, 1e15):
        x = torch.randn(60, 2, dtype=dtype) * torch.tensor([1 / big, 1.0], dtype=dtype)
        assert (
            label(pairs([[big, 1.0], [-big, 1.0]], [[1.0, -1.0]], dtype=dtype), x) == "not linear"
        )
        assert label(pairs([[big, 1.0], [-big, -1.0]], [[1.0, -1.0]], dtype=dtype), x) == "linear"
        small = torch.randn(60, 1, dtype=dtype) / big
        assert (
            label(
                pairs([[1.0], [-1.0]], [[1.0, -1.0]], bias=[1 / big, 1 / big], dtype=dtype), small
            )
            != "linear"
        )


def test_smooth_neurons_cancel_for_each_output_and_in_the_units_of_the_inputs():
    net = pairs([[1.0, 0.5], [-1.0, -0.5]], [[1e15, -1e15], [1.0, 1.0]])
    net[1] = nn.GELU()
    assert label(net, torch.randn(60, 2, dtype=torch.float64)) == "not linear"
    net[2].weight.data[1, 1] = -1.0
    assert label(net, torch.randn(60, 2, dtype=torch.float64)) == "linear"


def test_the_zero_of_maximum_may_be_wider_than_its_input():
    net = Inside(lambda x: torch.maximum(x[:, :1], torch.zeros(5)), 5)
    assert label(net, torch.randn(60, 6)) == "not linear"


def test_the_size_of_complex_numbers_is_measured():
    mix = torch.randn(6, 4, dtype=torch.complex64)
    assert (
        label(Inside(lambda x: (x.to(torch.complex64) @ mix).abs(), 4), torch.randn(60, 6))
        == "not linear"
    )


@pytest.mark.parametrize("activation", [torch.relu, torch.nn.functional.gelu, torch.sin, torch.abs])
def test_an_activation_of_one_number_a_row(activation):
    net = Inside(lambda x: torch.stack([activation(x[:, 0]), x[:, 1], x[:, 2]], 1), 3).double()
    x = torch.randn(80, 6, dtype=torch.float64)
    found = audit(net, 3 * x, progress=False)
    assert found.verdict.label == "not linear"
    if activation is torch.relu:
        free = Inside(net.before, 3, bias=False).double()
        parts = split(free, x)
        torch.testing.assert_close(parts.linear(x) + parts.even(x), free(x))
    deep = nn.Sequential(
        nn.Linear(6, 1),
        Inside(lambda h: activation(h[:, 0])[:, None], 1),
        nn.Tanh(),
        nn.Linear(2, 1),
    )
    assert audit(deep.double(), x, progress=False).measures["affine_r2"].applies
