"""Text in rows and cells, whichever of comma, semicolon or tab is between them."""

from __future__ import annotations

import csv
from itertools import islice
from typing import TYPE_CHECKING

from rectilinear.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

_LOOKED_AT = 100  # lines that must agree on what is between their cells


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    r"""The rows of a text file that are not blank: the number of the line, and its cells without spaces around them.

    Cells are parted by tabs, semicolons or commas: the first of these that parts the first lines into as many cells
    each. Text is UTF-8, with or without a mark of it.

    Raises:
        DataError: if the file is empty, or no such text.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = path.write_text("height; weight\n\n1.5;2\n")
        >>> read_rows(path)
        [(1, ['height', 'weight']), (3, ['1.5', '2'])]
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            delimiter = _delimiter(list(islice(file, _LOOKED_AT)), tabs=path.suffix.lower() == ".tsv")
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path.name}, which is no text in UTF-8: {error}", "rows of cells", "Save it anew.") from error
    except OSError as error:
        raise DataError(f"{path}, which cannot be read: {error.strerror}", "a text file", "Check it.") from error
    if not rows:
        raise DataError(f"{path.name}, which is empty", "a line of names and lines of values", "Check the file.")
    return rows


def _delimiter(lines: list[str], *, tabs: bool) -> str:
    for delimiter in ("\t",) if tabs else ("\t", ";", ","):
        rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        counts = {len(row) for row in rows if row}
        if len(counts) == 1 and counts.pop() > 1:
            return delimiter
    return "\t" if tabs else ","
