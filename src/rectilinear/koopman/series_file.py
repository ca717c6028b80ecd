"""Series in text tables: a column of dates or times, a column of run names, and values."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from rectilinear.datasets.decimal_commas import with_points
from rectilinear.datasets.series import read_rows
from rectilinear.errors import ConfigError, DataError, ForecastWarning
from rectilinear.koopman.date_text import are_dates
from rectilinear.koopman.tables import stamps_of
from rectilinear.koopman.yearless import count_from_first

TIMES = ("time", "t", "date", "dates", "datetime", "timestamp", "ds", "month", "day", "year")
"""Names of columns that hold dates or times."""
MISSING = ("", "na", "n/a", "nan", "null", "none", ".", "-")
"""Cells, in small letters, that stand for a missing value."""


_MONTH = r"((?:19|20)\d{2})(0[1-9]|1[0-2])"
_INTEGER = re.compile(r"\d{1,12}")
_DAY = _MONTH + r"(0[1-9]|[12]\d|3[01])"


@dataclass(frozen=True, eq=False)
class SeriesFile:
    """The series of a file.

    Attributes:
        values: one array ``(T, d)`` for each run.
        times: dates or numbers of its rows, or None.
        names: of the columns.
        runs: the names of the runs.
    """

    values: list[Any]
    times: list[Any] | None
    names: tuple[str, ...]
    runs: tuple[str, ...]


def read_series_file(
    path: Path,
    *,
    time: str | None = None,
    run: str | None = None,
    columns: Sequence[str] = (),
    separator: str | None = None,
) -> SeriesFile:
    r"""The series in a .csv file with a line of names: dates or times, runs, and numbers.

    Args:
        path: the file.
        time: name of the column of dates or times; by default one of the usual names, or the first
            whose cells are dates.
        run: name of a column whose values tell series apart.
        columns: names of the columns to forecast; by default all others, but those that number the
            rows, of which a warning says so.
        separator: of the cells; by default commas, semicolons, tabs or bars, whichever fits.
            Numbers may have decimal commas; in a table that has them, a point stands between
            thousands wherever it can, in all of its column. Where all commas can stand between
            thousands, they are an error.

    Raises:
        DataError: for a file that is missing, or cells that are no numbers.
        ConfigError: for a column that is not there.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = path.write_text("date;height\n2024-01-01;1,5\n2024-01-02;\n")
        >>> found = read_series_file(path)
        >>> found.names, found.values[0].tolist(), str(found.times[0][1])[:10]
        (('height',), [[1.5], [nan]], '2024-01-02')
    """
    if not path.is_file():
        raise DataError(f"no file {path}", "a .csv file")
    rows = _rows(path, separator)
    head = [name.strip() for name in rows[0][1]]
    if all(_number(cell.replace(",", ".")) is not None for cell in head):
        head, rows = [f"column {i + 1}" for i in range(len(head))], [(0, head), *rows]
    for number, cells in rows[1:]:
        if len(cells) != len(head):
            raise DataError(
                f"line {number} of {path.name} with {len(cells)} cells",
                f"{len(head)}, as the first has",
                "Quote cells that have the separator in them, or pass --separator.",
            )
    head, rows = _without_empty(head, rows)
    cells_of = list(zip(*(cells for _, cells in rows[1:]), strict=True))
    if not cells_of:
        raise DataError(f"{path.name} with a line of names alone", "rows below it")
    if run is not None:
        _find(head, run)
    taken = (*columns, *([] if run is None else [run]))
    clock = [_find(head, time)] if time is not None else _clock(head, cells_of, taken)
    names = [_find(head, n) for n in columns] or [n for n in head if n not in (*clock, run)]
    _refuse_twice([*names, *clock, *([] if run is None else [run])], head, path)
    pointed = zip(*with_points(cells_of), strict=True)
    body = [(number, list(cells)) for (number, _), cells in zip(rows[1:], pointed, strict=True)]
    keys = [""] * len(body) if run is None else list(cells_of[head.index(run)])
    if not columns:
        names = _without_counters(names, {n: cells_of[head.index(n)] for n in names}, keys)
    at = [head.index(n) for n in names]
    found = sorted(set(keys), key=keys.index)
    values, times, counted = [], [], False
    for key in found:
        mine = [row for row, own in zip(body, keys, strict=True) if own == key]
        numbers = [[_cell(row, i, n, path) for i, n in zip(at, names, strict=True)] for row in mine]
        values.append(np.array(numbers))
        if clock:
            parts = [[row[head.index(name)] for name in clock] for _, row in mine]
            since = count_from_first(clock, parts)
            counted = counted or since is not None
            dates = None if since is not None else _stamps(_joined(parts, clock, path))
            times.append(since if dates is None else stamps_of(dates))
    if counted:
        warnings.warn(
            f"column {', '.join(clock)} without a year: {'days' if clock[1:] else 'months'} are "
            "counted from the first row",
            ForecastWarning,
            stacklevel=2,
        )
    return SeriesFile(values, times or None, tuple(names), tuple(found))


def _without_empty(head: list[str], rows: Any) -> tuple[list[str], Any]:
    """The table without nameless columns of empty cells, which a separator at the end leaves."""
    kept = [i for i, name in enumerate(head) if name or any(cells[i] for _, cells in rows[1:])]
    return [head[i] for i in kept], [(n, [cells[i] for i in kept]) for n, cells in rows]


def _clock(head: list[str], cells_of: list[Any], taken: Sequence[str]) -> list[str]:
    """The columns of times: year and part, a usual name, dates, or row numbers at the left."""
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
    warnings.warn(
        f"column {', '.join(counters)} numbers the rows and is left out; --columns names the "
        "columns to forecast",
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
                f"'{' '.join(row)}' in the columns {', '.join(names)} of {path.name}",
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
                f"column '{name}' twice in {path.name}"
                if head.count(name) > 1
                else f"column '{name}' in two roles",
                "each column once",
                "Rename one, or correct --columns, --time and --run-column.",
            )


def _rows(path: Path, separator: str | None) -> list[tuple[int, list[str]]]:
    if separator is None:
        return read_rows(path)
    separator = {"tab": "\t", "\\t": "\t", "space": " "}.get(separator, separator)
    if len(separator) != 1:
        raise ConfigError(f"separator '{separator}'", "one character, or tab")
    read_rows(path)  # raises for what is empty or no text
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=separator, skipinitialspace=True)
        return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]


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
    if cell.lower() in MISSING:
        return float("nan")
    if "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _cell(row: tuple[int, list[str]], column: int, name: str, path: Path) -> float:
    text = row[1][column]
    value = _number(text)
    if value is not None:
        return value
    if re.fullmatch(r"[-+\d.,]+", text):
        raise DataError(
            f"'{text}' in column '{name}', line {row[0]} of {path.name}",
            "numbers of a column written in one way, 1234.5 or 1.234,5, and not all commas of the "
            "table where they can stand between thousands",
            "Write decimal points.",
        )
    raise DataError(
        f"'{text}' in column '{name}', line {row[0]} of {path.name}",
        "a number, or an empty cell where it is missing",
        "Name the columns to forecast with --columns; --run-column names one that tells "
        "series apart, --time the one of dates.",
    )
