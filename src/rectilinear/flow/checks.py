"""Two numbers that show that a flow folds: many steps against one, and times that compose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rectilinear.errors import ConfigError, ShapeError
from rectilinear.flow.collapse import propagate
from rectilinear.flow.integrate import integrate
from rectilinear.flow.model import LinearFlow, check_flow

if TYPE_CHECKING:
    from torch import Tensor


@torch.no_grad()
def equality(flow: LinearFlow, noise: Tensor, steps: int = 100, method: str = "rk4") -> float:
    """The largest relative difference, in the latents, between the collapsed operator and the steps it folds.

    ``max_i |B z_i - z_i(1)| / |z_i(1)|`` over the batch, with ``z = g_noise(noise)``.

    Example:
        >>> import rectilinear as rl
        >>> g = rl.invertible.Identity((8,))
        >>> flow = rl.flow.LinearFlow(g, g, rl.operators.ChebyshevVelocity(8, rank=1))
        >>> equality(flow, torch.randn(5, 8)) < 1e-5
        True
    """
    check_flow(flow)
    z = flow.noise_space.encode(noise)
    one = propagate(flow.velocity, steps, method, end=flow.end).operator(z)
    many = integrate(flow.velocity, z, steps, method, end=flow.end)
    return _relative(one, many)


@torch.no_grad()
def chapman_kolmogorov(flow: LinearFlow, noise: Tensor, s: float = 0.5, steps: int = 100, method: str = "rk4") -> float:
    """The largest relative difference, in the latents, between ``B(0, 1)`` and ``B(s, 1) B(0, s)``.

    Zero to rounding where the steps of both are the same: ``s`` a multiple of ``1 / steps``, and not a Magnus method on
    a family singular at one; elsewhere to the accuracy of the method.

    Raises:
        ConfigError: if ``s`` leaves no step on one of its sides.

    Example:
        >>> import rectilinear as rl
        >>> g = rl.invertible.Identity((8,))
        >>> flow = rl.flow.LinearFlow(g, g, rl.operators.ChebyshevVelocity(8, rank=1))
        >>> chapman_kolmogorov(flow, torch.randn(5, 8), s=0.25) < 1e-5
        True
    """
    check_flow(flow)
    if not (0 < s < 1 and 0 < (early := round(steps * s)) < steps):
        raise ConfigError(f"s={s} with {steps} steps", "a time with steps before and after it")
    end = 1 / steps if flow.end is None else flow.end
    z = flow.noise_space.encode(noise)

    def carry(z: Tensor, steps: int, t0: float, t1: float) -> Tensor:
        return propagate(flow.velocity, steps, method, t0=t0, t1=t1, end=end).operator(z)

    whole = carry(z, steps, 0.0, 1.0)
    parts = carry(carry(z, early, 0.0, s), steps - early, s, 1.0)
    return _relative(parts, whole)


def _relative(a: Tensor, b: Tensor) -> float:
    """The largest relative difference of rows; two rows of zeros do not differ."""
    if not len(b):
        raise ShapeError("noise with no rows", "at least one", "Pass noise that is not empty.")
    size = b.norm(dim=-1)
    return float(((a - b).norm(dim=-1) / size).masked_fill((size == 0) & (a == b).all(-1), 0.0).max())
