"""``rectilinear project``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from rectilinear.cli._parse import Common, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear.recipes import Run


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Put images on the range of a projector: denoise, repair, fill in, and say which are strange."""

    run: tyro.conf.Positional[Path]
    """Folder of the run of the recipe projector."""
    input: Path | None = None
    """Folder of images, or an array .npy (n, c, h, w) in [0, 1]; held-out images of the run's data by default."""
    mask: Path | None = None
    """Known pixels, not 0 there: a picture, or an array .npy (h, w), or one for each image (n, h, w)."""
    damage: str | None = None
    """Harm the images first, KIND=SEVERITY: noise=0.25, missing=0.5, occlusion=0.4, blur=0.06 or salt=0.1."""
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

    from rectilinear import idempotent, recipes
    from rectilinear._seed import generator
    from rectilinear.cli._files import write_images
    from rectilinear.config import write_json

    run = recipes.open_run(arguments.run)
    f = run.of(idempotent.Projector)
    images = _images(arguments, run)
    if arguments.mask and arguments.damage:
        raise UsageError("--mask and --damage: choose one.")
    seen, measure = images, None
    if arguments.damage:
        kind, severity = _damage(arguments.damage)
        seen, measure = idempotent.damage(images, kind, severity, generator(arguments.seed))
    if arguments.mask:
        known = _mask(arguments.mask, images)
        seen, measure = images * known, idempotent.masked(known)
    scores = f.scores(seen)
    if arguments.rank is not None:
        if arguments.rank > f.rank:
            raise UsageError(f"--rank {arguments.rank} is out of range: the range of this projector has {f.rank}.")
        f = f.at(arguments.rank)
    result = idempotent.restore(f, seen, None if arguments.blind else measure, arguments.steps)
    with torch.no_grad():
        once = f(seen)
        error = (f(once) - once).abs().max().item()

    out = arguments.out or arguments.run
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
        answer["psnr_before"] = idempotent.decibels(seen, images)
        answer["psnr_after"] = idempotent.decibels(result, images)
    each = [dict(zip(scores, row, strict=True)) for row in torch.stack(list(scores.values()), 1).tolist()]
    write_json(out / "projected.json", {**answer, "images": each})
    return answer


def _images(arguments: Arguments, run: "Run") -> "Tensor":
    """What to project, at the size of the run's images."""
    from rectilinear.cli._files import read_images
    from rectilinear.cli._model import load_array
    from rectilinear.errors import DataError
    from rectilinear.idempotent import Projector

    path, shape = arguments.input, run.of(Projector).g.shape
    if path is None:
        return run.load("test", arguments.data_dir).images
    if path.is_dir():
        return read_images(path, (shape[0], shape[1], shape[2]))
    images = load_array(path, "--input").float()
    images = images.reshape(-1, *shape) if images.shape[1:] in (shape, shape[1:], (1, *shape)) else images
    if images.shape[1:] != shape or not bool(images.isfinite().all()):
        raise DataError(
            f"{path} of shape {tuple(images.shape)}", f"(n, {', '.join(map(str, shape))}), finite", "Resize the images."
        )
    return images


def _mask(path: Path, images: "Tensor") -> "Tensor":
    """1 at the known pixels of every image and 0 at the others."""
    from rectilinear.cli._files import read_image
    from rectilinear.cli._model import load_array
    from rectilinear.errors import DataError

    h, w = images.shape[2:]
    mask = load_array(path, "--mask").float() if path.suffix == ".npy" else read_image(path, (1, h, w))[0]
    mask = mask.unsqueeze(-3) if mask.ndim in (2, 3) and mask.shape[-3:] != images.shape[1:] else mask
    fits = mask.ndim in (3, 4) and all(
        a in (1, b) for a, b in zip(reversed(mask.shape), reversed(images.shape), strict=False)
    )
    if not fits or mask.shape[-2:] != (h, w):
        raise DataError(
            f"a mask of shape {tuple(mask.shape)}", f"({h}, {w}), or one for each of {len(images)}", "Resize the mask."
        )
    return (mask != 0).to(images).expand_as(images)


def _damage(words: str) -> tuple[Any, float]:
    """``KIND=SEVERITY`` as a pair."""
    kind, equals, severity = words.partition("=")
    try:
        return kind, float(severity)
    except ValueError:
        mistake = "is not of the form KIND=SEVERITY" if not equals else f"has a severity '{severity}' that is no number"
        raise UsageError(f"'--damage {words}' {mistake}.") from None


def _write_array(path: Path, images: "Tensor") -> None:
    import numpy as np

    from rectilinear.config import atomic_write

    with atomic_write(path) as tmp:
        np.save(tmp, images.float().numpy(), allow_pickle=False)
