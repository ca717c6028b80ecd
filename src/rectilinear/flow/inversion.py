"""From data back to noise: inversion, interpolation, and the code length of the exact density.

``f^+ = g_noise^-1 B^+ g_data`` inverts a one-step generator ``f = g_data^-1 B g_noise``. Any
invertible network reconstructs data from its noise; a good generator's noise also has the
distribution ``N(0, I)``, so :func:`inversion` tests both.
"""

from __future__ import annotations

from copy import deepcopy
from math import log
from typing import NamedTuple

import torch
from torch import Tensor

from rectilinear.checks import check_batch, check_finite, whole
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.flow.generator import LinearFlow, check_density, collapse
from rectilinear.linearizer import Linearizer
from rectilinear.metrics import Normality, normality
from rectilinear.operators import pinv


def invert(f: LinearFlow | Linearizer, x: Tensor, steps: int = 100, method: str = "rk4") -> Tensor:
    """The noise ``(b, *g_noise.shape)`` that ``f`` maps to ``x``: ``g_noise^-1(B^+ g_data(x))``.

    Exact where ``B`` has an inverse; elsewhere the noise of least norm (in the latents) of the
    nearest point in the range.

    Args:
        f: a one-step generator, or a flow, which is collapsed first: collapse it once for several
            batches.
        x: data, ``(b, *g_data.shape)``.
        steps: steps that a flow is collapsed from.
        method: their integrator.

    Example:
        >>> import rectilinear as rl
        >>> A = rl.operators.Diagonal(torch.tensor([2.0, 4.0]))
        >>> f = rl.Linearizer(rl.invertible.Identity((2,)), A)
        >>> invert(f, torch.tensor([[2.0, 2.0]])).tolist()
        [[1.0, 0.5]]
    """
    return pinv(one_step(f, steps, method))(x)


class Inversion(NamedTuple):
    """Data taken to noise and back: noise, reconstruction, error, and a test of the noise.

    ``noise`` ``(b, *g_noise.shape)`` in float64, ``reconstruction`` ``(b, *g_data.shape)``,
    ``error`` the largest absolute difference from the data, ``normality`` the test of the noise
    against ``N(0, I)``. ``rounded_error`` is the error where the model and the noise have the dtype
    of the data: that of ``f(invert(f, x))``.
    """

    noise: Tensor
    reconstruction: Tensor
    error: float
    normality: Normality
    rounded_error: float


@torch.no_grad()
def inversion(
    f: LinearFlow | Linearizer, x: Tensor, steps: int = 100, method: str = "rk4"
) -> Inversion:
    """The noise of ``x``, its reconstruction, and a test of the noise against ``N(0, I)``.

    Computed in float64 whatever the dtype of ``f``. Between the components of a mixture density a
    large step of the data is a tiny one of the noise, so that rounding the noise to float32 moves
    such data: ``rounded_error`` says how far. (Devices without float64 compute in their own dtype.)

    The reconstruction alone says nothing: an untrained network returns to the data as well, through
    noise of any size.

    Args:
        f: a one-step generator, or a flow, which is collapsed first.
        x: data, ``(b, *g_data.shape)``.
        steps: steps that a flow is collapsed from.
        method: their integrator.

    Example:
        >>> import rectilinear as rl
        >>> A = rl.operators.Diagonal(torch.full((2,), 3.0))
        >>> f = rl.Linearizer(rl.invertible.Identity((2,)), A)
        >>> result = inversion(f, torch.randn(100, 2, generator=torch.Generator().manual_seed(0)))
        >>> result.error < 1e-12, round(result.normality.std, 1)  # exact, but of noise too small
        (True, 0.3)
    """
    f = one_step(f, steps, method)
    check_batch(x, f.g_out.shape, "x")
    noise = pinv(f)(x)
    again = f(noise)
    error = rounded = float((again - x).abs().max())
    if x.dtype != torch.float64 and x.device.type != "mps":
        exact, data = deepcopy(f).double(), x.double()
        noise = pinv(exact)(data)
        again = exact(noise)
        error = float((again - data).abs().max())
    return Inversion(noise, again.to(x.dtype), error, normality(noise), rounded)


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
    """``n`` points from each of ``x_a`` to its partner in ``x_b``, through the noise.

    ``f((1 - t) (.) f^+(x_a) (+) t (.) f^+(x_b))`` at ``n`` equally spaced times ``t``. Where ``B``
    has an inverse this is the straight segment in the space of the data, by linearity. The ends are
    ``x_a`` and ``x_b`` projected onto the range.

    Args:
        f: a one-step generator, or a flow, which is collapsed first.
        x_a: first ends, ``(b, *g_data.shape)``.
        x_b: last ends, as many.
        n: number of points, the ends included.
        spherical: follow the arc between the noises, which keeps their norm, instead of the
            segment.
        steps: steps that a flow is collapsed from.
        method: their integrator.

    Returns:
        ``(n, b, *g_data.shape)``.

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
    """Bits for each coordinate of quantised data under the density of ``f``, ``(b,)``.

    ``log2(levels) - log p(x + u) / (dim log 2)`` with ``u`` uniform noise of width ``1 / levels``,
    so that the mean bounds the cost of a lossless code from above.

    Args:
        f: a one-step generator.
        x: multiples of ``1 / levels``, such as bytes divided by 255: ``(b, *shape)``.
        levels: steps of the quantisation on the unit range.
        generator: of the uniform noise; torch's own by default.

    Raises:
        ConfigError: if ``levels`` is below 1.
        NonFiniteError: if a log-density is NaN or infinite.
        SingularOperatorError: if the operator of ``f`` has no inverse, and ``f`` so no density.

    Reference: L. Theis, A. van den Oord, M. Bethge, A note on the evaluation of generative models,
    ICLR 2016.

    Example:
        >>> import rectilinear as rl
        >>> f = rl.Linearizer(rl.invertible.Identity((4,)), rl.operators.Diagonal(torch.ones(4)))
        >>> bits_per_dimension(f, torch.zeros(2, 4)).round().tolist()  # log2 of 255 sqrt(2 pi)
        [9.0, 9.0]
    """
    check_density(f, x)
    if levels < 1:
        raise ConfigError(f"levels = {levels}", "at least 1", "256 for bytes divided by 256.")
    width = torch.rand(x.shape, dtype=x.dtype, device=x.device, generator=generator) - 0.5
    log_prob = f.log_prob(x + width / levels)
    check_finite(log_prob, "log_prob")
    return log(levels, 2) - log_prob / (f.out_space.dim * log(2))
