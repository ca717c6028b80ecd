"""Whether recovered noise has the law of noise.

Log-likelihoods in the unit that compression counts in.

How well a score tells two samples apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, lgamma, log, sqrt
from typing import NamedTuple

import torch
from scipy.special import kolmogorov
from torch import Tensor

from rectilinear.checks import check_finite, check_floating
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.metrics.generation import check_pair

LEVEL = 0.05


class KolmogorovSmirnov(NamedTuple):
    """Statistic and p-value of each coordinate, ``(d,)``."""

    statistic: Tensor
    p_value: Tensor


@dataclass(frozen=True)
class Normality:
    """The law of samples that should be ``N(0, I)``, each number beside what that law gives.

    Attributes:
        mean: the mean of all values; 0.
        std: their standard deviation; 1.
        mean_norm: the mean length of a sample divided by ``sqrt(d)``; ``expected_mean_norm``, just
            below 1.
        std_norm: the standard deviation of the length; ``expected_std_norm``, about 0.71. None of a
            single sample.
        ks: the median over coordinates of the Kolmogorov-Smirnov distance to ``N(0, 1)``: the size
            of the deviation, about ``0.83 / sqrt(n)`` under the law, and not growing with ``n``
            otherwise.
        ks_worst: the largest of these distances.
        rejected: the share of coordinates with a p-value below 0.05; about 0.05.
        p_value: of the whole, the smallest p-value times ``d`` (Bonferroni), at most 1.
        n: samples.
        dim: coordinates.
    """

    mean: float
    std: float
    mean_norm: float
    expected_mean_norm: float
    std_norm: float | None
    expected_std_norm: float
    ks: float
    ks_worst: float
    rejected: float
    p_value: float
    n: int
    dim: int

    def __str__(self) -> str:
        std_norm = "unknown" if self.std_norm is None else f"{self.std_norm:.3f}"
        return (
            f"mean {self.mean:.3f} (0), std {self.std:.3f} (1), norm / sqrt(d) {self.mean_norm:.3f} "
            f"({self.expected_mean_norm:.3f}), norm std {std_norm} ({self.expected_std_norm:.3f}), "
            f"KS {self.ks:.3f} ({0.83 / sqrt(self.n):.3f}), coordinates rejected {self.rejected:.1%} ({LEVEL:.0%})"
        )


def normality(noise: Tensor) -> Normality:
    """Compare ``noise``, ``(n, ...)`` flattened to ``(n, d)``, with independent standard normal
    values.

    An inversion is worth something only if the noise it recovers could have been drawn: an
    untrained network also returns to the data, through noise of any size.

    Raises:
        ShapeError: if there are fewer than two values.
        NonFiniteError: if a value is NaN or infinite.

    Example:
        >>> report = normality(2 * torch.randn(500, 16, generator=torch.Generator().manual_seed(0)))
        >>> round(report.std), report.rejected, report.p_value < 1e-6
        (2, 1.0, True)
    """
    noise = noise.flatten(1) if noise.ndim > 1 else noise
    statistic, p_value = kolmogorov_smirnov(noise)
    if noise.numel() < 2:
        raise ShapeError("one value of noise", "at least two", "Pass more samples.")
    noise = noise.double()
    n, dim = noise.shape
    norms = noise.norm(dim=1)
    expected = sqrt(2) * exp(
        lgamma((dim + 1) / 2) - lgamma(dim / 2)
    )  # the mean of the chi distribution
    return Normality(
        mean=noise.mean().item(),
        std=noise.std().item(),
        mean_norm=norms.mean().item() / sqrt(dim),
        expected_mean_norm=expected / sqrt(dim),
        std_norm=norms.std().item() if n > 1 else None,
        expected_std_norm=sqrt(max(0.0, dim - expected**2)),
        ks=statistic.median().item(),
        ks_worst=statistic.max().item(),
        rejected=(p_value < LEVEL).double().mean().item(),
        p_value=min(1.0, dim * p_value.min().item()),
        n=n,
        dim=dim,
    )


@torch.no_grad()
def kolmogorov_smirnov(x: Tensor) -> KolmogorovSmirnov:
    """The Kolmogorov-Smirnov test of each column of ``x`` ``(n, d)`` against the standard normal
    law.

    The statistic is ``D = sup |F_n - F|``. The p-value is the limit law's at ``(sqrt(n) + .12 + .11
    / sqrt(n)) D``, off by at most 0.004 where it is below 0.2, and by 0.022 anywhere, from ``n =
    5`` up.

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
    p_value = kolmogorov((sqrt(n) + 0.12 + 0.11 / sqrt(n)) * statistic.cpu().numpy())
    return KolmogorovSmirnov(statistic, torch.as_tensor(p_value).to(statistic))


