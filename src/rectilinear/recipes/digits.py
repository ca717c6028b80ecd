"""Digits, 8 x 8: one network that generates, inverts and orders, in a few minutes of two cores."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rectilinear.flow import LinearFlow
from rectilinear.invertible import Chain, Flatten, Identity, Rotation, VectorFlow
from rectilinear.operators import SolvedVelocity
from rectilinear.recipes.base import Recipe
from rectilinear.training import TrainConfig


@dataclass(frozen=True)
class Digits(Recipe):
    """Additive couplings behind principal axes; likelihood of noisy data, and reconstruction from nested ranks.

    Attributes:
        blocks: Couplings.
        width: Width of their conditioners.
        noise: Standard deviation of the noise added to the data.
        nested: Weight of the reconstruction through the leading ``k`` latents, ``k`` drawn at random.
    """

    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=4000, batch_size=256, lr=1e-3, schedule="cosine", warmup=100)
    )
    blocks: int = 12
    width: int = 256
    noise: float = 0.15
    nested: float = 3.0

    def objective(self, images: Tensor) -> nn.Module:
        flat = images.flatten(1)
        n = flat.shape[1]
        _, axes = torch.linalg.eigh(flat.T.cov())
        g = Chain(
            Flatten(tuple(images.shape[1:])),
            Rotation.from_matrix(axes.flip(1), flat.mean(0)),
            VectorFlow(n, self.blocks, self.width, coupling="additive"),
        )
        velocity = SolvedVelocity(torch.ones(n), g(images).square().mean(0) + self.noise**2)
        return NestedLikelihood(LinearFlow(g, Identity((n,)), velocity), self.noise, self.nested)


class NestedLikelihood(nn.Module):
    """Negative log-likelihood of noisy data under the solved flow, plus nested reconstruction."""

    def __init__(self, flow: LinearFlow, noise: float, nested: float) -> None:
        super().__init__()
        self.flow, self.noise, self.nested = flow, noise, nested

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        """``{"loss", "nll", "nested"}`` of images ``(b, c, h, w)``; moments of the latents are followed beside."""
        g, moments = self.flow.g_data, self.flow.velocity.s1
        assert isinstance(moments, Tensor)
        z, logdet = g.forward_and_logdet(batch + self.noise * torch.randn_like(batch))
        moment = z.square().mean(0)
        moments.lerp_(moment.detach(), 0.01)
        nll = 0.5 * moment.log().mean() - logdet.mean() / z.shape[1]
        keep = torch.rand(len(z), 1, device=z.device).mul(z.shape[1]).ceil()
        mask = torch.arange(z.shape[1], device=z.device) < keep
        nested = (g.inverse(z * mask) - batch).square().mean()
        return {"loss": nll + self.nested * nested, "nll": nll, "nested": nested}
