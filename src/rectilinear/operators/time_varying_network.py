"""Velocities whose parts are networks of the time."""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rectilinear.errors import SingularOperatorError
from rectilinear.operators.low_rank import LowRank
from rectilinear.operators.scalar_low_rank import ScalarPlusLowRank
from rectilinear.operators.time_varying import TimeVarying, as_time

if TYPE_CHECKING:
    from rectilinear.operators.base import Operator


class TimeNetwork(nn.Module):
    """A network of the time: waves of ``t``, one hidden layer.

    The slowest wave turns a quarter over ``[0, 1]`` and the fastest eight times, so that every feature moves.

    Example:
        >>> TimeNetwork(3, width=8)(torch.tensor([0.0, 1.0])).shape
        torch.Size([2, 3])
    """

    frequencies: Tensor

    def __init__(self, out: int, width: int, features: int = 32) -> None:
        super().__init__()
        half = features // 2
        self.register_buffer("frequencies", pi / 2 * 32 ** (torch.arange(half) / max(half - 1, 1)))
        self.layers = nn.Sequential(nn.Linear(2 * half, width), nn.SiLU(), nn.Linear(width, out))

    def features(self, t: Tensor) -> Tensor:
        """``cos`` and ``sin`` of ``t`` at all frequencies, ``(..., features)``."""
        angle = t[..., None] * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], -1)

    def forward(self, t: Tensor) -> Tensor:
        return self.layers(self.features(t))


class LowRankEndpoint(TimeVarying):
    """``A(t) = U(t) V(t)^T`` predicts the end point, ``U`` and ``V`` two networks of the time: the published family.

    The velocity ``(A(t) - I) / (1 - t)`` is singular at ``t = 1``, and the collapsed operator has rank ``rank``.

    Args:
        dim: ``n``.
        rank: ``r``.
        width: hidden units of each network, whose last layer has ``width * n * r`` weights.

    Reference: Berman, Hallak, Shocher, Who Said Neural Networks Aren't Linear? (2025).

    Example:
        >>> LowRankEndpoint(6, rank=2).endpoint(0.5)
        LowRank(6 x 6)
    """

    singular_at_one = True

    def __init__(self, dim: int, rank: int, width: int = 64) -> None:
        super().__init__()
        self.dim, self.rank = dim, rank
        self.u, self.v = (TimeNetwork(dim * rank, width) for _ in range(2))

    def endpoint(self, t: float | Tensor) -> LowRank:
        time = as_time(t, self.u.frequencies)
        u, v = (net(time).unflatten(-1, (self.dim, self.rank)) / self.dim**0.5 for net in (self.u, self.v))
        return LowRank(u, v, trainable=False)

    def velocity(self, t: float | Tensor) -> Operator:
        """``W(t) = (A(t) - I) / (1 - t)``.

        Raises:
            SingularOperatorError: at ``t = 1``.
        """
        left = 1 - as_time(t, self.u.frequencies)
        if bool((left == 0).any()):
            raise SingularOperatorError(
                got="t = 1 for a velocity given by its end point",
                expected="t < 1",
                fix="Integrate in tau = -log(1 - t), or use a family with a velocity at t = 1.",
            )
        end = self.endpoint(t)
        return ScalarPlusLowRank(-1 / left, end.u / left[..., None, None], end.v, trainable=False)


class ScalarPlusLowRankVelocity(TimeVarying):
    """``W(t) = a(t) I + U diag(w(t)) V^T`` with ``a`` and ``w`` from a network of the time; starts at zero.

    Example:
        >>> ScalarPlusLowRankVelocity(6, rank=2).velocity(1.0)(torch.ones(6)).abs().max().item()
        0.0
    """

    def __init__(self, dim: int, rank: int, width: int = 64) -> None:
        super().__init__()
        self.dim, self.rank = dim, rank
        self.u, self.v = (nn.Parameter(torch.randn(dim, rank) / dim**0.5) for _ in range(2))
        self.weights = TimeNetwork(rank + 1, width)
        last = self.weights.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def velocity(self, t: float | Tensor) -> Operator:
        out = self.weights(as_time(t, self.u))
        return ScalarPlusLowRank(out[..., 0], self.u * out[..., None, 1:], self.v, trainable=False)
