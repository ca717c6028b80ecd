"""The exact density of a one-step model: log-likelihood, bits per dimension, and a step along the score."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import torch

from rectilinear._shapes import check_floating
from rectilinear.errors import ConfigError, DtypeError
from rectilinear.linearizer import Linearizer
from rectilinear.metrics import bits_per_dimension as bits_of

if TYPE_CHECKING:
    from torch import Tensor


def bits_per_dimension(f: Linearizer, x: Tensor, levels: int = 255, generator: torch.Generator | None = None) -> Tensor:
    """Bits that the density of ``f`` costs for each coordinate of quantised data ``x``, ``(b, *shape) -> (b,)``.

    ``x`` holds multiples of ``1 / levels`` (bytes divided by 255); uniform noise of that width is added, so that the
    mean bounds the cost of a lossless code from above.

    Raises:
        SingularOperatorError: if the operator of ``f`` has no inverse, and ``f`` so no density.

    Reference: L. Theis, A. van den Oord, M. Bethge, A note on the evaluation of generative models, ICLR 2016.

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
    """The mean of clean data given noisy ``x``: one step along the score, ``x + sigma^2 grad log p(x)``.

    Exact (Tweedie's formula) where ``p``, the density of ``f``, is that of data with added noise ``N(0, sigma^2)``, as
    under the likelihood objective. The result carries no gradient.

    Raises:
        ConfigError: if ``sigma`` is negative.
        SingularOperatorError: if the operator of ``f`` has no inverse, and ``f`` so no density.

    Reference: B. Efron, Tweedie's formula and selection bias, JASA 106, 2011; TarFlow, arXiv 2412.06329.

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
        raise DtypeError(f"a density of a {type(f).__name__}", "a Linearizer", "Collapse a flow first.")
    check_floating(x, "x")
