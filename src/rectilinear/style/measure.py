"""Scores of styles on whole photos: PSNR, style distance, exchange, removal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from rectilinear.metrics import mean_psnr
from rectilinear.style.fit import gram, pattern
from rectilinear.style.model import StyleTransfer
from rectilinear.style.style_map import LEVELS, as_eight_bit

MAX_PSNR_DB = 160.0  # of equal images
Style = Callable[[Tensor], Tensor]


def score(y: Tensor, target: Tensor) -> float:
    """The PSNR in dB of one image, both clipped to [0, 1], at most 160 dB.

    Example:
        >>> round(score(torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.1)), 4)
        20.0
    """
    y, target = y.double(), target.double()
    return round(mean_psnr(y[None], target[None], most=MAX_PSNR_DB, clip=True), 9)


def flat(painting: Tensor) -> Tensor:
    """The best constant colour for an image: its mean."""
    return painting.mean((-2, -1), keepdim=True).expand_as(painting)


@torch.no_grad()
def above_flat(style: Style, pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """The mean PSNR of ``style(photo)`` to the painting, less that of the painting's mean colour.

    Args:
        style: maps an image ``(c, h, w)``.
        pairs: photos and paintings, bytes or floats.

    Example:
        >>> photo = torch.rand(3, 8, 8)
        >>> above_flat(lambda x: 0.9 * x, [(photo, photo)]) > 3
        True
    """
    gains = []
    for photo, painting in pairs:
        x, y = _as_floats(photo), _as_floats(painting)
        gains.append(score(style(x), y) - score(flat(y), y))
    return sum(gains) / len(gains)


@torch.no_grad()
def style_distance(
    style: Style, pairs: Sequence[tuple[Tensor, Tensor]], features: nn.Module
) -> float:
    """The distance of texture to the painting: 0 for the painting, 1 for the photo as it is.

    The mean over photos and layers of ``|G(style(x)) - G(y)| / |G(x) - G(y)|`` with the Gram
    matrices of a feature network. Take layers that no training has seen.

    Example:
        >>> photo = torch.rand(3, 8, 8)
        >>> style_distance(lambda x: x, [(photo, 1 - photo)], lambda x: [x])
        1.0
    """
    ratios = []
    for photo, painting in pairs:
        x, y = _as_floats(photo), _as_floats(painting)
        arrays = (features(image[None]) for image in (style(x).clamp(0, 1), x, y))
        for made, before, taught in zip(*arrays, strict=True):
            a, b, c = gram(made), gram(before), gram(taught)
            ratios.append(float((a - c).norm() / (b - c).norm()))
    return sum(ratios) / len(ratios)


@torch.no_grad()
def way_back_scores(model: StyleTransfer, photos: Sequence[Tensor]) -> dict[str, float]:
    """PSNR in dB of style removal and exchange from the model's own 8-bit images, means over all.

    ``"removal"`` is to the photo and ``"exchange"`` to the other style, by the fitted operators;
    ``"..., exact inverse"`` by the inverse; ``"..., nothing"`` for the unchanged image; ``"removal,
    float"`` for images that were not rounded; ``"strength 0"`` for the photo through the network.
    """
    found: dict[str, list[float]] = {}

    def note(name: str, y: Tensor, target: Tensor) -> None:
        found.setdefault(name, []).append(score(y, target))

    for photo in photos:
        x = _as_floats(photo)
        made = {name: model(x, name) for name in model.styles}
        note("strength 0", model.path("identity", model.styles[0], 0.0)(x), x)
        for i in model.styles:
            back, saved = model.removal(i), as_eight_bit(made[i])
            note("removal", back(saved), x)
            note("removal, exact inverse", back.exact(saved), x)
            note("removal, nothing", saved, x)
            note("removal, float", back.exact(made[i]), x)
            for j in model.styles:
                if i != j:
                    turn = model.between(i, j)
                    note("exchange", turn(saved), made[j])
                    note("exchange, exact inverse", turn.exact(saved), made[j])
                    note("exchange, nothing", saved, made[j])
    return {name: sum(values) / len(values) for name, values in found.items()}


@torch.no_grad()
def flat_pattern(style: Style, channels: int = 3, period: int = 4) -> float:
    """The standard deviation of the pattern that repeats each ``period`` pixels on flat images.

    Of images of 64 x 64 pixels of 4 levels of each channel, the middle 32 x 32 pixels of their
    styles, as a mean over periods: the root of its mean variance. Where the images show 256 levels,
    one is .0039.

    Example:
        >>> stripes = torch.tensor([0.0, 0.2]).repeat(32)
        >>> round(flat_pattern(lambda x: x + stripes), 4)
        0.1
    """
    levels = torch.linspace(0, 1, 4)
    colours = torch.cartesian_prod(*[levels] * channels).view(-1, channels)
    images = colours[:, :, None, None].expand(-1, -1, 64, 64).contiguous()
    middles = torch.stack([style(x)[:, 16:48, 16:48] for x in images])
    return float(pattern(middles, period).sqrt())


def _as_floats(image: Tensor) -> Tensor:
    return image.float() / LEVELS if image.dtype == torch.uint8 else image
