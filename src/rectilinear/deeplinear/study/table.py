"""Tables as data of a depth study: columns of numbers, one of them the target."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike

from rectilinear.checks import warn_of_codes
from rectilinear.datasets.text_tables import in_words
from rectilinear.deeplinear.study.encode import EMPTY_CELLS, MAX_VALUES, indicators, is_empty
from rectilinear.deeplinear.study.table_file import read_csv, read_parquet
from rectilinear.errors import (
    ConfigError,
    DataError,
    NonFiniteError,
    ShapeError,
)
from rectilinear.notebook import short_repr
from rectilinear.scalars import check_same_order

MIN_ROWS = 4  # to train and to test on
MIN_INEXACT_INTEGER = 2.0**53  # above, float64 does not hold every whole number
MAX_MAGNITUDE = 1e305  # of a number: differences and sums of squares of scaled columns are finite
ROW_NUMBERS = re.compile(
    r"(.*[_ .-])?(rownames|unnamed: 0|index|row|id|obs|no|nr|number)|.*[a-z]I[dD]",
    re.IGNORECASE,
)

Missing: TypeAlias = Literal["error", "drop", "mean"]


@dataclass(frozen=True, eq=False)
class Table:
    """Inputs and a target of a depth study; constant columns are left out, and named.

    Columns of text or of pandas' categories become columns of 0 and 1, one for each value but the
    first, as ``OneHotEncoder(drop="first")`` makes them.

    Attributes:
        X: inputs ``(n, d)``; NaN where a cell is empty and ``missing="mean"``: each fold fills them
            with the mean of its training set.
        y: the target ``(n,)``.
        names: of the inputs.
        target: name of the target.
        constant: names of the columns that were left out.
        encoded: names of the columns that became columns of 0 and 1.
        dropped: the number of rows that were left out for an empty cell.

    Raises:
        ShapeError: for other shapes, or no column that varies.
        DataError: for what is neither numbers nor categories, such as dates, and row numbers; for
            whole numbers that float64 rounds, such as long ids; for frames whose rows are those of
            the target in another order; for a target that does not vary.
        NonFiniteError: for empty cells, NaN or infinity, with the columns they are in.

    Example:
        >>> X = [[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [4.0, 5.0]]
        >>> table = Table.from_arrays(X, [1.0, 2.0, 4.0, 3.0])
        >>> table.names, table.constant
        (('x0',), ('x1',))
    """

    X: np.ndarray
    y: np.ndarray
    names: tuple[str, ...]
    target: str = "y"
    constant: tuple[str, ...] = ()
    encoded: tuple[str, ...] = ()
    dropped: int = 0

    __repr__ = short_repr

    @classmethod
    def from_arrays(cls, X: ArrayLike, y: ArrayLike, *, missing: Missing = "error") -> Table:
        """The table of arrays or data frames, with the names of a frame or ``x0, x1, ...``.

        Args:
            X: inputs ``(n, d)``.
            y: the target ``(n,)``.
            missing: as in :meth:`from_columns`.
        """
        X, y = _plain(X, "X"), _plain(y, "y")
        check_same_order(X, y)
        shape = np.shape(X)
        names = getattr(X, "columns", None)
        names = (
            [f"x{i}" for i in range(shape[-1] if shape else 0)]
            if names is None
            else [str(name) for name in names]
        )
        if len(shape) != 2 or np.shape(y) != shape[:1] or 0 in shape:
            raise ShapeError(
                got=f"X of shape {shape} and y of shape {np.shape(y)}",
                expected="X of shape (rows, columns) and y of shape (rows,), neither of them empty",
                fix="A single input is a column: X[:, None].",
            )
        columns = {name: _column(X, i) for i, name in enumerate(names)}
        if len(columns) < len(names):
            raise DataError("columns of the same name", "names that differ", "Rename them.")
        target = str(getattr(y, "name", None) or "y")
        while target in columns:
            target += "_"
        return cls.from_columns({**columns, target: y}, target, missing=missing)

    @classmethod
    def from_columns(
        cls,
        columns: Mapping[str, ArrayLike],
        target: str,
        drop: Sequence[str] = (),
        *,
        missing: Missing = "error",
    ) -> Table:
        """The table of named columns.

        Args:
            columns: by name, ``(n,)`` each.
            target: name of the column that is predicted.
            drop: names of columns to leave out.
            missing: what becomes of empty cells: ``error``; ``drop``, their rows are left out; or
                ``mean``, the mean of the column over the training set of each fold, and of text a
                value of its own. Rows with an empty target are left out with both.
        """
        if missing not in get_args(Missing):
            raise ConfigError(f"missing = {missing!r}", "error, drop or mean")
        for name in (target, *drop):
            if name not in columns:
                raise ConfigError(f"no column '{name}'", f"one of {', '.join(columns)}")
        if target in drop:
            raise ConfigError(
                f"the target '{target}' among the columns to leave out",
                "another column",
            )
        kept = {name: column for name, column in columns.items() if name not in drop}
        read: dict[str, np.ndarray | str] = {}
        encoded = []
        for name, column in kept.items():
            levels = None if name == target else indicators(column, name, own=missing == "mean")
            if isinstance(levels, dict):
                encoded.append(name)
                read |= levels
            else:
                read[name] = _numbers(column) if levels is None else levels
        if wrong := {name: why for name, why in read.items() if isinstance(why, str)}:
            raise _unreadable(wrong, target, kept[target])
        if "" in read:
            raise DataError(
                "a column without a name",
                "a name for each",
                "Name it; pandas: to_csv(index=False).",
            )
        if copied := [
            name
            for name, column in read.items()
            if name != target and len(read) > 2 and _equal(column, read[target])
        ]:
            columns_of = [name if name in kept else name.split("=")[0] for name in copied]
            raise DataError(
                f"the target '{target}' itself in {in_words(columns_of)}",
                "inputs to predict it from",
                f"Leave it out: {_drop(columns_of)}.",
            )
        if numbered := [name for name, column in read.items() if _numbers_rows(name, column)]:
            raise DataError(
                f"row numbers in {in_words(numbered)}",
                "inputs that mean something",
                "Leave it out: --drop NAME, or in Python drop=[NAME]. Rename it to keep it.",
            )
        found = {name: column for name, column in read.items() if not isinstance(column, str)}
        found, dropped = _without_holes(found, target, missing)
        y = found.pop(target)
        if len(y) < MIN_ROWS:
            rows = f"{len(y)} row{'s'[: len(y) != 1]}"
            raise ShapeError(rows, f"at least {MIN_ROWS}, to train and to test on", "Add rows.")
        if wide := [
            name
            for name, column in [*found.items(), (target, y)]
            if np.nanmax(np.abs(column)) > MAX_MAGNITUDE
        ]:
            raise DataError(
                f"numbers above {MAX_MAGNITUDE:g} in {', '.join(wide)}",
                "smaller ones",
                "Use another unit.",
            )
        constant = tuple(
            name for name, column in found.items() if np.nanmax(column) == np.nanmin(column)
        )
        names = tuple(name for name in found if name not in constant)
        if not names:
            raise ShapeError(
                f"{len(constant)} constant columns and no other",
                "a column that varies",
                "Add inputs.",
            )
        if np.ptp(y) == 0:
            raise DataError(
                f"a target '{target}' that is {y[0]:g} everywhere",
                "one that varies",
            )
        X = np.column_stack([found[name] for name in names])
        warn_of_codes(np.column_stack([X, y]), (*names, target))
        return cls(X, y, names, target, constant, tuple(encoded), dropped)

    @classmethod
    def read(
        cls,
        path: Path | str,
        target: str,
        drop: Sequence[str] = (),
        *,
        missing: Missing = "error",
    ) -> Table:
        """The table in a CSV or Parquet file.

        A CSV file begins with a line of names; commas, semicolons, tabs or ``|`` separate them.
        Numbers have a decimal point and nothing between thousands, or a decimal comma; in a table
        that has decimal commas, a point stands between thousands wherever it can, in all of its
        column. Where all commas can stand between thousands, they are an error. True and false
        of a Parquet file are 1 and 0, and the row numbers that pandas keeps there are left out.

        Args:
            path: of the file.
            target: name of the column that is predicted.
            drop: names of columns to leave out.
            missing: as in :meth:`from_columns`.

        Raises:
            DataError: if the file is missing, empty, or of another kind.
            MissingDependencyError: for Parquet without pyarrow.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"no file {path}", "a CSV or Parquet file")
        readers: dict[str, Callable[[Path], Mapping[str, Any]]] = {
            ".csv": read_csv,
            ".tsv": read_csv,
            ".parquet": read_parquet,
            ".pq": read_parquet,
        }
        if path.suffix.lower() not in readers:
            raise DataError(
                f"a file {path.name}",
                f"one that ends in {', '.join(readers)}",
                "Convert or rename it.",
            )
        return cls.from_columns(readers[path.suffix.lower()](path), target, drop, missing=missing)

    def fingerprint(self) -> str:
        """A hash of names and numbers."""
        text = "\n".join([*self.names, self.target]).encode()
        return hashlib.sha256(text + self.X.tobytes() + self.y.tobytes()).hexdigest()[:16]


