"""Predicted bands against training by autograd, over seeds, widths and scales."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import rectilinear as rl
from makers_data import losses_of_descent, rand
from rectilinear import learning
from rectilinear.errors import AssumptionError

SIGNS = "both signs of neurons"


def task(d: int, n: int, size: float = 2.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Symmetric data with a target that is not linear."""
    x = rand(n, d, seed=seed) @ torch.diag(1 + torch.arange(d, dtype=torch.float64) / 4)
    z = x @ rand(d, 1, seed=seed + 1) / d**0.5
    y = size * (z + 0.3 * torch.sin(4 * z))
    return torch.cat([x, -x]), torch.cat([y, -y])


def trained(
    w1: Tensor, w2: Tensor, x: Tensor, y: Tensor, lr: float, steps: int, activation: Callable
) -> Tensor:
    """The losses ``(steps + 1, B)`` of networks ``(B, h, d)``, ``(B, 1, h)`` under gradient
    descent, by autograd.
    """
    w1, w2 = (w.clone().requires_grad_() for w in (w1, w2))
    losses = []
    for _ in range(steps + 1):
        loss = (activation(x @ w1.mT) @ w2.mT - y).square().sum((1, 2)) / (2 * len(x))
        losses.append(loss.detach())
        first, second = torch.autograd.grad(loss.sum(), (w1, w2))
        with torch.no_grad():
            w1 -= lr * first
            w2 -= lr * second
    return torch.stack(losses)


def network(w1: Tensor, w2: Tensor, activation: nn.Module) -> nn.Sequential:
    model = nn.Sequential(
        nn.Linear(w1.shape[1], len(w1), bias=False), activation, nn.Linear(len(w1), 1, bias=False)
    )
    with torch.no_grad():
        model.to(w1.dtype)[0].weight.copy_(w1)
        model[2].weight.copy_(w2)
    return model


def initial(d: int, h: int, scale: float, count: int) -> tuple[Tensor, Tensor]:
    """Gaussian initialisations of this size, or PyTorch's own at ``scale`` 1."""
    if scale < 1:
        return scale * rand(count, h, d, seed=h), scale * rand(count, 1, h, seed=1000 + h)
    models = []
    for seed in range(count):
        torch.manual_seed(seed)
        models.append((nn.Linear(d, h, bias=False).double(), nn.Linear(h, 1, bias=False).double()))
    return torch.stack([a.weight.detach() for a, _ in models]), torch.stack(
        [b.weight.detach() for _, b in models]
    )


def predicted(
    model: nn.Module, x: Tensor, y: Tensor, lr: float, steps: int
) -> learning.Prediction | None:
    """The prediction, or None where it is refused for the signs or the even part."""
    try:
        return rl.predict(model, x, y, lr, steps)
    except AssumptionError as error:
        if error.assumption not in (SIGNS, "small even part"):
            raise
        return None


ACTIVATIONS = {"relu": nn.ReLU(), "leaky": nn.LeakyReLU(0.3), "gelu": nn.GELU()}
STEPS = {1e-3: 700, 0.03: 450, 1.0: 350}
QUICK = {("relu", 1e-3), ("leaky", 0.03), ("gelu", 1.0)}  # each activation and each scale once
BANDS = [
    pytest.param(name, scale, marks=[] if (name, scale) in QUICK else pytest.mark.slow)
    for scale in STEPS
    for name in ACTIVATIONS
]


@pytest.mark.whole
@pytest.mark.parametrize(("name", "scale"), BANDS)
def test_the_band_contains_training_or_it_is_refused(name: str, scale: float) -> None:
    activation, lr, steps = ACTIVATIONS[name], 0.05, STEPS[scale]
    said, d = 0, 3
    x, y = task(d, 16)
    for h in (2, 4, 30):
        w1, w2 = initial(d, h, scale, 3)
        losses = trained(w1, w2, x, y, lr, steps, activation)
        for b in range(len(w1)):
            found = predicted(network(w1[b], w2[b], activation), x, y, lr, steps)
            if found is None:
                continue
            said += 1
            true = losses[found.steps, b]
            fall = float(true[0] - true[-1])
            assert 0 <= found.strength_imbalance < 1
            assert bool((found.low <= found.loss).all())
            assert bool((found.low - 2e-3 * fall <= true).all()), (h, b, found.strength_imbalance)
            assert bool((true <= found.high + 2e-3 * fall).all()), (h, b, found.strength_imbalance)
            if found.strength_imbalance < 0.05:
                assert float((found.high - found.low).max()) < 0.15 * fall, (
                    "narrow where the signs are even"
                )
    assert said >= 4, "many initialisations are predicted"


ONE_SIGN = [  # every value without the slow ones
    pytest.param(d, width, scale, marks=[] if j == k and (i + j) % 2 == 0 else pytest.mark.slow)
    for i, d in enumerate((1, 3))
    for j, width in enumerate((1, 2, 20))
    for k, scale in enumerate((1e-6, 1e-3, 0.02))
]


