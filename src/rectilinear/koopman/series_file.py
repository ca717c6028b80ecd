"""Series in text tables: a column of dates or times, a column of run names, and values."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rectilinear.datasets.series import read_rows
from rectilinear.errors import ConfigError, DataError
from rectilinear.koopman.tables import stamps_of

TIMES = ("time", "t", "date", "dates", "datetime", "timestamp", "ds", "month", "day", "year")
"""Names of columns that hold dates or times."""
MISSING = ("", "na", "n/a", "nan", "null", "none", ".", "-")
"""Cells, in small letters, that stand for a missing value."""


_MONTH = r"((?:19|20)\d{2})(0[1-9]|1[0-2])"
_COMMA = re.compile(r"\d,\d")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?")
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
        time: name of the column of dates or times; by default one of the usual names.
        run: name of a column whose values tell series apart.
        columns: names of the columns to forecast; by default all others.
        separator: of the cells; by default commas, semicolons, tabs or bars, whichever fits. Beside
            all but commas numbers may have decimal commas; in a table that has them, a point stands
            between thousands wherever it can, in all of its column.

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
        raise DataError(f"no file {path}", "a .csv file", "Check the path.")
    rows = _rows(path, separator)
    head = [name.strip() for name in rows[0][1]]
    if all(_number(cell) is not None for cell in head):
        head, rows = [f"column {i + 1}" for i in range(len(head))], [(0, head), *rows]
    for number, cells in rows[1:]:
        if len(cells) != len(head):
            raise DataError(
                f"line {number} of {path.name} with {len(cells)} cells",
                f"{len(head)}, as the first has",
                "Correct the line, or pass --separator.",
            )
    head, rows = _without_empty(head, rows)
    clock = [_find(head, time)] if time is not None else _clock(head)
    if run is not None:
        _find(head, run)
    names = [_find(head, n) for n in columns] or [n for n in head if n not in (*clock, run)]
    _refuse_twice([*names, *clock, *([] if run is None else [run])], head, path)
    body = rows[1:]
    if not body:
        raise DataError(
            f"{path.name} with a line of names alone", "rows below it", "Check the file."
        )
    at = [head.index(n) for n in names]
    commas = _decimal_commas(path, separator)
    cells_of = {i: [cells[i] for _, cells in body] for i in at}
    written = commas and any(_COMMA.search(cell) for cells in cells_of.values() for cell in cells)
    points = {i: not written or _has_decimal_points(cells) for i, cells in cells_of.items()}
    keys = [cells[head.index(run)] for _, cells in body] if run is not None else [""] * len(body)
    found = sorted(set(keys), key=keys.index)
    values, times = [], []
    for key in found:
        mine = [row for row, own in zip(body, keys, strict=True) if own == key]
        values.append(
            np.array(
                [
                    [
                        _cell(row, i, n, path, commas, points[i])
                        for i, n in zip(at, names, strict=True)
                    ]
                    for row in mine
                ]
            )
        )
        if clock:
            parts = [[row[head.index(name)] for name in clock] for _, row in mine]
            times.append(stamps_of(_stamps(_joined(parts, clock, path))))
    return SeriesFile(values, times or None, tuple(names), tuple(found))


def _without_empty(head: list[str], rows: Any) -> tuple[list[str], Any]:
    """The table without nameless columns of empty cells, which a separator at the end leaves."""
    kept = [i for i, name in enumerate(head) if name or any(cells[i] for _, cells in rows[1:])]
    return [head[i] for i in kept], [(n, [cells[i] for i in kept]) for n, cells in rows]


def _clock(head: list[str]) -> list[str]:
    """The columns of times: year and part, a usual name, or a first one without a name."""
    named = {name.lower(): name for name in reversed(head)}
    for parts in (("year", "month", "day"), ("year", "month"), ("year", "quarter")):
        if all(part in named for part in parts):
            return [named[part] for part in parts]
    known = next((name for name in head if name.lower() in TIMES), None)
    if known is None and head[0] != "":
        return []
    return ["" if known is None else known]


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


def _decimal_commas(path: Path, separator: str | None) -> bool:
    """False where commas part the cells: a comma within one stands between thousands."""
    if separator is not None:
        return separator != ","
    with path.open(encoding="utf-8-sig") as file:
        first = next((line for line in file if line.strip()), "")
    return any(sign in first for sign in "\t;|") or "," not in first


def _has_decimal_points(cells: list[str]) -> bool:
    """True of a column without commas in which some point cannot stand between thousands."""
    pointed = [cell for cell in cells if "." in cell and cell.lower() not in MISSING]
    commas = any("," in cell for cell in cells)
    return not commas and not all(map(_THOUSANDS.fullmatch, pointed))


def _rows(path: Path, separator: str | None) -> list[tuple[int, list[str]]]:
    if separator is None:
        return read_rows(path)
    separator = {"tab": "\t", "\\t": "\t", "space": " "}.get(separator, separator)
    if len(separator) != 1:
        raise ConfigError(
            f"separator '{separator}'", "one character, or tab", "Correct --separator."
        )
    read_rows(path)  # raises for what is empty or no text
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=separator, skipinitialspace=True)
        return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]


def _find(head: list[str], name: str) -> str:
    if name in head:
        return name
    raise ConfigError(f"column '{name}'", f"one of {', '.join(head)}", "Correct the name.")


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
    return [cell.removesuffix("Z") for cell in cells]


def _number(cell: str) -> float | None:
    if cell.lower() in MISSING:
        return float("nan")
    if "_" in cell:
        return None
    if re.fullmatch(r"[+-]?\d+,\d+", cell):
        cell = cell.replace(",", ".")
    try:
        return float(cell)
    except ValueError:
        return None


def _cell(
    row: tuple[int, list[str]], column: int, name: str, path: Path, commas: bool, points: bool
) -> float:
    text = row[1][column]
    if not points and "." in text and text.lower() not in MISSING:
        if not _THOUSANDS.fullmatch(text):
            raise DataError(
                f"'{text}' in column '{name}', line {row[0]} of {path.name}, beside decimal commas",
                "points between thousands alone, as in 1.234,5",
                "Write all numbers in one way.",
            )
        text = text.replace(".", "")
    value = None if "," in text and not commas else _number(text)
    if value is None:
        raise DataError(
            f"'{row[1][column]}' in column '{name}', line {row[0]} of {path.name}",
            "a number, or an empty cell where it is missing",
            "Name the columns to forecast with --columns; --run-column names one that tells "
            "series apart, --time the one of dates.",
        )
    return value
