"""What a projector does to damaged images, in decibels beside another map."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import torch

from rectilinear._seed import generator
from rectilinear.errors import ShapeError
from rectilinear.idempotent.damage import SEVERITIES, damage
from rectilinear.idempotent.restore import restore
from rectilinear.metrics import psnr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from rectilinear.idempotent.damage import Kind


@dataclass(frozen=True)
class Restoration:
    """PSNR in dB of one damage at one severity: as seen, and behind each map; ``known`` if it is told the damage."""

    kind: str
    severity: float
    known: bool
    seen: float
    psnr: dict[str, float]


def decibels(x: Tensor, y: Tensor) -> float:
    """:func:`~rectilinear.metrics.psnr` of all images as one, values as they are; infinite where they are equal.

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
    """How well each map restores ``images`` ``(b, c, h, w)`` from every damage: by itself, and told the damage.

    The first row is of unharmed images, ``kind`` ``"none"``. Where a damage is a known measurement, a second row has
    the restorations that agree with it, see :func:`~rectilinear.idempotent.restore`.

    Example:
        >>> rows = restoration({"nothing": lambda x: x}, torch.rand(2, 1, 8, 8), {"noise": (0.1,)})
        >>> [(row.kind, row.psnr["nothing"] == row.seen) for row in rows]
        [('none', True), ('noise', True)]
    """
    rows = [Restoration("none", 0.0, False, inf, {name: decibels(f(images), images) for name, f in maps.items()})]
    for kind, values in severities.items():
        for severity in values:
            seen, measure = damage(images, kind, severity, generator(seed))
            for known in (None,) if measure is None else (None, measure):
                found = {name: decibels(restore(f, seen, known, steps), images) for name, f in maps.items()}
                rows.append(Restoration(kind, severity, known is not None, decibels(seen, images), found))
    return rows
