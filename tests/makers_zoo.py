"""The zoo: models with what an audit must say of them, in float64, the same at every call.

A maker gives the model and rows of data. ``linear`` may only stand where a proof exists; where data
alone speak, the label is ``effectively linear``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

D = 6
Made = tuple[nn.Module, Tensor]


def ready(make: Callable[[], nn.Module | Made]) -> Callable[[], Made]:
    """The maker with a seed of its own and in float64, with Gaussian rows unless it brings others."""

    def made() -> Made:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(5)  # torch.manual_seed takes a millisecond
            found = make()
            model, x = found if isinstance(found, tuple) else (found, torch.randn(600, D))
            return model.double().eval(), x.double()

    return made


def free(a: int, b: int) -> nn.Linear:
    """A linear layer without bias, of entries around one."""
    layer = nn.Linear(a, b, bias=False)
    nn.init.normal_(layer.weight, std=a**-0.5)
    return layer


def paired(
    width: int = 8, out: int = 2, bias: bool = False, activation: nn.Module | None = None
) -> nn.Sequential:
    """Neurons in pairs (w, b, a), (-w, -b, -a)."""
    first, last = nn.Linear(D, 2 * width, bias=bias), nn.Linear(2 * width, out, bias=bias)
    with torch.no_grad():
        w, a = torch.randn(width, D), torch.randn(out, width)
        first.weight.copy_(torch.cat([w, -w]))
        last.weight.copy_(torch.cat([a, -a], 1))
        if bias:
            b = torch.randn(width)
            first.bias.copy_(torch.cat([b, -b]))
    return nn.Sequential(first, activation or nn.ReLU(), last)


class Map(nn.Module):
    """A function of the input and some layers."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.layers)


def equivariant(width: int = 20) -> nn.Sequential:
    """Three layers, exactly odd and not linear: sign-equivariant weights."""
    a, b1, b2, v = (
        torch.randn(width, D),
        *torch.randn(2, width, width) / width**0.5,
        torch.randn(1, width),
    )
    layers = [free(D, 2 * width), free(2 * width, 2 * width), free(2 * width, 1)]
    with torch.no_grad():
        layers[0].weight.copy_(torch.cat([a, -a]))
        layers[1].weight.copy_(torch.cat([torch.cat([b1, b2], 1), torch.cat([b2, b1], 1)]))
        layers[2].weight.copy_(torch.cat([v, -v], 1))
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def separated() -> Made:
    """``sgn(x1) max(|x1| - |x2|, 0)`` with three layers, no bias."""
    layers = [free(2, 4), free(4, 2), free(2, 1)]
    weights = (
        [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]],
        [[1.0, -1.0, -1.0, -1.0], [-1.0, 1.0, -1.0, -1.0]],
        [[1.0, -1.0]],
    )
    with torch.no_grad():
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight.copy_(torch.tensor(weight))
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]), torch.randn(600, 2)


def batch_norm() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(D, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2.0)
    return model


def biased_beyond_the_data() -> nn.Sequential:
    """ReLU units that are all on, on the data: affine there and nowhere else."""
    model = nn.Sequential(nn.Linear(D, 10), nn.ReLU(), nn.Linear(10, 2))
    nn.init.constant_(model[0].bias, 30.0)
    return model


def dead() -> nn.Sequential:
    """ReLU units that are all off, on the data."""
    model = nn.Sequential(nn.Linear(D, 10), nn.ReLU(), nn.Linear(10, 2))
    nn.init.constant_(model[0].bias, -30.0)
    return model


def zeroed() -> nn.Sequential:
    model = nn.Sequential(free(D, 10), nn.ReLU(), free(10, 2))
    nn.init.zeros_(model[2].weight)
    return model


def constant() -> nn.Linear:
    layer = nn.Linear(D, 2)
    nn.init.zeros_(layer.weight)
    return layer


def images(*layers: nn.Module) -> Made:
    return nn.Sequential(*layers), torch.randn(300, 2, 6, 6)


def nearly_paired(error: float) -> nn.Sequential:
    model = paired()
    with torch.no_grad():
        model[0].weight += error * torch.randn_like(model[0].weight)
    return model


def branching(x: Tensor, layer: nn.Module) -> Tensor:
    """Rows decide, one by one, in Python."""
    return torch.stack([layer(row) if row[0].item() > 0 else -layer(row) for row in x])


def mostly_linear(size: float) -> nn.Module:
    return Map(lambda x, a, b: a(x) + size * torch.sin(3 * b(x)), free(D, 2), free(D, 2))


LINEAR = ("linear",)
EFFECTIVE = ("effectively linear",)
NOT = ("not linear",)

