"""Classes of the images in a folder from a table: a CSV file of names and classes."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rectilinear.errors import DataError


def read_labels(path: Path, files: Sequence[Path], root: Path) -> dict[Path, str]:
    r"""The class of each of the image ``files`` under ``root``, from the table ``path``.

    A row is a file and its class: the path below ``root``, or the name alone where only one file
    has it. Cells are separated by commas, semicolons or tabs; a first row that names no file is a
    header. Rows of files that are not there are an error, as are files without a row.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> _ = (root / "labels.csv").write_text("file,class\na.png,cat\nsub/b.png,dog\n")
        >>> files = [root / "a.png", root / "sub" / "b.png"]
        >>> list(read_labels(root / "labels.csv", files, root).values())
        ['cat', 'dog']
    """
    below = {file.relative_to(root).as_posix(): file for file in files}
    named = defaultdict(list)
    for file in files:
        named[file.name].append(file)
    found: dict[Path, str] = {}
    for number, cells in _rows(path):
        name, label = (cell.strip() for cell in [*cells, "", ""][:2])
        exact = below.get(Path(name).as_posix())
        matches = named.get(name, []) if exact is None else [exact]
        if not matches and number == 1:
            continue
        got = f"row {number} of {path}, '{name}'"
        if len(matches) != 1:
            problem = f"that {len(matches)} files have" if matches else "that no image has"
            fix = (
                "Write paths below the folder."
                if matches
                else "Write file names with their endings."
            )
            raise DataError(f"{got}, a name {problem}", f"an image in {root}", fix)
        if not label:
            raise DataError(f"{got} without a class", "two cells: file, class", "Add the class.")
        if found.setdefault(matches[0], label) != label:
            raise DataError(
                f"{got} with the classes '{found[matches[0]]}' and '{label}'",
                "one class for each image",
                "Remove one of the rows.",
            )
    if missing := [file for file in files if file not in found]:
        raise DataError(
            f"{len(missing)} of {len(files)} images without a row in {path}: {missing[0].name}",
            "a class for each image",
            "Add their rows, or remove the images.",
        )
    return found


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows that are not empty, with their numbers from 1."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"a table of labels {path} that cannot be read ({type(error).__name__})",
            "a CSV file in UTF-8: file, class",
        ) from error
    lines = text.splitlines()
    first = lines[0] if lines else ""
    delimiter = max(",;\t", key=first.count)
    rows = enumerate(csv.reader(lines, delimiter=delimiter), 1)
    return [(number, cells) for number, cells in rows if any(cell.strip() for cell in cells)]
