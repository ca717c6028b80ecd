"""Columns of text whose numbers have decimal commas, written with points."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"[-+]?(\d+|[1-9]\d{0,2}(\.\d{3})+)(,\d+)?([eE][-+]?\d+)?")
_POINTED = re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+")  # between thousands, or a decimal one
_EITHER = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+")


def commas_part_cells(path: Path, separator: str | None = None) -> bool:
    """True of a text table whose cells are parted by commas: ``separator``, or its first line's."""
    if separator is not None:
        return separator == ","
    with path.open(encoding="utf-8-sig") as file:
        first = next((line for line in file if line.strip()), "")
    return "," in first and not any(sign in first for sign in "\t;|")


def with_points(columns: Sequence[Sequence[str]], *, quoted: bool) -> list[list[str]]:
    """The columns of a table, decimal commas written as points; other columns as they are.

    A column has decimal commas if each of its numbers can be read so. Beside one that has, a point
    stands between thousands in all columns where each one can. What is left with a comma or with a
    point too many is no number, and for the reader to refuse.

    Args:
        columns: cells without outer spaces.
        quoted: whether commas part the cells, so that a comma within one was quoted: where all of
            these may stand between thousands, as in ``"1,234"``, the column stays as it is.

    Example:
        >>> with_points([["1,5", "2"], ["1.234", ""], ["0.5", "1.234"]], quoted=False)
        [['1.5', '2'], ['1234', ''], ['0.5', '1.234']]
        >>> with_points([["1,500", "20"]], quoted=True)
        [['1,500', '20']]
    """
    numbers = [[cell for cell in column if _DIGIT.search(cell)] for column in columns]
    decimal = [_has_commas(cells, quoted=quoted) for cells in numbers]
    if not any(decimal):
        return [list(column) for column in columns]
    return [
        [_plain(cell) for cell in column] if commas or _has_thousands(cells) else list(column)
        for column, cells, commas in zip(columns, numbers, decimal, strict=True)
    ]


def _has_commas(cells: list[str], *, quoted: bool) -> bool:
    some = [cell for cell in cells if "," in cell]
    if not some or not all(map(_NUMBER.fullmatch, cells)):
        return False
    return not quoted or not all(map(_EITHER.fullmatch, some))


def _has_thousands(cells: list[str]) -> bool:
    some = [cell for cell in cells if "." in cell]
    return bool(some) and all(map(_POINTED.fullmatch, some))


def _plain(cell: str) -> str:
    """A cell of a column of decimal commas; a sign of a missing value stays as it is."""
    return cell.replace(".", "").replace(",", ".") if _DIGIT.search(cell) else cell