@pytest.mark.parametrize(("d", "width", "scale"), ONE_SIGN)
def test_one_sign_is_refused(d: int, width: int, scale: float) -> None:
    """Neurons that all grow towards one sign learn one half of the points only."""
    x, y = task(d, 10)
    direction = torch.nn.functional.normalize(y.mT @ x, dim=1)
    w1 = scale * (0.1 * rand(width, d, seed=3) + rand(width, 1, seed=4).abs() * direction)
    w2 = scale * (0.1 + rand(1, width, seed=5).abs())
    for sign in (1, -1):
        with pytest.raises(AssumptionError) as error:
            rl.predict(network(sign * w1, sign * w2, nn.ReLU()), x, y, 0.05, 3000)
        assert error.value.assumption == SIGNS
    both = network(torch.cat([w1, -w1]), torch.cat([w2, -0.8 * w2], 1), nn.ReLU())
    assert 0.05 < rl.predict(both, x, y, 0.05, 3000).strength_imbalance < 0.2


def test_the_case_that_was_silently_wrong() -> None:
    torch.manual_seed(3)
    x = torch.randn(10, 5).double()
    x = torch.cat([x, -x])
    y = x.sum(1, keepdim=True)
    wrong, networks = 0, []
    for seed in range(8):
        torch.manual_seed(seed)
        networks.append((0.02 * torch.randn(2, 5).double(), 0.02 * torch.randn(1, 2).double()))
    losses = trained(
        *(torch.stack(w) for w in zip(*networks, strict=True)), x, y, 0.05, 500, torch.relu
    )[-1]
    for (w1, w2), loss in zip(networks, losses, strict=True):
        found = predicted(network(w1, w2, nn.ReLU()), x, y, 0.05, 500)
        if found is None:
            wrong += int(loss > 0.1)
            continue
        assert float(found.low[-1]) - 1e-6 <= float(loss) <= float(found.high[-1]) + 1e-6
    assert wrong >= 2, "half of the initialisations of two units have one sign"


def test_paired_and_linear_networks_have_no_band() -> None:
    x, y = task(3, 12)
    w1, w2 = learning.antisymmetric_pairs(0.1 * rand(4, 3, seed=1), 0.1 * rand(1, 4, seed=2))
    for model in (network(w1, w2, nn.ReLU()), network(w1, w2, nn.Identity())):
        found = rl.predict(model, x, y, 0.02, 100)
        assert found.kind == "exact"
        assert found.strength_imbalance is None
        assert torch.equal(found.low, found.loss)
        assert torch.equal(found.high, found.loss)


def test_single_precision_predicts_the_same() -> None:
    x, y = task(3, 12)
    w1, w2 = 0.05 * rand(20, 3, seed=1), 0.05 * rand(1, 20, seed=2)
    double = rl.predict(network(w1, w2, nn.ReLU()), x, y, 0.02, 300)
    single = rl.predict(network(w1.float(), w2.float(), nn.ReLU()), x.float(), y.float(), 0.02, 300)
    assert torch.allclose(double.high, single.high, rtol=1e-4)
    assert torch.allclose(double.low, single.low, rtol=1e-4)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_a_bias_of_a_linear_network_is_a_constant_column(depth: int, offset: float) -> None:
    x, y = rand(30, 3, seed=0) + offset / 5, rand(30, 2, seed=1) + offset
    torch.manual_seed(0)
    layers = [
        nn.Linear(3, 4 if depth > 1 else 2),
        *(nn.Linear(4, 4, bias=False) for _ in range(depth - 2)),
    ]
    model = nn.Sequential(*layers, *([nn.Linear(4, 2, bias=False)] if depth > 1 else [])).double()
    with torch.no_grad():
        model[0].bias.add_(offset)
    found = rl.predict(model, x, y, 0.01, 120)
    assert found.kind == "exact"
    assert found.maps.shape[1:] == (2, 4)
    design = torch.cat([x, torch.ones(30, 1)], 1)
    left = design @ torch.linalg.lstsq(design, y).solution - y
    assert found.final_loss == pytest.approx(float(left.square().sum()) / 60, rel=1e-6)
    assert torch.allclose(found.loss, losses_of_descent(model, x, y, 0.01, found.steps), rtol=1e-9)


def test_other_biases_are_refused() -> None:
    x, y = task(3, 12)
    late = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 1)).double()
    relu = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1, bias=False)).double()
    always_on = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1, bias=False)).double()
    fixed = nn.Sequential(nn.Linear(3, 1)).double()
    with torch.no_grad():
        always_on[0].bias.fill_(1e6)
    fixed[0].bias.requires_grad_(requires_grad=False)
    for model in (late, relu, always_on, fixed):
        with pytest.raises(AssumptionError) as error:
            rl.predict(model, x, y, 0.01, 10)
        assert error.value.assumption == "no bias"
