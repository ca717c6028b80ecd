"""Labelled images of one split; images and masks from arrays of any common layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from rectilinear.checks import check_finite
from rectilinear.errors import ConfigError, DataError, DtypeError, ShapeError


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images of one split; unpacks as ``images, labels``.

    Attributes:
        images: float32 ``(n, c, h, w)`` in ``[0, 1]``.
        labels: int64 ``(n,)``, indices into ``classes``.
        classes: the name of each class.
        name: the name of the data set.

    Example:
        >>> import torch
        >>> data = Images(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), ("a", "b"), "two")
        >>> images, labels = data
        >>> images.shape, labels.tolist()
        (torch.Size([2, 1, 8, 8]), [0, 1])
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """``(c, h, w)`` of one image."""
        return tuple(self.images.shape[1:])

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Tensor]:
        yield self.images
        yield self.labels


def fit(images: Tensor, size: int | None) -> Tensor:
    """Square images ``(n, c, s, s)``: padded with zeros, or shrunk by antialiased interpolation.

    A border keeps every pixel as it is, where interpolation would make neighbours linearly
    dependent.

    Raises:
        ConfigError: if ``size`` is not positive.

    Example:
        >>> import torch
        >>> fit(torch.ones(1, 1, 28, 28), 32).sum().item() == 28 * 28
        True
    """
    check_size(size)
    side = images.shape[-1]
    if size is None or size == side:
        return images
    if size < side:
        return interpolate(images, size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)
    before = (size - side) // 2
    after = size - side - before
    return pad(images, (before, after, before, after))


def check_size(size: int | None) -> None:
    """Raise ConfigError unless ``size`` is None or positive."""
    if size is not None and size < 1:
        raise ConfigError(
            f"size = {size}",
            "a positive number of pixels",
            "Leave it out for the size of the files.",
        )


_ROUNDING = 1e-3  # how far outside [0, 1] a value may be


def images_from_array(array: Tensor, shape: tuple[int, int, int], name: str = "images") -> Tensor:
    """The array as float32 images ``(n, c, h, w)`` in ``[0, 1]`` of the ``shape`` ``(c, h, w)``.

    Bytes are divided by 255; other numbers must lie in ``[0, 1]`` already. Layouts are ``(n, c, h,
    w)`` or ``(n, h, w, c)``, for one channel ``(n, h, w)``, and a single image without its first
    axis. Where an array fits two of them, channels come first.

    Raises:
        ShapeError: for another shape, or no image.
        DtypeError: for whole numbers that are no bytes, and for complex ones.
        NonFiniteError: for NaN or infinity.
        DataError: for values outside of ``[0, 1]``.

    Example:
        >>> array = torch.full((2, 4, 5, 3), 51, dtype=torch.uint8)
        >>> images_from_array(array, (3, 4, 5)).shape
        torch.Size([2, 3, 4, 5])
    """
    images = _unit_range(_channels_first(array, shape, name), name)
    if not len(images):
        raise ShapeError(
            f"{name} of shape {tuple(array.shape)}", "at least one image", "Pass some."
        )
    return images


def mask_from_array(
    array: Tensor, shape: tuple[int, int, int, int], name: str = "the mask"
) -> Tensor:
    """Where the array is not 0, as a boolean mask of images of ``shape`` ``(n, c, h, w)``.

    Layouts are ``(h, w)`` for all images, ``(n, h, w)`` for each of them, and ``(n or 1, c or 1, h,
    w)``.

    Raises:
        ShapeError: for another shape.
        NonFiniteError: for NaN or infinity.
        DataError: if an image has no observed pixel.

    Example:
        >>> mask_from_array(torch.eye(2), (3, 1, 2, 2)).sum().item()
        6
    """
    n, c, h, w = shape
    layouts = {
        2: ((h, w),),
        3: ((n, h, w), (1, h, w)),
        4: tuple((i, j, h, w) for i in (n, 1) for j in (c, 1)),
    }
    if tuple(array.shape) not in layouts.get(array.ndim, ()):
        raise ShapeError(
            f"a mask of shape {tuple(array.shape)}",
            f"({h}, {w}), or one for each of {n}",
            "Resize the mask.",
        )
    check_finite(array, name)
    observed = (array != 0).reshape(array.shape if array.ndim == 4 else (-1, 1, h, w)).expand(shape)
    if not bool(observed.flatten(1).any(1).all()):
        raise DataError(
            f"{name}, by which no pixel is observed",
            "a mask that is not 0 where pixels are observed",
            "Check the mask.",
        )
    return observed


def _channels_first(array: Tensor, shape: tuple[int, int, int], name: str) -> Tensor:
    c, h, w = shape
    if tuple(array.shape[-3:]) == shape and array.ndim in (3, 4):
        return array.reshape(-1, *shape)
    if c == 1 and tuple(array.shape[-2:]) == (h, w) and array.ndim in (2, 3):
        return array.reshape(-1, *shape)
    if tuple(array.shape[-3:]) == (h, w, c) and array.ndim in (3, 4):
        return array.reshape(-1, h, w, c).permute(0, 3, 1, 2)
    grey = f" or (n, {h}, {w})" if c == 1 else ""
    raise ShapeError(
        got=f"{name} of shape {tuple(array.shape)}",
        expected=f"(n, {c}, {h}, {w}) or (n, {h}, {w}, {c}){grey}",
        fix="Resize the images; grey ones are repeated for three channels with numpy.repeat.",
    )


def _unit_range(images: Tensor, name: str) -> Tensor:
    if images.dtype == torch.uint8:
        return images.float() / 255
    if images.dtype == torch.bool:
        return images.float()
    if not images.is_floating_point():
        raise DtypeError(
            f"{name} of dtype {images.dtype}",
            "bytes (uint8) from 0 to 255, or floats from 0 to 1",
            "Convert them.",
        )
    check_finite(images, name)
    images = images.double() if images.dtype == torch.float64 else images.float()
    low, high = (images.min().item(), images.max().item()) if images.numel() else (0.0, 0.0)
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise DataError(
            got=f"{name} with values from {low:.4g} to {high:.4g}",
            expected="floats from 0 to 1, or bytes (uint8) from 0 to 255",
            fix="Scale them to [0, 1]; where noise leads outside, clip them.",
        )
    return images.clamp(0, 1).float()
