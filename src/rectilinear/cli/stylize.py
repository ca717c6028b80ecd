"""``rectilinear stylize``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from rectilinear.cli._options import Common, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear import Linearizer
    from rectilinear.style import StyleTransfer


@dataclass(frozen=True, kw_only=True)
class Stylize(Common):
    """Style transfer: apply a style, blend styles, exchange one style for another, or remove it."""

    run: tyro.conf.Positional[Path]
    """Folder of the run of the recipe style."""
    input: Path | None = None
    """Image or folder of images; held-out images of the run's data by default."""
    style: str | None = None
    """Name of the style."""
    blend: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = field(default=())
    """Another style and its weight, NAME=WEIGHT, repeatable; the rest of 1 is for --style."""
    instead_of: str | None = None
    """The style that the images have; exchanged for --style, or removed without --style."""
    damping: float = 0.0
    """Tikhonov damping of the inverse with --instead-of; 0 by default, 0.001 for noisy images."""
    side: int | None = None
    """Side of the result in pixels, in tiles if larger than the model's; that of the model by
    default."""
    count: int = 12
    """Number of images in stylized.png; all are written; 12 by default."""
    out: Path | None = None
    """Folder for stylized.png, stylized.json and an image each; that of the run by default."""
    data_dir: Path | None = None
    """Folder of the data sets; $RECTILINEAR_DATA, then ./data, by default."""


def stylize(arguments: Stylize) -> dict[str, Any]:
    """Stylize, draw, write, measure where the teacher can be asked."""
    import torch

    from rectilinear import recipes, style
    from rectilinear.cli._options import write_images
    from rectilinear.config import write_json

    run = recipes.open_run(arguments.run)
    model = run.of(style.StyleTransfer)
    weights = _weights(arguments)
    if arguments.damping and arguments.instead_of is None:
        raise UsageError("--damping has no effect without --instead-of.")
    f = _map(model, weights, arguments)
    _, h, w = model.g_in.shape
    if arguments.side is not None and arguments.side < max(h, w):
        raise UsageError(f"--side {arguments.side} is below the {max(h, w)} pixels of the model.")
    out = arguments.out or arguments.run
    size = (h, w) if arguments.side is None else (arguments.side, arguments.side)
    images = _images(arguments, run, size, out)
    styled = {name: style.in_tiles(f, image).clamp(0, 1) for name, image in images.items()}
    shown = [torch.stack([*found.values()][: arguments.count]) for found in (images, styled)]
    files = write_images(out, "stylized", torch.stack(shown))
    if arguments.input is not None:
        _write_each(out, styled)
    answer: dict[str, Any] = {**files, "count": len(images), "weights": weights}
    if arguments.instead_of is not None:
        answer["instead_of"] = arguments.instead_of
    write_json(out / "stylized.json", answer)
    return answer


def _weights(arguments: Stylize) -> dict[str, float]:
    """The weight of each style; none where a style is only taken away."""
    if arguments.style is None:
        if arguments.blend or arguments.instead_of is None:
            raise UsageError("Name a style with --style, or one to take away with --instead-of.")
        return {}
    others: dict[str, float] = {}
    for words in arguments.blend:
        name, equals, value = words.partition("=")
        if name in others:
            raise UsageError(f"--blend names '{name}' twice.")
        try:
            others[name] = float(value)
        except ValueError:
            why = "has a weight that is no number" if equals else "is not of the form NAME=WEIGHT"
            raise UsageError(f"'--blend {words}' {why}.") from None
    rest = 1 - sum(others.values())
    if arguments.style in others or not all(0 <= w <= 1 for w in (rest, *others.values())):
        raise UsageError(
            "The weights of --blend are of other styles than --style, between 0 and 1, at most 1 "
            "together."
        )
    return {arguments.style: rest, **others}


def _map(model: "StyleTransfer", weights: dict[str, float], arguments: Stylize) -> "Linearizer":
    """From images, or from images in a style, to the blend."""
    if arguments.instead_of is None:
        return model.blend(weights)
    back = model.removal(arguments.instead_of, arguments.damping)
    return model.blend(weights) @ back if weights else back


def _images(arguments: Stylize, run: Any, size: tuple[int, int], out: Path) -> "dict[str, Tensor]":
    """Images ``(c, *size)`` by name."""
    from rectilinear.cli._options import named_images

    path, channels = arguments.input, run.model.g_in.shape[0]
    if path is not None:
        if path.is_file() and out.resolve() == path.resolve().parent:
            raise UsageError(f"--out {out} is the folder of the input, which would be overwritten.")
        return named_images(path, (channels, *size), out, taken=("stylized",))
    if arguments.side is not None:
        raise UsageError("--side is for images of your own: name them with --input.")
    images, _ = run.load("test", arguments.data_dir)
    return {
        f"{i:04}": image
        for i, image in enumerate(images[:: max(1, len(images) // arguments.count)])
    }


def _write_each(out: Path, styled: "dict[str, Tensor]") -> None:
    from rectilinear import plots
    from rectilinear.files import atomic_write
    from rectilinear.plots.charts import png

    for name, image in styled.items():
        with atomic_write(out / f"{name}.png") as tmp:
            tmp.write_bytes(png(plots.grid(image[None].numpy(), 1)))
