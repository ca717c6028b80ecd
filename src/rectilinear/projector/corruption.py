"""Image corruptions: noise, missing pixels, occlusion, blur, salt and pepper.

A new corruption is one function with the decorator :func:`register`: recipes, ``restoration`` and
``rectilinear project --corrupt`` then know it by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf
from typing import NamedTuple

import torch
from torch import Tensor

from rectilinear.checks import STANDARDISED_REACH, check_floating, check_scale, check_tensor
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.operators import Convolution, Diagonal, Operator

MIN_BLUR_PIXELS = 1e-3  # standard deviation in pixels: a blur of severity 0 is the identity
SAME_SEVERITY = 8  # training images that share a severity


class Corrupted(NamedTuple):
    """Corrupted images ``(b, c, h, w)``, and the operator ``K`` with ``images = K x``, if any.

    ``measurement`` acts on flattened images ``(b, c h w)``. It is None where the corruption is not
    linear or not observed: noise, salt and pepper.
    """

    images: Tensor
    measurement: Operator | None


Apply = Callable[[Tensor, float, torch.Generator | None], Corrupted]


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption.

    Attributes:
        apply: The function of images ``(b, c, h, w)``, severity and random generator.
        severities: The mild, middle and strong severity that :func:`restoration` measures at.
        max_severity: The largest severity that makes sense.
    """

    apply: Apply
    severities: tuple[float, float, float]
    max_severity: float = 1.0


CORRUPTIONS: dict[str, Corruption] = {}
"""All corruptions by name."""


def register(
    mild: float, middle: float, strong: float, max_severity: float = 1.0
) -> Callable[[Apply], Apply]:
    """A decorator that adds a function to :data:`CORRUPTIONS` under its own name."""

    def add(apply: Apply) -> Apply:
        CORRUPTIONS[apply.__name__] = Corruption(apply, (mild, middle, strong), max_severity)
        return apply

    return add


def corrupt(
    images: Tensor, kind: str, severity: float, generator: torch.Generator | None = None
) -> Corrupted:
    """Images ``(b, c, h, w)`` with one kind of corruption, and its measurement operator.

    - ``noise``: Gaussian noise of standard deviation ``severity``;
    - ``missing``: a share ``severity`` of the pixels, drawn for each image, is set to 0;
    - ``occlusion``: a square at a random place is set to 0; its side is ``severity`` times that of
      the image;
    - ``blur``: circular convolution with a Gaussian of standard deviation ``severity`` times the
      image height;
    - ``salt``: a share ``severity`` of the pixels is set to 0 or 1 at random (salt and pepper).

    ``measurement`` is the mask of the observed pixels for ``missing`` and ``occlusion``, the
    convolution for ``blur``, and None for the others.

    Args:
        images: ``(b, c, h, w)``.
        kind: a name of :data:`CORRUPTIONS`.
        severity: 0 leaves images as they are; at most 1, except for noise.
        generator: of the random numbers; torch's global one by default.

    Raises:
        ConfigError: for an unknown kind, or a severity out of range.
        ShapeError: if ``images`` are not ``(b, c, h, w)``.

    Example:
        >>> corrupted, K = corrupt(torch.ones(2, 1, 8, 8), "occlusion", 0.5)
        >>> corrupted.sum((1, 2, 3)).tolist(), K(torch.ones(2, 64)).sum(1).tolist()
        ([48.0, 48.0], [48.0, 48.0])
    """
    check_floating(images, "images")
    if images.ndim != 4:
        raise ShapeError(
            f"images of shape {tuple(images.shape)}", "(b, c, h, w)", "Add the missing axes."
        )
    corruption = named_corruption(kind)
    if not 0 <= severity <= corruption.max_severity:
        limit = f"0 to {corruption.max_severity:g}"
        raise ConfigError(
            f"severity {severity} of '{kind}'",
            "0 or more" if corruption.max_severity == inf else limit,
        )
    return corruption.apply(images, severity, generator)


def named_corruption(kind: str) -> Corruption:
    """The corruption called ``kind``."""
    if kind not in CORRUPTIONS:
        raise ConfigError(f"corruption '{kind}'", f"one of {', '.join(CORRUPTIONS)}")
    return CORRUPTIONS[kind]


def check_kinds(kinds: tuple[str, ...]) -> None:
    """Raise a ConfigError unless ``kinds`` are names of :data:`CORRUPTIONS`, and not one string."""
    if isinstance(kinds, str):
        raise ConfigError(f"kinds={kinds!r}", "a tuple of names", f"Pass ({kinds!r},).")
    for kind in kinds:
        named_corruption(kind)


