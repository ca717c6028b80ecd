"""``rectilinear sample``, ``invert`` and ``interpolate``: uses of a generator."""

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from rectilinear.cli._options import Common, UsageError
from rectilinear.errors import CheckpointError, DataWarning

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from rectilinear.datasets import Images
    from rectilinear.flow import LinearFlow


FOREIGN_LENGTH = 3.0
"""Length of recovered noise in units of that of N(0, I) from which an image counts as foreign.

Of the digits of another data set it is at most 1.3, of photographs, of random pixels and of digits
in black on white 30 or more.
"""


@dataclass(frozen=True)
class Source:
    """A generator, the folder for its output, and the name and image size of its data."""

    generator: "LinearFlow"
    out: Path
    data: str
    size: int | None = None
    labels: str | None = None

    def split(self, split: Literal["train", "test"], data_dir: Path | None) -> "Images":
        """A split of the data."""
        from rectilinear import datasets

        return datasets.load(self.data, split, data_dir, self.size, self.labels)

    def images(
        self, path: Path | None, split: Literal["train", "test"], data_dir: Path | None
    ) -> "Tensor":
        """Images of a path, or of a split of the data."""
        import torch

        from rectilinear.cli._options import named_images

        if path is None:
            return self.split(split, data_dir).images
        c, h, w = self.generator.g_data.shape
        return torch.stack([*named_images(path, (c, h, w), self.out).values()])

    def with_noise(self, images: "Tensor", seed: int) -> "Tensor":
        """The images with the noise of the training added, as the generator models them."""
        import torch

        from rectilinear.random import generator

        draw = torch.randn(images.shape, generator=generator(seed))
        return images + self.generator.noise_level * draw

    def warn_of_foreign(self, noise: "Tensor") -> None:
        """A warning of images whose recovered ``noise`` is far longer than noise is."""
        flat = noise.flatten(1)
        length = flat.norm(dim=1) / flat.shape[1] ** 0.5
        count = int((length > FOREIGN_LENGTH).sum())
        if count:
            warnings.warn(
                f"{count} of {len(length)} images are unlike those that the generator was "
                f"trained on: their noise is up to {float(length.max()):.3g} times as long as that "
                "of samples; what it draws near or between them means nothing",
                DataWarning,
                stacklevel=2,
            )


def opened(run: Path, out: Path | None) -> Source:
    """The generator of a run's folder, or the generator of the package with this name."""
    from rectilinear import recipes
    from rectilinear.recipes.packaged import SHA256, is_packaged, load_generator

    if is_packaged(run):
        return Source(load_generator(str(run)), out or Path("runs") / run, str(run))
    if not run.exists():
        raise CheckpointError(
            f"no run in {run}",
            f"the folder of a generator's run, or one of {', '.join(SHA256)}",
        )
    opened = recipes.open_run(run)
    recipe = opened.recipe
    return Source(opened.flow, out or run, recipe.data, recipe.size, recipe.labels)


@dataclass(frozen=True, kw_only=True)
class Sample(Common):
    """Draw samples in one step from a generator; write samples.png and samples.npy."""

    run: tyro.conf.Positional[Path]
    """Folder of a generator's run, or a generator of the package, such as mnist."""
    count: int = 64
    """Number of samples."""
    label: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """Class of all samples, by name or number; any by default."""
    steps: int = 100
    """Number of integrator steps, which are folded into one matrix."""
    method: Literal["euler", "midpoint", "rk4", "magnus2", "magnus4"] = "rk4"
    """Integrator of the velocity."""
    one_by_one: bool = False
    """Integrator steps one by one: the same samples up to rounding, slower."""
    rank: int | None = None
    """Rank that the operator is truncated to, at most the dimension of the model; by default that
    of the recipe."""
    scale: float = 1.0
    """Standard deviation of the noise that samples are made from; larger is more varied and less
    typical."""
    out: Path | None = None
    """Folder for the files; by default the run's folder, or runs/NAME for a generator of the
    package."""
    format: Literal["npy", "png"] = "npy"
    """Format: npy, one array and a contact sheet, or png, a folder with one image a sample."""


def sample(arguments: Sample) -> dict[str, Any]:
    """The paths of the samples, their number, and the seconds they took."""
    import torch

    from rectilinear.cli._options import write_images

    source = opened(arguments.run, arguments.out)
    generator = source.generator
    if arguments.label is not None:
        generator = generator.given(arguments.label)
    start = perf_counter()
    batches = generator.sample_batches(
        arguments.count,
        arguments.seed,
        steps=arguments.steps,
        method=arguments.method,
        rank=arguments.rank,
        scale=arguments.scale,
        stepwise=arguments.one_by_one,
    )
    if arguments.format == "png":
        files = {"folder": _write_each(source.out / "samples", batches, arguments.count)}
        seconds = perf_counter() - start
    else:
        images = torch.cat(list(batches))
        seconds = perf_counter() - start
        files = write_images(source.out, "samples", images[:, None], columns=8)
    return {**files, "count": arguments.count, "seconds": seconds}


