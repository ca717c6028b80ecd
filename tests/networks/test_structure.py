"""Structure found by tracing and matrices found by probing, against the layers."""

import numpy as np
import pytest
import torch
from torch import nn

from makers_zoo import Map, free
from rectilinear.networks.network import as_network
from rectilinear.networks.trace import INPUT
from rectilinear.networks.weight_matrices import chain, is_homogeneous, structure_of, two_layer

X = torch.randn(7, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def structure(model, x=X):
    network = as_network(model.double().eval(), x)
    return network, structure_of(network, x)


AFFINE = {
    "linear": nn.Linear(6, 3),
    "views": Map(
        lambda x, a: a(x).reshape(len(x), 3, 1).transpose(1, 2)[:, 0, :2].flip(1), nn.Linear(6, 3)
    ),
    "sums": Map(
        lambda x, a, b: torch.cat([a(x), 2 * b(x) - 1], 1).mean(1, keepdim=True),
        free(6, 3),
        free(6, 2),
    ),
    "in-place": Map(lambda x, a: a(x).mul_(3).add_(x), free(6, 6)),
    "written-into": Map(lambda x, a: torch.zeros(len(x), 6, dtype=x.dtype).copy_(a(x)), free(6, 6)),
    "masked": Map(lambda x, a: torch.where(torch.arange(6) > 2, a(x), x), free(6, 6)),
    "einsum": Map(lambda x, a: torch.einsum("bi,oi->bo", x, a.weight), free(6, 4)),
    "norm": nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)),
}
NOT_AFFINE = {
    "relu": Map(lambda x, a: a(x).relu(), free(6, 3)),
    "written-over": Map(lambda x, a: (lambda h: h.copy_(h.abs()))(a(x)), free(6, 3)),
    "through-a-view": Map(lambda x, a: (lambda h: (h[:, :1].relu_(), h)[1])(a(x)), free(6, 3)),
    "product": Map(lambda x, a: a(x) * x, free(6, 6)),
    "rounded": Map(lambda x, a: a(x).round(), free(6, 3)),
    "cast": Map(lambda x, a: a(x).long().to(x), free(6, 3)),
    "numpy": Map(lambda x, a: a(x) + torch.from_numpy(np.maximum(x.numpy(), 0)), free(6, 6)),
    "value": Map(lambda x, a: a(x) * x[:1, 0].item(), free(6, 3)),
    "choice": Map(lambda x, a: a(x) if x.sum() > 0 else -a(x), free(6, 3)),
    "norm": Map(lambda x, a: a(x) / a(x).norm(dim=1, keepdim=True), free(6, 3)),
    "mask": Map(lambda x, a: torch.where(x > 0, a(x), x), free(6, 6)),
    "sorted": Map(lambda x, a: a(x).sort(1).values, free(6, 3)),
}


@pytest.mark.parametrize("name", AFFINE)
def test_affine_operations_are_seen(name):
    _, found = structure(AFFINE[name])
    assert found.is_affine, found.reason
    assert found.depth == 0


@pytest.mark.parametrize("name", NOT_AFFINE)
def test_nothing_else_passes_for_affine(name):
    model = NOT_AFFINE[name].double()
    network = as_network(
        model, X[:1]
    )  # a batch of one: "value" and "choice" depend on their neighbours
    found = structure_of(network, X[:1])
    assert not found.is_affine
    assert found.nodes or found.reason


def test_activations_in_order():
    model = nn.Sequential(
        nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 4), nn.GELU(), nn.Linear(4, 2)
    )
    _, found = structure(model)
    assert [node.activation.name for node in found.nodes] == ["relu", "gelu"]
    assert [node.sources for node in found.nodes] == [{INPUT}, {0}]
    assert found.output == {1}
    assert found.depth == 2


def test_chain_has_the_weights():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 5),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(5, 4),
        nn.LeakyReLU(0.2),
        nn.Linear(4, 2),
    )
    found = chain(*structure(model), torch.randn(4, 6, dtype=torch.float64))
    for weight, bias, layer in zip(
        found.weights, found.biases, (model[0], model[3], model[5]), strict=True
    ):
        assert torch.allclose(weight, layer.weight, atol=1e-14)
        assert torch.allclose(bias, layer.bias, atol=1e-14)


def test_two_layers_with_biases_and_slopes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.PReLU(5), nn.Linear(5, 2))
    with torch.no_grad():
        model[1].weight.uniform_(-1, 1)
    network, found = structure(model)
    two = two_layer(network, found, X)
    assert torch.allclose(two.W1, model[0].weight, atol=1e-14)
    assert torch.allclose(two.b1, model[0].bias)
    assert torch.allclose(two.activation.slope, model[1].weight)
    assert two.has_bias
    assert torch.allclose(two(X), model(X))


HOMOGENEOUS = {
    "relu": (nn.Sequential(free(6, 5), nn.ReLU(), free(5, 2)), True),
    "deep": (nn.Sequential(free(6, 5), nn.ReLU(), free(5, 4), nn.LeakyReLU(0.1), free(4, 2)), True),
    "residual": (Map(lambda x, a, b: x + b(torch.relu(a(x))), free(6, 6), free(6, 6)), True),
    "zero bias": (nn.Sequential(free(6, 5), nn.ReLU(), nn.Linear(5, 2)), False),
    "bias inside": (nn.Sequential(nn.Linear(6, 5), nn.ReLU(), free(5, 2)), False),
    "gelu": (nn.Sequential(free(6, 5), nn.GELU(), free(5, 2)), False),
}


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_homogeneity_by_construction(name):
    model, expected = HOMOGENEOUS[name]
    network, found = structure(model)
    assert is_homogeneous(network, found, X) is expected


def test_max_pooling_is_homogeneous():
    model, x = (
        nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.MaxPool2d(2), nn.Flatten()),
        torch.randn(4, 1, 6, 6),
    )
    network, found = structure(model, x.double())
    assert found.depth == 1
    assert is_homogeneous(network, found, x.double())
