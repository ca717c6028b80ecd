"""What metrics ask of others' objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Bijection(Protocol):
    """A network with an inverse."""

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def inverse(self, z: Tensor, /) -> Tensor: ...


class Embedding(Protocol):
    """A named map from images ``(n, c, h, w)`` to features ``(n, d)``, such as a :class:`FeatureNetwork`."""

    name: str

    def embed(self, images: Tensor, /) -> Tensor: ...
