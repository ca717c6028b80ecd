"""The contract of an invertible network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod

from torch import Tensor

from rectilinear._pretrained import Configured
from rectilinear.errors import DtypeError, ShapeError


class Invertible(Configured, ABC):
    """A bijection ``g`` between arrays of ``shape`` and arrays of ``latent_shape``, batch axis first.

    ``forward`` encodes ``(b, *shape) -> (b, *latent_shape)``, ``inverse`` decodes, and ``forward_and_logdet`` also
    returns ``log |det dg/dx|`` of shape ``(b,)``. A subclass sets ``shape`` and ``latent_shape`` (equal in size) and
    implements ``_encode``, returning latents and log-determinant, and ``_decode``; it may implement ``_latents`` where
    the latents alone are cheaper.

    A network used by a :class:`~rectilinear.Linearizer` has flat latents: ``latent_shape == (n,)``.

    Raises:
        ShapeError: if an array does not end in ``shape`` (``latent_shape`` for ``inverse``).
        DtypeError: if an array is not of the floating dtype of the parameters.
    """

    shape: tuple[int, ...]
    latent_shape: tuple[int, ...]

    @property
    def dim(self) -> int:
        """Number of coordinates, ``prod(shape)``."""
        return prod(self.shape)

    def forward(self, x: Tensor) -> Tensor:
        """``z = g(x)``."""
        self._check(x, self.shape)
        return self._made(self._latents(x), (len(x), *self.latent_shape), "latents")

    def forward_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``g(x)`` and ``log |det dg/dx|``."""
        self._check(x, self.shape)
        both = self._encode(x)
        if not (isinstance(both, tuple) and len(both) == 2):
            raise DtypeError(
                f"a {type(both).__name__} from {type(self).__name__}._encode", "latents and log-determinant, a pair"
            )
        z = self._made(both[0], (len(x), *self.latent_shape), "latents")
        return z, self._made(both[1], (len(x),), "a log-determinant")

    def inverse(self, z: Tensor) -> Tensor:
        """``x = g^-1(z)``."""
        self._check(z, self.latent_shape)
        return self._made(self._decode(z), (len(z), *self.shape), "points")

    @abstractmethod
    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _decode(self, z: Tensor) -> Tensor: ...

    def _latents(self, x: Tensor) -> Tensor:
        both = self._encode(x)
        return both[0] if isinstance(both, tuple) else both

    def _made(self, y: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
        """What a subclass computed, of the shape that it ought to have: (b, 1) for (b,) would broadcast to (b, b)."""
        if not isinstance(y, Tensor):
            raise DtypeError(f"{name} of type {type(y).__name__} from a {type(self).__name__}", "a torch.Tensor")
        if tuple(y.shape) != shape:
            raise ShapeError(
                got=f"{name} of shape {tuple(y.shape)} from a {type(self).__name__}",
                expected=f"{shape}",
                fix="Correct its _encode, _latents or _decode.",
            )
        return y

    def _check(self, x: Tensor, shape: tuple[int, ...]) -> None:
        if not isinstance(x, Tensor):
            raise DtypeError(f"an array of type {type(x).__name__}", "a torch.Tensor", "Convert with torch.as_tensor.")
        if x.ndim != len(shape) + 1 or tuple(x.shape[1:]) != shape:
            raise ShapeError(
                got=f"an array of shape {tuple(x.shape)}",
                expected=f"(batch, {', '.join(map(str, shape))}) for this {type(self).__name__}",
                fix="Add the batch axis first, and resize or reshape the rest.",
            )
        dtype = next((p.dtype for p in self.parameters() if p.is_floating_point()), x.dtype)
        if x.dtype != dtype or not x.is_floating_point():
            raise DtypeError(
                got=f"an array of {x.dtype}",
                expected=f"{dtype if dtype.is_floating_point else 'a floating dtype'} for this {type(self).__name__}",
                fix="Convert the array (`x.float()`) or the network (`g.to(x.dtype)`).",
            )


class VolumePreserving(Invertible, ABC):
    """An invertible network with ``log |det dg/dx| = 0``: a subclass implements ``_latents`` and ``_decode``."""

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._latents(x), x.new_zeros(x.shape[0])

    @abstractmethod
    def _latents(self, x: Tensor) -> Tensor: ...
