"""Networks of FrEIA."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rectilinear.errors import NotInvertibleError
from rectilinear.invertible.adapters.base import Adapter, find_shape, first

if TYPE_CHECKING:
    from torch import Tensor, nn


def from_freia(
    network: nn.Module, shape: tuple[int, ...] | None = None, latent_shape: tuple[int, ...] | None = None
) -> Adapter:
    """A ``SequenceINN``, ``GraphINN`` or single module of FrEIA, without conditions, with flat latents.

    FrEIA's ``network(x, rev=False)`` encodes. Modules that store a matrix and its inverse in float32 (soft
    permutations) limit the round trip; :func:`check_invertible` measures it.

    Args:
        network: the FrEIA network, with one input and one output.
        shape: shape of the arrays, found in the network if not given.
        latent_shape: shape of what the network returns, found in the network if not given.

    Raises:
        NotInvertibleError: if the network is none of FrEIA's, or has several inputs.
        InputError: if the shape cannot be found.
    """
    dims = getattr(network, "dims_in", None)
    if dims is None or not hasattr(network, "output_dims"):
        raise NotInvertibleError(
            got=f"a {type(network).__name__}",
            expected="a FrEIA network (dims_in, output_dims)",
            fix="Use from_module or from_callables.",
        )
    if len(dims) != 1:
        raise NotInvertibleError(got=f"a network with {len(dims)} inputs", expected="one input")
    shape = find_shape(shape, tuple(dims[0]))
    stages: list = getattr(network, "shapes", [shape])
    return _FrEIA(network, shape, find_shape(latent_shape, stages[-1]))


class _FrEIA(Adapter):
    def __init__(self, network: nn.Module, shape: tuple[int, ...], latent_shape: tuple[int, ...]) -> None:
        super().__init__(shape, latent_shape)
        self.network = network

    def encode(self, x: Tensor) -> Tensor:
        return first(self.network((x,), jac=False))

    def decode(self, z: Tensor) -> Tensor:
        return first(self.network((z,), rev=True, jac=False))

    def encode_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        z, logdet = self.network((x,), jac=True)
        return first(z), logdet
