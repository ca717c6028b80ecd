"""The PSNR of restorations on every corruption and severity, blind and informed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from rectilinear.checks import check_scale
from rectilinear.metrics import psnr
from rectilinear.projector.corruption import CORRUPTIONS, corrupt
from rectilinear.projector.restoration import restore
from rectilinear.random import generator


@dataclass(frozen=True)
class Restoration:
    """PSNR in dB for one corruption and severity: of the corrupted images, and behind each map.

    Attributes:
        kind: Name of the corruption, or ``"none"``.
        severity: Its severity.
        with_measurement: Whether the maps were given the measurement operator.
        corrupted: PSNR of the corrupted images.
        psnr: PSNR of the restored images by the name of the map.
    """

    kind: str
    severity: float
    with_measurement: bool
    corrupted: float
    psnr: dict[str, float]


@torch.no_grad()
def restoration(
    maps: Mapping[str, Callable[[Tensor], Tensor]],
    images: Tensor,
    severities: Mapping[str, tuple[float, ...]] | None = None,
    *,
    steps: int = 30,
    seed: int = 0,
) -> list[Restoration]:
    """The PSNR of each map on every corruption of ``images`` ``(b, c, h, w)``, blind and informed.

    The first row is of clean images, ``kind`` ``"none"``. Where a corruption has a measurement
    operator, a second row has the restorations that agree with it, see
    :func:`~rectilinear.projector.restore`. PSNR is of all images as one, restorations clipped to 0
    and 1 (see :func:`restoration_psnr`).

    Args:
        maps: maps of images to images, by name.
        images: clean images with values from 0 to 1.
        severities: severities by the name of the corruption; those of all corruptions by default.
        steps: iterations where the measurement is used, 30 by default.
        seed: of the corruptions, 0 by default.

    Raises:
        DataError: for images on another scale, such as bytes as floats.

    Example:
        >>> rows = restoration({"same": lambda x: x}, torch.rand(2, 1, 8, 8), {"noise": (0.1,)})
        >>> [(row.kind, row.psnr["same"] == row.corrupted) for row in rows]
        [('none', True), ('noise', True)]
    """
    check_scale(images, "images")
    if severities is None:
        severities = {kind: corruption.severities for kind, corruption in CORRUPTIONS.items()}

    def score(found: Tensor) -> float:
        return restoration_psnr(found, images)

    clean = {name: score(f(images)) for name, f in maps.items()}
    rows = [Restoration("none", 0.0, with_measurement=False, corrupted=inf, psnr=clean)]
    for kind, values in severities.items():
        for severity in values:
            y, measurement = corrupt(images, kind, severity, generator(seed))
            for given in (None,) if measurement is None else (None, measurement):
                found = {name: score(restore(f, y, given, steps)) for name, f in maps.items()}
                rows.append(Restoration(kind, severity, given is not None, score(y), found))
    return rows


def restoration_psnr(restored: Tensor, images: Tensor) -> float:
    """The PSNR in dB of all images as one, restorations clipped to 0 and 1: the one of all tables.

    Example:
        >>> round(restoration_psnr(torch.tensor([[-1.0, 0.1]]), torch.zeros(1, 2)), 4)
        23.0103
    """
    return psnr(restored[None].double().clamp(0, 1), images[None].double()).item()
