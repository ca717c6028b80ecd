"""The batched simulator against modules and ``torch.optim``, one by one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from rectilinear.errors import DivergedError, InputError, ShapeError
from rectilinear.learning import Networks, Optimizer, half_squared_error, simulate

Make = Callable[..., Any]
STEPS = 30
BOUND = 1e-12  # thirty steps of rounding in another order

LOSSES = {
    "square": half_squared_error,
    "sum": lambda f, y: (f - y).square().sum() / 2,
    "logistic": lambda f, y: softplus(-f * y).mean(),
}
OPTIMIZERS = {
    "gd": (Optimizer(), lambda p, lr: torch.optim.SGD(p, lr)),
    "momentum": (Optimizer(momentum=0.7), lambda p, lr: torch.optim.SGD(p, lr, momentum=0.7)),
    "decay": (Optimizer(weight_decay=0.1), lambda p, lr: torch.optim.SGD(p, lr, weight_decay=0.1)),
    "adam": (
        Optimizer("adam", weight_decay=0.01),
        lambda p, lr: torch.optim.Adam(p, lr, weight_decay=0.01),
    ),
}


def by_module(
    networks: Networks, b: int, x: Tensor, y: Tensor, lr: float, optimizer: Any, loss: Any
) -> Any:
    model = networks.module(b)
    steps = optimizer(model.parameters(), lr)
    losses = []
    for _ in range(STEPS):
        steps.zero_grad()
        value = loss(model(x), y)
        losses.append(value.item())
        value.backward()
        steps.step()
    return [p.detach() for p in model.parameters()], torch.tensor(losses, dtype=torch.float64)


def agree(
    networks: Networks, x: Tensor, y: Tensor, rates: list[float], name: str, loss: str, route: Any
) -> None:
    run = simulate(
        networks, x, y, rates, STEPS, loss=loss, optimizer=OPTIMIZERS[name][0], route=route
    )  # type: ignore[arg-type]
    assert run.route == route
    assert run.steps.tolist() == list(range(STEPS + 1))
    for b, rate in enumerate(rates):
        weights, losses = by_module(networks, b, x, y, rate, OPTIMIZERS[name][1], LOSSES[loss])
        for ours, theirs in zip(run.networks.layers(b), weights, strict=True):
            assert (ours - theirs).abs().max() < BOUND
        assert (run.loss[:-1, b] - losses).abs().max() < BOUND


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("route", ["moments", "halves", "points"])
def test_routes(symmetric: Make, name: str, route: str) -> None:
    x, y = symmetric(d=3, n=8)
    initial = Networks.gaussian(3, width=[6, 9], alpha=[0.0, 0.4], std=[0.3, 0.5], seed=[1, 2])
    agree(
        initial.paired() if route == "moments" else initial,
        x,
        y,
        [0.05, 0.02],
        name,
        "square",
        route,
    )


@pytest.mark.parametrize("loss", ["sum", "logistic"])
def test_losses(symmetric: Make, loss: str) -> None:
    x, y = symmetric(d=3, n=8)
    initial = Networks.gaussian(3, width=5, alpha=[0.0, 1.0], std=0.3, seed=[3, 4])
    agree(initial, x, y, [0.01, 0.02], "gd", loss, "points" if loss == "logistic" else "halves")


def test_depths_and_widths_in_one_batch(symmetric: Make) -> None:
    x, y = symmetric(d=3, n=8, outputs=2)
    initial = Networks.gaussian(
        3, width=[4, 7, 5], outputs=2, depth=[2, 3, 4], alpha=[0.0, 0.2, 0.0], std=0.5, seed=5
    )
    agree(initial, x, y, [0.05, 0.05, 0.03], "momentum", "square", "points")
    narrow = simulate(initial, x, y, 0.05, STEPS).networks
    assert float(narrow.first[0, 4:].abs().max()) == 0, "what fills the batch stays at zero"


def test_linear_networks_need_no_symmetry(symmetric: Make) -> None:
    x, y = symmetric(d=3, n=8)
    initial = Networks.gaussian(3, width=[4, 9], alpha=1.0, std=0.3, seed=[1, 2])
    agree(initial, x[:11], y[:11], [0.05, 0.05], "momentum", "square", "moments")


def test_rows_of_zeros_count_in_the_mean(symmetric: Make) -> None:
    x, y = symmetric(d=3, n=8)
    x, y = torch.cat([x, 0 * x[:3]]), torch.cat([y, 0 * y[:3]])
    agree(Networks.gaussian(3, width=5, std=0.4, seed=2), x, y, [0.05], "gd", "square", "halves")


def test_batches_do_not_matter(symmetric: Make) -> None:
    x, y = symmetric(d=3, n=8)
    many = Networks.gaussian(3, width=5, alpha=[0.0, 0.3] * 20, std=0.4, seed=list(range(40)))
    alone = Networks.gaussian(3, width=5, alpha=0.3, std=0.4, seed=37)
    run = simulate(many, x, y, 0.05, 10)
    assert torch.equal(alone.first[0], many.first[37])
    assert torch.allclose(simulate(alone, x, y, 0.05, 10).loss[:, 0], run.loss[:, 37], atol=1e-14)
    assert torch.equal(many[:3].first, many.first[:3])


def test_adam_without_eps_and_without_gradient(symmetric: Make) -> None:
    x, y = symmetric(d=3, n=8)
    initial = Networks.gaussian(3, width=[2, 6], std=0.4, seed=2)
    run = simulate(initial, x, y, 0.01, 20, optimizer=Optimizer("adam", eps=0.0))
    assert bool(run.loss.isfinite().all())
    assert float(run.networks.first[0, 2:].abs().max()) == 0


def test_mistakes(symmetric: Make) -> None:
    x, y = symmetric(d=3, n=8)
    initial = Networks.gaussian(3, width=5)
    with pytest.raises(InputError, match="positive rates"):
        simulate(initial, x, y, 0.0, 10)
    with pytest.raises(ShapeError, match="3 and 1, as the networks have"):
        simulate(initial, x[:, :2], y, 0.1, 10)
    with pytest.raises(InputError, match="exact here: halves, points"):
        simulate(initial, x, y, 0.1, 10, route="moments")
    with pytest.raises(InputError, match="exact here: points"):
        simulate(initial, x[:5], y[:5], 0.1, 10, route="halves")
    with pytest.raises(DivergedError, match="network 1"):
        simulate(Networks.gaussian(3, width=5, std=1.0, seed=[0, 1]), x, y, [1e-3, 1e3], 50)
    with pytest.raises(InputError, match="sequences of lengths"):
        Networks.gaussian(3, width=[1, 2], seed=[1, 2, 3])
    with pytest.raises(InputError, match="out of range"):
        Networks.gaussian(3, depth=1)
    with pytest.raises(InputError, match="two layers"):
        Networks.gaussian(3, depth=3).paired()


def test_networks_of_given_weights() -> None:
    weights = [
        [torch.randn(4, 3), torch.randn(2, 4), torch.randn(1, 2)],
        [torch.randn(2, 3), torch.randn(1, 2)],
    ]
    networks = Networks.of(weights, alpha=[0.0, 0.5])
    x = torch.randn(6, 3)
    relu = torch.relu(torch.relu(x @ weights[0][0].mT) @ weights[0][1].mT) @ weights[0][2].mT
    leaky = torch.nn.functional.leaky_relu(x @ weights[1][0].mT, 0.5) @ weights[1][1].mT
    assert torch.allclose(
        networks(x), torch.stack([relu, leaky]).double(), atol=1e-5
    )  # float32 beside float64
    assert torch.allclose(networks.module(0)(x.double()), networks(x)[0])
