"""``rectilinear project``."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from rectilinear.cli._options import Common, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear.recipes import Run


@dataclass(frozen=True, kw_only=True)
class Project(Common):
    """Project images by a trained projector: denoising, deblurring, inpainting, anomaly scores."""

    run: tyro.conf.Positional[Path]
    """Folder of a run of the recipe projector."""
    input: Path | None = None
    """Image, folder of images, or .npy array (n, c, h, w) of bytes or of floats from 0 to 1;
    held-out images of the run's data by default."""
    mask: Path | None = None
    """Observed pixels: an image (opaque there, or not black), or a .npy array (not 0 there) of
    shape (h, w), or (n, h, w) with one mask for each image."""
    corrupt: str | None = None
    """Corruption of the input, KIND=SEVERITY, such as noise=0.25, missing=0.5, occlusion=0.4,
    blur=0.06 or salt=0.1; none by default."""
    blind: bool = False
    """One application of the projector, without the mask or the measurement of the corruption."""
    noise: float | None = None
    """Standard deviation of the noise of the input (values 0 to 1), such as 0.1: keeps what is more
    than noise, and the best of all steps; unknown by default."""
    rank: int | None = None
    """Number of leading coordinates to project onto; all of the range by default."""
    steps: int = 50
    """Number of alternating projections onto the range and the observed data; 50 by default."""
    count: int = 12
    """Number of images in projected.png; the array and the scores are of all images."""
    out: Path | None = None
    """Folder for projected.png, projected.npy and projected.json; that of the run by default."""
    data_dir: Path | None = None
    """Folder of the data sets; $RECTILINEAR_DATA, then ./data, by default."""


def project(arguments: Project) -> dict[str, Any]:
    """Corrupt the images if asked, project them, and write images, arrays and scores."""
    import torch

    from rectilinear import projector, recipes
    from rectilinear.cli._options import write_images
    from rectilinear.config import write_json
    from rectilinear.projector.restoration_table import restoration_psnr
    from rectilinear.random import generator

    run = recipes.open_run(arguments.run)
    f = run.of(projector.Projector)
    out = arguments.out or arguments.run
    names, images = _images(arguments, run, out)
    if arguments.mask and arguments.corrupt:
        raise UsageError("--mask and --corrupt: choose one.")
    y, measurement = images, None
    if arguments.corrupt:
        kind, severity = _corruption(arguments.corrupt)
        y, measurement = projector.corrupt(images, kind, severity, generator(arguments.seed))
    if arguments.rank is not None and arguments.rank > f.rank:
        raise UsageError(
            f"--rank {arguments.rank} is out of range: the range of this projector has {f.rank}."
        )
    if arguments.mask:
        observed = _mask(arguments.mask, images)
        y, measurement = images * observed, projector.masked(observed)
    scores = f.scores(y)
    if arguments.rank is not None:
        f = f.at(arguments.rank)
    known = None if arguments.blind else measurement
    result = projector.restore(
        f, y, known, arguments.steps, noise=arguments.noise, limits=(0.0, 1.0)
    )
    with torch.no_grad():
        once = f(y)
        error = (f(once) - once).abs().max().item()

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
        "scores": {name: score.mean().item() for name, score in scores.items()},
    }
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
