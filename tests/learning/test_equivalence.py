"""Paired networks train like linear ones, exactly, with every optimiser; others do not."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import rectilinear as rl
from makers_data import rand
from rectilinear import learning
from rectilinear.errors import AssumptionError
from rectilinear.learning.equivalence import read_layers
from rectilinear.learning.two_layer import growing_component, remains_linear, weight_error

Make = Callable[..., Any]
Loss = Callable[[Tensor, Tensor], Tensor]
STEPS = 40
BOUND = 1e-10  # the tolerance asked for; rounding gives 1e-13

ODD = {
    "ReLU": nn.ReLU,
    "leaky ReLU": lambda: nn.LeakyReLU(0.3),
    "GELU": nn.GELU,
    "GELU tanh": lambda: nn.GELU(approximate="tanh"),
    "SiLU": nn.SiLU,
    "softplus": nn.Softplus,
    "hardswish": nn.Hardswish,
}


def odd_slope(activation: nn.Module) -> float:
    """``kappa`` of ``s(z) - s(-z) = 2 kappa z``, at one point."""
    z = torch.tensor([3.0], dtype=torch.float64)
    return float(activation(z) - activation(-z)) / 6


def whole(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for _ in range(STEPS):
        yield x, y


def mirrored_batches(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    half = len(x) // 2
    for step in range(STEPS):
        some = torch.randperm(half, generator=torch.Generator().manual_seed(step))[:4]
        yield torch.cat([x[some], x[half + some]]), torch.cat([y[some], y[half + some]])


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[tuple[Tensor, Tensor]],
    loss: Loss,
) -> list[Tensor]:
    for x, y in batches:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


def logistic(f: Tensor, y: Tensor) -> Tensor:
    return functional.softplus(-f * y.sign()).mean()


def hinge(f: Tensor, y: Tensor) -> Tensor:
    return functional.relu(1 - f * y.sign()).mean()


# Optimizer of a network with kappa; the linear one has a kappa of 1.
SETTINGS: dict[str, tuple[Callable[..., Any], Loss, Callable[..., Any]]] = {
    "gradient descent": (
        lambda p, k: torch.optim.SGD(p, 0.05 / k),
        learning.half_squared_error,
        whole,
    ),
    "momentum": (
        lambda p, k: torch.optim.SGD(p, 0.02 / k, momentum=0.8),
        learning.half_squared_error,
        whole,
    ),
    "weight decay": (
        lambda p, k: torch.optim.SGD(p, 0.05 / k, weight_decay=0.1 * k),
        learning.half_squared_error,
        whole,
    ),
    "mirrored mini-batches": (
        lambda p, k: torch.optim.SGD(p, 0.05 / k),
        learning.half_squared_error,
        mirrored_batches,
    ),
    "logistic": (
        lambda p, k: torch.optim.SGD(p, 0.2 / k),
        logistic,
        whole,
    ),
    "hinge": (
        lambda p, k: torch.optim.SGD(p, 0.1 / k),
        hinge,
        whole,
    ),
    "Adam": (
        lambda p, k: torch.optim.Adam(p, 0.01 / k**0.5, eps=0),
        learning.half_squared_error,
        whole,
    ),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("activation", ["ReLU", "leaky ReLU", "GELU"])
def test_training_is_that_of_the_linear_network(
    symmetric: Make, chain: Make, setting: str, activation: str
) -> None:
    x, y = symmetric(d=3, outputs=1 if setting in ("logistic", "hinge") else 2, n=10)
    kappa = odd_slope(ODD[activation]())
    weights = learning.antisymmetric_pairs(
        0.5 * rand(4, 3, seed=1), 0.5 * rand(y.shape[1], 4, seed=2)
    )
    rule, loss, batches = SETTINGS[setting]
    network = chain(weights, ODD[activation])
    twin = chain([kappa**0.5 * w for w in weights])
    found = train(network, rule(network.parameters(), kappa), batches(x, y), loss)
    expected = train(twin, rule(twin.parameters(), 1.0), batches(x, y), loss)
    for w, v in zip(found, expected, strict=True):
        assert (w - v / kappa**0.5).abs().max() < BOUND
    with torch.no_grad():
        assert (found[0] - weights[0]).abs().max() > 0.05, "it moved"
        assert (network(x) - twin(x)).abs().max() < BOUND


@pytest.mark.parametrize("activation", ODD)
def test_half_the_width_is_enough(symmetric: Make, chain: Make, activation: str) -> None:
    x, y = symmetric(d=3, n=10)
    kappa = odd_slope(ODD[activation]())
    half = [0.5 * rand(5, 3, seed=3), 0.5 * rand(1, 5, seed=4)]
    network = chain(learning.antisymmetric_pairs(*half), ODD[activation])
    twin = chain([(2 * kappa) ** 0.5 * w for w in half])
    rule, loss, batches = SETTINGS["gradient descent"]
    for model, k in ((network, kappa), (twin, 1.0)):
        train(model, rule(model.parameters(), k), batches(x, y), loss)
    with torch.no_grad():
        assert (network(rand(7, 3, seed=5)) - twin(rand(7, 3, seed=5))).abs().max() < BOUND


class Convolutional(nn.Module):
    """Bias-free convolution, activation, average pooling, linear read-out; its channels in
    antisymmetric pairs.
    """

    def __init__(self, activation: nn.Module, pool: nn.Module, scale: float) -> None:
        super().__init__()
        kernel, readout = rand(3, 2, 3, 3, seed=6), 0.3 * rand(2, 3 * 4, seed=7)
        self.conv = nn.Conv2d(2, 6, 3, bias=False, dtype=torch.float64)
        self.read = nn.Linear(6 * 4, 2, bias=False, dtype=torch.float64)
        self.activation, self.pool = activation, pool
        with torch.no_grad():
            self.conv.weight.copy_(0.3 * scale * torch.cat([kernel, -kernel]))
            self.read.weight.copy_(scale * torch.cat([readout, -readout], dim=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.pool(self.activation(self.conv(x))).flatten(1))


def images() -> tuple[Tensor, Tensor]:
    x, y = rand(6, 2, 6, 6, seed=8), rand(6, 2, seed=9)
    return torch.cat([x, -x]), torch.cat([y, -y])


@pytest.mark.parametrize("activation", ["ReLU", "SiLU"])
def test_convolutions_with_average_pooling(activation: str) -> None:
    x, y = images()
    kappa = 0.5
    network = Convolutional(ODD[activation](), nn.AvgPool2d(2), 1.0)
    twin = Convolutional(nn.Identity(), nn.AvgPool2d(2), kappa**0.5)
    before = network.conv.weight.detach().clone()
    rule, loss, batches = SETTINGS["gradient descent"]
    for model, k in ((network, kappa), (twin, 1.0)):
        train(model, rule(model.parameters(), k), batches(x, y), loss)
    with torch.no_grad():
        assert (network.conv.weight - twin.conv.weight / kappa**0.5).abs().max() < BOUND
        assert (network.conv.weight - before).abs().max() > 0.01
        assert (network(x[:4]) - twin(x[:4])).abs().max() < BOUND


def test_max_pooling_is_a_counterexample() -> None:
    x, _ = images()
    network = Convolutional(nn.ReLU(), nn.MaxPool2d(2), 1.0)
    with torch.no_grad():
        sums = network(x[0:1] + x[1:2]) - network(x[0:1]) - network(x[1:2])
        assert sums.abs().max() > 0.01


@pytest.mark.parametrize("activation", [nn.ELU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.Hardtanh])
def test_other_activations_are_counterexamples(
    chain: Make, activation: Callable[[], nn.Module]
) -> None:
    network = chain(
        learning.antisymmetric_pairs(rand(4, 3, seed=1), rand(1, 4, seed=2)), activation
    )
    x = rand(50, 3, seed=3)
    with pytest.raises(AssumptionError, match="2 kappa z"):
        read_layers(network, x)
    with torch.no_grad():
        y = network(x)
    best = x @ torch.linalg.lstsq(x, y).solution
    assert (y - best).norm() > 1e-3 * y.norm()


@given(st.floats(0, 1), st.integers(1, 6), st.integers(1, 3), st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_pairs_compute_a_linear_map(alpha: float, h: int, o: int, seed: int) -> None:
    half = rand(h, 3, seed=seed), rand(o, h, seed=seed + 1)
    w1, w2 = learning.antisymmetric_pairs(*half)
    x = rand(9, 3, seed=seed + 2)
    out = functional.leaky_relu(x @ w1.mT, alpha) @ w2.mT
    assert torch.allclose(out, (1 + alpha) * x @ (half[1] @ half[0]).mT, atol=1e-13)
    assert remains_linear(w1, w2)


def test_equal_norms_stay_odd_and_others_do_not() -> None:
    a, r = torch.tensor([3.0, 4.0, -5.0]), torch.tensor([0.6, 0.8])
    assert remains_linear(a.outer(r), a[None])
    assert not remains_linear(a.outer(r), a[None], homogeneous=False), (
        "GELU of different sizes does not cancel"
    )
    assert not remains_linear(a.abs().outer(r), a.abs()[None])
    assert not remains_linear(2 * a.outer(r), a[None]), "not balanced"
    assert not remains_linear(rand(3, 2, seed=0), rand(2, 3, seed=1))


def test_delta_and_the_weights_it_predicts(symmetric: Make) -> None:
    x, y = symmetric(d=3, n=20)
    initial = learning.Networks.gaussian(3, width=12, alpha=[0.0, 0.5, 1.0], std=1e-6, seed=5)
    kappa = (1 + initial.alpha) / 2
    scaled = learning.Networks(
        initial.first / kappa[:, None, None].sqrt(),
        initial.hidden,
        initial.last / kappa[:, None, None].sqrt(),
        initial.alpha,
        initial.depth,
    )
    done = learning.simulate(scaled, x, y, lr=0.02 / kappa, steps=3000).networks
    beta = learning.Moments.of(x, y).beta
    uneven = learning.sign_imbalance(initial.first[0], initial.last[0], beta)
    assert abs(uneven) > 0.05
    linear = torch.cat([done.first[2].flatten(), done.last[2].flatten()])
    for b in (0, 1):
        ours = kappa[b].sqrt() * torch.cat([done.first[b].flatten(), done.last[b].flatten()])
        assert float((ours - linear).norm() / linear.norm()) == pytest.approx(
            weight_error(uneven), rel=0.02
        )
    halves = [growing_component(initial.first[0], initial.last[0], beta, k) for k in (0.5, 1.0)]
    assert torch.allclose(halves[0][1] @ halves[0][0], (halves[1][1] @ halves[1][0]) / 2)


def test_delta_of_gaussian_starts_has_the_stated_spread() -> None:
    h, beta = 100, torch.tensor([[1.0, -2.0, 0.5]])
    found = [
        learning.sign_imbalance(rand(h, 3, seed=2 * i), rand(1, h, seed=2 * i + 1), beta)
        for i in range(300)
    ]
    assert torch.tensor(found).std() == pytest.approx(
        (3 / h) ** 0.5, rel=0.12
    )  # three sigma of 300 draws


def test_a_model_that_cannot_be_copied_is_one_sentence_with_its_remedy():
    model = nn.Sequential(nn.Linear(3, 1, bias=False))
    model.lock = threading.Lock()
    x = torch.randn(20, 3)
    with pytest.raises(AssumptionError, match=r"^Got a model that cannot .* Remove what cannot"):
        rl.predict(model, x, x[:, :1], lr=0.1, steps=3)
