"""Series in files: a column of dates or times, a column of run names, and values."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rectilinear.datasets.dates import are_dates, count_from_first, stamps_of
from rectilinear.datasets.text_tables import (
    columns_of,
    in_words,
    is_missing,
    read_rows,
    with_points,
)
from rectilinear.errors import ConfigError, DataError, ForecastWarning
from rectilinear.notebook import short_repr

TIMES = ("time", "t", "date", "dates", "datetime", "timestamp", "ds", "month", "day", "year")
"""Names of columns that hold dates or times."""
_MONTH = r"((?:19|20)\d{2})(0[1-9]|1[0-2])"
_INTEGER = re.compile(r"\d{1,12}")
_DAY = _MONTH + r"(0[1-9]|[12]\d|3[01])"


@dataclass(frozen=True, eq=False)
class SeriesFile:
    """The series of a file.

    Attributes:
        values: one array ``(T, d)`` for each run; what is missing is NaN.
        times: dates or numbers of its rows, one array ``(T,)`` for each run, or None.
        names: of the columns.
        runs: the names of the runs.
    """

    values: list[NDArray[np.float64]]
    times: list[NDArray[Any]] | None
    names: tuple[str, ...]
    runs: tuple[str, ...]

    __repr__ = short_repr


def read_series(
    path: Path,
    *,
    time: str | None = None,
    run: str | None = None,
    columns: Sequence[str] = (),
    separator: str | None = None,
) -> SeriesFile:
    r"""The series in a text table, such as a .csv file, or in a .npy array.

    A table has a line of names: of dates or times, of runs, and of columns of numbers; without one
    all columns are numbers. An array is ``(T,)``, ``(T, d)`` or ``(count, T, d)``.

    Args:
        path: the file.
        time: name of the column of dates or times; by default one of the usual names, or the first
            whose cells are dates.
        run: name of a column whose values tell series apart.
        columns: names of the columns to read; by default all others, but those that number the
            rows, of which a warning says so.
        separator: of the cells; by default commas, semicolons, tabs or bars, whichever fits.
            Numbers may have decimal commas; in a table that has them, a point stands between
            thousands wherever it can, in all of its column. Where all commas can stand between
            thousands, they are an error.

    Raises:
        DataError: for a file that is missing, an image, or another binary file, and for cells that
            are no numbers.
        ConfigError: for a column that is not there, or names of columns of an array.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = path.write_text("date;height\n2024-01-01;1,5\n2024-01-02;\n")
        >>> found = read_series(path)
        >>> found.names, found.values[0].tolist(), str(found.times[0][1])[:10]
        (('height',), [[1.5], [nan]], '2024-01-02')
    """
    if not path.is_file():
        raise DataError(f"no file {path}", "a .csv or .npy file")
    if path.suffix.lower() == ".npy":
        for name, value in (("time", time), ("run", run), ("columns", columns)):
            if value:
                raise ConfigError(
                    f"{name} = {value!r} of {path.name}",
                    "a table with names of columns: an array has none",
                    "Leave it out.",
                )
        return _array(path)
    head, lines, columns_of = _table(path, separator)
    if run is not None:
        _find(head, run)
    of_run = [] if run is None else [run]
    taken = (*columns, *of_run)
    clock = [_find(head, time)] if time is not None else _clock(head, columns_of, taken, path)
    names = [_find(head, n) for n in columns] or [n for n in head if n not in (*clock, run)]
    _refuse_twice([*names, *clock, *of_run], head, path)
    keys = [""] * len(lines) if run is None else list(columns_of[head.index(run)])
    if not columns:
        names = _without_counters(names, {n: columns_of[head.index(n)] for n in names}, keys)
    rows: dict[str, list[int]] = {}
    for i, key in enumerate(keys):
        rows.setdefault(key, []).append(i)
    cells = dict(zip(head, with_points(columns_of), strict=True))
    values = [
        np.array([[_value(cells[n][i], n, lines[i], path) for n in names] for i in some])
        for some in rows.values()
    ]
    stamps = [[[cells[n][i] for n in clock] for i in some] for some in rows.values()]
    times = _times(stamps, clock, path) if clock else None
    return SeriesFile(values, times, tuple(names), tuple(rows))


def _array(path: Path) -> SeriesFile:
    """The series of a .npy file, without times."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path}, which is no table of numbers: {error}",
            "an array of numbers",
            "Write it with numpy.save.",
        ) from error
    array = array[:, None] if array.ndim == 1 else array
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or not array.size or array.dtype.kind not in "fiu":
        raise DataError(
            f"{path}, which is no table of numbers: shape {array.shape}, type {array.dtype}",
            "numbers, (T,), (T, d) or (count, T, d)",
        )
    names = tuple(f"column {i + 1}" for i in range(array.shape[2]))
    return SeriesFile(
        list(array.astype(np.float64)), None, names, tuple(map(str, range(len(array))))
    )


