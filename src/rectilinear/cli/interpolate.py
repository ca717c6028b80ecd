"""``rectilinear interpolate``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from rectilinear.cli._options import Common, UsageError


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Interpolate between images on straight lines of the induced space of a run."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    count: int = 8
    """Number of lines, at most; each takes two images."""
    frames: int = 11
    """Number of images on each line, the ends included."""
    split: Literal["train", "test"] = "test"
    """Split of the data that the ends are from."""
    out: Path | None = None
    """Folder for interpolation.png and interpolation.npy; that of the run by default."""
    data_dir: Path | None = None
    """Folder of data sets; $RECTILINEAR_DATA, then ./data, by default."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Write the lines as image and array."""
    import torch

    from rectilinear import flow, recipes
    from rectilinear.cli._options import write_images
    from rectilinear.errors import DataError
    from rectilinear.random import generator

    if arguments.frames < 2:
        raise UsageError(f"--frames {arguments.frames} is out of range: the ends are two.")
    run = recipes.open_run(arguments.run)
    images, _ = run.load(arguments.split, arguments.data_dir)
    count = min(arguments.count, len(images) // 2)
    if not count:
        raise DataError(
            f"one image in the split {arguments.split}",
            "two or more",
            "Choose the other with --split.",
        )
    chosen = images[torch.randperm(len(images), generator=generator(arguments.seed))[: 2 * count]]
    with torch.no_grad():
        path = flow.interpolate(run.flow, chosen[:count], chosen[count:], arguments.frames)
    files = write_images(arguments.out or arguments.run, "interpolation", path.swapaxes(0, 1))
    return {**files, "count": count}