ZOO: list[tuple[str, tuple[str, ...], Callable[[], Made]]] = [
    ("linear", LINEAR, ready(lambda: free(D, 3))),
    ("affine", LINEAR, ready(lambda: nn.Linear(D, 3))),
    ("deep-linear", LINEAR, ready(lambda: nn.Sequential(free(D, 9), free(9, 9), free(9, 2)))),
    (
        "deep-affine",
        LINEAR,
        ready(lambda: nn.Sequential(nn.Linear(D, 9), nn.Dropout(), nn.Linear(9, 2))),
    ),
    ("batch-norm", LINEAR, ready(batch_norm)),
    (
        "leaky-of-slope-one",
        LINEAR,
        ready(lambda: nn.Sequential(free(D, 9), nn.LeakyReLU(1.0), free(9, 2))),
    ),
    (
        "convolutions",
        LINEAR,
        ready(lambda: images(nn.Conv2d(2, 3, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 2))),
    ),
    ("residual", LINEAR, ready(lambda: Map(lambda x, a: x + a(x), free(D, D)))),
    (
        "difference-of-relus",
        LINEAR,
        ready(lambda: Map(lambda x, a: torch.relu(a(x)) - torch.relu(-a(x)), free(D, 3))),
    ),
    ("paired", LINEAR, ready(paired)),
    ("paired-biased", LINEAR, ready(lambda: paired(bias=True))),
    ("paired-leaky", LINEAR, ready(lambda: paired(activation=nn.LeakyReLU(0.3)))),
    ("paired-gelu", LINEAR, ready(lambda: paired(activation=nn.GELU()))),
    ("paired-silu-biased", LINEAR, ready(lambda: paired(bias=True, activation=nn.SiLU()))),
    ("zero", LINEAR, ready(zeroed)),
    ("constant", LINEAR, ready(constant)),
    ("dead-on-the-data", EFFECTIVE, ready(dead)),
    ("affine-on-the-data", EFFECTIVE, ready(biased_beyond_the_data)),
    ("nearly-paired", EFFECTIVE, ready(lambda: nearly_paired(1e-3))),
    ("nearly-linear", EFFECTIVE, ready(lambda: mostly_linear(0.02))),
    (
        "deep-dead-biased",
        EFFECTIVE,
        ready(lambda: nn.Sequential(*dead(), nn.ReLU(), nn.Linear(2, 2))),
    ),
    ("absolute-value", NOT, ready(lambda: Map(lambda x, a: a(x).abs(), free(D, 3)))),
    ("two-layers", NOT, ready(lambda: nn.Sequential(free(D, 30), nn.ReLU(), free(30, 2)))),
    (
        "two-layers-in-place",
        NOT,
        ready(lambda: nn.Sequential(free(D, 30), nn.ReLU(inplace=True), free(30, 2))),
    ),
    (
        "two-layers-biased",
        NOT,
        ready(lambda: nn.Sequential(nn.Linear(D, 30), nn.ReLU(), nn.Linear(30, 2))),
    ),
    ("half-paired", NOT, ready(lambda: nearly_paired(1.0))),
    ("deep-odd", NOT, ready(equivariant)),
    ("depth-separation", NOT, ready(separated)),
    ("somewhat-linear", NOT, ready(lambda: mostly_linear(0.5))),
    ("square", NOT, ready(lambda: Map(lambda x, a: a(x) ** 2, free(D, 3)))),
    ("product", NOT, ready(lambda: Map(lambda x, a, b: a(x) * b(x), free(D, 3), free(D, 3)))),
    ("large-odd-sine", NOT, ready(lambda: Map(lambda x, a: torch.sin(4 * a(x)), free(D, 3)))),
    ("softmax", NOT, ready(lambda: Map(lambda x, a: (3 * a(x)).softmax(1), free(D, 3)))),
    ("branching", NOT, ready(lambda: Map(branching, free(D, 2)))),
    ("paired-tanh-biased", NOT, ready(lambda: paired(bias=True, activation=nn.Tanh()))),
    ("paired-elu", NOT, ready(lambda: paired(activation=nn.ELU()))),
    (
        "max-pool",
        NOT,
        ready(lambda: images(nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 2))),
    ),
    (
        "layer-norm",
        NOT,
        ready(lambda: nn.Sequential(nn.Linear(D, 8), nn.LayerNorm(8), nn.Linear(8, 2))),
    ),
    (
        "transformer-block",
        NOT,
        ready(
            lambda: (
                nn.TransformerEncoder(
                    nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=False),
                    2,
                    enable_nested_tensor=False,
                ),
                torch.randn(400, 3, 8),
            )
        ),
    ),
    (
        "few-points",
        ("undecided",),
        ready(lambda: (nn.Sequential(free(D, 30), nn.ReLU(), free(30, 2)), torch.randn(5, D))),
    ),
    (
        "few-pixels",
        ("undecided",),
        ready(
            lambda: (
                images(nn.Flatten(), nn.Linear(72, 9), nn.Tanh(), nn.Linear(9, 2))[0],
                torch.randn(40, 2, 6, 6),
            )
        ),
    ),
    (
        "on-the-edge",
        ("undecided",),
        ready(lambda: (mostly_linear(0.1), torch.randn(60, D))),
    ),
]
