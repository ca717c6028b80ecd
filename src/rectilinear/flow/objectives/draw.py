"""What the terms of an objective look at: one batch, and all that follows from it, each computed once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch

from rectilinear._shapes import check_batch
from rectilinear.errors import ConfigError
from rectilinear.flow.collapse import propagate
from rectilinear.induced_space import InducedSpace
from rectilinear.linearizer import Linearizer
from rectilinear.operators import SVD, SolvedVelocity, svd

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear.flow.model import LinearFlow
    from rectilinear.operators import Operator, TimeVarying


class Draw:
    """One batch of data beside the model, the random numbers of the step, and their latents, computed when asked for.

    Attributes:
        flow: the model: a flow, or a one-step Linearizer from noise to data.
        data: ``(b, *g_data.shape)``, clean.
        noisy: the same with noise ``N(0, sigma^2)`` added.
        z1: latents of the noisy data, ``(b, n)``.
        logdet: ``log |det dg_data/dx|`` there, ``(b,)``.

    Example:
        >>> import rectilinear as rl
        >>> g = rl.invertible.Identity((3,))
        >>> draw = Draw(rl.Linearizer(g, rl.operators.Diagonal(torch.ones(3))), torch.zeros(5, 3))
        >>> draw.z1.shape, draw.z0 is draw.z0
        (torch.Size([5, 3]), True)
    """

    def __init__(self, flow: LinearFlow | Linearizer, data: Tensor, sigma: float = 0.0) -> None:
        self.flow, self.data = flow, data
        self.g_data = flow.g_out if isinstance(flow, Linearizer) else flow.g_data
        self.g_noise = flow.g_in if isinstance(flow, Linearizer) else flow.g_noise
        check_batch(data, self.g_data.shape, "data")
        self.data_space, self.noise_space = InducedSpace(self.g_data), InducedSpace(self.g_noise)
        self.noisy = data + sigma * torch.randn_like(data) if sigma else data
        z, self.logdet = self.g_data.forward_and_logdet(self.noisy)  # first of all: an ActNorm starts from data
        self.z1 = z.flatten(1)

    @cached_property
    def noise(self) -> Tensor:
        """Standard normal noise, ``(b, *g_noise.shape)``."""
        like = self.data
        return torch.randn(len(like), *self.g_noise.shape, dtype=like.dtype, device=like.device)

    @cached_property
    def z0(self) -> Tensor:
        """Latents of the noise, ``(b, n)``."""
        return self.noise_space.encode(self.noise)

    @cached_property
    def t(self) -> Tensor:
        """Times, uniform on ``[0, 1]``: ``(b,)``, or one for all rows where the velocities are full matrices."""
        velocity = self._velocity
        full = isinstance(velocity, SolvedVelocity) and max(velocity.s0.ndim, velocity.s1.ndim) > 1
        return torch.rand(() if full else (len(self.data),), dtype=self.data.dtype, device=self.data.device)

    @cached_property
    def prediction(self) -> Tensor:
        """The end point ``A_t z_t`` predicted on the straight path ``z_t = (1 - t) z_0 + t z_1``, ``(b, n)``."""
        return self._velocity.endpoint(self.t)(torch.lerp(self.z0, self.z1, self.t.reshape(-1, 1)))

    @cached_property
    def operator(self) -> Operator:
        """The one-step operator ``B``: of a Linearizer, or of a flow in closed form or else by 20 Magnus-4 steps."""
        if isinstance(self.flow, Linearizer):
            return self.flow.operator
        exact = self.flow.velocity.transport(0.0, 1.0)
        if exact is not None:
            return exact
        return propagate(self.flow.velocity, 20, "magnus4", end=self.flow.end).operator

    @property
    def _velocity(self) -> TimeVarying:
        if isinstance(self.flow, Linearizer):
            raise ConfigError(
                "a flow-matching term for a Linearizer", "a LinearFlow", "Use likelihood terms, or a flow."
            )
        return self.flow.velocity

    @cached_property
    def modes(self) -> SVD:
        """The singular value decomposition of ``B``, without its gradient."""
        with torch.no_grad():
            return svd(self.operator)

    def keep(self, z: Tensor, ranks: Tensor) -> Tensor:
        """``U_k U_k^T z``: the part of each latent ``(b, n)`` in the ``ranks[i]`` leading left singular directions."""
        u = self.modes.u
        coordinates = u.apply_adjoint(z)
        return u(coordinates * (torch.arange(coordinates.shape[-1], device=z.device) < ranks.reshape(-1, 1)))
