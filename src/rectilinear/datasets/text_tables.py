"""Text tables with commas, semicolons, tabs or bars between cells, and decimal commas in them."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from rectilinear.datasets.read_image import EXTENSIONS
from rectilinear.errors import ConfigError, DataError

DELIMITER_LINES = 100  # lines that must agree on the delimiter
MISSING = ("", "na", "n/a", "#n/a", "nan", "nat", "<na>", "null", "none", "?", ".", "-")
"""Cells, in small letters, that stand for a missing number or date."""
_SEPARATORS = {"tab": "\t", "\\t": "\t", "space": " "}  # as they are written in a shell
_WIDE = (b"\xff\xfe", b"\xfe\xff")  # how text in UTF-16 begins, which has zeros, too
_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"[-+]?(\d+|[1-9]\d{0,2}(\.\d{3})+)(,\d+)?([eE][-+]?\d+)?")
_POINTED = re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+")  # between thousands, or a decimal one
_UNNAMED = re.compile(r"column (\d+)")  # names of the columns of a table without names
_EITHER = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+")


def read_rows(path: Path, separator: str | None = None) -> list[tuple[int, list[str]]]:
    r"""The rows of a text table: line number and cells, without blank lines and outer spaces.

    Rows of empty cells at the end, which spreadsheets leave, are no rows. A typographic minus sign
    before a digit is a minus sign. Text is UTF-8, with or without a mark of it.

    Args:
        path: the file.
        separator: one character, or "tab"; by default tabs, semicolons, bars or commas: the first
            of these that parts the first lines into as many cells each.

    Raises:
        DataError: for a file that is empty, cannot be read, or is no text in UTF-8.
        ConfigError: for a separator of several characters.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = path.write_text("height; weight\n\n1.5;2\n")
        >>> read_rows(path)
        [(1, ['height', 'weight']), (3, ['1.5', '2'])]
    """
    separator = None if separator is None else _SEPARATORS.get(separator, separator)
    if separator is not None and len(separator) != 1:
        raise ConfigError(f"separator '{separator}'", "one character, or tab")
    try:
        _refuse_binary(path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(islice(file, DELIMITER_LINES))
            delimiter = separator or _delimiter(lines, tabs=path.suffix.lower() == ".tsv")
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


def columns_of(
    rows: Sequence[tuple[int, Sequence[str]]], width: int, path: Path
) -> list[tuple[str, ...]]:
    """The cells of each of ``width`` columns, of the rows below the names.

    Raises:
        DataError: for a row with more cells, or fewer.

    Example:
        >>> columns_of([(2, ["1", "2"]), (3, ["3", "4"])], 2, Path("a.csv"))
        [('1', '3'), ('2', '4')]
    """
    for line, cells in rows:
        if len(cells) != width:
            raise DataError(
                f"{len(cells)} values in line {line} of {path.name}",
                f"{width}, as in its first line",
                "Quote cells that have the separator in them; the first line holds the names of "
                "the columns. (For forecast: --separator names another separator.)",
            )
    return [tuple(cells[i] for _, cells in rows) for i in range(width)]


def in_words(names: Sequence[str]) -> str:
    """Names of columns in a message; those of a table without names are numbers.

    Example:
        >>> in_words(["height"]), in_words(["height", "age"]), in_words(["column 1"])
        ("column 'height'", "columns 'height', 'age'", 'column 1')
    """
    numbers = [_UNNAMED.fullmatch(name) for name in names]
    said = [n[1] if n else f"'{name}'" for name, n in zip(names, numbers, strict=True)]
    return f"column{'s' * (len(names) != 1)} {', '.join(said)}"


def is_missing(cell: str) -> bool:
    """True for the usual signs of a missing number or date.

    Example:
        >>> is_missing("NA"), is_missing(" "), is_missing("0")
        (True, True, False)
    """
    return cell.strip().lower() in MISSING


def _refuse_binary(path: Path) -> None:
    """Raise for an image, an archive or another file with zero bytes, which no text has."""
    with path.open("rb") as file:
        head = file.read(4096)
    image = path.suffix.lower() in EXTENSIONS
    if not image and (b"\0" not in head or head.startswith(_WIDE)):
        return
    kind = "an image" if image else "a binary file"
    raise DataError(
        f"{path.name}, which is {kind} and no text",
        "a table of numbers as text, such as a .csv file with a line of names",
        "Name a file of this kind; spreadsheets export theirs as CSV.",
    )


def _cell(text: str) -> str:
    return re.sub(r"^[\u2212](?=\d)", "-", text.strip())


def _delimiter(lines: list[str], *, tabs: bool) -> str:
    for delimiter in ("\t",) if tabs else ("\t", ";", "|", ","):
        rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        counts = {len(row) for row in rows if row}
        if len(counts) == 1 and counts.pop() > 1:
            return delimiter
    return "\t" if tabs else ","


def with_points(columns: Sequence[Sequence[str]]) -> list[list[str]]:
    """The columns of a table, decimal commas written as points; other columns as they are.

    A column has decimal commas if each of its numbers can be read so. Where all commas of a table
    can stand between thousands, as in ``1,234``, none is read as a decimal one. Beside decimal
    commas a point stands between thousands in all columns where each one can. What is left with a
    comma or with a point too many is no number, and for the reader to refuse.

    Args:
        columns: cells without outer spaces.

    Example:
        >>> with_points([["1,5", "2"], ["1.234", ""], ["0.5", "1.234"]])
        [['1.5', '2'], ['1234', ''], ['0.5', '1.234']]
        >>> with_points([["1,500", "20"]])
        [['1,500', '20']]
    """
    numbers = [[cell for cell in column if _DIGIT.search(cell)] for column in columns]
    decimal = [_can_have_commas(cells) for cells in numbers]
    commas = [c for cells, yes in zip(numbers, decimal, strict=True) if yes for c in cells]
    if all(map(_EITHER.fullmatch, (cell for cell in commas if "," in cell))):
        return [list(column) for column in columns]
    return [
        [_plain(cell) for cell in column] if yes or _has_thousands(cells) else list(column)
        for column, cells, yes in zip(columns, numbers, decimal, strict=True)
    ]


def _can_have_commas(cells: list[str]) -> bool:
    return any("," in cell for cell in cells) and all(map(_NUMBER.fullmatch, cells))


def _has_thousands(cells: list[str]) -> bool:
    some = [cell for cell in cells if "." in cell]
    return bool(some) and all(map(_POINTED.fullmatch, some))


def _plain(cell: str) -> str:
    """A cell of a column of decimal commas; a sign of a missing value stays as it is."""
    return cell.replace(".", "").replace(",", ".") if _DIGIT.search(cell) else cell
