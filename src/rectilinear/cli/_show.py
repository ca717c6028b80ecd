"""Results of commands as text: names beside values, and tables that fit the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from itertools import zip_longest
from math import inf
from numbers import Real
from textwrap import wrap
from typing import Any, NamedTuple

GAP = 2  # characters between columns


def show(result: dict[str, Any]) -> None:
    """Print names beside values, and lists of objects as tables.

    Tables are as wide as the terminal, and of any width in a pipe or a file.
    """
    plain = {name: value for name, value in result.items() if not _is_table(value)}
    width = max(map(len, plain), default=0) + 2
    for name, value in plain.items():
        print(f"{name:<{width}}" + _text(value).replace("\n", "\n" + " " * width))
    for name, rows in result.items():
        if _is_table(rows):
            print("\n".join(["", name, *table_lines(rows, _columns())]))


def table_lines(rows: list[dict[str, Any]], width: float = inf) -> list[str]:
    r"""The lines of a table: a head and its rows, of which no word or number is ever cut.

    Texts and heads of several words are wrapped. Columns that do not fit beside the others follow
    below, again beside the first.

    Example:
        >>> print("\n".join(table_lines([{"model": "NLinear", "error": 0.25, "of": 8}], 16)))
        model    error
        NLinear   0.25
        <BLANKLINE>
        model    of
        NLinear   8
    """
    first, *others = (_Column.of(name, [row.get(name) for row in rows]) for name in rows[0])
    parts: list[list[_Column]] = [[first]]
    for column in others:
        taken = sum(c.least + GAP for c in parts[-1])
        if len(parts[-1]) > 1 and taken + column.least > width:
            parts.append([first])
        parts[-1].append(column)
    lines: list[str] = []
    for part in parts:
        lines += ["", *_block(part, width)] if lines else _block(part, width)
    return lines


class _Column(NamedTuple):
    """The texts of a column, its head first, and the least and the most characters it needs."""

    cells: list[str]
    least: int
    most: int
    numbers: bool

    @classmethod
    def of(cls, name: str, values: list[Any]) -> _Column:
        cells = [name, *map(_text, values)]
        words = [word for cell in cells for word in cell.split()]
        numbers = all(value is None or isinstance(value, Real) for value in values)
        return cls(cells, max(map(len, words), default=1), max(map(len, cells)), numbers)


def _block(columns: list[_Column], width: float) -> list[str]:
    """The lines of columns beside each other."""
    sizes = [c.least for c in columns]
    rest = width - sum(sizes) - GAP * (len(columns) - 1)
    for i in sorted(range(len(columns)), key=lambda i: columns[i].most - columns[i].least):
        more = min(columns[i].most - columns[i].least, max(rest, 0))
        sizes[i] += int(more)
        rest -= more
    lines = []
    for row in zip(*(c.cells for c in columns), strict=True):
        wrapped = [
            wrap(cell, size, break_long_words=False, break_on_hyphens=False)
            for cell, size in zip(row, sizes, strict=True)
        ]
        for texts in zip_longest(*wrapped, fillvalue=""):
            cells = (
                text.rjust(size) if column.numbers else text.ljust(size)
                for text, size, column in zip(texts, sizes, columns, strict=True)
            )
            lines.append((" " * GAP).join(cells).rstrip())
    return lines


def _columns() -> float:
    """The characters in a line of the terminal; infinite of a file or a pipe."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return shutil.get_terminal_size().columns
    return inf


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        if not value:
            return "none"
        sentences = any(isinstance(item, str) and item.endswith(".") for item in value)
        return ("\n" if sentences else ", ").join(map(_text, value))
    if isinstance(value, dict):
        return "  ".join(f"{name} {_text(item)}" for name, item in value.items())
    return str(value)
