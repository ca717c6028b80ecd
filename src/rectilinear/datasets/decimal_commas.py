"""Columns of text whose numbers have decimal commas, written with points."""

from __future__ import annotations

import re
from collections.abc import Sequence

_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"[-+]?(\d+|[1-9]\d{0,2}(\.\d{3})+)(,\d+)?([eE][-+]?\d+)?")
_POINTED = re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+")  # between thousands, or a decimal one
_EITHER = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+")


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
