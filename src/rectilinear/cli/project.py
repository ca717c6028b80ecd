"""``rectilinear project``: images restored by a projector, and their anomaly scores."""

import warnings
from dataclasses import dataclass
from itertools import count
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from rectilinear.cli._options import Common, UsageError
from rectilinear.errors import DataError, DataWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from rectilinear.progress import Progress
    from rectilinear.recipes import Run

PART_IMAGES = 256  # between two states of the progress display
MAX_USUAL_IMAGES = 1000
"""Held-out images whose scores are the usual range, at most."""
MAX_PASSED_VALUES = 2**25
"""Values of the held-out images that are restored, times the passes, at most."""


@dataclass(frozen=True, kw_only=True)
class Project(Common):
    """Denoise, deblur or inpaint images with a projector; write projected.png, .npy and .json."""

    run: tyro.conf.Positional[Path]
    """Folder of a run of the recipe projector."""
    input: Path | None = None
    """Image, folder of images, or .npy array (n, c, h, w) of bytes or of floats from 0 to 1; by
    default held-out images of the run's data, of large ones in many passes a part."""
    mask: Path | None = None
    """Mask of the observed pixels: an image (opaque or not black there), or a .npy array (not 0
    there) of shape (h, w), or (n, h, w) for one mask an image; by default all are observed.
    PSNR takes the other pixels of the input as the truth: of corrupted ones it means nothing."""
    corrupt: str | None = None
    """Corruption to apply to the input first, KIND=SEVERITY: noise=0.25, missing=0.5,
    occlusion=0.4, blur=0.06 or salt=0.1; none by default."""
    blind: bool = False
    """One application of the projector, without knowledge of the mask or the corruption."""
    noise: float | None = None
    """Standard deviation of the noise in the input, for pixel values 0 to 1; unknown by default.
    With it the best of all steps is chosen, on data that it was not made from. A projector is no
    denoiser: for noise alone, use a prior of patches, `fit_prior(images, patch=8)` in Python."""
    rank: int | None = None
    """Number of leading coordinates to project onto; by default all of the range."""
    steps: int = 50
    """Number of alternating projections onto the range and the observed data."""
    count: int = 12
    """Number of images in projected.png; the other files have all images."""
    out: Path | None = None
    """Folder of the three files; the run's folder by default."""
    data_dir: Path | None = None
    """Folder of data sets; by default $RECTILINEAR_DATA, else ./data."""


def project(arguments: Project) -> dict[str, Any]:
    """The paths of the files, PSNR and anomaly scores with their usual range."""
    import torch

    from rectilinear import projector, recipes
    from rectilinear.cli._options import write_images
    from rectilinear.config import write_json
    from rectilinear.progress import Progress
    from rectilinear.projector.restoration_table import restoration_psnr
    from rectilinear.random import generator
    from rectilinear.report.projector import score_rows

    run = recipes.open_run(arguments.run)
    f = run.of(projector.Projector)
    out = arguments.out or arguments.run
    names, images = _images(arguments, run, out)
    if arguments.mask and arguments.corrupt:
        raise UsageError("Give --mask or --corrupt, not both.")
    if arguments.noise is not None and arguments.noise > 1:
        raise UsageError(
            f"--noise {arguments.noise:g} is out of range: pixel values are 0 to 1. Divide the "
            "standard deviation of bytes by 255."
        )
    corruption = _corruption(arguments.corrupt) if arguments.corrupt else None
    passes, held_out = _passes(arguments, corruption, images), len(images)
    if arguments.input is None:
        most = MAX_PASSED_VALUES // (max(1, passes) * images[0].numel())
        images = _spaced(images, max(arguments.count, most))
    y, measurement = images, None
    if corruption:
        kind, severity = corruption
        y, measurement = projector.corrupt(images, kind, severity, generator(arguments.seed))
    if arguments.rank is not None and arguments.rank > f.rank:
        raise UsageError(
            f"--rank {arguments.rank} is out of range: the range of this projector has {f.rank}."
        )
    if arguments.mask:
        observed = _mask(arguments.mask, images)
        y, measurement = images * observed, projector.masked(observed)
    known = None if arguments.blind else measurement
    own = y is images and arguments.input is None and len(y) == held_out
    usual = y if own else _held_out(arguments, run)
    more = 0 if usual is None or usual is y else len(usual)
    with Progress("project", (passes + 3) * len(y) + more) as display:

        def scored(x: "Tensor", what: str) -> "dict[str, Tensor]":
            parts = [f.scores(part) for part in _counted(x, what, display)]
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

        scores = usual_scores = scored(y, "anomaly scores")
        if usual is not None and usual is not y:
            usual_scores = scored(usual, "usual scores")
        if arguments.rank is not None:
            f = f.at(arguments.rank)
        passing = count(1)

        def projected(x: "Tensor") -> "Tensor":
            what = f"restoration, pass {next(passing)} of {passes}"
            return torch.cat([f(part) for part in _counted(x, what, display)])

        result = projector.restore(
            projected, y, known, arguments.steps, noise=arguments.noise, limits=(0.0, 1.0)
        )
        with torch.no_grad():
            once = torch.cat([f(part) for part in _counted(y, "projection", display)])
            twice = torch.cat([f(part) for part in _counted(once, "idempotence", display)])
            error = (twice - once).abs().max().item()

    has_truth = measurement is not None or arguments.corrupt
    rows = [y, result, images] if has_truth else [y, result]
    shown = torch.stack([row[: arguments.count] for row in rows])
    files = write_images(out, "projected", shown)
    _write_array(out / "projected.npy", result)
    answer: dict[str, Any] = {
        **files,
        "count": len(images),
        "rank": f.rank,
        "idempotence": error,
        "scores": [{"score": name, "mean": float(x.mean())} for name, x in scores.items()],
    }
    if arguments.input is None and len(images) < held_out:
        answer["held_out"] = f"{len(images)} of {held_out}, for {passes} passes; --input takes all"
    if usual is not None:
        answer["scores"] = score_rows(scores, usual_scores)
        answer["usual"] = f"1 % to 99 % of {len(usual)} held-out images of the run's data"
    if has_truth:
        for name, found in (("before", y), ("after", result)):  # of all images as one
            score = restoration_psnr(found, images)
            answer[f"psnr_{name}"] = score if isfinite(score) else None
    each: list[dict[str, Any]] = [
        dict(zip(scores, row, strict=True))
        for row in torch.stack(list(scores.values()), 1).tolist()
    ]
    if names is not None:
        each = [{"name": name, **row} for name, row in zip(names, each, strict=True)]
    write_json(out / "projected.json", {**answer, "images": each})
    return answer


