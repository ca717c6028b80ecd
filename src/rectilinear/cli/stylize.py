"""``rectilinear stylize``: images in a style, at any strength, or from style to style."""

import warnings
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from rectilinear.cli._options import Common, UsageError, check_apart
from rectilinear.errors import DataWarning

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from rectilinear.style import StyleCollection, StyleMap, StyleTransfer, WayBack

    Styles = StyleTransfer | StyleCollection

MAX_STRENGTH = 1.5  # beyond it images lose their content
DITHERED = 0.25  # share of unequal neighbours: .4 to .7 in dithered photos, below .1 in drawings
OWN_DB = 28.0  # PSNR of an image to itself without the style and with it again; JPEGs have less
OWN_SIDE = 256  # pixels of the part that is compared
DOT_PIXELS = 1.0  # standard deviation of the filter that smooths dots to grey


@dataclass(frozen=True, kw_only=True)
class Stylize(Common):
    """Apply a style at any strength, blend, exchange or remove styles; write the styled images."""

    run: tyro.conf.Positional[Path]
    """Folder of a run of the recipe style or of a saved model; styles for that of the package."""
    input: tuple[Path, ...] = ()
    """Images and folders of images, of any size; by default held-out photos of the run."""
    style: str | None = None
    """Name of the style; required without --instead-of."""
    strength: float = 1.0
    """Strength of the style, from 0 (the input) over 1 (the style) to 1.5."""
    path: Literal["straight", "power"] = "straight"
    """Path from the input (0) to the style (1): straight, a linear blend of the two maps, or power,
    the real power of the style's operator."""
    blend: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = field(default=())
    """Another style with its weight, NAME=WEIGHT, repeatable; --style has the rest of 1. None by
    default."""
    instead_of: str | None = None
    """Style that the input has: exchanged for --style, or removed without --style; none by
    default."""
    keep_colours: bool = False
    """Colours of the input with the brightness of the style."""
    count: int = 12
    """Number of images in stylized.png; every image is also written on its own."""
    out: Path | None = None
    """Folder for the images under their own names, stylized.png and stylized.json; by default the
    run's folder, or ./stylized for the model of the package."""
    data_dir: Path | None = None
    """Folder of data sets; by default $RECTILINEAR_DATA, else ./data."""

    def folders(self) -> tuple[Path, ...]:
        if self.out is not None:
            return (self.out,)
        return (self.run,) if self.run.is_dir() else (Path("stylized"),)


def stylize(arguments: Stylize) -> dict[str, Any]:
    """The paths of the styled images, and the map that made them."""
    import torch

    from rectilinear import recipes
    from rectilinear.config import write_json
    from rectilinear.style import StyleCollection, StyleTransfer, WayBack

    model = recipes.load(str(arguments.run))
    if not isinstance(model, StyleTransfer | StyleCollection):
        raise UsageError(f"{arguments.run} holds a {type(model).__name__} and no model of styles.")
    weights = _weights(arguments)
    f = _map(model, weights, arguments)
    (out,) = arguments.folders()
    used: set[str] = set()
    shown: list[tuple[Tensor, Tensor]] = []
    count, foreign = 0, list[str]()
    for name, image in _images(arguments, model, out):
        with torch.no_grad():
            styled = f(image).clamp(0, 1)
        if arguments.keep_colours:
            styled = with_colours_of(image, styled)
        if arguments.instead_of is not None:
            assert isinstance(f, WayBack)
            used.add(f.which(image))
            if again_db(model, arguments.instead_of, image) < OWN_DB:
                foreign.append(str(name))
        if arguments.input:
            _write(out / f"{name}.png", styled)
        if len(shown) < arguments.count:
            shown.append((image, styled))
        count += 1
    _write(out / "stylized.png", sheet(shown))
    if foreign:
        names = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        warnings.warn(
            f"{len(foreign)} of {count} images ({names}) are not as this model writes the style "
            f"'{arguments.instead_of}', and the results can be worse than the input: give the PNG "
            "files of stylize, not JPEG, scaled or edited ones",
            DataWarning,
            stacklevel=2,
        )
    answer: dict[str, Any] = {
        "image": str(out / "stylized.png"),
        "folder": str(out),
        "count": count,
        "weights": weights,
        "strength": arguments.strength,
        "path": arguments.path,
    }
    if arguments.instead_of is not None:
        words = {"fitted": "fitted for 8-bit images", "exact": "the exact inverse, for floats"}
        answer |= {
            "instead_of": arguments.instead_of,
            "way_back": ", ".join(words[way] for way in sorted(used)),
        }
    write_json(out / "stylized.json", answer)
    return answer