def bits_per_dimension(log_prob: Tensor, dim: int, levels: int = 256) -> Tensor:
    """Bits that a density costs for each coordinate of quantised data, ``log2(levels) - log_prob /
    (dim log 2)``.

    ``log_prob`` is the natural log-density of data on the unit range, whose neighbouring levels lie
    ``1 / levels`` apart and to which uniform noise of that width was added. A uniform density costs
    ``log2(levels)``.

    Args:
        log_prob: log-densities, any shape.
        dim: coordinates of one sample.
        levels: steps of quantisation on the unit range, 256 for bytes divided by 256.

    Returns:
        Bits per dimension, the shape of ``log_prob``.

    Raises:
        ConfigError: if ``dim`` or ``levels`` is below 1.
        NonFiniteError: if a log-density is NaN or infinite.

    Reference: L. Theis, A. van den Oord, M. Bethge, A note on the evaluation of generative models,
    ICLR 2016.

    Example:
        >>> import torch
        >>> bits_per_dimension(torch.zeros(2), dim=784)
        tensor([8., 8.])
    """
    check_floating(log_prob, "log_prob")
    check_finite(log_prob, "log_prob")
    if dim < 1 or levels < 1:
        raise ConfigError(f"dim = {dim}, levels = {levels}", "at least 1 each", "Correct it.")
    return log(levels, 2) - log_prob / (dim * log(2))


class ROC(NamedTuple):
    """Shares of false and of true alarms at every threshold, ``(k,)`` from 0 to 1, and the area
    under their curve.
    """

    false: Tensor
    true: Tensor
    area: float


def roc(usual: Tensor, strange: Tensor) -> ROC:
    """The receiver operating characteristic of a score that should be larger for what is strange.

    The area is the probability that a strange sample scores above a usual one, ties counted half.

    Args:
        usual: scores ``(n,)``.
        strange: scores ``(m,)``.

    Raises:
        ShapeError: if there are no scores, or they are not vectors.
        NonFiniteError: if a score is NaN or infinite.

    Example:
        >>> roc(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0])).area
        0.875
    """
    for name, scores in (("usual", usual), ("strange", strange)):
        if scores.ndim != 1 or not len(scores):
            raise ShapeError(
                f"{name} scores of shape {tuple(scores.shape)}",
                "a vector, not empty",
                "Flatten them.",
            )
        check_finite(scores, f"{name} scores")
    scores = torch.cat([usual, strange])
    is_strange = torch.cat([torch.zeros_like(usual), torch.ones_like(strange)]).double()
    values, order = scores.sort(descending=True)
    last = torch.cat(
        [values[1:] != values[:-1], values.new_ones(1, dtype=torch.bool)]
    )  # of equal scores
    true = is_strange[order].cumsum(0)[last] / len(strange)
    false = (1 - is_strange[order]).cumsum(0)[last] / len(usual)
    true, false = (torch.cat([x.new_zeros(1), x]) for x in (true, false))
    return ROC(false, true, torch.trapezoid(true, false).item())
