"""Flows of normflows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rectilinear.errors import NotInvertibleError
from rectilinear.invertible.adapters.base import Adapter, find_shape, warn_autoregressive

if TYPE_CHECKING:
    from torch import Tensor, nn


def from_normflows(flow: nn.Module, shape: tuple[int, ...] | None = None) -> Adapter:
    """A ``NormalizingFlow`` or single flow of normflows, turned round: its ``inverse`` encodes.

    Warns for autoregressive flows: one direction takes as many passes as there are coordinates.

    Args:
        flow: the flow; latents and arrays have one shape (no multi-scale flow).
        shape: shape of the arrays, that of the base distribution if not given.

    Raises:
        NotInvertibleError: if it has no inverse, or its latents are a list.
        InputError: if the shape cannot be found.
    """
    if not callable(getattr(flow, "inverse", None)) or hasattr(flow, "merges"):
        raise NotInvertibleError(
            got=f"a {type(flow).__name__}",
            expected="a flow of normflows with forward, inverse and one array of latents",
            fix="Use from_callables.",
        )
    shape = find_shape(shape, getattr(getattr(flow, "q0", None), "shape", None))
    adapter = _Normflows(flow, shape)
    names = [type(m).__name__ for m in flow.modules()]
    if slow := next((name for name in names if "Autoregressive" in name), None):
        warn_autoregressive(slow, adapter.dim)
    return adapter


class _Normflows(Adapter):
    def __init__(self, flow: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.flow = flow
        self.steps = list(getattr(flow, "flows", [flow]))

    def encode(self, x: Tensor) -> Tensor:
        return self.encode_and_logdet(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        for step in self.steps:
            z, _ = step(z)
        return z

    def encode_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        total: Tensor | float = 0.0  # the library's own sum is in the default dtype
        for step in reversed(self.steps):
            x, logdet = step.inverse(x)
            total = total + logdet
        return x, total
