"""A user's table: numbers in columns, one of them the target."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rectilinear.errors import ConfigError, DataError, MissingDependencyError, NonFiniteError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike

_FEWEST = 4  # rows


@dataclass(frozen=True, eq=False)
class Table:
    """Inputs ``(n, d)``, a target ``(n,)`` and the names of the inputs; constant columns are left out, and named.

    Raises:
        ShapeError: for other shapes, or no column that varies.
        DtypeError: for what is not numbers.
        NonFiniteError: for empty cells, NaN or infinity, with the columns they are in.
        DataError: if the target does not vary.

    Example:
        >>> table = Table.from_arrays([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [4.0, 5.0]], [1.0, 2.0, 4.0, 3.0])
        >>> table.names, table.constant
        (('x0',), ('x1',))
    """

    X: np.ndarray
    y: np.ndarray
    names: tuple[str, ...]
    target: str = "y"
    constant: tuple[str, ...] = ()

    @classmethod
    def from_arrays(cls, X: ArrayLike, y: ArrayLike) -> Table:
        """From arrays or data frames; the names are those of the frame's columns, or ``x0, x1, ...``."""
        shape = np.shape(X)
        names = getattr(X, "columns", None)
        names = [f"x{i}" for i in range(shape[-1] if shape else 0)] if names is None else [str(name) for name in names]
        if len(shape) != 2 or np.shape(y) != shape[:1] or 0 in shape:
            raise ShapeError(
                got=f"X of shape {shape} and y of shape {np.shape(y)}",
                expected="X of shape (rows, columns) and y of shape (rows,), neither of them empty",
                fix="A single input is a column: X[:, None].",
            )
        columns = {name: np.asarray(X)[:, i] for i, name in enumerate(names)}
        if len(columns) < len(names):
            raise DataError("columns of the same name", "names that differ", "Rename them.")
        target = str(getattr(y, "name", None) or "y")
        while target in columns:
            target += "_"
        return cls.from_columns({**columns, target: np.asarray(y)}, target)

    @classmethod
    def from_columns(cls, columns: Mapping[str, ArrayLike], target: str, drop: Sequence[str] = ()) -> Table:
        """From named columns, of which one is the target and some are to be left out."""
        for name in (target, *drop):
            if name not in columns:
                raise ConfigError(f"no column '{name}'", f"one of {', '.join(columns)}", "Check its spelling.")
        numbers = {name: _numbers(column) for name, column in columns.items() if name not in drop or name == target}
        if text := [name for name, column in numbers.items() if column is None]:
            raise DataError(
                got=f"text in column {', '.join(text)}",
                expected="numbers",
                fix="Encode it as numbers, or leave it out with --drop NAME (in Python, drop=[NAME]).",
            )
        found = {name: column for name, column in numbers.items() if column is not None}
        if holes := {name: int((~np.isfinite(column)).sum()) for name, column in found.items()}:
            holes = {name: count for name, count in holes.items() if count}
        if holes:
            raise NonFiniteError(
                got=f"empty, NaN or infinite cells: {', '.join(f'{n} in {name}' for name, n in holes.items())}",
                expected="a number in every cell",
                fix="Fill them or leave out their rows or columns.",
            )
        y = found.pop(target)
        if len(y) < _FEWEST:
            rows = f"{len(y)} row{'s'[: len(y) != 1]}"
            raise ShapeError(rows, f"at least {_FEWEST}, to train and to test on", "Add rows.")
        constant = tuple(name for name, column in found.items() if np.ptp(column) == 0)
        names = tuple(name for name in found if name not in constant)
        if not names:
            raise ShapeError(f"{len(constant)} constant columns and no other", "a column that varies", "Add inputs.")
        if np.ptp(y) == 0:
            raise DataError(f"a target '{target}' that is {y[0]:g} everywhere", "one that varies", "Choose another.")
        return cls(np.column_stack([found[name] for name in names]), y, names, target, constant)

    @classmethod
    def read(cls, path: Path | str, target: str, drop: Sequence[str] = ()) -> Table:
        """From a CSV file with a line of names, or a Parquet file.

        Raises:
            DataError: if the file is missing, empty, or of another kind.
            MissingDependencyError: for Parquet without pyarrow.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"no file {path}", "a CSV or Parquet file", "Check its path.")
        readers: dict[str, Callable[[Path], Mapping[str, Any]]] = {
            ".csv": _read_csv,
            ".tsv": _read_csv,
            ".parquet": _read_parquet,
            ".pq": _read_parquet,
        }
        if path.suffix.lower() not in readers:
            raise DataError(f"a file {path.name}", f"one that ends in {', '.join(readers)}", "Convert or rename it.")
        return cls.from_columns(readers[path.suffix.lower()](path), target, drop)

    def fingerprint(self) -> str:
        """What tells this table from another."""
        text = "\n".join([*self.names, self.target]).encode()
        return hashlib.sha256(text + self.X.tobytes() + self.y.tobytes()).hexdigest()[:16]


def _numbers(column: Any) -> np.ndarray | None:
    """The column in float64 with NaN for empty cells; None where it is text."""
    array = np.asarray(column)
    if array.dtype.kind in "OUST":
        array = np.asarray([np.nan if cell is None or cell in _EMPTY else cell for cell in array], object)
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        return None


_EMPTY = ("", "NA", "N/A", "nan", "NaN", "null")


def _read_csv(path: Path) -> dict[str, list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            lines = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", skipinitialspace=True)
            names, *rows = [line for line in lines if line]
        except (UnicodeDecodeError, csv.Error, ValueError) as error:
            raise DataError(f"{path.name}, which is empty or no text", "a line of names and lines of values") from error
    if len(set(names)) < len(names):
        raise DataError(f"columns of the same name in {path.name}", "names that differ", "Rename them.")
    if uneven := next((i for i, row in enumerate(rows, start=2) if len(row) != len(names)), None):
        raise DataError(
            got=f"{len(rows[uneven - 2])} values in line {uneven} of {path.name}",
            expected=f"{len(names)}, as in its first line",
            fix="Mend this line.",
        )
    return {name: [row[i].strip() for row in rows] for i, name in enumerate(names)}


def _read_parquet(path: Path) -> dict[str, np.ndarray]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingDependencyError(
            "a Parquet file without pyarrow", "pyarrow", "Install it: pip install 'rectilinear[tables]'."
        ) from error
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path.name}, which cannot be read as Parquet", "a Parquet file", "Write it again.") from error
    return {name: column.to_numpy() for name, column in zip(table.column_names, table.columns, strict=True)}
