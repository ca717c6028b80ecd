"""An adversarial term: samples that a critic cannot tell from data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from rectilinear.errors import ConfigError, ShapeError
from rectilinear.flow.objectives.objective import Term
from rectilinear.flow.objectives.terms import check_high, check_ranks, draw_ranks, share_of

if TYPE_CHECKING:
    from rectilinear.flow.objectives.draw import Draw


class Adversarial(Term):
    """The relativistic pairing loss between data and one-step samples, with a gradient penalty on both.

    ``critic`` is trained on ``softplus(D(y) - D(x)) + penalty / 2 (|grad D(x)|^2 + |grad D(y)|^2)``, the model on
    ``softplus(D(x) - D(y))``, in one backward pass: each part has the gradient of its own side alone. The samples
    ``y = g_data^-1(U_k U_k^T B z_0)`` are those of the model truncated to a rank that is drawn for every row.

    Args:
        critic: ``(b, *shape)`` to ``(b,)`` or ``(b, 1)``.
        low: the least rank; ``high`` where None.
        high: the largest, all where None.
        penalty: weight of the gradient penalty.
        share: of the rows of a batch.
        lr: learning rate of the critic; that of the model where None.

    Raises:
        ConfigError: for ranks or a share that are out of range.

    Reference: N. Huang et al., The GAN is dead; long live the GAN! A modern GAN baseline, NeurIPS 2024.
    """

    def __init__(
        self,
        critic: nn.Module,
        low: int | None = None,
        high: int | None = None,
        penalty: float = 1.0,
        share: float = 1.0,
        lr: float | None = None,
    ) -> None:
        super().__init__()
        check_ranks((high or 1) if low is None else low, high, share)
        if not penalty >= 0:
            raise ConfigError(f"penalty={penalty}", "a weight of at least 0")
        self.critic, self.low, self.high = critic, low, high
        self.penalty, self.share, self.lr = penalty, share, lr

    def forward(self, draw: Draw) -> dict[str, Tensor]:
        real = draw.data[: share_of(len(draw.data), self.share)]
        z = draw.operator(draw.z0[: len(real)])
        high = z.shape[1] if self.high is None else self.high
        check_high(max(high, self.low or 1), z)
        fake = draw.data_space.decode(draw.keep(z, draw_ranks(z, self.low or high, high)))
        frozen = {name: x.detach() for name, x in (*self.critic.named_parameters(), *self.critic.named_buffers())}
        gap = functional_call(self.critic, frozen, (real,)) - functional_call(self.critic, frozen, (fake,))
        return {"generator": softplus(gap).mean(), "critic": self._critic_loss(real, fake.detach())}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The critic's, where it has a learning rate of its own."""
        return [] if self.lr is None else [{"params": list(self.critic.parameters()), "lr": self.lr}]

    def _critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return softplus(self.critic(fake) - self.critic(real)).mean()
        real, fake = (x.detach().requires_grad_() for x in (real, fake))
        on_real, on_fake = self.critic(real), self.critic(fake)
        if on_real.numel() != len(real):
            raise ShapeError(
                f"a critic's output of shape {tuple(on_real.shape)}", f"({len(real)},) or ({len(real)}, 1)"
            )
        slopes = torch.autograd.grad((on_real.sum() + on_fake.sum()), (real, fake), create_graph=True)
        size = sum((slope.flatten(1).square().sum(1).mean() for slope in slopes), real.new_zeros(()))
        return softplus(on_fake - on_real).mean() + 0.5 * self.penalty * size
