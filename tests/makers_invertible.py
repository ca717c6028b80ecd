"""Every way to build an invertible network: the properties are tested on each, adding one is adding a
line.

All are in float64, in evaluation mode and, by ``perturb``, away from the identity that they start
at.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from rectilinear import invertible as inv

if TYPE_CHECKING:
    from collections.abc import Callable

    from rectilinear.invertible import Invertible

VECTOR, IMAGE = 6, (2, 4, 4)


def perturb(g: nn.Module, scale: float = 0.2, seed: int = 0) -> nn.Module:
    """``g`` with noise on every trainable parameter, so that zero-initialised layers do something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in (p for p in g.parameters() if p.requires_grad):
            p += scale * torch.randn(p.shape, generator=generator).to(p)
    return g


def ready(make: Callable[[], Invertible]) -> Callable[[], Invertible]:
    """The maker whose network is in float64, initialised, perturbed, in evaluation mode, the same
    at every call.
    """

    def made() -> Invertible:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # torch.manual_seed takes a millisecond
            g = make().double()
            g(torch.rand(16, *g.shape, dtype=torch.float64))  # initialises ActNorm
            return perturb(g).eval()

    return made


def vector(**options: object) -> Invertible:
    return inv.VectorFlow(VECTOR, blocks=2, width=8, **options)


def conv(**options: object) -> Invertible:
    return inv.ImageFlow(IMAGE, blocks=4, width=6, **options)


def vit(**options: object) -> Invertible:
    return inv.ImageFlow(
        IMAGE, blocks=2, width=8, conditioner="vit", patch=2, heads=2, hidden=1, **options
    )


def pca_initialised() -> Invertible:
    q = torch.linalg.qr(torch.randn(VECTOR, VECTOR)).Q
    return inv.Chain(
        inv.Rotation.from_matrix(q, torch.ones(VECTOR), reflections=4), vector(coupling="additive")
    )


def mixture() -> Invertible:
    a = torch.randn(3, VECTOR, VECTOR)
    wide = 4 * torch.eye(VECTOR) + torch.zeros(3, 1, 1)
    return inv.MixtureMap.from_moments(torch.rand(3), torch.randn(3, VECTOR), a @ a.mT + wide)


def freia() -> Invertible:
    framework = pytest.importorskip("FrEIA.framework", reason="FrEIA is not installed")
    modules = pytest.importorskip("FrEIA.modules")
    net = framework.SequenceINN(VECTOR)
    for _ in range(2):
        net.append(
            modules.GLOWCouplingBlock,
            subnet_constructor=lambda a, b: inv.MLP(a, b, width=8),
            clamp=1.0,
        )
        net.append(modules.PermuteRandom, seed=1)
    return inv.from_freia(net)


def freia_image() -> Invertible:
    framework = pytest.importorskip("FrEIA.framework", reason="FrEIA is not installed")
    modules = pytest.importorskip("FrEIA.modules")
    net = framework.SequenceINN(*IMAGE)
    net.append(modules.IRevNetDownsampling)
    net.append(
        modules.NICECouplingBlock, subnet_constructor=lambda a, b: inv.ConvNet(a, b, width=6)
    )
    return inv.from_freia(net)


def zuko() -> Invertible:
    flows = pytest.importorskip("zuko.flows", reason="zuko is not installed")
    return inv.from_zuko(flows.NICE(VECTOR, transforms=2, hidden_features=(8,)))


