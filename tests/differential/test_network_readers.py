"""``rl.predict`` reads the networks that ``rl.split`` reads, or says why they learn otherwise."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

import rectilinear as rl
from makers_data import rand
from makers_zoo import ZOO
from rectilinear.errors import AssumptionError, RectilinearError, StructureError
from rectilinear.learning import half_squared_error
from rectilinear.learning.equivalence import read_layers

# An activation of kappa = 0, such as the absolute value, has no linear part that would learn.
LEARNS_OTHERWISE = (
    "trainable parameters",
    "trainable matrices",
    "skip layers",
    "frozen",
    "kappa > 0",
)


@pytest.mark.parametrize(("name", "make"), [(name, make) for name, _, make in ZOO])
def test_the_zoo(name: str, make: Callable[[], tuple[nn.Module, Tensor]]) -> None:
    model, x = make()
    parts, chain = answer(rl.split, model, x), answer(read_layers, model, x)
    if isinstance(chain, RectilinearError):
        refused = isinstance(parts, RectilinearError)
        assert refused or any(words in str(chain) for words in LEARNS_OTHERWISE), str(chain)
    elif len(chain.weights) == 2 and chain.alpha != 1:
        w1, w2 = chain.weights
        assert torch.allclose(parts.matrix, chain.kappa * w2 @ w1, atol=1e-10), name


def answer(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, or the error that it raises."""
    try:
        return function(*arguments)
    except RectilinearError as error:
        return error


class Layers(nn.Module):
    """A function of the input and parameters of its own."""

    def __init__(self, function: Callable[..., Tensor], *weights: Tensor, **more: Any) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)
        self.function, self.more = function, more

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.weights, **self.more)


A, B, C = 0.1 * rand(6, 3, seed=1), 0.1 * rand(1, 6, seed=2), 0.1 * rand(6, 6, seed=3)
X = torch.cat([rand(12, 3, seed=0), -rand(12, 3, seed=0)])
Y = X.sum(1, keepdim=True)
WRITTEN = {
    "functions": Layers(
        lambda x, a, b: functional.linear(torch.relu(functional.linear(x, a)), b), A, B
    ),
    "columns": Layers(lambda x, a, b: (x @ a).clamp_min(0) @ b, A.mT, B.mT),
    "mixed": Layers(lambda x, a, b: functional.leaky_relu(x @ a.mT, 0.3) @ b, A, B.mT),
    "another order": Layers(lambda x, b, a: torch.relu(x @ a.mT) @ b.mT, B, A),
    "three linear": Layers(lambda x, a, c, b: x @ a.mT @ c.mT @ b.mT, A, C, B),
    "squeezed": Layers(lambda x, a, b: (functional.gelu(x @ a.mT) @ b.mT).squeeze(1), A, B),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_layers_may_be_written_in_any_way(name: str) -> None:
    model = WRITTEN[name]
    found = rl.predict(model, X, Y, 0.02, 60)
    optimizer = torch.optim.SGD(model.parameters(), 0.02)
    losses = []
    for _ in range(61):
        optimizer.zero_grad()
        losses.append(half_squared_error(model(X), Y))
        losses[-1].backward()
        optimizer.step()
    true = torch.stack(losses).detach()
    slack = 1e-9 if found.kind == "exact" else 2e-3 * float(true[0] - true[-1])
    assert bool((found.low - slack <= true).all())
    assert bool((true <= found.high + slack).all())


def convolution() -> nn.Module:
    layers = nn.Conv1d(1, 2, 2, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4, 1, bias=False)
    return nn.Sequential(nn.Unflatten(1, (1, 3)), *layers).double()


def dense() -> nn.Sequential:
    layers = nn.Linear(3, 6, bias=False), nn.ReLU(), nn.Linear(6, 1, bias=False)
    return nn.Sequential(*layers).double()


def normalised() -> nn.Module:
    model = dense()
    parametrizations.weight_norm(model[0])
    return model


REFUSED = {
    "convolution": convolution(),
    "weight normalisation": normalised(),
    "scaled": Layers(lambda x, a, b: torch.relu(x @ (2 * a).mT) @ b.mT, A, B),
    "scaled input": Layers(lambda x, a, b: torch.relu(3 * x @ a.mT) @ b.mT, A, B),
    "not trained": Layers(lambda x, a, b: torch.relu(x @ a.detach().mT) @ b.mT, A, B),
    "shared": Layers(lambda x, a, c: torch.relu(x @ a.mT) @ c.mT @ c.mT @ B.mT, A, C),
    "dropout": nn.Sequential(*dense()[:2], nn.Dropout(0.01), dense()[2]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_learns_otherwise_is_refused(name: str) -> None:
    with pytest.raises(AssumptionError) as error:
        rl.predict(REFUSED[name], X, Y, 0.02, 10)
    assert error.value.assumption == "linear layers"


def test_slopes_of_their_own_are_refused_by_both_or_read_by_both() -> None:
    model = dense()
    model[1] = nn.PReLU(6, init=0.2).double().requires_grad_(requires_grad=False)
    assert rl.split(model, X).matrix.shape == (1, 3)
    with pytest.raises(AssumptionError, match="a slope for each unit"):
        rl.predict(model, X, Y, 0.02, 10)
    with pytest.raises(StructureError, match="bias"):
        rl.split(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1)), X.float())
