"""Image restoration with a projector: denoising, inpainting, deblurring, and its PSNR table."""

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
from rectilinear.projector.corruption import CORRUPTIONS, corrupt
from rectilinear.random import generator

POWER_ITERATIONS = 10  # of the check that |K| <= 1


@torch.no_grad()
def restore(
    f: Callable[[Tensor], Tensor], y: Tensor, measurement: Operator | None = None, steps: int = 50
) -> Tensor:
    """Restored images: ``f(y)``, or with the measurement ``y = K x`` images that agree with it.

    With ``measurement`` ``K`` it iterates ``x <- f(x) + K^T (y - K f(x))`` from ``x = y``: project
    onto the range, then move towards the data. For a mask ``K`` these are alternating projections
    onto the range and onto the images with the observed pixels; for a blur, gradient steps between
    projections. ``|K| <= 1`` is required.

    Args:
        f: a projector, or any map of images to images.
        y: corrupted images, ``(b, *shape)``.
        measurement: ``K``, on flattened images; None applies ``f`` once.
        steps: number of iterations with a measurement, 50 by default.

    Raises:
        ConfigError: for fewer than one step, or ``|K| > 1``, where the iteration diverges.

    Reference: H. Bauschke and J. Borwein, On projection algorithms for solving convex feasibility
    problems, 1996.

    Example:
        >>> from rectilinear.operators import Diagonal
        >>> flat = lambda x: x.mean(1, keepdim=True).expand_as(x)  # projects onto constants
        >>> observed = Diagonal(torch.tensor([1.0, 1.0, 0.0]))
        >>> restore(flat, torch.tensor([[3.0, 3.0, 0.0]]), observed).round().tolist()
        [[3.0, 3.0, 3.0]]
    """
    steps = whole(steps, "steps", 1)
    if measurement is None:
        return f(y)
    x, data = y, y.flatten(1)
    _check_measurement(measurement, data)
    for _ in range(steps):
        x = f(x).flatten(1)
        x = (x + measurement.apply_adjoint(data - measurement(x))).reshape(y.shape)
    return x


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
    :func:`~rectilinear.projector.restore`. PSNR is of all images as one, pixels as they are.

    Args:
        maps: maps of images to images, by name.
        images: clean images with values from 0 to 1.
        severities: severities by the name of the corruption; those of all corruptions by default.
        steps: iterations where the measurement is used, 30 by default.
        seed: of the corruptions, 0 by default.

    Example:
        >>> rows = restoration({"same": lambda x: x}, torch.rand(2, 1, 8, 8), {"noise": (0.1,)})
        >>> [(row.kind, row.psnr["same"] == row.corrupted) for row in rows]
        [('none', True), ('noise', True)]
    """
    if severities is None:
        severities = {kind: corruption.severities for kind, corruption in CORRUPTIONS.items()}

    def score(found: Tensor) -> float:
        return psnr(found[None].double(), images[None].double()).item()

    clean = {name: score(f(images)) for name, f in maps.items()}
    rows = [Restoration("none", 0.0, with_measurement=False, corrupted=inf, psnr=clean)]
    for kind, values in severities.items():
        for severity in values:
            y, measurement = corrupt(images, kind, severity, generator(seed))
            for given in (None,) if measurement is None else (None, measurement):
                found = {name: score(restore(f, y, given, steps)) for name, f in maps.items()}
                rows.append(Restoration(kind, severity, given is not None, score(y), found))
    return rows


def _check_measurement(measurement: Operator, data: Tensor) -> None:
    """Raise unless ``K`` maps images to images and ``|K| <= 1`` by power iteration."""
    if not isinstance(measurement, Operator):
        raise DtypeError(
            f"a measurement of type {type(measurement).__name__}",
            "an Operator",
            "Wrap a matrix in Dense.",
        )
    if not measurement.in_dim == measurement.out_dim == data.shape[1]:
        raise ShapeError(
            f"a measurement of shape {measurement.out_dim} x {measurement.in_dim}",
            f"{data.shape[1]} x {data.shape[1]}, the values of an image",
        )
    v, norm = torch.cos(torch.arange(data.shape[1], device=data.device)).to(data), 1.0
    for _ in range(POWER_ITERATIONS):
        v = measurement.apply_adjoint(
            measurement(v / v.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny))
        )
        norm = float(v.norm(dim=-1).max()) ** 0.5 if v.numel() else 0.0
    if norm > 1 + tolerance(data.dtype, n=data.shape[1]):
        raise ConfigError(
            f"a measurement of norm {norm:.3g} or more",
            "|K| <= 1",
            "Divide K and the data by this norm.",
        )