def _table(path: Path, separator: str | None) -> tuple[list[str], list[int], list[Sequence[str]]]:
    """The names of the columns, the numbers of the lines below, and the cells of each column."""
    rows = read_rows(path, separator)
    head = rows[0][1]
    if all(_number(cell.replace(",", ".")) is not None for cell in head):
        head, rows = [f"column {i + 1}" for i in range(len(head))], [(0, head), *rows]
    if not rows[1:]:
        raise DataError(f"{path.name} with a line of names alone", "rows below it")
    lines, columns = [line for line, _ in rows[1:]], columns_of(rows[1:], len(head), path)
    # a separator at the end of lines leaves a column without a name and cells
    kept = [i for i, name in enumerate(head) if name or any(columns[i])]
    return [head[i] for i in kept], lines, [columns[i] for i in kept]


def _clock(
    head: list[str], cells_of: list[Sequence[str]], taken: Sequence[str], path: Path
) -> list[str]:
    """The columns of times: year and part, a usual name, dates, or row numbers at the left."""
    if len(both := [name for name in head if name.lower() in TIMES[:2] and name not in taken]) > 1:
        raise DataError(
            f"{len(both)} columns of times in {path.name}: {', '.join(both)}",
            "one",
            "Name it with --time, and the columns to forecast with --columns.",
        )
    named = {name.lower(): name for name in reversed(head) if name not in taken}
    for parts in (("year", "month", "day"), ("year", "month"), ("year", "quarter")):
        if all(part in named for part in parts):
            return [named[part] for part in parts]
    if {"month", "day"} <= named.keys():
        days = [named["month"], named["day"]]
        cells_of_days = [cells_of[head.index(name)] for name in days]
        if count_from_first(days, list(zip(*cells_of_days, strict=True))) is not None:
            return days
    known = next((name for name in head if name.lower() in TIMES and name not in taken), None)
    if known is not None:
        return [known]
    free = [(name, cells) for name, cells in zip(head, cells_of, strict=True) if name not in taken]
    dated = next((name for name, cells in free if name and are_dates(cells)), None)
    if dated is not None:
        return [dated]
    return [""] if head[0] == "" else []


def _without_counters(names: list[str], cells_of: Mapping[str, Any], keys: list[str]) -> list[str]:
    """The names of columns but those that number the rows, of the file or of each run."""
    counters = [name for name in names if name and _counts(cells_of[name], keys)]
    if not counters or len(counters) == len(names):
        return names
    one = len(counters) == 1
    warnings.warn(
        f"{in_words(counters)} number{'s' * one} the rows and {'is' if one else 'are'} left out; "
        "--columns names the columns to forecast",
        ForecastWarning,
        stacklevel=3,
    )
    return [name for name in names if name not in counters]


def _counts(cells: Sequence[str], keys: Sequence[str]) -> bool:
    """True of integers that rise by one from row to row, in the file or in each run."""
    if len(cells) < 3 or not all(map(_INTEGER.fullmatch, cells)):
        return False
    numbers = list(map(int, cells))
    same = zip(pairwise(keys), pairwise(numbers), strict=True)
    steps = {after - before for (a, b), (before, after) in same if a == b}
    return steps == {1}


