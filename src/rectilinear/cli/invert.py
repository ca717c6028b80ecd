"""``rectilinear invert``."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from rectilinear.cli._parse import Common


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Images to their noise and back, and the law of that noise."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    split: Literal["train", "test"] = "test"
    """Which images of its data."""
    count: int = 12
    """How many to draw; the numbers are of the whole split."""
    out: Path | None = None
    """Folder for inversion.png, inversion.npy and noise.npy; that of the run by default."""
    data_dir: Path | None = None
    """Where data sets lie; $RECTILINEAR_DATA, then ./data, by default."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Invert, return, and compare."""
    import numpy as np
    import torch

    from rectilinear import flow, recipes
    from rectilinear.cli._files import write_images
    from rectilinear.config import atomic_write
    from rectilinear.metrics import normality
    from rectilinear.report import invert

    run = recipes.open_run(arguments.run)
    images, _ = run.load(arguments.split, arguments.data_dir)
    out = arguments.out or arguments.run
    with torch.no_grad():
        f = flow.collapse(run.flow)
        noise = invert(f, images)
        again = f(noise)
    shown = slice(arguments.count)
    seen = noise[shown].reshape(images[shown].shape) / 5 + 0.5
    files = write_images(out, "inversion", torch.stack([images[shown], seen, again[shown]]))
    with atomic_write(out / "noise.npy") as tmp:
        np.save(tmp, noise.float().cpu().numpy(), allow_pickle=False)
    return {**files, "inversion": (again - images).abs().max().item(), "noise": asdict(normality(noise))}
