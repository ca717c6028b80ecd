"""``rectilinear invert``."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from rectilinear.cli._options import Common


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Images, with the noise of the training added, to their noise and back; and the law of that
    noise.
    """

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
    from rectilinear.cli._options import write_images
    from rectilinear.files import atomic_write
    from rectilinear.random import generator

    run = recipes.open_run(arguments.run)
    images, _ = run.load(arguments.split, arguments.data_dir)
    noisy = images + run.recipe.noise * torch.randn(
        images.shape, generator=generator(arguments.seed)
    )
    out = arguments.out or arguments.run
    result = flow.inversion(run.flow, noisy)
    shown = slice(arguments.count)
    noise = result.noise[shown].reshape(images[shown].shape) / 5 + 0.5
    files = write_images(
        out, "inversion", torch.stack([noisy[shown], noise, result.reconstruction[shown]])
    )
    with atomic_write(out / "noise.npy") as tmp:
        np.save(tmp, result.noise.float().cpu().numpy(), allow_pickle=False)
    return {**files, "inversion": result.error, "noise": asdict(result.normality)}
