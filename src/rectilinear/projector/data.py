"""Errors for images, measurements and noise that do not fit a prior."""

from __future__ import annotations

from math import prod

from torch import Tensor

from rectilinear.checks import check_batch, check_floating, is_within
from rectilinear.errors import ConfigError, DtypeError, ShapeError
from rectilinear.operators import Operator


def check_channels(x: Tensor, shape: tuple[int, ...], name: str) -> None:
    """Raise a ShapeError unless ``x`` are images ``(b, c, h, w)`` with channels of ``shape``."""
    check_floating(x, name)
    c, got = shape[0], tuple(x.shape)
    if x.ndim == 4 and got[1] == c:
        return
    if x.ndim in (2, 3):
        fix = "Add axes: images[:, None] to grey ones, image[None] to one in colour."
    elif x.ndim == 4 and (got[3] == c or (got[3] in (1, 3) and got[1] not in (1, 3))):
        fix = f"Move the channels: {name}.movedim(3, 1)."
    elif x.ndim == 4 and got[1] == 3 and c == 1:
        fix = f"Fit it to images in colour, or pass the channels: {name}.flatten(0, 1)[:, None]."
    elif x.ndim == 4 and got[1] == 1:
        fix = f"Fit it to grey images, or repeat the channel: {name}.expand(-1, {c}, -1, -1)."
    else:
        fix = f"Fit it to such images, or pass images of {c} channels."
    raise ShapeError(f"{name} of shape {got}", f"(b, {c}, h, w), as it was fitted to", fix)


def check_images(x: Tensor, shape: tuple[int, ...], name: str) -> None:
    """Raise a ShapeError unless ``x`` are images ``(b, *shape)`` of a prior."""
    check_floating(x, name)
    if len(shape) == 3 and tuple(x.shape[1:]) != shape:
        check_channels(x, shape, name)
        fix = f"Pass them to posterior(prior, {name}), which takes any size, patch by patch."
        raise ShapeError(
            f"{name} of shape {tuple(x.shape)}",
            f"(b, {', '.join(map(str, shape))}), as it was fitted to",
            fix if shape[1] == shape[2] else "Resize them, or fit_prior(images, patch=8).",
        )
    check_batch(x, shape, name)


def check_operator(measurement: object) -> None:
    """Raise a DtypeError unless a measurement is an operator, such as for a mask of pixels."""
    if not isinstance(measurement, Operator):
        raise DtypeError(
            f"a measurement of type {type(measurement).__name__}",
            "an Operator",
            "Pass masked(pixels.expand(y.shape)) for a mask of pixels, Dense(K) for a matrix.",
        )


def check_measured(measurement: Operator, y: Tensor) -> None:
    """Raise a ShapeError unless a measurement is of images as ``y``, one for all or for each."""
    check_operator(measurement)
    n, count = y[0].numel(), prod(measurement.batch_shape)
    if measurement.in_dim == measurement.out_dim == n and count in (1, len(y)):
        return
    several = f"{count} measurements" if count > 1 else "a measurement"
    raise ShapeError(
        f"{several} of shape {measurement.out_dim} x {measurement.in_dim}",
        f"{n} x {n}, the values of an image, and one for all or for each of {len(y)} images",
        "Build it for images of this size: masked(pixels.expand(images.shape)) of a mask of pixels "
        "(h, w), or (b, 1, h, w).",
    )


def check_noise(noise: float) -> None:
    """Raise a ConfigError unless ``noise`` is a number of at least 0."""
    if not is_within(noise, 0):
        got = noise if isinstance(noise, float | int | str) else f"a {type(noise).__name__}"
        raise ConfigError(
            f"noise={got!s}",
            "a number of at least 0, the standard deviation of the noise of all values",
            "Pass one float; of a tensor .item().",
        )
