"""A pair of functions as an invertible network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rectilinear.invertible.adapters.base import Adapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def from_callables(
    forward: Callable[[Tensor], Tensor],
    inverse: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    logdet: Callable[[Tensor], Tensor] | None = None,
    latent_shape: tuple[int, ...] | None = None,
) -> Adapter:
    """The network ``g = forward``, ``g^-1 = inverse``, with flat latents.

    Modules given as functions are kept as submodules; parameters inside other functions are not seen.

    Args:
        forward: ``(b, *shape) -> (b, *latent_shape)``.
        inverse: the way back.
        shape: shape of the arrays, without the batch axis.
        logdet: ``x -> log |det dg/dx|``, ``(b,)``; by automatic differentiation if not given (up to 1,024 coordinates).
        latent_shape: what ``forward`` returns, ``shape`` if not given.

    Raises:
        InputError: if the shapes differ in size.

    Example:
        >>> import torch
        >>> g = from_callables(torch.sinh, torch.asinh, shape=(3,))
        >>> z, logdet = g.forward_and_logdet(torch.zeros(2, 3))
        >>> logdet.tolist()
        [0.0, 0.0]
    """
    return _Callables(forward, inverse, shape, logdet, latent_shape)


class _Callables(Adapter):
    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        inverse: Callable[[Tensor], Tensor],
        shape: tuple[int, ...],
        logdet: Callable[[Tensor], Tensor] | None,
        latent_shape: tuple[int, ...] | None,
    ) -> None:
        super().__init__(shape, latent_shape)
        self.there, self.back, self.logdet = forward, inverse, logdet

    def encode(self, x: Tensor) -> Tensor:
        return self.there(x)

    def decode(self, z: Tensor) -> Tensor:
        return self.back(z)

    def encode_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        return super().encode_and_logdet(x) if self.logdet is None else (self.there(x), self.logdet(x))
