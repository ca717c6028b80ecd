"""Chebyshev series on ``[0, 1]``."""

from __future__ import annotations

import torch
from torch import Tensor


def chebyshev(t: Tensor, degree: int) -> Tensor:
    """``T_k(2 t - 1)`` for ``k = 0 .. degree``: shape ``(..., degree + 1)``."""
    x = 2 * t - 1
    values = [torch.ones_like(x), x]
    for _ in range(degree - 1):
        values.append(2 * x * values[-1] - values[-2])
    return torch.stack(values[: degree + 1], -1)


def chebyshev_integral(s: Tensor, t: Tensor, degree: int) -> Tensor:
    """The integrals of ``T_k(2 t - 1)`` from ``s`` to ``t``: shape ``(..., degree + 1)``."""
    s, t = torch.broadcast_tensors(s, t)
    rise = (chebyshev(t, degree + 1) - chebyshev(s, degree + 1)) / 2
    k = torch.arange(degree + 1, device=t.device, dtype=t.dtype)
    up = rise[..., 1:] / (2 * (k + 1))
    down = torch.cat([torch.zeros_like(rise[..., :2]), rise[..., 1:-2]], -1)[..., : degree + 1]
    down = torch.where(k > 1, down / (2 * (k - 1)).clamp(min=1), 0)
    return torch.where(k == 0, 2 * up, up - down)
