"""``rectilinear data``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from rectilinear.cli._options import Common


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Check a data set, and download it where it is missing.

    Names are digits, mnist, fashion_mnist, or a folder of images.
    """

    name: tyro.conf.Positional[str]
    """Name of the data set, or a folder of images."""
    out: Path | None = None
    """Folder of data sets; $RECTILINEAR_DATA, then ./data, by default."""
    size: int | None = None
    """Side of the square images in pixels; that of the files by default."""

    def folders(self) -> tuple[Path, ...]:
        return ()  # most of the time it only reads there


def run(arguments: Arguments) -> dict[str, Any]:
    """Count what is there, after fetching what is not."""
    from rectilinear import datasets
    from rectilinear.datasets.load import NAMES, located
    from rectilinear.errors import DataError

    root = datasets.data_root(arguments.out)
    try:
        train = datasets.load(arguments.name, "train", root, arguments.size)
    except DataError:
        if arguments.name not in NAMES:
            raise
        datasets.download(arguments.name, root)
        train = datasets.load(arguments.name, "train", root, arguments.size)
    test = datasets.load(arguments.name, "test", root, arguments.size)
    return {
        "name": train.name,
        "folder": str(located(arguments.name, root) or root.resolve()),
        "train": len(train),
        "test": len(test),
        "shape": list(train.shape),
        "classes": list(train.classes),
    }
