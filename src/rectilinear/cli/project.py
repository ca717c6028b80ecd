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
class Arguments(Common):
    """Put images on the range of a projector: denoise, repair, fill in, and say which are strange."""

    run: tyro.conf.Positional[Path]
    """Folder of the run of the recipe projector."""
    input: Path | None = None
    """An image, a folder of them, or an array .npy (n, c, h, w), bytes or floats in [0, 1];
    held-out images of the run's data by default."""
    mask: Path | None = None
    """Known pixels: an image, opaque or not black there, or an array .npy, not 0 there, (h, w) or
    one for each image (n, h, w)."""
    damage: str | None = None
    """Harm the images first, KIND=SEVERITY: noise=0.25, missing=0.5, occlusion=0.4, blur=0.06 or
    salt=0.1.
    """
    blind: bool = False
    """Apply the projector once and use nothing that is known of the damage."""
    rank: int | None = None
    """Project to the leading coordinates, so many; all of the range by default."""
    steps: int = 50
    """Projections in turn onto the range and onto what is known."""
    count: int = 12
    """How many images to draw; the numbers and arrays are of all."""
    out: Path | None = None
    """Folder for projected.png, projected.npy and projected.json; that of the run by default."""
    data_dir: Path | None = None
    """Where data sets lie; $RECTILINEAR_DATA, then ./data, by default."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Damage where asked, project, draw, and measure."""
    import torch

    from rectilinear import projector as idempotent
    from rectilinear import recipes
    from rectilinear.cli._options import write_images
    from rectilinear.config import write_json
    from rectilinear.random import generator

    run = recipes.open_run(arguments.run)
    f = run.of(idempotent.Projector)
    out = arguments.out or arguments.run
    names, images = _images(arguments, run, out)
    if arguments.mask and arguments.damage:
        raise UsageError("--mask and --damage: choose one.")
    seen, measure = images, None
    if arguments.damage:
        kind, severity = _damage(arguments.damage)
        seen, measure = idempotent.damage(images, kind, severity, generator(arguments.seed))
    if arguments.rank is not None and arguments.rank > f.rank:
        raise UsageError(
            f"--rank {arguments.rank} is out of range: the range of this projector has {f.rank}."
        )
    if arguments.mask:
        known = _mask(arguments.mask, images)
        seen, measure = images * known, idempotent.masked(known)
    scores = f.scores(seen)
    if arguments.rank is not None:
        f = f.at(arguments.rank)
    result = idempotent.restore(f, seen, None if arguments.blind else measure, arguments.steps)
    with torch.no_grad():
        once = f(seen)
        error = (f(once) - once).abs().max().item()

    rows = [seen, result] if measure is None and not arguments.damage else [seen, result, images]
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
    if len(rows) == 3:
        for name, shown_images in (("before", seen), ("after", result)):
            found = idempotent.decibels(shown_images, images)
            answer[f"psnr_{name}"] = found if isfinite(found) else None
    each: list[dict[str, Any]] = [
        dict(zip(scores, row, strict=True))
        for row in torch.stack(list(scores.values()), 1).tolist()
    ]
    if names is not None:
        each = [{"name": name, **row} for name, row in zip(names, each, strict=True)]
    write_json(out / "projected.json", {**answer, "images": each})
    return answer


def _images(arguments: Arguments, run: "Run", out: Path) -> "tuple[list[str] | None, Tensor]":
    """What to project, at the size of the run's images, and its names where it has some."""
    import torch

    from rectilinear.cli._model import load_array
    from rectilinear.cli._options import named_images
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
    """1 at the known pixels of every image and 0 at the others."""
    import torch

    from rectilinear.cli._model import load_array
    from rectilinear.datasets.images import mask_from_array
    from rectilinear.datasets.read_image import read_mask

    n, c, h, w = images.shape
    array = path.suffix.lower() == ".npy"
    mask = load_array(path, "--mask") if array else torch.from_numpy(read_mask(path, (h, w)))
    return mask_from_array(mask, (n, c, h, w), str(path)).to(images)


def _damage(words: str) -> tuple[Any, float]:
    """``KIND=SEVERITY`` as a pair."""
    kind, equals, severity = words.partition("=")
    try:
        return kind, float(severity)
    except ValueError:
        mistake = (
            "is not of the form KIND=SEVERITY"
            if not equals
            else f"has a severity '{severity}' that is no number"
        )
        raise UsageError(f"'--damage {words}' {mistake}.") from None


def _write_array(path: Path, images: "Tensor") -> None:
    import numpy as np

    from rectilinear.files import atomic_write

    with atomic_write(path) as tmp:
        np.save(tmp, images.float().numpy(), allow_pickle=False)
