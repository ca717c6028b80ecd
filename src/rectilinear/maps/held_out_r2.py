"""R² of affine maps on held-out samples, with bootstrap intervals over samples."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from rectilinear.networks.sample_split import sums_by_sample
from rectilinear.random import resampled, stream

BOOTSTRAPS = 1000
CONFIDENCE = 0.95
NOTHING = 1e-12  # share of the squares that rounding leaves
ROWS_A_DIRECTION = 10  # rows for each direction that are enough for least squares
GAP = 0.05  # of R² between fitted and held-out rows, from which on it is worth a word


@dataclass(frozen=True)
class Affine:
    """``y = weight (x - mean_x) + mean_y``, in float64."""

    weight: Tensor
    mean_x: Tensor
    mean_y: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The prediction for rows ``(n, D)``."""
        return (x.double() - self.mean_x) @ self.weight.mT + self.mean_y

    @property
    def bias(self) -> Tensor:
        """``(O,)``."""
        return self.mean_y - self.weight @ self.mean_x


@dataclass
class Variation:
    """Variation of targets: number, sum and sum of squares of each sample, about ``centre``."""

    centre: Tensor
    counts: list[Tensor] = field(default_factory=list)
    sums: list[Tensor] = field(default_factory=list)
    squares: list[Tensor] = field(default_factory=list)

    def add(self, y: Tensor, samples: Tensor, count: int) -> None:
        """Add rows of ``count`` samples."""
        d = y.double() - self.centre
        self.counts.append(sums_by_sample(torch.ones_like(d[:, 0]), samples, count))
        self.sums.append(sums_by_sample(d, samples, count))
        self.squares.append(sums_by_sample(d.square().sum(1), samples, count))

    def totals(self) -> Tensor:
        """The sum of squares of each sample around the overall mean, ``(n,)``."""
        counts, sums, squares = (torch.cat(t) for t in (self.counts, self.sums, self.squares))
        mean = sums.sum(0) / counts.sum()
        return squares - 2 * sums @ mean + counts * mean.square().sum()


@dataclass
class Gram:
    """Products of centred held-out rows, which give the error of any map."""

    xx: Tensor
    xy: Tensor
    yy: float = 0.0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add centred rows."""
        self.xx += x.mT @ x
        self.xy += x.mT @ y
        self.yy += float(y.square().sum())

    def left(self, weight: Tensor) -> float:
        """The sum of squared residuals of ``weight`` ``(O, D)``."""
        return (
            self.yy
            - 2 * float((weight.mT * self.xy).sum())
            + float(((weight @ self.xx) * weight).sum())
        )


class Judged:
    """The maps from one source, and their residuals on the held-out samples."""

    def __init__(self, maps: dict[str, Affine], mean_x: Tensor, mean_y: Tensor) -> None:
        self.maps = maps
        self.mean_x, self.mean_y = mean_x, mean_y
        self.same = len(mean_x) == len(mean_y)  # numbers on both sides: a residual stream
        self.target = Variation(mean_y)
        self.update = Variation(mean_y - mean_x) if self.same else None
        self.gram = Gram(mean_x.new_zeros(len(mean_x), len(mean_x)), torch.zeros(0))
        self.gram.xy = mean_x.new_zeros(len(mean_x), len(mean_y))
        self._left: dict[str, list[Tensor]] = {name: [] for name in self.names}
        self._left_each: dict[str, Tensor | float] = dict.fromkeys(self.names, 0.0)
        self._sums: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0
        self.rows = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the maps and of the baselines."""
        return (*self.maps, *(("identity",) if self.same else ()), "mean")

    def add(self, x: Tensor, y: Tensor, samples: Tensor, count: int) -> None:
        """Add rows of ``count`` held-out samples."""
        x, y = x.double(), y.double()
        self.target.add(y, samples, count)
        if self.update is not None:
            self.update.add(y - x, samples, count)
        self.gram.add(x - self.mean_x, y - self.mean_y)
        self.rows += len(y)
        self._sums = self._sums + (y - self.mean_y).sum(0)
        self._squares = self._squares + (y - self.mean_y).square().sum(0)
        for name in self.names:
            if name == "identity":
                made = x - self.mean_x + self.mean_y
            else:
                made = self.maps[name](x) if name in self.maps else self.mean_y.expand_as(y)
            left = (y - made).square()
            self._left[name].append(sums_by_sample(left.sum(1), samples, count))
            self._left_each[name] = self._left_each[name] + left.sum(0)

    @property
    def samples(self) -> int:
        """The number of held-out samples."""
        return sum(map(len, self.target.counts))

    def r2(self, name: str) -> float:
        """The share of the target's variance that a map explains."""
        return self._share(name, self.target)

    def each_r2(self, name: str) -> float:
        """The mean over the numbers of the target of the share of each that a map explains.

        Numbers that do not vary are left out.
        """
        total = torch.as_tensor(self._squares - self._sums**2 / max(self.rows, 1))
        varies = total > NOTHING * torch.as_tensor(self._squares)
        shares = 1 - torch.as_tensor(self._left_each[name])[varies] / total[varies]
        return float(shares.mean()) if len(shares) else float("nan")

    def update_r2(self, name: str) -> float | None:
        """The share of the variance of ``y - x`` that a map explains; None if the shapes differ."""
        return None if self.update is None else self._share(name, self.update)

    def r2_of(self, weight: Tensor) -> float:
        """The share of variance that another matrix explains, with the constant of the means."""
        total = float(self.target.totals().sum())
        return 1 - self.gram.left(weight) / total if total > 0 else float("nan")

    def interval(self, name: str, seed: int) -> tuple[float, float] | None:
        """The 95 % bootstrap interval of ``r2`` over samples; None with fewer than two."""
        n = self.samples
        if n < 2:
            return None
        left = torch.cat(self._left[name])
        weights = resampled(n, BOOTSTRAPS, stream(seed, "held-out samples")).to(left)
        shares = 1 - (weights @ left) / (weights @ self.target.totals())
        edge = torch.tensor([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], dtype=torch.float64)
        low, high = torch.quantile(shares.cpu(), edge).tolist()
        return low, high

    def _share(self, name: str, variation: Variation) -> float:
        total = float(variation.totals().sum())
        left = float(torch.cat(self._left[name]).sum())
        return 1 - left / total if total > 0 else float("nan")


def too_few(rows: int, rank: int, r2: float, fitted_r2: float) -> bool:
    """True if a least-squares map explains its own rows much better than others, for want of rows.

    Example:
        >>> too_few(90, 89, -9.3, 1.0), too_few(90, 89, 0.99, 1.0), too_few(9000, 89, 0.4, 0.5)
        (True, False, False)
    """
    return rows < ROWS_A_DIRECTION * rank and not fitted_r2 - r2 < GAP


def few_rows_text(rows: int, columns: int, r2: float, fitted_r2: float) -> str:
    """The sentence about too few rows.

    Example:
        >>> few_rows_text(90, 2048, -0.1, 1.0)
        '90 rows of 2,048 numbers are too few to tell: the best map explains 0 to 1'
    """
    low, high = (float(f"{value:.3f}") for value in (max(r2, 0.0), min(fitted_r2, 1.0)))
    return (
        f"{rows:,} rows of {columns:,} numbers are too few to tell: the best map explains "
        f"{low:g} to {high:g}"
    )
