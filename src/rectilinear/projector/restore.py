"""Restoration: a projector, and what is known of the damage.

What a projector does to damaged images, in decibels beside another map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from rectilinear.checks import tolerance, whole
from rectilinear.errors import ConfigError, DtypeError, ShapeError
from rectilinear.metrics import psnr
from rectilinear.operators import Operator
from rectilinear.projector.corruption import SEVERITIES, Kind, damage
from rectilinear.random import generator


@torch.no_grad()
def restore(
    f: Callable[[Tensor], Tensor], y: Tensor, measure: Operator | None = None, steps: int = 50
) -> Tensor:
    """What ``f`` makes of damaged images ``y``; with the measurement ``y = K x`` known, agreeing
    with it.

    Without ``measure``, ``f(y)``. With it ``steps`` times ``x <- f(x) + K^T (y - K f(x))`` from ``x
    = y``: onto the range, and towards the data. For a mask ``K`` these are projections onto the
    range and onto the images with the known pixels, in turn; for a blur they are steps of gradient
    descent between projections. ``|K| <= 1``.

    Args:
        f: a projector, or any map of images to images.
        y: ``(b, *shape)``.
        measure: ``K``, on flattened images.
        steps: how often.

    Raises:
        ConfigError: for fewer than one step, or ``|K| > 1``, where the steps diverge.

    Reference: H. Bauschke and J. Borwein, On projection algorithms for solving convex feasibility
    problems, 1996.

    Example:
        >>> from rectilinear.operators import Diagonal
        >>> flat = lambda x: x.mean(1, keepdim=True).expand_as(x)  # projects onto constants
        >>> restore(flat, torch.tensor([[3.0, 3.0, 0.0]]), Diagonal(torch.tensor([1.0, 1.0, 0.0]))).round().tolist()
        [[3.0, 3.0, 3.0]]
    """
    steps = whole(steps, "steps", 1)
    if measure is None:
        return f(y)
    x, seen = y, y.flatten(1)
    _check_measure(measure, seen)
    for _ in range(steps):
        x = f(x).flatten(1)
        x = (x + measure.apply_adjoint(seen - measure(x))).reshape(y.shape)
    return x


def _check_measure(measure: Operator, seen: Tensor) -> None:
    """Raise unless ``K`` maps what is seen to its like and ``|K| <= 1``, as far as ten power
    iterations show.
    """
    if not isinstance(measure, Operator):
        raise DtypeError(
            f"a measure of type {type(measure).__name__}", "an Operator", "Wrap a matrix in Dense."
        )
    if not measure.in_dim == measure.out_dim == seen.shape[1]:
        raise ShapeError(
            f"a {measure.out_dim} x {measure.in_dim} measure",
            f"{seen.shape[1]} x {seen.shape[1]}, as the images have",
        )
    v, size = torch.cos(torch.arange(seen.shape[1], device=seen.device)).to(seen), 1.0
    for _ in range(10):
        v = measure.apply_adjoint(
            measure(v / v.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny))
        )
        size = float(v.norm(dim=-1).max()) ** 0.5 if v.numel() else 0.0
    if size > 1 + tolerance(seen.dtype, n=seen.shape[1]):
        raise ConfigError(
            f"a measure of norm {size:.3g} or more",
            "|K| <= 1",
            "Divide K and what is seen by its norm.",
        )


@dataclass(frozen=True)
class Restoration:
    """PSNR in dB of one damage at one severity: as seen, and behind each map; ``known`` if it is
    told the damage.
    """

    kind: str
    severity: float
    known: bool
    seen: float
    psnr: dict[str, float]


def decibels(x: Tensor, y: Tensor) -> float:
    """:func:`~rectilinear.metrics.psnr` of all images as one, values as they are; infinite where
    they are equal.

    Example:
        >>> round(decibels(torch.zeros(2, 4), torch.full((2, 4), 0.1)))
        20
    """
    if x.shape != y.shape:
        raise ShapeError(f"images of shapes {tuple(x.shape)} and {tuple(y.shape)}", "one shape")
    return psnr(x.reshape(1, -1).double(), y.reshape(1, -1).double()).item()


@torch.no_grad()
def restoration(
    maps: Mapping[str, Callable[[Tensor], Tensor]],
    images: Tensor,
    severities: Mapping[Kind, tuple[float, ...]] = SEVERITIES,
    *,
    steps: int = 30,
    seed: int = 0,
) -> list[Restoration]:
    """How well each map restores ``images`` ``(b, c, h, w)`` from every damage: by itself, and told
    the damage.

    The first row is of unharmed images, ``kind`` ``"none"``. Where a damage is a known measurement,
    a second row has the restorations that agree with it, see
    :func:`~rectilinear.projector.restore`.

    Example:
        >>> rows = restoration({"nothing": lambda x: x}, torch.rand(2, 1, 8, 8), {"noise": (0.1,)})
        >>> [(row.kind, row.psnr["nothing"] == row.seen) for row in rows]
        [('none', True), ('noise', True)]
    """
    rows = [
        Restoration(
            "none", 0.0, False, inf, {name: decibels(f(images), images) for name, f in maps.items()}
        )
    ]
    for kind, values in severities.items():
        for severity in values:
            seen, measure = damage(images, kind, severity, generator(seed))
            for known in (None,) if measure is None else (None, measure):
                found = {
                    name: decibels(restore(f, seen, known, steps), images)
                    for name, f in maps.items()
                }
                rows.append(
                    Restoration(kind, severity, known is not None, decibels(seen, images), found)
                )
    return rows
