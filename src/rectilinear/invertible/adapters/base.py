"""What the adapters share."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from math import prod
from typing import TYPE_CHECKING

import torch

from rectilinear.errors import InputError
from rectilinear.invertible.base import Invertible
from rectilinear.invertible.jacobian import autograd_logdet

if TYPE_CHECKING:
    from torch import Tensor


class Adapter(Invertible, ABC):
    """A foreign network as an :class:`Invertible` with flat latents.

    A subclass implements ``encode`` and ``decode`` on arrays of the foreign network, and ``encode_and_logdet`` where
    the network gives log-determinants; they come by automatic differentiation otherwise.
    """

    def __init__(self, shape: tuple[int, ...], emitted: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.emitted = self.shape if emitted is None else tuple(emitted)
        self.latent_shape = (prod(self.shape),)
        if prod(self.emitted) != prod(self.shape):
            raise InputError(
                got=f"arrays of shape {self.shape} and latents of shape {self.emitted}",
                expected="equal numbers of coordinates",
                fix="A bijection keeps the number of coordinates.",
            )

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """The foreign latents of ``x``."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """The array of foreign latents ``z``."""

    def encode_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        """The foreign latents of ``x``, and ``log |det dg/dx|``."""
        return self.encode(x), autograd_logdet(self.encode, x)

    def _latents(self, x: Tensor) -> Tensor:
        return self.encode(x).flatten(1)

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, logdet = self.encode_and_logdet(x)
        return z.flatten(1), torch.as_tensor(logdet, dtype=x.dtype, device=x.device).expand(x.shape[0])

    def _decode(self, z: Tensor) -> Tensor:
        return self.decode(z.reshape(-1, *self.emitted)).reshape(-1, *self.shape)


def first(result: Tensor | tuple) -> Tensor:
    """The array of a result that may carry more: ``(array, log-determinant)`` or ``((array,), log-determinant)``."""
    while isinstance(result, tuple | list):
        result = result[0]
    return result


def find_shape(shape: tuple[int, ...] | None, found: object) -> tuple[int, ...]:
    """The given shape, else the one that the foreign network states."""
    if shape is not None:
        return tuple(shape)
    if not isinstance(found, tuple | list) or not found:
        raise InputError(
            got="a network that does not state the shape of its arrays",
            expected="a shape without the batch axis",
            fix="Pass shape=(n,) or shape=(c, h, w).",
        )
    return tuple(int(size) for size in found)


def warn_autoregressive(name: str, passes: int) -> None:
    """Warn that one direction takes ``passes`` evaluations one after the other."""
    warnings.warn(
        f"{name} is autoregressive: one direction takes {passes} passes, one after the other. "
        "Coupling flows take one pass in both directions.",
        UserWarning,
        stacklevel=3,
    )
