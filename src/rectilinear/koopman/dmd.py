"""The linear baseline: dynamic mode decomposition, with delays where asked."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor

from rectilinear import numerics
from rectilinear.checks import check_batch, check_finite, is_count
from rectilinear.errors import ConfigError, DataError, NotInitializedError
from rectilinear.koopman.series import (
    as_series,
    embed,
    moments,
    numbers,
    refuse_targets,
    warn_short,
)


class DMD(BaseEstimator):
    """Dynamic mode decomposition ``x_{t+1} = A x_t + b`` in least squares, on states of ``delays``
    observations.

    Args:
        delays: observations in a state, newest first.
        rank: dimensions kept by a truncated SVD of the states; none keeps all.

    Attributes (after :meth:`fit`):
        operator_: ``A`` and ``b`` on rows, ``(1 + delays d, delays d)``.
        eigenvalues_: of ``A``, complex.

    Reference: Tu et al., "On dynamic mode decomposition: theory and applications" (2014).

    Example:
        >>> from rectilinear.datasets import linear_eigenvalues, simulate
        >>> model = DMD().fit(simulate("linear", count=10, steps=50).states)
        >>> bool(abs(sorted(model.eigenvalues_.imag)[-1] - linear_eigenvalues().mul(0.1).exp().imag.max()) < 1e-6)
        True
    """

    def __init__(self, delays: int = 1, rank: int | None = None) -> None:
        self.delays, self.rank = delays, rank

    def fit(self, X: Any, y: object = None) -> Self:
        """Fit on series, given as to :func:`~rectilinear.koopman.as_series`, with equal steps."""
        for name, value in (
            ("delays", self.delays),
            ("rank", 1 if self.rank is None else self.rank),
        ):
            if not is_count(value, 1):
                raise ConfigError(
                    f"{name} = {value!r}", "an integer of at least 1", f"Correct {name}."
                )
        refuse_targets(y)
        series = as_series(X)
        states = [embed(x, self.delays) for x in series.states if len(x) > self.delays]
        if not states:
            raise DataError(
                f"series of at most {max(map(len, series.states))} rows",
                f"{self.delays + 1} or more",
            )
        if short := [i for i, x in enumerate(series.states) if len(x) <= self.delays]:
            warn_short(short, series, self.delays + 1)
        self.dim_ = series.dim
        before, after = torch.cat([x[:-1] for x in states]), torch.cat([x[1:] for x in states])
        self.mean_, scale = moments(before)
        # Powers of two: units change no digit, and no column is lost beside another. A rank is one
        # in the given units.
        scale = scale if self.rank is None else scale.max().expand_as(scale)
        unit = torch.where(
            scale > 0, torch.exp2(torch.floor(torch.log2(scale))), torch.ones_like(scale)
        )
        inputs = (before - self.mean_) / unit
        if self.rank is not None:
            v = torch.linalg.svd(inputs, full_matrices=False).Vh[: self.rank]
            inputs = inputs @ v.T @ v
        design = torch.cat([torch.ones_like(inputs[:, :1]), inputs], dim=1)
        self._unit = unit
        self._scaled = torch.linalg.lstsq(
            design, (after - self.mean_) / unit, driver="gelsd"
        ).solution
        self.eigenvalues_ = numerics.eigvals(self._scaled[1:]).numpy()
        self.operator_ = self._scaled * unit
        self.operator_[1:] /= unit[:, None]
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """One step from states ``(b, delays d)``: ``(b, d)``."""
        return self.simulate(X, 1)[:, 1]

    def simulate(self, X: Any, steps: int) -> NDArray[np.float64]:
        """From states ``(b, delays d)``, newest observation first, ``steps`` steps: ``(b, steps +
        1, d)``.
        """
        if not hasattr(self, "operator_"):
            raise NotInitializedError("a DMD that is not fitted", "a fitted one", "Call fit(X).")
        x = numbers(X, "states")
        check_batch(x, (len(self.mean_),), "states")
        check_finite(x, "states")
        if not is_count(steps, 0):
            raise ConfigError(
                f"steps = {steps!r}",
                "an integer of at least 0",
                "Only KoopmanRegressor goes back in time.",
            )
        x = (x - self.mean_) / self._unit
        found: list[Tensor] = [x]
        for _ in range(steps):
            found.append(self._scaled[0] + found[-1] @ self._scaled[1:])
        return (torch.stack(found, dim=1) * self._unit + self.mean_)[..., : self.dim_].numpy()