def _times(runs: list[list[list[str]]], names: list[str], path: Path) -> list[NDArray[Any]]:
    """The times of the rows of each run, from the cells of the columns of times."""
    counted = [count_from_first(names, rows) for rows in runs]
    if any(since is not None for since in counted):
        warnings.warn(
            f"{in_words(names)} without a year: {'days' if names[1:] else 'months'} are "
            "counted from the first row",
            ForecastWarning,
            stacklevel=3,
        )
    return [
        stamps_of(_stamps(_joined(rows, names, path))) if since is None else since
        for rows, since in zip(runs, counted, strict=True)
    ]


def _joined(cells: list[list[str]], names: list[str], path: Path) -> list[str]:
    """One stamp for each row, of a year and the number of its month or quarter, and the day."""
    if len(names) == 1:
        return [row[0] for row in cells]
    found = []
    for row in cells:
        year, part, *day = [int(c) if c.isdecimal() else 0 for c in map(_whole, row)]
        quarter = names[1].lower() == "quarter"
        if not (1000 <= year <= 9999 and 1 <= part <= (4 if quarter else 12) and all(day)):
            raise DataError(
                f"'{' '.join(row)}' in {in_words(names)} of {path.name}",
                "a year and the number of a " + ("quarter" if quarter else "month"),
                "Write them in digits, or name one column of dates with --time.",
            )
        month = 3 * part - 2 if quarter else part
        found.append("-".join([f"{year}", *(f"{k:02d}" for k in (month, *day))]))
    return found


def _whole(cell: str) -> str:
    """A whole number without ``.0``, or a quarter without its Q."""
    return re.sub(r"\.0+$", "", cell).removeprefix("Q").removeprefix("q")


def _refuse_twice(names: list[str], head: list[str], path: Path) -> None:
    for name in names:
        if head.count(name) > 1 or names.count(name) > 1:
            raise DataError(
                f"{in_words([name])} twice in {path.name}"
                if head.count(name) > 1
                else f"{in_words([name])} in two roles",
                "each column once",
                "Rename one, or correct --columns, --time and --run-column.",
            )


def _find(head: list[str], name: str) -> str:
    if name in head:
        return name
    raise ConfigError(f"column '{name}'", f"one of {', '.join(head)}")


def _stamps(cells: list[str]) -> Any:
    numbers = [_number(cell) for cell in cells]
    if all(value is not None and np.isfinite(value) for value in numbers):
        for digits, unit in ((r"([12]\d{3})", "Y"), (_MONTH, "M"), (_DAY, "D")):
            parts = [re.fullmatch(digits, cell) for cell in cells]
            if all(parts) and (unit == "Y" or len(cells) > 1):
                texts = ["-".join(part.groups()) for part in parts if part]
                try:
                    return [np.datetime64(text) for text in texts]
                except ValueError:
                    return numbers
        return numbers
    return cells


def _number(cell: str) -> float | None:
    if is_missing(cell):
        return float("nan")
    if "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _value(text: str, name: str, line: int, path: Path) -> float:
    value = _number(text)
    if value is not None:
        return value
    if re.fullmatch(r"[-+\d.,]+", text):
        raise DataError(
            f"'{text}' in {in_words([name])}, line {line} of {path.name}",
            "numbers of a column written in one way, 1234.5 or 1.234,5, and not all commas of the "
            "table where they can stand between thousands",
            "Write decimal points.",
        )
    raise DataError(
        f"'{text}' in {in_words([name])}, line {line} of {path.name}",
        "a number, or an empty cell where it is missing",
        "Name the columns of numbers with --columns; --run-column names one that tells series "
        "apart, --time the one of dates. (For train koopman: --set 'columns=[\"NAME\"]', "
        "run_column and time.)",
    )