def _counted(images: "Tensor", what: str, display: "Progress") -> "Iterator[Tensor]":
    """The images in parts, each shown as it begins: how many of all are done."""
    done = 0
    for part in images.split(PART_IMAGES):
        display.advance(f"{what}: {done} of {len(images)} images", len(part))
        yield part
        done += len(part)


def _images(arguments: Project, run: "Run", out: Path) -> "tuple[list[str] | None, Tensor]":
    """The images to project, at the size of the run's images, and the names of files."""
    import torch

    from rectilinear.cli._options import load_array, named_images
    from rectilinear.datasets.images import images_from_array
    from rectilinear.projector import Projector

    path, (c, h, w) = arguments.input, run.of(Projector).g.shape
    if path is None:
        return None, run.load("test", arguments.data_dir).images
    if path.suffix.lower() == ".npy":
        return None, images_from_array(load_array(path, "--input"), (c, h, w), str(path))
    found = named_images(path, (c, h, w), out)
    return list(found), torch.stack([*found.values()])


def _held_out(arguments: Project, run: "Run") -> "Tensor | None":
    """Held-out images of the run's data, evenly spaced; None, with a warning, without the data."""
    try:
        images = run.load("test", arguments.data_dir).images
    except DataError as error:
        warnings.warn(
            f"no usual range of the anomaly scores, which needs the run's data: {error}",
            DataWarning,
            stacklevel=2,
        )
        return None
    return _spaced(images, MAX_USUAL_IMAGES)


def _spaced(images: "Tensor", most: int) -> "Tensor":
    """At most so many of the images, or one, evenly spaced."""
    return images[:: -(-len(images) // max(1, most))]


def _passes(arguments: Project, corruption: tuple[Any, float] | None, images: "Tensor") -> int:
    """The number of times that the images go through the projector to be restored."""
    from rectilinear import projector

    if arguments.noise is not None:
        return 2 * arguments.steps
    measured = arguments.mask is not None
    if corruption:
        measured = projector.corrupt(images[:1], *corruption)[1] is not None
    return arguments.steps if measured and not arguments.blind else 1


def _mask(path: Path, images: "Tensor") -> "Tensor":
    """1 at the observed pixels of every image and 0 at the others."""
    import torch

    from rectilinear.cli._options import load_array
    from rectilinear.datasets.images import mask_from_array
    from rectilinear.datasets.read_image import read_mask

    n, c, h, w = images.shape
    array = path.suffix.lower() == ".npy"
    mask = load_array(path, "--mask") if array else torch.from_numpy(read_mask(path, (h, w)))
    return mask_from_array(mask, (n, c, h, w), str(path)).to(images)


def _corruption(words: str) -> tuple[Any, float]:
    """``KIND=SEVERITY`` as a pair."""
    kind, equals, severity = words.partition("=")
    try:
        return kind, float(severity)
    except ValueError:
        mistake = (
            "is not of the form KIND=SEVERITY"
            if not equals
            else f"has a severity '{severity}' that is not a number"
        )
        raise UsageError(f"'--corrupt {words}' {mistake}.") from None


def _write_array(path: Path, images: "Tensor") -> None:
    import numpy as np

    from rectilinear.files import atomic_write

    with atomic_write(path) as tmp:
        np.save(tmp, images.float().numpy(), allow_pickle=False)