def _without_holes(
    columns: dict[str, np.ndarray], target: str, missing: Missing
) -> tuple[dict[str, np.ndarray], int]:
    """The columns without the rows that are left out, and the number of these rows."""
    bad = {
        name: int((np.isinf(column) if missing != "error" else ~np.isfinite(column)).sum())
        for name, column in columns.items()
    }
    if bad := {name: count for name, count in bad.items() if count}:
        raise NonFiniteError(
            got="empty, NaN or infinite cells: "
            + ", ".join(f"{count} in {name}" for name, count in bad.items()),
            expected="a number in every cell",
            fix="Leave out their rows (--missing drop), fill them with means (--missing mean), or "
            "leave out their columns (--drop); in Python missing='drop', and so on.",
        )
    if empty := [name for name, column in columns.items() if np.isnan(column).all()]:
        raise DataError(
            f"no value at all in {', '.join(empty)}", "columns with values", "Leave them out."
        )
    rows = columns.values() if missing == "drop" else [columns[target]]
    keep = ~np.any([np.isnan(column) for column in rows], axis=0)
    return {name: column[keep] for name, column in columns.items()}, int((~keep).sum())


def _plain(values: Any, name: str) -> Any:
    """Frames and arrays as they are, a tensor as an array, lists as an array of one shape."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        return (values.double() if values.is_floating_point() else values).numpy()
    if hasattr(values, "toarray"):
        raise DataError(
            f"{name} as a sparse matrix", "an array or a frame", f"Pass {name}.toarray()."
        )
    try:
        np.shape(values)
    except ValueError as error:
        raise ShapeError(
            f"{name} with rows of different lengths",
            "as many cells in each",
            "Fill short rows with NaN, or leave them out.",
        ) from error
    return values


def _column(X: Any, i: int) -> Any:
    """Column ``i``, of a data frame in its own type."""
    return X.iloc[:, i] if hasattr(X, "iloc") else np.ma.asanyarray(X)[:, i]


def _numbers(column: Any) -> np.ndarray | str:
    """The column in float64, NaN for empty cells; or a description of what is no number in it."""
    if isinstance(column, np.ma.MaskedArray):
        cells, hidden = column.data.astype(object), np.ma.getmaskarray(column)
        cells[hidden] = None
        column = cells
    array = np.asarray(column)
    if array.dtype.kind in "mM":
        return "dates" if array.dtype.kind == "M" else "spans of time"
    if array.dtype.kind == "c":
        return "complex numbers"
    if array.dtype.kind in "OUSTV":
        return _each(array)
    numbers = array.astype(np.float64)
    long = (
        array[np.abs(numbers) >= MIN_INEXACT_INTEGER].tolist() if array.dtype.kind in "iu" else []
    )
    rounded = next((number for number in long if int(float(number)) != number), None)
    return numbers if rounded is None else _rounded(rounded)


def _numbers_rows(name: str, column: np.ndarray | str) -> bool:
    """True of a column with a usual name of row numbers that counts the rows from 0 or 1 on."""
    if not ROW_NUMBERS.fullmatch(name) or isinstance(column, str) or len(column) < MIN_ROWS:
        return False
    return column[0] in (0, 1) and bool((np.diff(column) == 1).all())


def _equal(column: np.ndarray | str, target: np.ndarray | str) -> bool:
    """True of two columns of the same numbers, and the same empty cells."""
    if isinstance(column, str) or isinstance(target, str) or len(column) != len(target):
        return False
    return bool(np.array_equal(column, target, equal_nan=True))


def _unreadable(wrong: Mapping[str, str], target: str, given: Any) -> DataError:
    """The error of columns that are neither numbers nor categories, all at once."""
    got = "; ".join(
        why
        if " in column " in why
        else f"{why} in {in_words([name]) if name else 'a column without a name'}"
        for name, why in wrong.items()
    )
    if target in wrong:
        words = sorted({str(cell) for cell in given if not is_empty(cell)})
        fix = "Write numbers in it."
        if len(words) == 2:
            fix = f"Write 0 for {words[0]} and 1 for {words[1]}."
        elif len(words) <= MAX_VALUES:
            fix = "Of classes, make a column of 0 and 1 for one of them, and drop the others."
        return DataError(f"{got}, the target", "a target of numbers", fix)
    return DataError(
        got,
        "numbers, with a decimal point and nothing between thousands, or categories: at most "
        f"{MAX_VALUES} values, each in two rows on average",
        f"Encode them as numbers, or leave them out: {_drop(list(wrong))}.",
    )


def _drop(names: Sequence[str]) -> str:
    options = " ".join(f"--drop {shlex.quote(name)}" for name in names)
    return f"{options}, or in Python drop={list(names)}"


def _rounded(number: Any) -> str:
    return f"{number}, a whole number of more digits than float64 has,"


def _each(cells: np.ndarray) -> np.ndarray | str:
    numbers = np.empty(len(cells))
    for i, cell in enumerate(cells):
        if (
            cell is None
            or type(cell).__name__ in ("NAType", "NaTType")
            or (isinstance(cell, str) and cell in EMPTY_CELLS)
        ):
            numbers[i] = np.nan
            continue
        try:
            if isinstance(cell, complex) or (
                isinstance(cell, str) and "_" in cell
            ):  # to Python 1_000 is a number
                raise TypeError
            numbers[i] = float(cell)
            if (
                MIN_INEXACT_INTEGER <= abs(numbers[i]) < np.inf
                and (whole := _whole(cell)) is not None
                and int(numbers[i]) != whole
            ):
                return _rounded(whole)
        except OverflowError:
            return _rounded(f"{str(cell)[:20]}...")
        except (TypeError, ValueError):
            return (
                f"text such as {str(cell)!r}"
                if isinstance(cell, str | bytes)
                else f"a {type(cell).__name__}"
            )
    return numbers


def _whole(cell: Any) -> int | None:
    """The cell as an integer if it is written as one, else None."""
    if isinstance(cell, bytes):
        cell = cell.decode()
    if isinstance(cell, str):
        return int(cell) if cell.strip().lstrip("+-").isdecimal() else None
    return int(cell) if not isinstance(cell, float | np.floating) and int(cell) == cell else None
