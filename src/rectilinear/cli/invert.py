"""``rectilinear invert``."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from rectilinear.cli._options import Common


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Invert images to their noise and back, and test that noise against N(0, I).

    The images have the noise of the training added, as the generator models them.
    """

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    split: Literal["train", "test"] = "test"
    """Split of the data that the images are from."""
    count: int = 12
    """Number of images in the figure; the numbers are of the whole split."""
    out: Path | None = None
    """Folder for inversion.png, inversion.npy and noise.npy; that of the run by default."""
    data_dir: Path | None = None
    """Folder of data sets; $RECTILINEAR_DATA, then ./data, by default."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Write images, noise and reconstructions; return error and test."""
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
