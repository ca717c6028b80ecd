"""Flows and transforms of zuko."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.distributions import constraints

from rectilinear.errors import NotInvertibleError
from rectilinear.invertible.adapters.base import Adapter, find_shape, warn_autoregressive

if TYPE_CHECKING:
    from typing import Any

    from torch import Tensor


def from_zuko(flow: Any, shape: tuple[int, ...] | None = None) -> Adapter:
    """A flow, lazy transform or transform of zuko, without context; its transform runs from data to latents.

    Warns for autoregressive transforms: their inverse takes as many passes as there are coordinates
    (``passes=2`` makes them couplings).

    Args:
        flow: a ``zuko.flows.Flow``, a ``LazyTransform``, or a ``Transform``.
        shape: shape of the arrays; a flow states it, a transform does not.

    Raises:
        NotInvertibleError: if it has no inverse, or does not reach all of ``R^n``.
        InputError: if the shape cannot be found.
    """
    if not hasattr(flow, "transform") and not hasattr(flow, "inv"):
        raise NotInvertibleError(
            got=f"a {type(flow).__name__}", expected="a flow or transform of zuko", fix="Use from_callables."
        )
    base = getattr(flow, "base", None)
    found = tuple(base().event_shape) if isinstance(base, nn.Module) else None
    adapter = _Zuko(flow, find_shape(shape, found))
    transform = adapter.transform()
    codomain = transform.codomain
    while hasattr(codomain, "base_constraint"):
        codomain = codomain.base_constraint
    if codomain is not constraints.real:
        raise NotInvertibleError(
            got=f"a transform onto {codomain}",
            expected="one onto all of R^n: an operator's latents can be anywhere",
            fix="Drop the last transform, or append its inverse.",
        )
    passes = max((getattr(m, "passes", 0) for m in adapter.modules()), default=0)
    if passes > 2:
        warn_autoregressive(f"This {type(flow).__name__}", passes)
    return adapter


class _Zuko(Adapter):
    def __init__(self, flow: Any, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.flow = flow

    def transform(self) -> Any:
        """The transform at the present parameters."""
        transform = getattr(self.flow, "transform", self.flow)
        return transform() if isinstance(transform, nn.Module) else transform

    def encode(self, x: Tensor) -> Tensor:
        return self.transform()(x)

    def decode(self, z: Tensor) -> Tensor:
        return self.transform().inv(z)

    def encode_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        z, logdet = self.transform().call_and_ladj(x)
        return z, logdet.reshape(x.shape[0], -1).sum(1)
