"""Any module with an ``inverse`` method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rectilinear.errors import NotInvertibleError
from rectilinear.invertible.adapters.base import Adapter, first

if TYPE_CHECKING:
    from typing import Any

    from torch import Tensor, nn


def from_module(module: nn.Module, shape: tuple[int, ...], latent_shape: tuple[int, ...] | None = None) -> Adapter:
    """A module with ``forward(x)`` and ``inverse(z)`` as an invertible network with flat latents.

    If ``forward`` returns ``(z, logdet)``, or the module has ``forward_and_logdet``, the log-determinant is taken from
    there; otherwise it comes by automatic differentiation (up to 1,024 coordinates).

    Args:
        module: the module; it is kept as a submodule, with its parameters.
        shape: shape of the arrays, without the batch axis.
        latent_shape: shape of what the module returns, ``shape`` if not given.

    Raises:
        NotInvertibleError: if there is no ``inverse``.
        InputError: if the shapes differ in size.

    Example:
        >>> import torch
        >>> class Cube(torch.nn.Module):
        ...     def forward(self, x):
        ...         return x**3
        ...     def inverse(self, z):
        ...         return z.sign() * z.abs() ** (1 / 3)
        >>> from_module(Cube(), shape=(2,)).inverse(torch.tensor([[8.0, -1.0]]))
        tensor([[ 2., -1.]])
    """
    if not callable(getattr(module, "inverse", None)):
        raise NotInvertibleError(
            got=f"a {type(module).__name__} without an inverse",
            expected="a module with forward(x) and inverse(z)",
            fix="Give both directions with from_callables, or use VectorFlow or ImageFlow.",
        )
    return _Module(module, shape, latent_shape)


class _Module(Adapter):
    def __init__(self, module: nn.Module, shape: tuple[int, ...], latent_shape: tuple[int, ...] | None) -> None:
        super().__init__(shape, latent_shape)
        self.module: Any = module

    def encode(self, x: Tensor) -> Tensor:
        return first(self.module(x))

    def decode(self, z: Tensor) -> Tensor:
        return first(self.module.inverse(z))

    def encode_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        result = self.module.forward_and_logdet(x) if hasattr(self.module, "forward_and_logdet") else self.module(x)
        return (first(result), result[1]) if isinstance(result, tuple) else super().encode_and_logdet(x)
