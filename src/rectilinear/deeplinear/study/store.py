"""The folder of a study: its settings, and every finished chunk in a file of its own."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rectilinear.config import atomic_write, remove_leftovers, write_json
from rectilinear.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from rectilinear.deeplinear.study.measure import Columns


class Store:
    """Chunks of a study on disk, whole or absent; a folder belongs to one study, which holds it while it runs.

    Raises:
        ConfigError: if the folder holds another study.
        DiskError: if the disk is full or cannot be written.

    Example:
        >>> import tempfile
        >>> store = Store(tempfile.mkdtemp(), {"seed": 0})
        >>> store.save(3, {"gap": np.ones(2)})
        >>> store.finished(), store.load(3)["gap"].tolist()
        ({3}, [1.0, 1.0])
    """

    def __init__(self, folder: Path | str, settings: dict[str, Any]) -> None:
        self.folder = Path(folder)
        path = self.folder / "study.json"
        if path.exists() and (kept := read_settings(folder)) != settings:
            names = sorted(name for name in {*kept, *settings} if kept.get(name) != settings.get(name))
            raise ConfigError(
                got=f"a folder {folder} with a study of other {', '.join(names)}",
                expected="one study a folder",
                fix="Choose another --out, or remove this one.",
            )
        if not path.exists():
            write_json(path, settings)
        remove_leftovers(self.folder / "chunks")

    def finished(self) -> set[int]:
        """The numbers of the chunks that are there."""
        return {int(path.stem) for path in (self.folder / "chunks").glob("[0-9]*.npz") if zipfile.is_zipfile(path)}

    def save(self, number: int, columns: Columns) -> None:
        with atomic_write(self._path(number)) as tmp, tmp.open("wb") as file:
            np.savez(file, **columns)  # type: ignore[arg-type] # its stub takes a column for the flag allow_pickle

    def load(self, number: int) -> Columns:
        try:
            with np.load(self._path(number), allow_pickle=False) as file:
                return dict(file)
        except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise CheckpointError(
                f"{self._path(number)}, which cannot be read",
                "a finished chunk",
                "Remove it; the study makes it again.",
            ) from error

    def choose(self, steps: dict[str, float]) -> None:
        """Keep the step sizes that were chosen, by the names of their models."""
        write_json(self.folder / "step_sizes.json", steps)

    def chosen(self) -> dict[str, float] | None:
        """What :meth:`choose` kept, if it did."""
        path = self.folder / "step_sizes.json"
        if not path.exists():
            return None
        try:
            steps = json.loads(path.read_text(encoding="utf-8"))
            return {str(name): float(step) for name, step in steps.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(
                f"{path}, which cannot be read", "the steps that were chosen", "Remove it; the study makes it again."
            ) from error

    def _path(self, number: int) -> Path:
        return self.folder / "chunks" / f"{number:06d}.npz"


def read_settings(folder: Path | str) -> dict[str, Any]:
    """What ``study.json`` says.

    Raises:
        CheckpointError: if it is missing or no JSON.
    """
    path = Path(folder) / "study.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"no study in {folder}", f"{path.name}", "Give the --out of a study.") from error
