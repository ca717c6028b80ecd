"""Predicted learning curves against training, and the errors of failed assumptions."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from makers_data import losses_of_descent, rand
from rectilinear import learning
from rectilinear.errors import AssumptionError, InputError, ShapeError
from rectilinear.learning.equivalence import read_layers
from rectilinear.learning.two_layer import growing_component, weight_error

MODULE = import_module("rectilinear.learning.predict")
Make = Callable[..., Any]


def initial(d: int, o: int, size: float) -> list[Tensor]:
    return [size * rand(8, d, seed=1), size * rand(o, 8, seed=2)]


@pytest.mark.parametrize(
    ("activation", "o"), [(nn.ReLU, 1), (nn.GELU, 2), (lambda: nn.LeakyReLU(0.3), 3)]
)
@pytest.mark.parametrize(("size", "lr"), [(0.01, 0.02), (0.5, 0.02), (0.3, 0.2)])
def test_paired_networks_are_predicted_exactly(
    symmetric: Make, chain: Make, activation: Any, o: int, size: float, lr: float
) -> None:
    x, y = symmetric(d=3, outputs=o, n=12)
    model = chain(learning.antisymmetric_pairs(*initial(3, o, size)), activation)
    found = learning.predict(model, x, y if o > 1 else y[:, 0], lr, 200)
    assert found.kind == "exact"
    assert found.sign_imbalance is None
    assert "even parts cancel" in str(found)
    assert "tensor" not in repr(found)
    assert (
        found.loss - losses_of_descent(model, x, y, lr, found.steps)
    ).abs().max() < 1e-9  # rounding, grown for 200 steps
    with torch.no_grad():
        optimizer_is_one_ahead = learning.half_squared_error(model(x), y) <= found.loss[-1] + 1e-9
    assert optimizer_is_one_ahead


@pytest.mark.whole
def test_small_starts_are_predicted(symmetric: Make, chain: Make) -> None:
    x, y = symmetric(d=3, n=12)
    model = chain([1e-4 * rand(60, 3, seed=1), 1e-4 * rand(1, 60, seed=2)], nn.ReLU)
    found = learning.predict(model, x, y, 0.02, 1800)
    loss = losses_of_descent(model, x, y, 0.02, found.steps)
    fall = float(loss[0] - loss[-1])
    assert found.kind == "estimated"
    assert found.weight_error == weight_error(found.sign_imbalance)
    assert 0.005 < abs(found.sign_imbalance) < 0.5
    assert (found.loss - loss).abs().max() < abs(
        found.sign_imbalance
    ) / 10 * fall  # quadratic in delta
    assert found.final_loss == pytest.approx(float(loss[-1]), rel=1e-3)
    assert found.plateau_time < found.half_time < 1500


@pytest.mark.whole
def test_default_starts_are_predicted_within_percents(symmetric: Make) -> None:
    x, y = symmetric(d=5, n=40)
    y = 2 * y
    for seed in range(3):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(5, 200, bias=False), nn.ReLU(), nn.Linear(200, 1, bias=False)
        ).double()
        found = learning.predict(model, x, y, 0.02, 300)
        loss = losses_of_descent(model, x, y, 0.02, found.steps)
        assert (found.kind, found.sign_imbalance) == ("estimated", None)
        assert (found.loss - loss).abs().max() < 0.06 * float(loss[0] - loss[-1])


@pytest.mark.whole
def test_closed_forms_are_used_where_they_hold(symmetric: Make, chain: Make) -> None:
    x, y = symmetric(d=3, n=12, white=True)
    small = chain(
        [1e-3 * rand(20, 3, seed=1), 1e-3 * rand(1, 20, seed=2)], lambda: nn.LeakyReLU(0.5)
    )
    found = learning.predict(small, x, y, 0.01, 1800)
    assert "sigmoid" in found.method
    data = learning.Moments.of(x, y)
    s = float(data.beta.norm())
    assert float(found.loss[-1]) == pytest.approx(found.final_loss, rel=1e-5)
    strength = float((growing_component(*small_weights(small), data.beta, 0.75)[1].norm()) ** 2)
    assert found.half_time * 0.01 == pytest.approx(
        learning.half_time(s, strength, kappa=0.75), rel=5e-3
    )
    assert found.plateau_time * 0.01 == pytest.approx(
        learning.plateau_time(s, strength, kappa=0.75), rel=5e-3
    )
    loss = losses_of_descent(small, x, y, 0.01, found.steps)
    assert (found.loss - loss).abs().max() < 0.02 * float(loss[0])
    # Balanced, several outputs: Riccati.
    w1 = 0.2 * torch.linalg.qr(rand(3, 2, seed=4)).Q.mT
    x, y = symmetric(d=3, outputs=2, n=12, white=True)
    model = chain(
        learning.antisymmetric_pairs(w1, 0.2 * torch.linalg.qr(rand(2, 2, seed=5)).Q), nn.ReLU
    )
    found = learning.predict(model, x, y, 2e-3, 1200)
    assert "Riccati" in found.method
    assert (
        found.loss - losses_of_descent(model, x, y, 2e-3, found.steps)
    ).abs().max() < 2 * found.step_error
    assert 0 < found.step_error < 0.02


def small_weights(model: nn.Sequential) -> tuple[Tensor, Tensor]:
    first, *_, last = model
    return first.weight.detach(), last.weight.detach()


@pytest.mark.whole
def test_many_steps_at_once_are_those_one_by_one(symmetric: Make, chain: Make) -> None:
    x, y = symmetric(d=3, n=12)
    model = chain(learning.antisymmetric_pairs(*initial(3, 1, 0.05)), nn.ReLU)
    found = learning.predict(model, x, y, 2e-3, 3000)
    assert found.step_error == 0
    assert (found.loss - losses_of_descent(model, x, y, 2e-3, found.steps)).abs().max() < 1e-11


def test_wide_small_starts_are_projected(
    symmetric: Make, chain: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = symmetric(d=3, outputs=2, n=12)
    model = chain(learning.antisymmetric_pairs(*initial(3, 2, 1e-4)), nn.ReLU)
    exact = learning.predict(model, x, y, 0.02, 1000)
    monkeypatch.setattr(MODULE, "MAX_WEIGHT_NUMBERS", 1)
    found = learning.predict(model, x, y, 0.02, 1000)
    assert (exact.kind, found.kind) == ("exact", "estimated")
    assert (found.loss - exact.loss).abs().max() < 1e-4 * float(exact.loss[0])


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_linear_networks_on_any_data(chain: Make, depth: int) -> None:
    x, y = rand(20, 3, seed=0), rand(20, 2, seed=1)
    shapes = [(3, 3)] * (depth - 1) + [(2, 3)]
    model = chain([0.4 * rand(*shape, seed=i) for i, shape in enumerate(shapes)])
    found = learning.predict(model, x, y, 0.05, 60)
    assert found.kind == "exact"
    assert (
        found.loss - losses_of_descent(model, x, y, 0.05, found.steps)
    ).abs().max() < 1e-11  # rounding


@pytest.mark.whole
def test_deep_relu_in_two_blocks(symmetric: Make, chain: Make) -> None:
    x, y = symmetric(d=3, n=12)
    r = torch.nn.functional.normalize(rand(3, seed=1), dim=0)
    hidden = [
        torch.tensor(v, dtype=torch.float64)
        for v in ([0.5, 0.5, -0.5, -0.5], [0.7, 0.1, -0.5, -0.5])
    ]
    weights = learning.two_block_init([r, *hidden], 0.6)
    found = learning.predict(chain(weights, nn.ReLU), x, y, 0.02, 300)
    assert found.kind == "exact"
    loss = losses_of_descent(chain(weights, nn.ReLU), x, y, 0.02, found.steps)
    assert (found.loss - loss).abs().max() < 1e-10  # rounding
    data = learning.Moments.of(*symmetric(d=3, n=12, white=True))
    x, y = symmetric(d=3, n=12, white=True)
    weights = learning.two_block_init([data.beta[0] / data.beta.norm(), *hidden], 0.6)
    closed = learning.predict(chain(weights, nn.ReLU), x, y, 2e-3, 1200)
    assert "hypergeometric" in closed.method
    loss = losses_of_descent(chain(weights, nn.ReLU), x, y, 2e-3, closed.steps)
    assert (closed.loss - loss).abs().max() < 2 * closed.step_error * float(loss[0])


class Plain(nn.Module):
    """A chain of layers written as people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 6, bias=False), nn.Linear(6, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(x.flatten(1)))).squeeze(1)