def _write_each(folder: Path, batches: "Iterable[Tensor]", count: int) -> str:
    """One PNG for each image, named by its number; the folder is new or empty.

    Written as they are drawn, so that memory does not grow with the count.
    """
    from PIL import Image

    from rectilinear.errors import DataError

    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise DataError(
            f"files in {folder}", "an empty folder for one file a sample", "Choose another --out."
        )
    digits, i = len(str(count - 1)), 0
    for batch in batches:
        for pixels in (batch.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy():
            image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
            image.save(folder / f"{i:0{digits}}.png")
            i += 1
    return str(folder)


@dataclass(frozen=True, kw_only=True)
class Invert(Common):
    """Map images to noise and back, test the noise against N(0, I); write inversion.png.

    The noise level of the training is added to the images first, since the generator models noisy
    images.
    """

    run: tyro.conf.Positional[Path]
    """Folder of a generator's run, or a generator of the package, such as mnist."""
    split: Literal["train", "test"] = "test"
    """Split of the data that the images are from."""
    input: Path | None = None
    """Image or folder of images; by default the data of the run."""
    count: int = 12
    """Number of images in the figure; errors and test are over all images."""
    out: Path | None = None
    """Folder for inversion.png, inversion.npy and noise.npy; by default the run's folder, or
    runs/NAME for a generator of the package."""
    data_dir: Path | None = None
    """Folder of data sets; by default $RECTILINEAR_DATA, else ./data."""


def invert(arguments: Invert) -> dict[str, Any]:
    """The paths of images, noise (float64) and reconstructions, their errors and the test."""
    import numpy as np
    import torch

    from rectilinear import flow
    from rectilinear.cli._options import write_images
    from rectilinear.files import atomic_write

    source = opened(arguments.run, arguments.out)
    images, out = source.images(arguments.input, arguments.split, arguments.data_dir), source.out
    noisy = source.with_noise(images, arguments.seed)
    result = flow.inversion(source.generator, noisy)
    source.warn_of_foreign(result.noise)
    shown = slice(arguments.count)
    noise = result.noise[shown].reshape(images[shown].shape).to(images) / 5 + 0.5
    files = write_images(
        out, "inversion", torch.stack([noisy[shown], noise, result.reconstruction[shown]])
    )
    with atomic_write(out / "noise.npy") as tmp:
        np.save(tmp, result.noise.cpu().numpy(), allow_pickle=False)
    answer = {
        **files,
        "inversion": result.error,
        "inversion_float32": result.rounded_error,
        "noise": asdict(result.normality),
    }
    if (test := result.normality).p_value is None:
        answer["note"] = (
            f"no p-value from {test.n} image{'s' if test.n > 1 else ''}: it needs {test.least_n} "
            "or more"
        )
    return answer


@dataclass(frozen=True, kw_only=True)
class Interpolate(Common):
    """Interpolate images on straight lines of the induced space; write interpolation.png."""

    run: tyro.conf.Positional[Path]
    """Folder of a generator's run, or a generator of the package, such as mnist."""
    count: int = 8
    """Largest number of lines, each between two images."""
    frames: int = 11
    """Number of images on each line, its two ends included."""
    split: Literal["train", "test"] = "test"
    """Split of the data that the ends are from."""
    input: Path | None = None
    """Folder of images; by default the data of the run."""
    out: Path | None = None
    """Folder for interpolation.png and interpolation.npy; by default the run's folder, or runs/NAME
    for a generator of the package."""
    data_dir: Path | None = None
    """Folder of data sets; by default $RECTILINEAR_DATA, else ./data."""


def interpolate(arguments: Interpolate) -> dict[str, Any]:
    """The paths of the lines as image and array."""
    import torch

    from rectilinear import flow
    from rectilinear.cli._options import write_images
    from rectilinear.errors import DataError
    from rectilinear.random import generator

    if arguments.frames < 2:
        raise UsageError(
            f"--frames {arguments.frames} is out of range: it is at least 2, for the two ends."
        )
    source = opened(arguments.run, arguments.out)
    images = source.images(arguments.input, arguments.split, arguments.data_dir)
    count = min(arguments.count, len(images) // 2)
    if not count:
        raise DataError(
            f"{len(images)} images",
            "two or more",
            "Give a folder with more images, or choose the other --split.",
        )
    chosen = images[torch.randperm(len(images), generator=generator(arguments.seed))[: 2 * count]]
    with torch.no_grad():
        source.warn_of_foreign(
            flow.invert(source.generator, source.with_noise(chosen, arguments.seed))
        )
        path = flow.interpolate(source.generator, chosen[:count], chosen[count:], arguments.frames)
    files = write_images(source.out, "interpolation", path.swapaxes(0, 1))
    return {**files, "count": count}
