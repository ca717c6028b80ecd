"""The input of a forecaster: units, pieces without gaps, bounds, and control inputs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rectilinear.errors import ConfigError, DataError, ForecastWarning, NonFiniteError, ShapeError
from rectilinear.koopman.autoregression import Piece
from rectilinear.koopman.forecast import Array
from rectilinear.koopman.series import numbers, split_series, units
from rectilinear.koopman.tables import Table, check_end, check_filled, without_gaps


def _check_count(controls: Sequence[Any], tables: Sequence[Table]) -> None:
    if len(controls) != len(tables):
        raise ShapeError(
            f"controls of {len(controls)} series",
            f"{len(tables)}, one for each",
            "Pass a list, in the order of the series.",
        )


class Intake:
    """Series and inputs in standard units, and bounds of the values; a part of Forecaster."""

    horizon: int | None
    lags: int | None
    minimum: float | None
    maximum: float | None
    model_: Any
    _tables: list[Table]
    _mean: Tensor
    _scale: Tensor
    _inputs_mean: Tensor | None
    _inputs_scale: Tensor | None
    _fitted_pieces: list[Piece]

    def _pieces(self, controls: Any) -> list[tuple[Tensor, Tensor | None]]:
        """Stretches without gaps of all series, with their inputs."""
        self._inputs_names: list[str] | None = None
        inputs = self._inputs(controls, self._tables, 0)
        self._inputs_names = _columns(controls)
        raw: list[tuple[Tensor, Tensor | None]] = []
        filled = 0
        for table, u in zip(self._tables, inputs, strict=True):
            parts, more = without_gaps(table.values)
            filled += more
            raw += [(x, None if u is None else u[a : a + len(x)]) for a, x in parts]
        check_filled(filled, len(raw), len(self._tables))
        return raw

    def _inputs(self, controls: Any, tables: list[Table], more: int) -> list[Tensor | None]:
        """The inputs of each series, one row for each of its rows and ``more`` after them."""
        if controls is None:
            return [None] * len(tables)
        parts = split_series(controls, 3)
        _check_count(parts, tables)
        self._check_inputs_names(controls)
        found: list[Tensor | None] = []
        for i, (table, part) in enumerate(zip(tables, parts, strict=True)):
            u = numbers(part, "controls")
            u = u[:, None] if u.ndim == 1 else u
            rows = len(table.values) + more
            if u.ndim != 2 or len(u) != rows:
                raise ShapeError(
                    f"controls of shape {tuple(u.shape)} for series {i}",
                    f"({rows}, m): a row for each row of its grid"
                    + (f" and the {more} forecast ones" if more else ""),
                    ""
                    if len(u) >= rows
                    else "Append those of the forecast."
                    if more
                    else "Add the rows that the series skips.",
                )
            index: Any = getattr(part, "index", None)
            same = table.index is None or not hasattr(index, "equals") or more > 0
            if not same and len(index) == len(table.index) and not index.equals(table.index):
                raise DataError(
                    f"controls whose index is not that of series {i}",
                    "the same index, row for row",
                    "Sort them: controls.loc[frame.index].",
                )
            if not bool(torch.isfinite(u).all()):
                raise NonFiniteError("controls that are not finite", "numbers", "Fill the gaps.")
            found.append(u)
        return found

    def _check_inputs_names(self, controls: Any) -> None:
        names, fitted = _columns(controls), self._inputs_names
        if names and fitted and names != fitted:
            raise ShapeError(
                f"controls {', '.join(names[:6])}",
                f"{', '.join(fitted[:6])}, as fitted",
                "Choose these columns in this order.",
            )

    def _input_units(self, raw: list[tuple[Tensor, Tensor | None]]) -> None:
        rows = [u for _, u in raw if u is not None]
        self._inputs_mean = self._inputs_scale = None
        if rows:
            self._inputs_mean, self._inputs_scale = units(torch.cat(rows))

    def _piece(self, x: Tensor, u: Tensor | None) -> Piece:
        return Piece((x - self._mean) / self._scale, None if u is None else self._input(u))

    def _input(self, u: Tensor) -> Tensor:
        assert self._inputs_mean is not None, "a model with inputs"
        assert self._inputs_scale is not None, "a model with inputs"
        if u.shape[-1] != len(self._inputs_mean):
            raise ShapeError(f"{u.shape[-1]} inputs", f"{len(self._inputs_mean)}, as fitted")
        return (u - self._inputs_mean) / self._inputs_scale

    def _sizes(self, pieces: list[Piece]) -> tuple[int, int]:
        """The horizon, and the largest number of lags that is tried."""
        lengths = sorted((len(p.x) for p in pieces), reverse=True)
        median, d = lengths[len(lengths) // 2], pieces[0].x.shape[1]
        few = len(pieces) < 5
        usual = lengths[0] // 5 if few else 2 * median // 3
        horizon = self.horizon or max(1, min(100, usual))
        if self.lags:
            return horizon, self.lags
        free = lengths[0] - 2 * horizon if few else median - horizon
        most = max(1, min(512, free // 3, max(1, 2_000_000 // d)))
        return horizon, most

    def _last_rows(self, table: Table) -> Tensor:
        lags = self.model_.plan.lags
        parts = without_gaps(table.values)[0]
        first, x = parts[-1] if parts else (0, table.values[:0])
        missing = len(table.values) - first - len(x)
        check_end(missing, len(x), lags)
        return x[-lags:]

    def _future_inputs(
        self, tables: list[Table], steps: int, controls: Any, *, fitted: bool
    ) -> Tensor | None:
        """Inputs of the last rows and the forecast ones, ``(b, lags + steps, m)``."""
        if self._inputs_mean is None:
            if controls is not None:
                raise ConfigError("controls", "none, as in the fit", "Leave them out.")
            return None
        if controls is None:
            raise ConfigError(
                "no controls", f"the inputs in the {steps} forecast rows", "Pass controls."
            )
        lags = self.model_.plan.lags
        if not fitted:
            rows = self._inputs(controls, tables, steps)
            return torch.stack([self._input(u)[-lags - steps :] for u in rows if u is not None])
        self._check_inputs_names(controls)
        ahead = [numbers(part, "controls") for part in split_series(controls, 3)]
        ahead = [u[:, None] if u.ndim == 1 else u for u in ahead]
        _check_count(ahead, tables)
        if any(u.ndim != 2 or len(u) != steps for u in ahead):
            raise ShapeError(
                f"controls of shape {tuple(ahead[0].shape)}",
                f"({steps}, m), a row for each step",
                f"Pass those of the forecast rows alone, such as controls[-{steps}:].",
            )
        behind = [p.u for p in self._ends()]
        found = [
            torch.cat([past[-lags:], self._input(u)])
            for past, u in zip(behind, ahead, strict=True)
            if past is not None
        ]
        return torch.stack(found)

    def _ends(self) -> list[Piece]:
        """The last piece of each series."""
        found, count = [], 0
        for table in self._tables:
            count += len(without_gaps(table.values)[0])
            found.append(self._fitted_pieces[count - 1])
        return found

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


def _columns(controls: Any) -> list[str] | None:
    """The names of the columns of a data frame, or of the first of a list; None of others."""
    first = controls[0] if isinstance(controls, list) and controls else controls
    columns = getattr(first, "columns", None)
    return None if columns is None else list(map(str, columns))
