"""Series from arrays and pandas objects: names, stamps, missing rows; and back."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rectilinear.checks import warn_of_codes
from rectilinear.datasets.dates import stamps_of
from rectilinear.errors import ConfigError, DataError, ForecastWarning, ShapeError
from rectilinear.koopman.series import (
    FILLED,
    LARGEST_GAP,
    Series,
    as_series,
    check_clocks,
    check_stamps,
    split_series,
    two_axes,
)
from rectilinear.koopman.time_grid import JITTER, Clock, read_clock


@dataclass(frozen=True, eq=False)
class Table:
    """One series on a regular grid: ``values`` ``(T, d)``, rows that are missing as NaN.

    Attributes:
        values: float64.
        names: of the columns.
        clock: the grid, or None where rows are numbered.
        first: the position of the first row.
        index: the pandas index whose kind the stamps of forecasts take, or None.
    """

    values: Tensor
    names: tuple[str, ...]
    clock: Clock | None
    first: int
    index: Any = None

    def ahead(self, steps: int) -> Any:
        """The stamps of so many rows after the last: of pandas where the series was, or numbers."""
        last = self.first + len(self.values) - 1
        return self.stamps(np.arange(last + 1, last + 1 + steps))

    def behind(self, rows: int) -> Any:
        """The stamps of the last rows."""
        end = self.first + len(self.values)
        return self.stamps(np.arange(end - rows, end))

    def stamps(self, positions: NDArray[np.int64]) -> Any:
        """The stamps at positions of the grid, of pandas where the series was."""
        kind = type(self.index).__name__
        if kind == "PeriodIndex":
            return self.index[:1].repeat(len(positions)) + positions * self.index.freq.n
        if self.clock is None:
            return positions
        stamps = self.clock.stamps(positions)
        if self.index is None:
            return stamps
        if kind == "DatetimeIndex":
            found = type(self.index)(stamps, name=self.index.name)
            if self.index.tz is None:
                return found
            if self.clock.step and self._local():
                return found.tz_localize(
                    self.index.tz, ambiguous="NaT", nonexistent="shift_forward"
                )
            return found.tz_localize("UTC").tz_convert(self.index.tz)
        return stamps

    def _local(self) -> bool:
        return is_local(self.index)


def is_local(index: Any) -> bool:
    """True where stamps with a time zone are a day or more apart: their local dates count."""
    return bool(len(index) > 1 and np.median(np.diff(index.asi8)) >= 23 * 3.6e12 * _unit(index))


def _unit(index: Any) -> float:
    return {"ns": 1.0, "us": 1e-3, "ms": 1e-6, "s": 1e-9}[getattr(index, "unit", "ns")]


def read_tables(given: Any, times: Any = None, dt: float | None = None) -> list[Table]:
    """The series in an array ``(T,)``, ``(T, d)``, ``(count, T, d)``, a data frame, or a list.

    ``times`` are numbers or dates, one for each row; of a data frame its index is taken.

    Raises:
        DataError: for stamps on no grid, or columns that are never observed.
        ShapeError: for arrays that are no series, or series of different columns.
        ConfigError: for ``dt`` beside times.

    Example:
        >>> table, = read_tables([1.0, 2.0, float("nan"), 4.0], times=[0.0, 0.5, 1.0, 2.0])
        >>> table.values[:, 0].tolist(), table.ahead(1).tolist()
        ([1.0, 2.0, nan, nan, 4.0], [2.5])
    """
    if dt is not None and not (np.isfinite(dt) and dt > 0):
        raise ConfigError(f"dt = {dt}", "a positive number")
    parts = split_series(given, 3)
    clocks: Sequence[Any] = [None] * len(parts) if times is None else split_series(times, 2)
    check_clocks(clocks, len(parts))
    found = [
        _one(part, clock, dt, i) for i, (part, clock) in enumerate(zip(parts, clocks, strict=True))
    ]
    if len({table.names for table in found}) != 1:
        raise ShapeError(
            f"series with different columns: {found[0].names[:6]} and others",
            "the same columns in each",
            "Fit each kind of series by itself, or select the columns that all have.",
        )
    warn_of_codes(np.concatenate([table.values.numpy() for table in found]), found[0].names)
    return found


def _one(part: Any, times: Any, dt: float | None, number: int) -> Table:
    what = f"series {number}"
    values = two_axes(part)
    values = torch.where(torch.isfinite(values), values, torch.nan)
    names = _names(part, values.shape[1])
    index: Any = getattr(part, "index", None)
    index = None if callable(index) else index  # lists have a method of that name
    clock: Clock | None
    if type(index).__name__ == "PeriodIndex" and times is None:
        ordinals = np.asarray(index.asi8, dtype=np.float64) / index.freq.n
        clock, positions = read_clock(ordinals, what)
        return Table(_on_grid(values, positions), names, clock, 0, index)
    if times is None and type(index).__name__ == "DatetimeIndex":
        plain = index
        if index.tz is not None:
            plain = index.tz_localize(None) if is_local(index) else index.tz_convert(None)
        stamps = plain.to_numpy()
    elif times is not None:
        stamps = stamps_of(times)
        index = None
    elif index is not None and type(index).__name__ != "RangeIndex":
        stamps = stamps_of(index)
    else:
        clock = None if dt is None else Clock("time", 0.0, float(dt))
        return Table(values, names, clock, 0, None)
    if dt is not None:
        raise ConfigError(f"dt = {dt:g} beside times", "one of them", "Leave dt out.")
    check_stamps(len(stamps), len(values), what)
    clock, positions = read_clock(stamps, what)
    grid = _on_grid(values, positions - positions[0])
    return Table(grid, names, clock, int(positions[0]), index)


def check_alike(table: Table, fitted: Table, what: str) -> None:
    """Refuse other columns than those fitted, by name where both have names, and another step.

    Example:
        >>> a, b = read_tables([[1.0, 2.0]]), read_tables([[3.0, 4.0]])
        >>> check_alike(a[0], b[0], "a history")
    """
    d = len(fitted.names)
    plain = _names(None, d)
    named = plain not in (table.names, fitted.names)
    if len(table.names) != d or (named and table.names != fitted.names):
        shown = f" {', '.join(table.names[:6])}" if named else ""
        raise ShapeError(
            f"{what} of {len(table.names)} columns{shown}",
            f"{d}{' ' + ', '.join(fitted.names[:6]) if named else ''}, as fitted",
            "Choose these columns in this order: frame[[...]].",
        )
    mine, other = table.clock, fitted.clock
    if len(table.values) < 2 or mine is None or other is None or mine.kind != other.kind:
        return
    if type(mine.step) is type(other.step) and abs(mine.step / other.step - 1) > JITTER:
        raise DataError(
            f"{what} with steps of {mine.step}", f"{other.step}, as fitted", "Resample it."
        )


def _names(part: Any, d: int) -> tuple[str, ...]:
    columns = getattr(part, "columns", None)
    if columns is not None:
        return tuple(map(str, columns))
    name = getattr(part, "name", None)
    return (str(name),) if name is not None else tuple(f"column {i + 1}" for i in range(d))


def _on_grid(values: Tensor, positions: NDArray[np.int64]) -> Tensor:
    rows = int(positions[-1]) + 1
    if rows > 100 * len(values) + 1000:
        raise DataError(
            f"{len(values)} rows on a grid of {rows} steps",
            "rows on a good part of a regular grid",
            "Resample the series, or pass its parts as several series.",
        )
    grid = values.new_full((rows, values.shape[1]), torch.nan)
    grid[torch.from_numpy(positions)] = values
    return grid


@dataclass(frozen=True, eq=False)
class Pieces:
    """Runs that are parted where they have a gap of more than :data:`FILLED` rows.

    Attributes:
        series: the pieces.
        runs: the number of the run of each piece.
        lost: of each run, the rows that are missing before its first and after its last piece.
    """

    series: Series
    runs: tuple[int, ...]
    lost: tuple[tuple[int, int], ...]

    def ends(self, rows: int, *, first: bool = False) -> list[int]:
        """The number of the last piece of each run, or of the first, of at least so many rows.

        Raises:
            DataError: where rows at that end are missing, or the piece is shorter.
        """
        found = []
        for run, lost in enumerate(self.lost):
            pieces = [i for i, of in enumerate(self.runs) if of == run]
            place = 0 if first else -1
            length = len(self.series.states[pieces[place]]) if pieces else 0
            check_end(0 if not pieces else lost[place], length, rows, first=first)
            found.append(pieces[place])
        return found


def check_end(missing: int, rows: int, least: int, *, first: bool = False) -> None:
    """Raise a DataError unless a series has ``least`` rows at the end that a forecast is made from.

    Args:
        missing: rows that are missing at that end.
        rows: those of the piece there.
        least: those needed.
        first: whether the end is the beginning, of a forecast backward.
    """
    if not missing and rows >= least:
        return
    end, gap = ("first", "before the first") if first else ("last", "after the last")
    place, plural = "beginning" if first else "end", "s" if least != 1 else ""
    raise DataError(
        f"a series whose {end} {missing} rows are missing" if missing else f"{rows} rows {gap} gap",
        f"{least} row{plural} without a gap at the {place}, which the forecast is made from",
        f"Leave the {end} rows out, fill them, or fit with fewer lags.",
    )


def series_on_grid(values: Any, times: Any = None, dt: float | None = None) -> Pieces:
    """Pieces at equal steps: rows on the grid of their times, short gaps on straight lines.

    Dates count in steps of ``dt``, which is 1 by default.

    Raises:
        DataError: for series whose steps differ, and as :func:`read_tables`.

    Example:
        >>> hours = np.datetime64("2024-01-30T08") + np.array([0, 1, 3, 4])
        >>> found = series_on_grid(np.array([1.0, 2.0, 4.0, 5.0]), hours).series
        >>> found.states[0].flatten().tolist(), found.times[0].tolist()
        ([1.0, 2.0, 3.0, 4.0, 5.0], [0.0, 1.0, 2.0, 3.0, 4.0])
    """
    tables = read_tables(values, times)
    numbered = times is not None
    states, clocks, runs, lost, filled = [], [], [], [], 0
    for i, table in enumerate(tables):
        check_alike(table, tables[0], "a series")
        stamps = table.behind(len(table.values))
        numbered = numbered and stamps.dtype.kind == "f"
        pieces, more = without_gaps(table.values)
        filled += more
        for first, x in pieces:
            states.append(x)
            clocks.append(stamps[first : first + len(x)])
            runs.append(i)
        ends = (pieces[0][0], pieces[-1][0] + len(pieces[-1][1])) if pieces else (0, 0)
        lost.append((ends[0], len(table.values) - ends[1]))
    check_filled(filled, len(states), len(tables))
    return Pieces(as_series(states, clocks if numbered else None, dt), tuple(runs), tuple(lost))


def series_at_times(values: Any, times: Any = None, dt: float | None = None) -> Pieces:
    """Pieces at their own times, which need not be regular, or one step ``dt`` apart.

    Raises:
        DataError: for no series, times of other series, times that do not increase, and as
            :func:`~.series.as_series`.

    Example:
        >>> found = series_at_times([np.arange(6.0)], [np.array([0.0, 1.5, 2.0, 20.0, 21.0, 22.0])])
        >>> [x.flatten().tolist() for x in found.series.states]
        [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    """
    if times is None:
        whole = as_series(values, None, dt)
        return Pieces(whole, tuple(range(len(whole.states))), ((0, 0),) * len(whole.states))
    if not len(times) or len(values) != len(times):
        raise DataError(
            f"{len(values)} series and times of {len(times)}",
            "one or more series, each with its times",
            "Pass the values and the times of every series in two lists.",
        )
    steps = np.concatenate([np.diff(clock) for clock in times])
    usual = np.median(steps) if len(steps) else 1.0
    states, clocks, runs = [], [], []
    for i, (x, clock) in enumerate(zip(values, times, strict=True)):
        cuts = np.flatnonzero(np.diff(clock) > LARGEST_GAP * usual) + 1
        states += np.split(x, cuts)
        clocks += np.split(clock, cuts)
        runs += [i] * (len(cuts) + 1)
    check_filled(0, len(states), len(times))
    return Pieces(as_series(states, clocks, dt), tuple(runs), ((0, 0),) * len(times))


def fill_gaps(values: Tensor) -> tuple[Tensor, int]:
    """The series with gaps of :data:`FILLED` rows or fewer on lines, and how many values."""
    x, filled = values.clone().numpy(), 0
    rows = np.arange(len(x))
    for j in np.flatnonzero(np.isnan(x).any(0)):
        gone = np.isnan(x[:, j])
        if gone.all():
            continue
        for first, end in _stretches(gone):
            if first and end < len(x) and end - first <= FILLED:
                x[first:end, j] = np.interp(
                    rows[first:end], [first - 1, end], [x[first - 1, j], x[end, j]]
                )
                filled += end - first
    return torch.from_numpy(x), filled


def without_gaps(values: Tensor) -> tuple[list[tuple[int, Tensor]], int]:
    """Pieces ``(first row, values)`` without gaps, and the number of values filled in.

    Values that are missing for at most :data:`FILLED` rows between two observed ones lie on a
    straight line; where more are missing the series is parted.

    Example:
        >>> x = torch.tensor([[1.0], [float("nan")], [3.0]])
        >>> pieces, filled = without_gaps(x)
        >>> pieces[0][1].flatten().tolist(), filled
        ([1.0, 2.0, 3.0], 1)
    """
    x, filled = fill_gaps(values)
    return [(a, x[a:b]) for a, b in _stretches(~x.isnan().any(1).numpy())], filled


def _stretches(marked: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First row and end of each run of marked rows."""
    ends = np.flatnonzero(np.diff(np.r_[0, marked.astype(int), 0]))
    return [(int(a), int(b)) for a, b in ends.reshape(-1, 2)]


def check_filled(filled: int, pieces: int, series: int) -> None:
    """A ForecastWarning of what was filled in and where series were parted.

    Raises:
        DataError: if no piece is left.
    """
    if not pieces:
        raise DataError(
            "series with a column that is never observed", "numbers", "Leave the column out."
        )
    said = []
    if filled:
        said.append(
            f"{filled} missing values, in gaps of up to {FILLED} rows, lie on straight lines"
        )
    if pieces > series:
        said.append(f"longer gaps part the series into {pieces} pieces, which are fitted together")
    if said:
        warnings.warn("; ".join(said), ForecastWarning, stacklevel=3)
