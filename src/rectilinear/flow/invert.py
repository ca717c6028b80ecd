"""Back from data to noise, and whether what is found there is noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from rectilinear._shapes import check_batch, whole
from rectilinear.errors import ShapeError
from rectilinear.flow.collapse import collapse
from rectilinear.linearizer import Linearizer
from rectilinear.metrics import Normality, normality
from rectilinear.operators import pinv

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear.flow.model import LinearFlow


def invert(f: LinearFlow | Linearizer, x: Tensor, steps: int = 100, method: str = "rk4") -> Tensor:
    """The noise that ``f`` maps to ``x``: ``g_noise^-1(B^+ g_data(x))``, ``(b, *g_data.shape) -> (b, *g_noise.shape)``.

    Exact where ``B`` has an inverse; elsewhere the shortest noise (in the latents) of the nearest point in the range. A
    flow is collapsed first: collapse it once where several batches follow.

    Example:
        >>> import rectilinear as rl
        >>> f = rl.Linearizer(rl.invertible.Identity((2,)), rl.operators.Diagonal(torch.tensor([2.0, 4.0])))
        >>> invert(f, torch.tensor([[2.0, 2.0]])).tolist()
        [[1.0, 0.5]]
    """
    return pinv(one_step(f, steps, method))(x)


class Inversion(NamedTuple):
    """Data taken back to noise and forth again.

    ``noise`` ``(b, *g_noise.shape)``, ``reconstruction`` ``(b, *g_data.shape)``, ``error`` the largest absolute
    difference from the data, and ``law`` that of the noise beside ``N(0, I)``.
    """

    noise: Tensor
    reconstruction: Tensor
    error: float
    law: Normality


@torch.no_grad()
def inversion(f: LinearFlow | Linearizer, x: Tensor, steps: int = 100, method: str = "rk4") -> Inversion:
    """Invert ``x`` and report what an inversion is worth: the way back, and the law of the noise.

    The reconstruction alone says nothing: an untrained network returns to the data as well, through noise of any size.

    Example:
        >>> import rectilinear as rl
        >>> f = rl.Linearizer(rl.invertible.Identity((2,)), rl.operators.Diagonal(torch.full((2,), 3.0)))
        >>> result = inversion(f, torch.randn(100, 2, generator=torch.Generator().manual_seed(0)))
        >>> result.error < 1e-6, round(result.law.std, 1)  # reconstructed, but from noise that is none
        (True, 0.3)
    """
    f = one_step(f, steps, method)
    check_batch(x, f.g_out.shape, "x")
    noise = pinv(f)(x)
    again = f(noise)
    return Inversion(noise, again, float((again - x).abs().max()), normality(noise))


def interpolate(
    f: LinearFlow | Linearizer,
    x_a: Tensor,
    x_b: Tensor,
    n: int = 8,
    *,
    spherical: bool = False,
    steps: int = 100,
    method: str = "rk4",
) -> Tensor:
    """``n`` points from ``x_a`` to ``x_b`` through the noise: ``(b, *shape)`` twice to ``(n, b, *shape)``.

    ``f((1 - t) (.) f^+(x_a) (+) t (.) f^+(x_b))`` at ``n`` equal times; by linearity, where ``B`` has an inverse, it
    is the segment in the space of the data. ``spherical`` takes the arc of noise instead, whose length stays that of
    noise half-way. The ends are ``x_a`` and ``x_b`` projected onto the range.

    Example:
        >>> import rectilinear as rl
        >>> f = rl.Linearizer(rl.invertible.Identity((1,)), rl.operators.Diagonal(torch.ones(1)))
        >>> interpolate(f, torch.zeros(1, 1), torch.ones(1, 1), n=3).flatten().tolist()
        [0.0, 0.5, 1.0]
    """
    f = one_step(f, steps, method)
    back, n = pinv(f), whole(n, "n", 1)
    for x in (x_a, x_b):
        check_batch(x, f.g_out.shape, "x")
    if len(x_a) != len(x_b):
        raise ShapeError(f"{len(x_a)} points and {len(x_b)} points", "as many starts as ends", "Repeat the fewer.")
    times = torch.linspace(0, 1, n, dtype=x_a.dtype, device=x_a.device)
    noise = f.in_space.interpolate(back(x_a), back(x_b), times, spherical)
    return f(noise.flatten(0, 1)).unflatten(0, noise.shape[:2])


def one_step(f: LinearFlow | Linearizer, steps: int = 100, method: str = "rk4") -> Linearizer:
    """A flow collapsed; a Linearizer as it is."""
    return f if isinstance(f, Linearizer) else collapse(f, steps, method)