def zuko_autoregressive() -> Invertible:
    flows = pytest.importorskip("zuko.flows", reason="zuko is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return inv.from_zuko(flows.MAF(VECTOR, transforms=1, hidden_features=(8,)))


def normflows() -> Invertible:
    nf = pytest.importorskip("normflows", reason="normflows is not installed")
    flows: list[nn.Module] = []
    for _ in range(2):
        flows += [
            nf.flows.AffineCouplingBlock(nf.nets.MLP([3, 8, 6], init_zeros=True)),
            nf.flows.Permute(VECTOR),
        ]
    return inv.from_normflows(nf.NormalizingFlow(nf.distributions.DiagGaussian(VECTOR), flows))


class Cubic(nn.Module):
    """A module with an inverse, as others write them: ``z = a sinh(x)``."""

    def __init__(self) -> None:
        super().__init__()
        self.log_a = nn.Parameter(torch.zeros(VECTOR))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.log_a.exp() * x.sinh()

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        return (z / self.log_a.exp()).asinh()


# Flat latents, as a Linearizer needs them.
VECTOR_NETWORKS: list[tuple[str, Callable[[], Invertible]]] = [
    ("affine", ready(vector)),
    ("additive", ready(lambda: vector(coupling="additive"))),
    ("actnorm", ready(lambda: vector(actnorm=True, residual=False))),
    ("odd", ready(lambda: inv.VectorFlow(5, blocks=2, width=8))),
    ("pca", ready(pca_initialised)),
    ("scaling", ready(lambda: inv.Chain(inv.Scaling(torch.arange(1.0, VECTOR + 1)), vector()))),
    ("leading", ready(lambda: inv.Leading(inv.VectorFlow(4, blocks=2, width=8), VECTOR))),
    ("spline", ready(lambda: vector(coupling="spline"))),
    ("mixture", ready(mixture)),
    ("identity", ready(lambda: inv.Identity(VECTOR))),
]
IMAGE_NETWORKS: list[tuple[str, Callable[[], Invertible]]] = [
    ("conv-affine", ready(conv)),
    ("conv-additive", ready(lambda: conv(coupling="additive", channels_last=True))),
    ("conv-actnorm", ready(lambda: conv(actnorm=True, levels=1))),
    ("vit-affine", ready(vit)),
    ("vit-additive", ready(lambda: vit(coupling="additive", actnorm=True))),
    ("flatten-vector", ready(lambda: inv.Chain(inv.Flatten((1, 2, 3)), vector()))),
]
ADAPTERS: list[tuple[str, Callable[[], Invertible]]] = [
    ("freia", ready(freia)),
    ("freia-image", ready(freia_image)),
    ("zuko", ready(zuko)),
    ("zuko-autoregressive", ready(zuko_autoregressive)),
    ("normflows", ready(normflows)),
    ("module", ready(lambda: inv.from_module(Cubic(), (VECTOR,)))),
    (
        "callables",
        ready(
            lambda: inv.from_callables(
                torch.sinh, torch.asinh, (2, 3), lambda x: x.cosh().log().sum((1, 2))
            )
        ),
    ),
]
NETWORKS = VECTOR_NETWORKS + IMAGE_NETWORKS + ADAPTERS

# Blocks whose latents keep the shape of an image or of tokens.
BLOCKS: list[tuple[str, Callable[[], Invertible]]] = [
    ("squeeze", ready(lambda: inv.Squeeze(IMAGE, 2))),
    ("patches", ready(lambda: inv.Patches(IMAGE, 2))),
    ("unsqueeze", ready(lambda: inv.Inverse(inv.Squeeze(IMAGE, 2)))),
    ("inverse", ready(lambda: inv.Inverse(vector()))),
    ("reshape", ready(lambda: inv.Reshape((2, 6), (3, 2, 2)))),
    ("permutation", ready(lambda: inv.Permutation((3, 4), axis=1))),
    ("rotation", ready(lambda: inv.Rotation(5, reflections=4))),
    (
        "reflections",
        ready(lambda: inv.Reflections(torch.linalg.qr(torch.randn(5, 2)).Q, torch.ones(5))),
    ),
    ("conv1x1", ready(lambda: inv.Conv1x1((3, 2, 2)))),
    ("actnorm-image", ready(lambda: inv.ActNorm(IMAGE))),
    (
        "coupling-tokens",
        ready(lambda: inv.AffineCoupling((4, 3), inv.ViT(2, 3, 6, width=8, heads=2, hidden=1))),
    ),
    ("coupling-uneven", ready(lambda: inv.AffineCoupling(5, inv.MLP(1, 8, width=8), keep=1))),
]
