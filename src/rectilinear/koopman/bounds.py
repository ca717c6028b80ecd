"""Bounds of a series: forecasts are cut off at them, and values that cross zero are named."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from rectilinear.errors import ConfigError, DataError, ForecastWarning
from rectilinear.koopman.forecast import Array


class Bounds:
    """The least and the largest value that columns can have; a part of Forecaster."""

    minimum: float | None
    maximum: float | None

    def _check_bounds(self, rows: Tensor, names: Sequence[str]) -> None:
        """Refuse observations outside of the bounds, and keep the least one of each column."""
        low, high = self.minimum, self.maximum
        for name, value in (("minimum", low), ("maximum", high)):
            if value is not None and not np.isfinite(value):
                raise ConfigError(f"{name} = {value}", "a number, or None")
        if low is not None and high is not None and low >= high:
            raise ConfigError(f"minimum = {low:g} and maximum = {high:g}", "a smaller minimum")
        self._least = rows.amin(0).numpy()
        most = rows.amax(0).numpy()
        out = (self._least < (-np.inf if low is None else low)) | (
            most > (np.inf if high is None else high)
        )
        if out.any():
            k = int(out.argmax())
            raise DataError(
                f"values from {self._least[k]:g} to {most[k]:g} in {names[k]}",
                f"none below minimum = {low} or above maximum = {high}",
                "Widen the bounds, or clip the values.",
            )

    def _bounded(self, x: Array) -> Array:
        """Values cut off at the bounds: where all observations lie inside, none comes nearer."""
        if self.minimum is None and self.maximum is None:
            return x
        return np.clip(x, self.minimum, self.maximum)

    def _warn_negative(self, lower: Array, names: Sequence[str]) -> None:
        """A warning of intervals below zero of columns that never were."""
        if self.minimum is not None:
            return
        least = np.nanmin(lower, axis=tuple(range(lower.ndim - 1)), initial=np.inf)
        below = [n for n, a, b in zip(names, self._least, least, strict=True) if b < 0 <= a]
        if below:
            shown = ", ".join(below[:6])
            warnings.warn(
                f"intervals of {shown} reach below zero, where no observation was; if none can be, "
                "minimum=0 (--minimum 0) cuts forecasts and intervals off there",
                ForecastWarning,
                stacklevel=3,
            )
