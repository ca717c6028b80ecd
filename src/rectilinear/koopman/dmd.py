"""The linear baseline: dynamic mode decomposition, with delays where asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from rectilinear import numerics
from rectilinear._shapes import check_batch
from rectilinear.errors import ConfigError, DataError, NotInitializedError
from rectilinear.koopman.series import as_series, embed, numbers, warn_short

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class DMD(BaseEstimator):
    """Dynamic mode decomposition ``x_{t+1} = A x_t + b`` in least squares, on states of ``delays`` observations.

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

    def fit(self, X: Any, y: object = None) -> Self:  # noqa: ARG002 - scikit-learn's signature
        """Fit on series, given as to :func:`~rectilinear.koopman.as_series`, with equal steps."""
        if self.delays < 1:
            raise ConfigError(f"delays = {self.delays}", "1 or more", "Correct delays.")
        series = as_series(X)
        states = [embed(x, self.delays) for x in series.states if len(x) > self.delays]
        if not states:
            raise DataError(f"series of at most {max(map(len, series.states))} rows", f"{self.delays + 1} or more")
        if short := [i for i, x in enumerate(series.states) if len(x) <= self.delays]:
            warn_short(short, series, self.delays + 1)
        self.dim_ = series.dim
        before, after = torch.cat([x[:-1] for x in states]), torch.cat([x[1:] for x in states])
        self.mean_ = before.mean(0)
        inputs = before - self.mean_
        if self.rank is not None:
            v = torch.linalg.svd(inputs, full_matrices=False).Vh[: self.rank]
            inputs = inputs @ v.T @ v
        design = torch.cat([torch.ones_like(inputs[:, :1]), inputs], dim=1)
        self.operator_ = torch.linalg.lstsq(design, after - self.mean_, driver="gelsd").solution
        self.eigenvalues_ = numerics.eigvals(self.operator_[1:]).numpy()
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """One step from states ``(b, delays d)``: ``(b, d)``."""
        return self.simulate(X, 1)[:, 1]

    def simulate(self, X: Any, steps: int) -> NDArray[np.float64]:
        """From states ``(b, delays d)``, newest observation first, ``steps`` steps: ``(b, steps + 1, d)``."""
        if not hasattr(self, "operator_"):
            raise NotInitializedError("a DMD that is not fitted", "a fitted one", "Call fit(X).")
        x = numbers(X, "states")
        check_batch(x, (len(self.mean_),), "states")
        x = x - self.mean_
        found: list[Tensor] = [x]
        for _ in range(steps):
            found.append(self.operator_[0] + found[-1] @ self.operator_[1:])
        return (torch.stack(found, dim=1) + self.mean_)[..., : self.dim_].numpy()
