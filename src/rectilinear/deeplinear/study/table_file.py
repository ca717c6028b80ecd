"""Columns of CSV and Parquet files, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rectilinear.errors import DataError, MissingDependencyError

TOTALS = re.compile(r"((grand|sub)[ -]?)?totals?|sum|average|mean|summe|gesamt", re.IGNORECASE)
PANDAS_INDEX = re.compile(r"__index_level_\d+__")  # the index of a frame in a Parquet file


def read_csv(path: Path) -> dict[str, list[str]]:
    """The cells of each column, without a nameless one that is empty or an index."""
    # here, because its package loads torch
    from rectilinear.datasets.text_tables import columns_of, read_rows, with_points

    (_, names), *rows = read_rows(path)
    _check_names(names, path)
    columns = columns_of(rows, len(names), path)
    _check_last(columns, rows[-1][0] if rows else 0, path)
    found = dict(zip(names, with_points(columns), strict=True))
    if "" in found and (not any(found[""]) or (not names[0] and _is_index(found[""]))):
        del found[""]
    return found


def _is_index(cells: Sequence[str]) -> bool:
    """True of the row numbers, or the names of rows, that pandas and R write without a name."""
    numbers = [int(cell) if cell.isdecimal() else -1 for cell in cells]
    counts = numbers[:1] in ([0], [1]) and bool((np.diff(numbers) == 1).all())
    return counts or (max(numbers, default=0) < 0 and len(set(cells)) == len(cells))


def _check_last(columns: Sequence[Sequence[str]], line: int, path: Path) -> None:
    """Raise for a last row that is named a total or a mean, as no other is."""
    for cells in columns:
        last = cells[-1].strip(" :") if cells else ""
        if TOTALS.fullmatch(last) and cells[-1] not in cells[:-1]:
            raise DataError(
                f"a row of totals or means ('{last}'), line {line} of {path.name}",
                "rows of the data alone",
                "Remove it.",
            )


def _check_names(names: Sequence[str], path: Path) -> None:
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise DataError(
            f"columns of the same name '{twice}' in {path.name}",
            "names that differ",
            "Rename them.",
        )


def read_parquet(path: Path) -> dict[str, np.ndarray]:
    """The values of each column, without pandas' index."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingDependencyError.of("a Parquet file", "pyarrow", extra="tables") from error
    try:
        table = parquet.ParquetFile(path).read()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{path.name}, which cannot be read as Parquet", "a Parquet file", "Write it again."
        ) from error
    _check_names(table.column_names, path)
    return {
        name: column.to_pylist() if pyarrow.types.is_dictionary(column.type) else column.to_numpy()
        for name, column in zip(table.column_names, table.columns, strict=True)
        if not PANDAS_INDEX.fullmatch(name)
    }