class Residual(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x.flatten(1)[:, 0]


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.fc(x)))


def seq(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6, bias=False), *modules, nn.Linear(6, 1, bias=False))


def frozen() -> nn.Module:
    model = seq(nn.ReLU())
    model[0].requires_grad_(requires_grad=False)
    return model


def large() -> nn.Module:
    model = seq(nn.ReLU())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    return model


def test_modules_are_read_by_what_they_do() -> None:
    x = rand(5, 2, 2, seed=0).float()
    network = read_layers(Plain().train(), x)
    assert (network.activation.name, network.kappa, network.alpha) == ("relu", 0.5, 0.0)
    names = {
        name: read_layers(seq(activation), x.flatten(1)).activation.name
        for name, activation in {
            "gelu": nn.GELU(),
            "silu": nn.SiLU(),
            "softplus": nn.Softplus(),
            "hardswish": nn.Hardswish(),
            "leaky_relu": nn.LeakyReLU(0.1, inplace=True),
            "none": nn.Identity(),
        }.items()
    }
    assert all(name == found for name, found in names.items()), names
    tanh, z = read_layers(seq(nn.GELU(approximate="tanh")), x.flatten(1)).activation, x.flatten()
    assert torch.equal(tanh.apply(z), nn.functional.gelu(z, approximate="tanh"))
    for parameter in (model := Plain()).parameters():
        nn.init.normal_(parameter, std=1e-9)
    assert read_layers(model, x).activation.name == "relu", "however small the weights"
    assert not model.fc1._forward_hooks
    assert model.training


