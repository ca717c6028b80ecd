"""The nested generator: one network that generates in one step, projects to every rank, and orders like PCA."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rectilinear.flow import LinearFlow, objectives
from rectilinear.invertible import (
    MLP,
    AffineCoupling,
    Chain,
    Flatten,
    Invertible,
    Leading,
    Rotation,
    Scaling,
    VectorFlow,
)
from rectilinear.metrics import pca
from rectilinear.operators import SolvedVelocity
from rectilinear.recipes.base import Recipe
from rectilinear.training import TrainConfig


@dataclass(frozen=True)
class Nested(Recipe):
    """Couplings behind principal axes; likelihood, reconstruction from nested ranks, and a critic of truncated samples.

    The network starts as PCA. The operator is PCA's standard deviations and stays so: were it to follow the latents,
    the likelihood would not care for their scale, and the singular values would lose their order. Affine couplings work
    on the ``leading`` principal coordinates at unit scale; the others, mostly noise, move by one coupling that reads
    the leading ones.

    Attributes:
        leading: Principal coordinates that the couplings work on.
        blocks: Couplings.
        width: Width of their conditioners.
        tail_width: Width of the conditioner that moves the other coordinates.
        nested: Weight of the reconstruction through rank ``k``, relative to PCA's error at that rank.
        lowest: Least ``k`` drawn; the largest is ``leading``.
        adversarial: Weight of the critic's term.
        rank: Rank of the samples that the critic sees, and at which the model is to be sampled.
        critic_width: Width of the critic.
        share: Share of a batch in the nested and the adversarial term.
    """

    leading: int = 128
    blocks: int = 8
    width: int = 256
    tail_width: int = 128
    nested: float = 0.05
    lowest: int = 4
    adversarial: float = 0.25
    rank: int = 64
    critic_width: int = 256
    share: float = 0.5

    def objective(self, images: Tensor) -> nn.Module:
        mean, axes, std = (part.float() for part in pca(images))
        n, shape = len(mean), tuple(images.shape[1:])
        scale = (std.square() + self.noise**2).sqrt()
        g = Chain(
            Flatten(shape), Rotation.from_matrix(axes, mean), Scaling(1 / scale), *self._couplings(n), Scaling(scale)
        )
        flow = LinearFlow(g, Flatten(shape), SolvedVelocity(torch.ones(n), scale.square()))
        lost = std.square().flip(0).cumsum(0).flip(0) / n  # by PCA of rank k = 0, 1, ..., per value
        lost = lost.clamp(min=1e-4 * lost[0].item())
        terms: dict[str, tuple[float, objectives.Term]] = {"nll": (1.0, objectives.Likelihood())}
        if self.nested:
            ranks = objectives.NestedRank(self.lowest, min(self.leading, n - 1), baseline=lost, share=self.share)
            terms["nested"] = (self.nested, ranks)
        if self.adversarial:
            w = self.critic_width
            layers = nn.Linear(n, w), nn.LeakyReLU(0.2), nn.Linear(w, w), nn.LeakyReLU(0.2), nn.Linear(w, 1)
            critic = nn.Sequential(nn.Flatten(), *layers)
            samples = objectives.Adversarial(critic, high=self.rank, share=self.share, lr=self.training.lr / 10)
            terms["adversarial"] = (self.adversarial, samples)
        return objectives.Objective(flow, terms, self.noise, momentum=0.0)

    def _couplings(self, n: int) -> tuple[Invertible, ...]:
        leading = VectorFlow(self.leading, self.blocks, self.width, scale_budget=float(self.blocks))
        if self.leading == n:
            return (leading,)
        tail = MLP(self.leading, 2 * (n - self.leading), self.tail_width, hidden=0)
        return Leading(leading, n), AffineCoupling(n, tail, keep=self.leading)


@dataclass(frozen=True)
class Mnist(Nested):
    """The nested generator on MNIST, 28 x 28."""

    data: str = "mnist"
    noise: float = 0.1
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=60_000,
            max_seconds=2400.0,
            batch_size=128,
            lr=2e-3,
            betas=(0.5, 0.99),
            weight_decay=1e-4,
            warmup=200,
            schedule="cosine",
            grad_clip=10.0,
            ema=0.998,
            evaluate_every=1000,
        )
    )
