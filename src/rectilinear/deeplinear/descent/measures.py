"""Measures of linear networks during training, functions of the state of a batch of runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor

from rectilinear.deeplinear.descent.network import Network
from rectilinear.deeplinear.descent.task import Loss

KRYLOV = 24  # products with the Hessian for its largest eigenvalue; all where parameters are fewer


@dataclass(frozen=True, eq=False)
class State:
    """The layers of a batch of runs at one checkpoint, with what they are trained on."""

    layers: Sequence[Tensor]
    network: Network
    loss: Loss
    weight_decay: float = 0.0

    @cached_property
    def map(self) -> Tensor:
        """The end-to-end map ``(runs, m, d)``."""
        return self.network(self.layers)

    def objective(self, layers: Sequence[Tensor]) -> Tensor:
        """The objective of training, ``(runs,)``: the loss and ``weight_decay / 2 |theta|^2``."""
        found = self.loss(self.network(layers))
        if self.weight_decay:
            squares = [layer.square().flatten(1).sum(1) for layer in layers]
            found = found + self.weight_decay / 2 * torch.stack(squares).sum(0)
        return found


Measure: TypeAlias = Callable[[State], Tensor]


def loss(state: State) -> Tensor:
    """The loss ``(runs,)`` on all measurements, without weight decay."""
    return state.loss(state.map)


def singular_values(state: State) -> Tensor:
    """The singular values of the map ``(runs, min(m, d))``, descending: strengths of its modes."""
    return torch.linalg.svdvals(state.map)


def layer_singular_values(state: State) -> Tensor:
    """The singular values of each layer ``(runs, L, most)``; NaN beyond its number of them."""
    found = [torch.linalg.svdvals(layer) for layer in state.layers]
    most = max(s.shape[-1] for s in found)
    return torch.stack(
        [torch.nn.functional.pad(s, (0, most - s.shape[-1]), value=torch.nan) for s in found], 1
    )


def balancedness(state: State) -> Tensor:
    """``|W[i+1]' W[i+1] - W[i] W[i]'|``, Frobenius, ``(runs, L - 1)``; gradient flow keeps it.

    Reference: Arora, Cohen and Hazan, "On the optimization of deep networks", ICML 2018.
    """
    gaps = [
        torch.linalg.matrix_norm(after.mT @ after - before @ before.mT)
        for before, after in pairwise(state.layers)
    ]
    return torch.stack(gaps, 1) if gaps else state.map.new_zeros(len(state.map), 0)


def alignment(state: State) -> Tensor:
    """``|<v_1(W[i+1]), u_1(W[i])>|`` of neighbouring layers, ``(runs, L - 1)``; one where aligned.

    Reference: Ji and Telgarsky, "Gradient descent aligns the layers of deep linear networks", 2019.
    """
    parts = [torch.linalg.svd(layer, full_matrices=False) for layer in state.layers]
    found = [
        (after[2][:, 0] * before[0][..., 0]).sum(-1).abs() for before, after in pairwise(parts)
    ]
    return torch.stack(found, 1) if found else state.map.new_zeros(len(state.map), 0)


def effective_rank(state: State) -> Tensor:
    """The exponential of the entropy of the normalised singular values of the map, ``(runs,)``.

    Reference: Roy and Vetterli, "The effective rank: a measure of effective dimensionality", 2007.
    """
    s = torch.linalg.svdvals(state.map)
    p = s / s.sum(-1, keepdim=True).clamp_min(torch.finfo(s.dtype).tiny)
    return torch.special.entr(p).sum(-1).exp()


def sharpness(state: State) -> Tensor:
    """The largest eigenvalue of the Hessian of the training objective, ``(runs,)``.

    By Lanczos' method with 24 products of the Hessian, exact for fewer parameters; every vector is
    kept and orthogonalised twice. Gradient descent is stable below ``2 / lr``.
    """
    layers = [layer.detach().requires_grad_() for layer in state.layers]
    with torch.enable_grad():
        slopes = torch.autograd.grad(state.objective(layers).sum(), layers, create_graph=True)
    sizes = [layer[0].numel() for layer in layers]
    runs, count = len(layers[0]), sum(sizes)
    random = torch.Generator().manual_seed(0)
    start = torch.randn(runs, count, generator=random, dtype=torch.float64).to(layers[0])
    steps = min(KRYLOV, count)
    basis = start.new_zeros(runs, steps, count)
    image = torch.zeros_like(basis)
    vector = start
    for j in range(steps):
        for _ in range(2):
            vector = vector - ((basis[:, :j] @ vector[..., None]).mT @ basis[:, :j])[:, 0]
        size = vector.norm(dim=1, keepdim=True)
        basis[:, j] = vector / size.clamp_min(torch.finfo(size.dtype).tiny)
        parts = [
            part.reshape(layer.shape)
            for part, layer in zip(basis[:, j].split(sizes, 1), layers, strict=True)
        ]
        found = torch.autograd.grad(slopes, layers, parts, retain_graph=True)
        image[:, j] = torch.cat([part.flatten(1) for part in found], 1)
        vector = image[:, j]
    ritz = basis @ image.mT
    return torch.linalg.eigvalsh((ritz + ritz.mT) / 2)[:, -1]


MEASURES: dict[str, Measure] = {
    "loss": loss,
    "singular_values": singular_values,
    "layer_singular_values": layer_singular_values,
    "balancedness": balancedness,
    "alignment": alignment,
    "effective_rank": effective_rank,
    "sharpness": sharpness,
}
OF_ANY_NETWORK = ("loss", "sharpness")
