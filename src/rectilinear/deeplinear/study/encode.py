"""Columns of text as numbers: categories as columns of 0 and 1."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from rectilinear.datasets.text_tables import in_words

EMPTY_CELLS = ("", "NA", "N/A", "n/a", "#N/A", "nan", "NaN", "null", "NULL", "<NA>", "?", ".")
MAX_VALUES = 30  # of a column of categories: with more it holds names, ids or sentences
NUMBER_LIKE = re.compile(r"[-+(]?[$€£]?\s*[\d.,'_ ]*\d[\d.,'_ ]*([eE][-+]?\d+)?\s*[%$€£)]?")
DATE_LIKE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*|\d{1,2}:\d{2}.*")


def indicators(column: Any, name: str, *, own: bool) -> dict[str, np.ndarray] | str | None:
    """Columns of 0 and 1 for each value but the first, by name; None for what is no text.

    Of text with too many values to be categories, a description of it.

    Categories are columns of pandas' type of this name, and columns of text of which no cell looks
    like a number or a date: those are rather numbers in another notation.

    Args:
        column: the cells.
        name: of the column; the new ones are called ``name=value``.
        own: whether empty cells are a value of their own, ``missing``; otherwise they are NaN.

    Example:
        >>> indicators(["b", "a", "b", "a"], "kind", own=False)
        {'kind=b': array([1., 0., 1., 0.])}
    """
    cells = np.asarray(column, dtype=object)
    if cells.ndim != 1 or any(np.ndim(cell) for cell in cells):  # lists, from a frame or a file
        return None
    typed = type(getattr(column, "dtype", None)).__name__ == "CategoricalDtype"
    empty = np.array([is_empty(cell) for cell in cells], dtype=bool)
    words = [str(cell) for cell in cells[~empty]]
    if not typed and not (words and all(_is_word(cell) for cell in cells[~empty])):
        return None
    values = sorted(set(words))
    if len(values) > MAX_VALUES or (not typed and 2 * len(values) > len(words)):
        return (
            f"text such as {words[0]!r} in {in_words([name])}, with {len(values)} values in "
            f"{len(words)} rows"
        )
    text = np.array([None if hole else str(cell) for cell, hole in zip(cells, empty, strict=True)])
    found = {f"{name}={value}": (text == value).astype(float) for value in values[1:]}
    if own and empty.any():
        return {**found, f"{name}=missing": empty.astype(float)}
    if not found:  # one value: constant, but for what is missing
        found = {f"{name}={values[0]}": np.ones(len(cells))}
    for indicator in found.values():
        indicator[empty] = np.nan
    return found


def is_empty(cell: object) -> bool:
    """True for None, NaN, and text that stands for them.

    Example:
        >>> is_empty("NA"), is_empty(None), is_empty(float("nan")), is_empty("no")
        (True, True, True, False)
    """
    if isinstance(cell, str):
        return cell in EMPTY_CELLS
    return cell is None or type(cell).__name__ in ("NAType", "NaTType") or cell != cell


def _is_word(cell: object) -> bool:
    """True for text that is no number and no date in any notation."""
    return isinstance(cell, str) and not (
        NUMBER_LIKE.fullmatch(cell.strip())
        or DATE_LIKE.fullmatch(cell.strip())
        or cell.strip().lower().lstrip("+-") in ("inf", "infinity")
    )
