"""Back from data to noise, and whether what is found there is noise.

The exact density of a one-step model: log-likelihood, bits per dimension, and a step along the
score.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from rectilinear.checks import check_batch, check_floating, whole
from rectilinear.errors import ConfigError, DtypeError, ShapeError
from rectilinear.flow.collapse import collapse
from rectilinear.flow.generator import LinearFlow
from rectilinear.linearizer import Linearizer
from rectilinear.metrics import Normality, normality
from rectilinear.metrics import bits_per_dimension as bits_of
from rectilinear.operators import pinv


def invert(f: LinearFlow | Linearizer, x: Tensor, steps: int = 100, method: str = "rk4") -> Tensor:
    """The noise that ``f`` maps to ``x``: ``g_noise^-1(B^+ g_data(x))``, ``(b, *g_data.shape) ->
    (b, *g_noise.shape)``.

    Exact where ``B`` has an inverse; elsewhere the shortest noise (in the latents) of the nearest
    point in the range. A
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

    ``noise`` ``(b, *g_noise.shape)``, ``reconstruction`` ``(b, *g_data.shape)``, ``error`` the
    largest absolute difference from the data, and ``law`` that of the noise beside ``N(0, I)``.
    """

    noise: Tensor
    reconstruction: Tensor
    error: float
    law: Normality


@torch.no_grad()
def inversion(
    f: LinearFlow | Linearizer, x: Tensor, steps: int = 100, method: str = "rk4"
) -> Inversion:
    """Invert ``x`` and report what an inversion is worth: the way back, and the law of the noise.

    The reconstruction alone says nothing: an untrained network returns to the data as well, through
    noise of any size.

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
    """``n`` points from ``x_a`` to ``x_b`` through the noise: ``(b, *shape)`` twice to ``(n, b,
    *shape)``.

    ``f((1 - t) (.) f^+(x_a) (+) t (.) f^+(x_b))`` at ``n`` equal times; by linearity, where ``B``
    has an inverse, it is the segment in the space of the data. ``spherical`` takes the arc of noise
    instead, whose length stays that of noise half-way. The ends are ``x_a`` and ``x_b`` projected
    onto the range.

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
        raise ShapeError(
            f"{len(x_a)} points and {len(x_b)} points",
            "as many starts as ends",
            "Repeat the fewer.",
        )
    times = torch.linspace(0, 1, n, dtype=x_a.dtype, device=x_a.device)
    noise = f.in_space.interpolate(back(x_a), back(x_b), times, spherical)
    return f(noise.flatten(0, 1)).unflatten(0, noise.shape[:2])


def one_step(f: LinearFlow | Linearizer, steps: int = 100, method: str = "rk4") -> Linearizer:
    """A flow collapsed; a Linearizer as it is."""
    return f if isinstance(f, Linearizer) else collapse(f, steps, method)


def bits_per_dimension(
    f: Linearizer, x: Tensor, levels: int = 255, generator: torch.Generator | None = None
) -> Tensor:
    """Bits that the density of ``f`` costs for each coordinate of quantised data ``x``, ``(b,
    *shape) -> (b,)``.

    ``x`` holds multiples of ``1 / levels`` (bytes divided by 255); uniform noise of that width is
    added, so that the mean bounds the cost of a lossless code from above.

    Raises:
        SingularOperatorError: if the operator of ``f`` has no inverse, and ``f`` so no density.

    Reference: L. Theis, A. van den Oord, M. Bethge, A note on the evaluation of generative models,
    ICLR 2016.

    Example:
        >>> import rectilinear as rl
        >>> f = rl.Linearizer(rl.invertible.Identity((4,)), rl.operators.Diagonal(torch.ones(4)))
        >>> bits_per_dimension(f, torch.zeros(2, 4)).round().tolist()  # log2 of 255 sqrt(2 pi)
        [9.0, 9.0]
    """
    _check_density(f, x)
    width = torch.rand(x.shape, dtype=x.dtype, device=x.device, generator=generator) - 0.5
    return bits_of(f.log_prob(x + width / levels), f.out_space.dim, levels)


def denoise(f: Linearizer, x: Tensor, sigma: float) -> Tensor:
    """The mean of clean data given noisy ``x``: one step along the score, ``x + sigma^2 grad log
    p(x)``.

    Exact (Tweedie's formula) where ``p``, the density of ``f``, is that of data with added noise
    ``N(0, sigma^2)``, as under the likelihood objective. The result carries no gradient.

    Raises:
        ConfigError: if ``sigma`` is negative.
        SingularOperatorError: if the operator of ``f`` has no inverse, and ``f`` so no density.

    Reference: B. Efron, Tweedie's formula and selection bias, JASA 106, 2011; TarFlow, arXiv
    2412.06329.

    Example:
        >>> import rectilinear as rl
        >>> f = rl.Linearizer(rl.invertible.Identity((2,)), rl.operators.Diagonal(torch.full((2,), 2.0)))
        >>> denoise(f, torch.ones(1, 2), sigma=1.0)  # the prior N(0, 3) for clean data shrinks by 3 / 4
        tensor([[0.7500, 0.7500]])
    """
    _check_density(f, x)
    if not 0 <= sigma < inf:
        raise ConfigError(f"sigma={sigma}", "a standard deviation of at least 0")
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (score,) = torch.autograd.grad(f.log_prob(x).sum(), x)
    return x.detach() + sigma**2 * score


def _check_density(f: Linearizer, x: Tensor) -> None:
    if not isinstance(f, Linearizer):
        raise DtypeError(
            f"a density of a {type(f).__name__}", "a Linearizer", "Collapse a flow first."
        )
    check_floating(x, "x")