def masked(observed: Tensor) -> Operator:
    """The measurement operator that keeps the pixels where ``observed`` is not 0.

    Args:
        observed: ``(b, c, h, w)``, or ``(h, w)`` for all of some grey images. Of colour images
            ``masked(pixels.expand(images.shape))`` has the same mask in all channels.

    Example:
        >>> masked(torch.tensor([[[[1, 0]]]]))(torch.ones(1, 2)).tolist()
        [[1.0, 0.0]]
    """
    check_tensor(observed, "observed")
    values = observed if observed.is_floating_point() else observed.to(torch.get_default_dtype())
    values = values[None] if values.ndim == 2 else values
    return Diagonal((values != 0).to(values).flatten(1), trainable=False)


class RandomCorruption:
    """A data augmentation: equal parts of a batch stay clean or get one of ``kinds`` each.

    Severities are uniform from 0 to the strong one of each kind, and a batch has many: each is that
    of at most eight images.

    Args:
        kinds: names of :data:`CORRUPTIONS`; without any, batches stay as they are.

    Raises:
        ConfigError: for an unknown kind.
        DataError: when called, for images far off 0 to 1, such as bytes as floats.

    Example:
        >>> RandomCorruption(("noise",))(torch.zeros(4, 1, 8, 8))[:2].abs().sum().item()
        0.0
    """

    def __init__(self, kinds: tuple[str, ...]) -> None:
        check_kinds(kinds)
        self.kinds = kinds

    def __call__(self, images: Tensor) -> Tensor:
        check_scale(images, "images", STANDARDISED_REACH)
        parts = images.tensor_split(len(self.kinds) + 1)
        augmented = [parts[0]]
        for kind, part in zip(self.kinds, parts[1:], strict=True):
            for few in part.split(SAME_SEVERITY):
                severity = float(torch.rand(())) * CORRUPTIONS[kind].severities[-1]
                if len(few):  # a batch may have fewer images than there are parts
                    augmented.append(corrupt(few, kind, severity).images)
        return torch.cat(augmented)


@register(0.1, 0.25, 0.5, max_severity=inf)
def noise(images: Tensor, severity: float, generator: torch.Generator | None) -> Corrupted:
    """Gaussian noise of standard deviation ``severity``."""
    return Corrupted(images + severity * _random(torch.randn, images, generator), None)


@register(0.25, 0.5, 0.75)
def missing(images: Tensor, severity: float, generator: torch.Generator | None) -> Corrupted:
    """A share ``severity`` of the pixels set to 0."""
    u = _random(torch.rand, images[:, :1], generator)
    return _observed(images, (u >= severity).to(images).expand_as(images))


@register(0.25, 0.375, 0.5)
def occlusion(images: Tensor, severity: float, generator: torch.Generator | None) -> Corrupted:
    """A square of side ``severity`` times that of the image, at a random place, set to 0."""
    b, _, h, w = images.shape
    inside = torch.ones(b, 1, h, w, dtype=torch.bool, device=images.device)
    for axis, n in enumerate((h, w), start=2):
        side = round(severity * n)
        first = torch.randint(0, n - side + 1, (b,), generator=generator).to(images.device)
        offset = torch.arange(n, device=images.device) - first[:, None]
        shape = [b, 1, 1, 1]
        shape[axis] = n
        inside &= ((offset >= 0) & (offset < side)).reshape(shape)
    return _observed(images, (~inside).to(images).expand_as(images))


@register(0.04, 0.06, 0.1)
def blur(images: Tensor, severity: float, generator: torch.Generator | None) -> Corrupted:  # noqa: ARG001 - nothing here is random
    """Circular convolution with a Gaussian of standard deviation ``severity`` times the height."""
    K = gaussian_blur(images, severity)
    return Corrupted(K(images.flatten(1)).reshape(images.shape), K)


@register(0.05, 0.15, 0.3)
def salt(images: Tensor, severity: float, generator: torch.Generator | None) -> Corrupted:
    """A share ``severity`` of the pixels set to 0 or 1 at random."""
    u = _random(torch.rand, images[:, :1], generator)
    return Corrupted(torch.where(u < severity, (u < severity / 2).to(images), images), None)


def gaussian_blur(images: Tensor, severity: float) -> Convolution:
    """The circular convolution of ``blur``, for images of the shape ``(b, c, h, w)``."""
    _, c, h, w = images.shape
    sigma = max(severity * h, MIN_BLUR_PIXELS)
    radius = min(ceil(3 * sigma), (min(h, w) - 1) // 2)
    line = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    weight = torch.exp(-0.5 * (line / sigma).square())
    kernel = torch.outer(weight, weight)
    return Convolution(
        (c, h, w), (kernel / kernel.sum()).expand(c, -1, -1).contiguous(), trainable=False
    )


def _observed(images: Tensor, mask: Tensor) -> Corrupted:
    return Corrupted(images * mask, masked(mask))


def _random(draw, images: Tensor, generator: torch.Generator | None) -> Tensor:  # type: ignore[no-untyped-def] # rand, randn
    """Random numbers of the shape of ``images``, drawn on the CPU: the same on every device."""
    if generator is None:
        return draw(images.shape, dtype=images.dtype, device=images.device)
    return draw(images.shape, generator=generator, dtype=images.dtype).to(images.device)
