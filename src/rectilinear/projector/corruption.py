"""Damage to images, by kind and severity, and what is known of it."""

from __future__ import annotations

from math import ceil
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from rectilinear.checks import check_floating
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.operators import Convolution, Diagonal, Operator

Kind = Literal["noise", "missing", "occlusion", "blur", "salt"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SEVERITIES: dict[Kind, tuple[float, float, float]] = {
    "noise": (0.1, 0.25, 0.5),
    "missing": (0.25, 0.5, 0.75),
    "occlusion": (0.25, 0.375, 0.5),
    "blur": (0.04, 0.06, 0.1),
    "salt": (0.05, 0.15, 0.3),
}
"""What :func:`damage` is measured at: mild, middle, strong."""


class Damaged(NamedTuple):
    """Images as they are seen, and the linear map ``K`` that made them, where one did and is known."""

    images: Tensor
    measure: Operator | None


def damage(
    images: Tensor, kind: Kind, severity: float, generator: torch.Generator | None = None
) -> Damaged:
    """Damaged images ``(b, c, h, w)``.

    - ``noise``: Gaussian, of standard deviation ``severity``;
    - ``missing``: a share ``severity`` of the pixels, drawn for each image, reads 0;
    - ``occlusion``: a square somewhere, of side ``severity`` times that of the image, reads 0;
    - ``blur``: circular convolution with a Gaussian of standard deviation ``severity`` times the
      side;
    - ``salt``: a share ``severity`` of the pixels reads 0 or 1 at random, nobody knows which.

    ``measure`` is the mask of the known pixels for ``missing`` and ``occlusion``, the convolution
    for ``blur``.

    Raises:
        ConfigError: for an unknown kind, or a severity out of range.
        ShapeError: if ``images`` are not ``(b, c, h, w)``.

    Example:
        >>> seen, known = damage(torch.ones(2, 1, 8, 8), "occlusion", 0.5)
        >>> seen.sum((1, 2, 3)).tolist(), known(torch.ones(2, 64)).sum(1).tolist()
        ([48.0, 48.0], [48.0, 48.0])
    """
    check_floating(images, "images")
    if images.ndim != 4:
        raise ShapeError(
            f"images of shape {tuple(images.shape)}", "(b, c, h, w)", "Add the axes that lack."
        )
    if kind not in KINDS:
        raise ConfigError(f"damage '{kind}'", f"one of {', '.join(KINDS)}", "Choose one of these.")
    if not (severity >= 0 and (kind == "noise" or severity <= 1)):
        raise ConfigError(
            f"severity {severity} of '{kind}'", "0 to 1, noise 0 or more", "Correct the severity."
        )
    if kind == "noise":
        return Damaged(images + severity * _like(torch.randn, images, generator), None)
    if kind == "salt":
        u = _like(torch.rand, images[:, :1], generator)
        return Damaged(torch.where(u < severity, (u < severity / 2).to(images), images), None)
    if kind == "blur":
        blur = gaussian_blur(images, severity)
        return Damaged(blur(images.flatten(1)).reshape(images.shape), blur)
    known = (_scattered if kind == "missing" else _outside_a_square)(images, severity, generator)
    return Damaged(images * known, masked(known))


def masked(known: Tensor) -> Operator:
    """The measurement that reads the pixels where ``known`` ``(b, c, h, w)`` is not 0.

    Example:
        >>> masked(torch.tensor([[[[1, 0]]]]))(torch.ones(1, 2)).tolist()
        [[1.0, 0.0]]
    """
    values = known if known.is_floating_point() else known.to(torch.get_default_dtype())
    return Diagonal((values != 0).to(values).flatten(1), trainable=False)


def gaussian_blur(images: Tensor, severity: float) -> Convolution:
    """The circular convolution with a Gaussian of ``severity`` times the side of ``images`` ``(b,
    c, h, w)``.
    """
    _, c, h, w = images.shape
    sigma = max(severity * h, 1e-3)
    reach = min(ceil(3 * sigma), (min(h, w) - 1) // 2)
    line = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    weight = torch.exp(-0.5 * (line / sigma).square())
    kernel = torch.outer(weight, weight)
    return Convolution(
        (c, h, w), (kernel / kernel.sum()).expand(c, -1, -1).contiguous(), trainable=False
    )


class RandomDamage:
    """Each batch in equal parts unharmed and damaged in each of ``kinds``, at severities up to the
    strong one.

    Example:
        >>> RandomDamage(("noise",))(torch.zeros(4, 1, 8, 8))[:2].abs().sum().item()
        0.0
    """

    def __init__(self, kinds: tuple[Kind, ...]) -> None:
        if unknown := sorted(set(kinds) - set(KINDS)):
            raise ConfigError(
                f"damage '{unknown[0]}'", f"some of {', '.join(KINDS)}", "Choose among these."
            )
        self.kinds = kinds

    def __call__(self, images: Tensor) -> Tensor:
        parts = images.tensor_split(len(self.kinds) + 1)
        harmed = [parts[0]]
        for kind, part in zip(self.kinds, parts[1:], strict=True):
            severity = float(torch.rand(())) * SEVERITIES[kind][-1]
            if len(part):  # small batches have not one for every kind
                harmed.append(damage(part, kind, severity).images)
        return torch.cat(harmed)


def _scattered(images: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    u = _like(torch.rand, images[:, :1], generator)
    return (u >= share).to(images).expand_as(images)


def _outside_a_square(images: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    b, _, h, w = images.shape
    sides = round(share * h), round(share * w)
    inside = torch.ones(b, 1, h, w, dtype=torch.bool, device=images.device)
    for axis, (n, side) in enumerate(zip((h, w), sides, strict=True), start=2):
        start = torch.randint(0, n - side + 1, (b,), generator=generator).to(images.device)
        at = torch.arange(n, device=images.device) - start[:, None]
        shape = [b, 1, 1, 1]
        shape[axis] = n
        inside &= ((at >= 0) & (at < side)).reshape(shape)
    return (~inside).to(images).expand_as(images)


def _like(draw, images: Tensor, generator: torch.Generator | None) -> Tensor:  # type: ignore[no-untyped-def] # rand, randn
    """Random numbers from a generator of the CPU, the same on every device."""
    if generator is None:
        return draw(images.shape, dtype=images.dtype, device=images.device)
    return draw(images.shape, generator=generator, dtype=images.dtype).to(images.device)
