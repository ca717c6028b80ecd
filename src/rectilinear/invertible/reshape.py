"""Rearrangements of coordinates: no parameters, log-determinant 0, exact inverse."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from rectilinear.errors import InputError, ShapeError
from rectilinear.invertible.base import VolumePreserving


class Reshape(VolumePreserving):
    """The same entries in another shape, ``(b, *shape) -> (b, *latent_shape)``.

    Raises:
        ShapeError: if the shapes differ in size.

    Example:
        >>> Reshape((4,), (1, 2, 2))(torch.arange(4.0)[None]).tolist()
        [[[[0.0, 1.0], [2.0, 3.0]]]]
    """

    def __init__(self, shape: tuple[int, ...], latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.latent_shape = tuple(shape), tuple(latent_shape)
        if prod(shape) != prod(latent_shape):
            raise ShapeError(
                got=f"shapes {self.shape} and {self.latent_shape}",
                expected="two shapes with the same number of entries",
                fix="A bijection keeps the number of coordinates.",
            )

    def _latents(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.latent_shape)

    def _decode(self, z: Tensor) -> Tensor:
        return z.reshape(-1, *self.shape)


def Flatten(shape: tuple[int, ...]) -> Reshape:  # noqa: N802 - reads as the block it makes
    """The block ``(b, *shape) -> (b, n)``.

    Example:
        >>> Flatten((3, 2, 2)).latent_shape
        (12,)
    """
    return Reshape(shape, (prod(shape),))


class Squeeze(VolumePreserving):
    """Cells of an image of ``shape`` as channels, ``(b, c, h, w) -> (b, c f^2, h/f, w/f)``.

    Channel ``c f^2 + f dy + dx`` of the result is the phase ``(dy, dx)`` of channel ``c``.

    Raises:
        ShapeError: if height or width is not divisible by the factor.

    Example:
        >>> Squeeze((1, 2, 2), 2)(torch.arange(4.0).reshape(1, 1, 2, 2)).flatten().tolist()
        [0.0, 1.0, 2.0, 3.0]
    """

    def __init__(self, shape: tuple[int, ...], factor: int = 2) -> None:
        super().__init__()
        c, h, w = _image_shape(shape, factor)
        self.shape, self.factor = (c, h, w), factor
        self.latent_shape = (c * factor**2, h // factor, w // factor)

    def _latents(self, x: Tensor) -> Tensor:
        return torch.nn.functional.pixel_unshuffle(x, self.factor)

    def _decode(self, z: Tensor) -> Tensor:
        return torch.nn.functional.pixel_shuffle(z, self.factor)


class Patches(VolumePreserving):
    """Squares of an image of ``shape`` as tokens, ``(b, c, h, w) -> (b, tokens, c patch^2)``.

    Raises:
        ShapeError: if height or width is not divisible by the patch.

    Example:
        >>> Patches((3, 8, 8), 4).latent_shape
        (4, 48)
    """

    def __init__(self, shape: tuple[int, ...], patch: int) -> None:
        super().__init__()
        c, h, w = _image_shape(shape, patch)
        self.shape, self.patch = (c, h, w), patch
        self.latent_shape = ((h // patch) * (w // patch), c * patch**2)

    def _latents(self, x: Tensor) -> Tensor:
        return torch.nn.functional.pixel_unshuffle(x, self.patch).flatten(2).transpose(1, 2)

    def _decode(self, z: Tensor) -> Tensor:
        _, h, w = self.shape
        cells = z.transpose(1, 2).unflatten(2, (h // self.patch, w // self.patch))
        return torch.nn.functional.pixel_shuffle(cells, self.patch)


class Permutation(VolumePreserving):
    """The same entries in another order along one axis of ``shape``: ``z[i] = x[index[i]]``.

    Args:
        shape: shape of the arrays, without the batch axis.
        index: the new order, ``(shape[axis],)``; drawn at random if not given.
        axis: the axis of ``shape`` that is permuted.

    Raises:
        InputError: if ``index`` is not a permutation of ``0 .. shape[axis] - 1``.

    Example:
        >>> Permutation((3,), index=[2, 0, 1])(torch.tensor([[10.0, 20.0, 30.0]]))
        tensor([[30., 10., 20.]])
    """

    index: Tensor
    inverse_index: Tensor

    def __init__(
        self, shape: tuple[int, ...] | int, index: Tensor | list[int] | None = None, axis: int = 0
    ) -> None:
        super().__init__()
        self.shape = self.latent_shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.axis = axis % len(self.shape)
        n = self.shape[self.axis]
        index = (
            torch.randperm(n, device="cpu")
            if index is None
            else torch.as_tensor(index, device=_device_of(index))
        )
        if index.shape != (n,) or not torch.equal(
            index.sort().values, torch.arange(n, device=index.device)
        ):
            raise InputError(
                got=f"an index of shape {tuple(index.shape)} that is not a permutation",
                expected=f"every number 0 .. {n - 1} once",
                fix="Use torch.randperm, or leave index out.",
            )
        if index.device.type == "cpu":
            index = index.to(torch.empty(0).device)  # the default, perhaps meta
        self.register_buffer("index", index)
        self.register_buffer("inverse_index", index.argsort())

    def _latents(self, x: Tensor) -> Tensor:
        return x.index_select(self.axis + 1, self.index)

    def _decode(self, z: Tensor) -> Tensor:
        return z.index_select(self.axis + 1, self.inverse_index)


def _device_of(index: Tensor | list[int]) -> torch.device:
    return index.device if isinstance(index, Tensor) else torch.device("cpu")


def _image_shape(shape: tuple[int, ...], factor: int) -> tuple[int, int, int]:
    if len(shape) != 3 or factor < 1 or shape[1] % factor or shape[2] % factor:
        raise ShapeError(
            got=f"shape {tuple(shape)} and factor {factor}",
            expected="(channels, height, width) with height and width divisible by the factor",
            fix="Pad or crop the images, or change the factor.",
        )
    return shape[0], shape[1], shape[2]