def again_db(model: "Styles", style: str, image: "Tensor") -> float:
    """The PSNR of an image without the style, rounded, and with it again, to the image.

    It is high of images that the model made in the style. Of large ones a part is compared.

    Example:
        >>> import torch
        >>> from rectilinear.style import PlaceFlow, PlaceOperator, StyleTransfer
        >>> dark = PlaceOperator(torch.cat([0.5 * torch.eye(48), torch.zeros(48, 1)], 1))
        >>> model = StyleTransfer(PlaceFlow(couplings=0), {"dark": dark}, {"dark": dark})
        >>> again_db(model, "dark", torch.ones(3, 8, 8)) < OWN_DB
        True
    """
    import torch

    from rectilinear.style.measure import score
    from rectilinear.style.style_map import as_eight_bit

    top, left = (max(0, n - OWN_SIDE) // 8 * 4 for n in image.shape[1:])
    part = image[:, top : top + OWN_SIDE, left : left + OWN_SIDE]
    with torch.no_grad():
        plain = as_eight_bit(model.removal(style)(part))
        return score(model(plain, style), part)


def _weights(arguments: Stylize) -> dict[str, float]:
    """The weight of each style; empty where a style is only removed."""
    if not (isfinite(arguments.strength) and 0 <= arguments.strength <= MAX_STRENGTH):
        raise UsageError(f"--strength {arguments.strength:g} is out of range: 0 to {MAX_STRENGTH}.")
    if arguments.style is None:
        if arguments.blend or arguments.instead_of is None:
            raise UsageError("Name a style with --style, or one to remove with --instead-of.")
        if arguments.strength != 1 or arguments.path != "straight":
            raise UsageError("--strength and --path have no effect without --style.")
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


def _map(model: "Styles", weights: dict[str, float], arguments: Stylize) -> "StyleMap | WayBack":
    """The map from images, or from images in a style, to the blend at its strength."""
    from rectilinear.style.style_map import IDENTITY

    t = arguments.strength
    if not weights:
        assert arguments.instead_of is not None
        return model.removal(arguments.instead_of)
    if len(weights) == 1:
        (name,) = weights
        f = model.path(IDENTITY, name, t, kind=arguments.path)
    elif arguments.path == "power":
        f = model.blend(weights) if t == 1 else model.blend(weights) ** t
    else:
        scaled = {name: t * w for name, w in weights.items()}
        scaled[IDENTITY] = scaled.get(IDENTITY, 0.0) + 1 - t
        f = model.blend(scaled)
    if arguments.instead_of is None:
        return f
    return model.removal(arguments.instead_of).after(f)


def _images(arguments: Stylize, model: "Styles", out: Path):  # type: ignore[no-untyped-def] # of tensors, imported late
    """Names and images ``(c, h, w)``, each of its own size, one at a time."""
    import torch

    from rectilinear import recipes
    from rectilinear.datasets.read_image import (
        all_read,
        distinct_names,
        image_files,
        read_image,
        warn_of_loss,
    )
    from rectilinear.progress import Progress
    from rectilinear.recipes.style import StyleRecipe

    grey = channels(model) == 1
    if arguments.input:
        files, names = [], []
        for path in arguments.input:
            found = image_files(path)
            check_apart(out, path)
            if path.is_file() and out.resolve() == path.resolve().parent:
                raise UsageError(
                    f"--out {out} is the folder of the input, which would be overwritten."
                )
            files += found
            names += [file.relative_to(path if path.is_dir() else path.parent) for file in found]
        with Progress("stylize", len(files)) as display:
            display.advance("reading the files", 0)
            # Damaged ones are an error before any is painted.
            all_read(files, lambda file: len(read_image(file, grey=grey)))
            warn_of_loss(files)
            root = Path("images")
            distinct = distinct_names([root / name for name in names], root, taken=("stylized",))
            for name, file in display.of([*zip(distinct, files, strict=True)]):
                pixels = read_image(file, grey=grey)
                if arguments.instead_of is None:
                    pixels = without_dots(pixels)
                yield name, torch.tensor(pixels).permute(2, 0, 1).float() / 255
        return
    if not arguments.run.is_dir() or not (arguments.run / "config.json").exists():
        raise UsageError("Name images with --input: the styles of the package have no photos.")
    recipe = recipes.open_run(arguments.run).recipe
    assert isinstance(recipe, StyleRecipe)
    photos = recipe.located(arguments.data_dir).photos("test")
    with Progress("stylize", len(photos)) as display:
        for i, photo in enumerate(display.of(photos)):
            yield f"{i:04}", photo.float() / 255


def without_dots(pixels: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
    """A dithered image ``(h, w, c)`` of two levels, smoothed to grey; any other as it is.

    Painted styles draw every dot of a dithered image. Drawings of two levels, whose neighbouring
    pixels are mostly equal, are no dithered images.

    Example:
        >>> import numpy as np
        >>> dots = np.tile(np.uint8([[0, 255], [255, 0]]), (8, 8))[..., None]
        >>> set(without_dots(dots)[4:-4, 4:-4].flatten().tolist()) <= {127, 128}
        True
    """
    import numpy as np
    from scipy.ndimage import gaussian_filter

    if min(pixels.shape[:2]) < 2 or len(np.unique(pixels)) != 2:
        return pixels
    unequal = [float((np.diff(pixels, axis=axis) != 0).mean()) for axis in (0, 1)]
    if sum(unequal) / 2 < DITHERED:
        return pixels
    smooth = gaussian_filter(pixels.astype(np.float32), (DOT_PIXELS, DOT_PIXELS, 0))
    return smooth.round().astype(np.uint8)


def channels(model: "Styles") -> int:
    """3 for models of colour images, 1 for grey."""
    from rectilinear.style import StyleCollection

    return (model.member("identity") if isinstance(model, StyleCollection) else model).g.channels


def with_colours_of(photo: "Tensor", styled: "Tensor") -> "Tensor":
    """The brightness of ``styled`` with the colours (Cb, Cr of BT.601) of ``photo``, clipped.

    Example:
        >>> import torch
        >>> red = torch.tensor([0.9, 0.2, 0.2])[:, None, None]
        >>> with_colours_of(red, red.mean() * torch.ones(3, 1, 1)).flatten()[0] > 0.8
        tensor(True)
    """
    if len(photo) == 1:
        return styled
    luma = photo.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    change = (luma * (styled - photo)).sum(0)
    return (photo + change).clamp(0, 1)


def sheet(pairs: "list[tuple[Tensor, Tensor]]", height: int = 256) -> "Tensor":
    """A contact sheet: each input above its output, all scaled to one height.

    Images wider than four times this height are scaled to that width instead.

    Example:
        >>> import torch
        >>> line, square = torch.rand(3, 1, 4000), torch.rand(3, 50, 50)
        >>> sheet([(line, line), (square, square)]).shape
        torch.Size([3, 512, 1288])
    """
    import torch
    from torch.nn.functional import interpolate, pad

    columns = []
    for both in pairs:
        h, w = both[0].shape[1:]
        scale = min(height / h, 4 * height / w)
        size = max(1, round(h * scale)), max(1, round(w * scale))
        scaled = [
            interpolate(x[None].float(), size=size, mode="bilinear", antialias=True)[0]
            for x in both
        ]
        columns.append(torch.cat([pad(x, (2, 2, 0, height - size[0])) for x in scaled], 1))
    return torch.cat(columns, 2)


def _write(path: Path, image: "Tensor") -> None:
    import numpy as np
    from PIL import Image

    from rectilinear.files import atomic_write
    from rectilinear.style.lessons import to_bytes

    pixels = to_bytes(image).permute(1, 2, 0).numpy()
    with atomic_write(path) as tmp:
        Image.fromarray(np.ascontiguousarray(pixels if len(image) > 1 else pixels[..., 0])).save(
            tmp, format="PNG"
        )
