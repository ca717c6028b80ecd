"""``rectilinear sample``, ``invert`` and ``interpolate``: what a run of a generator makes."""

from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import tyro

from rectilinear.cli._options import Common, UsageError


@dataclass(frozen=True, kw_only=True)
class Sample(Common):
    """Draw samples from a run, with all steps folded into one."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    count: int = 64
    """Number of samples."""
    steps: int = 100
    """Number of steps that are folded into one."""
    method: Literal["euler", "midpoint", "rk4", "magnus2", "magnus4"] = "rk4"
    """Integrator of the steps."""
    one_by_one: bool = False
    """Unfolded steps, one by one: the same samples up to rounding, slower."""
    rank: int | None = None
    """Rank of the operator, at most the dimension of the model; that of the recipe by default."""
    scale: float = 1.0
    """Standard deviation of the noise; larger: samples more varied and less typical."""
    out: Path | None = None
    """Folder for samples.png and samples.npy; that of the run by default."""


def sample(arguments: Sample) -> dict[str, Any]:
    """Write the samples as image and array."""
    from rectilinear import recipes
    from rectilinear.cli._options import write_images

    generator = recipes.open_run(arguments.run).flow
    start = perf_counter()
    images = generator.sample(
        arguments.count,
        arguments.seed,
        steps=arguments.steps,
        method=arguments.method,
        rank=arguments.rank,
        scale=arguments.scale,
        stepwise=arguments.one_by_one,
    )
    seconds = perf_counter() - start
    files = write_images(arguments.out or arguments.run, "samples", images[:, None], columns=8)
    return {**files, "count": arguments.count, "seconds": seconds}


@dataclass(frozen=True, kw_only=True)
class Invert(Common):
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


def invert(arguments: Invert) -> dict[str, Any]:
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


@dataclass(frozen=True, kw_only=True)
class Interpolate(Common):
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


def interpolate(arguments: Interpolate) -> dict[str, Any]:
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
