"""Sampling from a linear flow, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rectilinear.flow.integrate import integrate
from rectilinear.flow.model import LinearFlow, check_flow

if TYPE_CHECKING:
    from torch import Tensor


def sample(
    flow: LinearFlow, noise: Tensor, steps: int = 100, method: str = "rk4", *, t0: float = 0.0, t1: float = 1.0
) -> Tensor:
    """Data from noise in many steps: ``(b, *g_noise.shape) -> (b, *g_data.shape)``.

    ``g_data^-1(z_1)`` with ``dz/dt = W(t) z`` and ``z_0 = g_noise(noise)``. Methods: ``"euler"``, ``"midpoint"``,
    ``"rk4"`` (stages nested), ``"magnus2"`` and ``"magnus4"``; :func:`~rectilinear.flow.collapse` folds the same steps.

    Raises:
        ConfigError: if the method, the number of steps or the times are out of range.
        ShapeError: if ``noise`` has another shape.

    Example:
        >>> import torch, rectilinear as rl
        >>> g, W = rl.invertible.VectorFlow(4, 2, 8), rl.operators.ScalarPlusLowRankVelocity(4, 1)
        >>> flow = rl.flow.LinearFlow(g, rl.invertible.Identity((4,)), W)
        >>> sample(flow, torch.randn(3, 4), steps=5).shape
        torch.Size([3, 4])
    """
    check_flow(flow)
    z = integrate(flow.velocity, flow.noise_space.encode(noise), steps, method, t0=t0, t1=t1, end=flow.end)
    return flow.data_space.decode(z)
