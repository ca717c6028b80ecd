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
        separator: of the cells; by default commas, semicolons or tabs, whichever fits. Beside
            semicolons and tabs numbers may have decimal commas.

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
    clock = _find(head, time) if time is not None else _clock(head)
    if run is not None:
        _find(head, run)
    names = [_find(head, n) for n in columns] or [n for n in head if n not in (clock, run)]
    _refuse_twice([*names, *(n for n in (clock, run) if n is not None)], head, path)
    body = rows[1:]
    if not body:
        raise DataError(
            f"{path.name} with a line of names alone", "rows below it", "Check the file."
        )
    commas = _decimal_commas(path, separator)
    keys = [cells[head.index(run)] for _, cells in body] if run is not None else [""] * len(body)
    found = sorted(set(keys), key=keys.index)
    values, times = [], []
    for key in found:
        mine = [row for row, own in zip(body, keys, strict=True) if own == key]
        values.append(
            np.array([[_cell(row, head.index(n), n, path, commas) for n in names] for row in mine])
        )
        if clock is not None:
            times.append(stamps_of(_stamps([cells[head.index(clock)] for _, cells in mine])))
    return SeriesFile(values, times or None, tuple(names), tuple(found))


def _without_empty(head: list[str], rows: Any) -> tuple[list[str], Any]:
    """The table without nameless columns of empty cells, which a separator at the end leaves."""
    kept = [i for i, name in enumerate(head) if name or any(cells[i] for _, cells in rows[1:])]
    return [head[i] for i in kept], [(n, [cells[i] for i in kept]) for n, cells in rows]


def _clock(head: list[str]) -> str | None:
    """The column of times: one of the usual names, or a first one without a name, an index."""
    known = next((name for name in head if name.lower() in TIMES), None)
    return "" if known is None and head[0] == "" else known


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
    return "\t" in first or ";" in first or "," not in first


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


def _cell(row: tuple[int, list[str]], column: int, name: str, path: Path, commas: bool) -> float:
    text = row[1][column]
    value = None if "," in text and not commas else _number(text)
    if value is None:
        raise DataError(
            f"'{row[1][column]}' in column '{name}', line {row[0]} of {path.name}",
            "a number, or an empty cell where it is missing",
            "Name the columns to forecast with --columns; --run-column names one that tells "
            "series apart, --time the one of dates.",
        )
    return value
