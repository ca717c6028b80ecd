"""Tests of recovered noise against ``N(0, I)``: moments, norms, Kolmogorov-Smirnov."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, lgamma, sqrt
from typing import NamedTuple

import torch
from scipy.special import kolmogorov
from torch import Tensor

from rectilinear.checks import check_floating
from rectilinear.errors import ShapeError
from rectilinear.metrics.generation import check_pair

SIGNIFICANCE_LEVEL = 0.05  # below which a p-value counts as a rejection
ACCURATE_N = 5  # samples from which the p-values are accurate


class KolmogorovSmirnov(NamedTuple):
    """Statistic and p-value of each coordinate, ``(d,)``."""

    statistic: Tensor
    p_value: Tensor


@dataclass(frozen=True)
class Normality:
    """Statistics of samples that should be ``N(0, I)``, each beside the value that ``N(0, I)`` has.

    Attributes:
        mean: the mean of all values; 0.
        std: their standard deviation; 1.
        mean_norm: the mean length of a sample divided by ``sqrt(d)``; ``expected_mean_norm``, just
            below 1.
        std_norm: the standard deviation of the length; ``expected_std_norm``, about 0.71. None of a
            single sample.
        ks: the median over coordinates of the Kolmogorov-Smirnov distance to ``N(0, 1)``: the size
            of the deviation, about ``0.83 / sqrt(n)`` for ``N(0, I)``, and independent of ``n``
            otherwise.
        ks_worst: the largest of these distances.
        rejected: the share of coordinates with a p-value below 0.05; about 0.05. None of fewer than
            5 samples, where p-values are not accurate.
        p_value: of the whole, the smallest p-value times ``d`` (Bonferroni), at most 1. None of
            fewer than ``least_n`` samples, which no values, however far off, would reject.
        n: samples.
        dim: coordinates.
        least_n: the samples that ``p_value`` needs.
    """

    mean: float
    std: float
    mean_norm: float
    expected_mean_norm: float
    std_norm: float | None
    expected_std_norm: float
    ks: float
    ks_worst: float
    rejected: float | None
    p_value: float | None
    n: int
    dim: int
    least_n: int

    def __str__(self) -> str:
        std_norm = "unknown" if self.std_norm is None else f"{self.std_norm:.3f}"
        rejected = "unknown" if self.rejected is None else f"{self.rejected:.1%}"
        return (
            f"mean {self.mean:.3f} (0), std {self.std:.3f} (1), norm / sqrt(d) "
            f"{self.mean_norm:.3f} ({self.expected_mean_norm:.3f}), norm std {std_norm} "
            f"({self.expected_std_norm:.3f}), KS {self.ks:.3f} ({0.83 / sqrt(self.n):.3f}), "
            f"coordinates rejected {rejected} ({SIGNIFICANCE_LEVEL:.0%})"
        )


def normality(noise: Tensor) -> Normality:
    """Statistics of ``noise`` beside those of independent standard normal values.

    An untrained network also reconstructs the data, but through noise of another distribution.

    Args:
        noise: ``(n, ...)``, flattened to ``(n, d)``.

    Raises:
        ShapeError: if there are fewer than two values.
        NonFiniteError: if a value is NaN or infinite.

    Example:
        >>> report = normality(2 * torch.randn(500, 16, generator=torch.Generator().manual_seed(0)))
        >>> round(report.std), report.rejected, report.p_value < 1e-6
        (2, 1.0, True)
    """
    check_floating(noise, "noise")
    noise = noise.flatten(1) if noise.ndim > 1 else noise
    statistic, p_value = kolmogorov_smirnov(noise)
    if noise.numel() < 2:
        raise ShapeError("one value of noise", "at least two", "Pass more samples.")
    noise = noise.double()
    n, dim = noise.shape
    norms = noise.norm(dim=1)
    least = _least_n(dim)
    expected = sqrt(2) * exp(lgamma((dim + 1) / 2) - lgamma(dim / 2))  # mean of a chi variable
    return Normality(
        mean=noise.mean().item(),
        std=noise.std().item(),
        mean_norm=norms.mean().item() / sqrt(dim),
        expected_mean_norm=expected / sqrt(dim),
        std_norm=norms.std().item() if n > 1 else None,
        expected_std_norm=sqrt(max(0.0, dim - expected**2)),
        ks=statistic.median().item(),
        ks_worst=statistic.max().item(),
        rejected=(p_value < SIGNIFICANCE_LEVEL).double().mean().item() if n >= ACCURATE_N else None,
        p_value=min(1.0, dim * p_value.min().item()) if n >= least else None,
        n=n,
        dim=dim,
        least_n=least,
    )


def _least_n(dim: int) -> int:
    """The least number of samples of which values infinitely far off would be rejected.

    Example:
        >>> _least_n(1), _least_n(784), _least_n(12288)
        (5, 5, 6)
    """
    n = ACCURATE_N
    while dim * float(kolmogorov(_scaled(n))) >= SIGNIFICANCE_LEVEL:
        n += 1
    return n


def _scaled(n: int) -> float:
    """The factor of the statistic in the limit distribution."""
    return sqrt(n) + 0.12 + 0.11 / sqrt(n)


@torch.no_grad()
def kolmogorov_smirnov(x: Tensor) -> KolmogorovSmirnov:
    """The Kolmogorov-Smirnov test of each column of ``x``, ``(n, d)``, against ``N(0, 1)``.

    The statistic is ``D = sup |F_n - F|``. The p-value is that of the limit distribution at
    ``(sqrt(n) + .12 + .11 / sqrt(n)) D``, off by at most 0.004 where it is below 0.2, and by 0.022
    anywhere, from ``n = 5`` up.

    Raises:
        ShapeError: if ``x`` is not ``(n, d)``.
        NonFiniteError: if a value is NaN or infinite.

    Reference: M. A. Stephens, EDF statistics for goodness of fit, JASA 69, 1974.

    Example:
        >>> kolmogorov_smirnov(torch.zeros(1, 1, dtype=torch.float64)).statistic
        tensor([0.5000], dtype=torch.float64)
    """
    check_pair(x, x)
    n = len(x)
    cdf = torch.special.ndtr(x.double().sort(dim=0).values)
    step = torch.arange(n + 1, device=x.device, dtype=cdf.dtype)[:, None] / n
    statistic = torch.maximum(step[1:] - cdf, cdf - step[:-1]).amax(0)
    p_value = kolmogorov(_scaled(n) * statistic.cpu().numpy())
    return KolmogorovSmirnov(statistic, torch.as_tensor(p_value).to(statistic))
