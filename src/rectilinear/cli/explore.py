"""``rectilinear explore``: an HTML page in which a generator runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from rectilinear.cli._options import Common

if TYPE_CHECKING:
    from rectilinear.cli.sample import Source
    from rectilinear.datasets import Images


@dataclass(frozen=True, kw_only=True)
class Explore(Common):
    """Write explorer.html of a generator: one file in which its network runs in the browser.

    The file needs no server and no connection. It holds images of the run's data where they are
    found, else samples of the generator.
    """

    run: tyro.conf.Positional[Path]
    """Folder of a generator's run, or a generator of the package, such as mnist."""
    out: Path | None = None
    """HTML file, or a folder for explorer.html; by default the run's folder, or the current one."""
    data_dir: Path | None = None
    """Folder of data sets; by default $RECTILINEAR_DATA, else ./data."""

    def folders(self) -> tuple[Path, ...]:
        return (self._file().parent,)

    def locks(self) -> tuple[Path, ...]:
        return ()

    def _file(self) -> Path:
        folder = self.out or (self.run if self.run.is_dir() else Path())
        return folder / "explorer.html" if folder.is_dir() else folder


def explore(arguments: Explore) -> dict[str, Any]:
    """Path and size of the file, and which data it holds."""
    from rectilinear.cli.sample import opened
    from rectilinear.explorer import write_explorer
    from rectilinear.explorer.translate import check_images

    source = opened(arguments.run, None)
    check_images(source.generator)  # before the data are read
    train, test = _data(source, arguments.data_dir)
    name = Path(source.data).name
    written = write_explorer(source.generator, arguments._file(), name, train, test)
    found = "none found: samples instead" if train is None else source.data
    return {**written, "data": found}


def _data(source: "Source", data_dir: Path | None) -> "tuple[Images, Images] | tuple[None, None]":
    """Training and held-out images; None where there are none and none were asked for."""
    from rectilinear.errors import DataError

    try:
        return source.split("train", data_dir), source.split("test", data_dir)
    except DataError:
        if data_dir is not None:
            raise
        return None, None
