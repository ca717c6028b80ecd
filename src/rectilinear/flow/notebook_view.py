"""The view of a generator in a notebook: facts and a strip of samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from torch import Tensor

from rectilinear.errors import NotInitializedError
from rectilinear.notebook import facts

STRIP_IMAGES = 8
MAX_NUMBERS = 3 * 128**2  # of one image
SIDE = 48  # pixels to which smaller images are enlarged


def generator_html(
    shape: tuple[int, ...], named: Mapping[str, object], sample: Callable[[int], Tensor]
) -> str:
    """Facts of a generator, and samples where its data are images of a moderate size.

    Nothing is sampled before its first training batch, where a network is not initialised.

    Example:
        >>> import torch
        >>> markup = generator_html((1, 4, 4), {"rank": 3}, lambda n: torch.rand(n, 1, 4, 4))
        >>> markup.count("<img"), generator_html((4,), {}, torch.zeros).count("<img")
        (1, 0)
    """
    named = {"data": " x ".join(map(str, shape)), **named}
    is_image = len(shape) == 3 and shape[0] in (1, 3) and prod(shape) <= MAX_NUMBERS
    return facts("LinearFlow", named, _strip(shape[-1], sample) if is_image else "")


def _strip(width: int, sample: Callable[[int], Tensor]) -> str:
    from rectilinear.plots.charts import grid
    from rectilinear.plots.page import embedded_image

    try:
        images = sample(STRIP_IMAGES).float().cpu().nan_to_num()
    except NotInitializedError:
        return ""
    pixels = grid(images.numpy(), STRIP_IMAGES)
    return embedded_image(pixels, "samples, seed 0", max(1, SIDE // width))
