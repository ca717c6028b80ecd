"""Text tables with commas, semicolons, tabs or bars; and series of numbers, with their times."""

from __future__ import annotations

import csv
import re
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rectilinear.errors import DataError

DELIMITER_LINES = 100  # lines that must agree on the delimiter
TIME = ("time", "t")
"""Names of a column that holds the times."""
_DATES = ("date", "dates", "datetime", "timestamp", "year")  # columns not in equal units


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    r"""The rows of a text table: line number and cells, without blank lines and outer spaces.

    Rows of empty cells at the end, which spreadsheets leave, are no rows. A typographic minus sign
    before a digit is a minus sign. Cells are parted by tabs, semicolons, bars or commas: the first
    of these that parts the first lines into as many cells each. Text is UTF-8, with or without a
    mark of it.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = path.write_text("height; weight\n\n1.5;2\n")
        >>> read_rows(path)
        [(1, ['height', 'weight']), (3, ['1.5', '2'])]
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            delimiter = _delimiter(
                list(islice(file, DELIMITER_LINES)), tabs=path.suffix.lower() == ".tsv"
            )
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            rows = [(reader.line_num, [_cell(cell) for cell in row]) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path.name}, which is no text in UTF-8: {error}", "rows of cells", "Save it as UTF-8."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}, which cannot be read: {error.strerror}",
            "a text file",
            "Check its path and permissions.",
        ) from error
    while rows and not any(rows[-1][1]):
        rows.pop()
    if not rows:
        raise DataError(f"{path.name}, which is empty", "a line of names and lines of values")
    return rows


def _cell(text: str) -> str:
    return re.sub(r"^[\u2212](?=\d)", "-", text.strip())


def _delimiter(lines: list[str], *, tabs: bool) -> str:
    for delimiter in ("\t",) if tabs else ("\t", ";", "|", ","):
        rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        counts = {len(row) for row in rows if row}
        if len(counts) == 1 and counts.pop() > 1:
            return delimiter
    return "\t" if tabs else ","


def read_series(path: Path, dt: float | None = None) -> tuple[Tensor, Tensor]:
    r"""The series in a file and their times: ``(count, T, d)`` and ``(count, T)``, float64.

    ``.csv``: one series, a column a variable, parted by commas, semicolons, tabs or bars, with or
    without a line of names; a column named "time" or "t" holds the times. ``.npy``: an array
    ``(T,)``, ``(T, d)`` or ``(count, T, d)``. Without times steps are ``dt``, 1 by default.
    Columns without a name, such as pandas' row numbers, and those named as dates are refused: they
    are no variables.
    Empty cells become NaN, which models of series refuse as gaps.

    Args:
        path: the file.
        dt: time between rows, where the file has no times; 1 by default.

    Raises:
        DataError: for a file that is missing, of another kind, or not a table of numbers.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "series.csv"
        >>> _ = path.write_text("time,height\n0.0,1.0\n0.5,3.0\n")
        >>> states, times = read_series(path)
        >>> states.tolist(), times.tolist()
        ([[[1.0], [3.0]]], [[0.0, 0.5]])
    """
    if not path.is_file():
        raise DataError(f"no file {path}", "a .csv or .npy file")
    try:
        if path.suffix == ".npy":
            return _with_times(np.load(path, allow_pickle=False), None, dt)
        if path.suffix == ".csv":
            return _with_times(*_csv(path), dt)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path}, which is no table of numbers: {error}",
            "numbers",
            "Check that every cell below the line of names is a number.",
        ) from error
    raise DataError(f"{path}", "a file that ends in .csv or .npy", "Save it as one of these.")


def _csv(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    rows = [cells for _, cells in read_rows(path)]
    names = [] if all(map(_is_number, rows[0])) else [name.strip().lower() for name in rows.pop(0)]
    if uneven := next((row for row in rows if len(row) != len(names or rows[0])), None):
        raise ValueError(
            f"a row of {len(uneven)} cells, where the first has {len(names or rows[0])}"
        )
    table = np.array([[_value(cell) for cell in row] for row in rows], dtype=np.float64)
    if "" in names:
        raise DataError(
            f"a column without a name in {path.name}",
            "a name for each",
            "Name it; pandas: to_csv(index=False).",
        )
    if date := next((name for name in names if name in _DATES), None):
        raise DataError(
            got=f"a column '{date}' in {path.name}, which would be a variable",
            expected="variables, and times in a column named 'time'",
            fix="Name it 'time' if it counts in equal units, or leave it out.",
        )
    if len(clocks := [i for i, name in enumerate(names) if name in TIME]) > 1:
        raise ValueError(f"{len(clocks)} columns of times")
    clock = next(iter(clocks), None)
    if clock is None:
        return table, None
    return np.delete(table, clock, axis=1), table[:, clock]


def _with_times(
    array: np.ndarray, clock: np.ndarray | None, dt: float | None
) -> tuple[Tensor, Tensor]:
    array = array[:, None] if array.ndim == 1 else array
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or not array.size or array.dtype.kind not in "fiu":
        raise ValueError(f"its shape is {array.shape}, its type {array.dtype}")
    states = torch.from_numpy(array.astype(np.float64))
    if clock is not None:
        return states, torch.from_numpy(clock.astype(np.float64))[None]
    step = 1.0 if dt is None else dt
    return states, (step * torch.arange(array.shape[1], dtype=torch.float64)).expand(
        array.shape[0], -1
    )


def _is_number(cell: str) -> bool:
    try:
        _value(cell)
    except ValueError:
        return False
    return True


def _value(cell: str) -> float:
    if "_" in cell:
        raise ValueError(f"the text '{cell}'")  # to Python 1_000 is a number
    return float(cell) if cell else float("nan")