@pytest.mark.parametrize(
    ("model", "assumption"),
    [
        (nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1, bias=False)), "no bias"),
        (seq(nn.Tanh()), "odd part linear"),
        (seq(nn.PReLU()), "linear layers"),
        (seq(nn.LayerNorm(6)), "linear layers"),
        (seq(nn.Dropout(0.5)), "linear layers"),
        (Residual(), "linear layers"),
        (Shared(), "linear layers"),
        (frozen(), "linear layers"),
        (nn.Flatten(), "linear layers"),
        (seq(nn.ReLU(), nn.Linear(6, 6, bias=False)), "linear layers"),
        (seq(nn.ReLU(), nn.Linear(6, 6, bias=False), nn.ReLU()), "aligned layers"),
        (large(), "small even part"),
    ],
)
def test_what_is_refused_names_the_assumption(
    symmetric: Make, model: nn.Module, assumption: str
) -> None:
    x, y = symmetric()
    with pytest.raises(AssumptionError) as error:
        learning.predict(
            model, x, y if not isinstance(model, Shared) else y.expand(-1, 4), 0.01, 10
        )
    assert error.value.assumption == assumption


def test_data_that_are_refused(symmetric: Make, chain: Make) -> None:
    x, y = symmetric(outputs=2)
    model = chain(initial(4, 2, 1e-3), nn.ReLU)
    with pytest.raises(AssumptionError, match=r"5\.88 % have no mirror image") as error:
        learning.predict(model, x[1:], y[1:], 0.01, 10)
    assert error.value.assumption == "symmetric data"
    with pytest.raises(AssumptionError) as error:
        learning.predict(model, x, y, 0.01, 10)
    assert error.value.assumption == "paired neurons"
    with pytest.raises(AssumptionError, match="diverges") as error:
        learning.predict(
            chain(learning.antisymmetric_pairs(*initial(4, 2, 0.1)), nn.ReLU), x, y, 9.0, 500
        )
    assert error.value.assumption == "step size"
    with pytest.raises(InputError, match="2 outputs and 1 targets"):
        learning.predict(model, x, y[:, 0], 0.01, 10)
    with pytest.raises(InputError, match="positive learning rate"):
        learning.predict(model, x, y, 0.0, 10)
    with pytest.raises(ShapeError, match="Give every point one target"):
        learning.predict(model, x, y[1:], 0.01, 10)


def test_nothing_to_learn(chain: Make) -> None:
    x = rand(8, 3, seed=0)
    found = learning.predict(chain(initial(3, 1, 0.1)), x, torch.zeros(8, 1), 0.05, 50)
    assert found.half_time is None
    assert float(found.loss[-1]) < float(found.loss[0])
    assert found.to_json()["plateau_time"] is None


@pytest.mark.whole
def test_the_gradient_flow_of_any_module_and_loss() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    model[0].bias.requires_grad_(requires_grad=False)
    x, y = rand(6, 2, seed=0), rand(6, 1, seed=1)
    before = [p.detach().clone() for p in model.parameters()]
    times = torch.tensor([0.0, 0.5, 0.5, 1.0])
    flow = learning.gradient_flow(model, x, y, times, loss=nn.functional.mse_loss)
    assert set(flow.parameters) == {"0.weight", "2.weight", "2.bias"}
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    optimizer = torch.optim.SGD(model.parameters(), 5e-4)
    for _ in range(2_000):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    assert torch.allclose(
        model[2].weight, flow.parameters["2.weight"][-1], atol=5e-4
    )  # Euler's error at this step
    assert torch.equal(flow.loss[1], flow.loss[2])


def test_rows_without_mirror() -> None:
    x, y = rand(30, 3, seed=0), rand(30, 1, seed=1)
    both = torch.cat([x, -x]), torch.cat([y, -y])
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    assert learning.asymmetric_fraction(both[0][order], both[1][order]) == 0
    assert learning.asymmetric_fraction(*both) == 0
    assert learning.asymmetric_fraction(both[0][:-3], both[1][:-3]) == pytest.approx(3 / 57)
    assert learning.asymmetric_fraction(torch.cat([x, -x]), torch.cat([y, y])) == 1
    twice = torch.cat([both[0], x[:1]]), torch.cat([both[1], y[:1]])
    assert learning.asymmetric_fraction(*twice) > 0, "how often counts"
    assert learning.asymmetric_fraction(both[0].float(), both[1].float()) == 0


def test_different_activations_are_named_with_their_slopes_where_they_have_some() -> None:
    x, y = torch.randn(6, 3), torch.randn(6, 1)
    for pair, said in (
        ((nn.GELU(), nn.ReLU()), "the activations gelu and relu;"),
        ((nn.LeakyReLU(0.1), nn.LeakyReLU(0.2)), "leaky_relu of slope 0.1 and leaky_relu of"),
    ):
        layers = [nn.Linear(3, 3, bias=False) for _ in range(2)]
        net = nn.Sequential(layers[0], pair[0], layers[1], pair[1], nn.Linear(3, 1, bias=False))
        with pytest.raises(AssumptionError, match=said):
            learning.predict(net, torch.cat([x, -x]), torch.cat([y, -y]), 0.1, 5)
