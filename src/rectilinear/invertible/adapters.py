"""Adapters: functions, modules, and networks of FrEIA, normflows and zuko as invertible networks.

Foreign networks are recognised by their attributes; no library is imported.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from rectilinear.errors import InputError, NotInvertibleError
from rectilinear.invertible.base import Invertible, autograd_logdet


class Adapter(Invertible, ABC):
    """A foreign network as an :class:`Invertible` with flat latents.

    A subclass implements ``encode`` and ``decode`` on arrays of the foreign network, and
    ``encode_and_logdet`` where the network gives log-determinants; they come by automatic
    differentiation otherwise.
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
        return z.flatten(1), torch.as_tensor(logdet, dtype=x.dtype, device=x.device).expand(
            x.shape[0]
        )

    def _decode(self, z: Tensor) -> Tensor:
        return self.decode(z.reshape(-1, *self.emitted)).reshape(-1, *self.shape)


def first(result: Tensor | tuple) -> Tensor:
    """The first array of a result such as ``(array, logdet)`` or ``((array,), logdet)``."""
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


def from_callables(
    forward: Callable[[Tensor], Tensor],
    inverse: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    logdet: Callable[[Tensor], Tensor] | None = None,
    latent_shape: tuple[int, ...] | None = None,
) -> Adapter:
    """The network ``g = forward``, ``g^-1 = inverse``, with flat latents.

    Modules given as functions are kept as submodules; parameters inside other functions are not
    seen.

    Args:
        forward: ``(b, *shape) -> (b, *latent_shape)``.
        inverse: the way back.
        shape: shape of the arrays, without the batch axis.
        logdet: ``x -> log |det dg/dx|``, ``(b,)``; by automatic differentiation if not given (up to
            1,024 coordinates).
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
        return (
            super().encode_and_logdet(x) if self.logdet is None else (self.there(x), self.logdet(x))
        )


def from_module(
    module: nn.Module, shape: tuple[int, ...], latent_shape: tuple[int, ...] | None = None
) -> Adapter:
    """A module with ``forward(x)`` and ``inverse(z)`` as an invertible network with flat latents.

    If ``forward`` returns ``(z, logdet)``, or the module has ``forward_and_logdet``, the
    log-determinant is taken from there; otherwise it comes by automatic differentiation (up to
    1,024 coordinates).

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
    def __init__(
        self, module: nn.Module, shape: tuple[int, ...], latent_shape: tuple[int, ...] | None
    ) -> None:
        super().__init__(shape, latent_shape)
        self.module: Any = module

    def encode(self, x: Tensor) -> Tensor:
        return first(self.module(x))

    def decode(self, z: Tensor) -> Tensor:
        return first(self.module.inverse(z))

    def encode_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        result = (
            self.module.forward_and_logdet(x)
            if hasattr(self.module, "forward_and_logdet")
            else self.module(x)
        )
        return (
            (first(result), result[1])
            if isinstance(result, tuple)
            else super().encode_and_logdet(x)
        )


def from_freia(
    network: nn.Module,
    shape: tuple[int, ...] | None = None,
    latent_shape: tuple[int, ...] | None = None,
) -> Adapter:
    """A network of FrEIA with flat latents: ``SequenceINN``, ``GraphINN`` or a single module.

    It has no conditions. FrEIA's ``network(x, rev=False)`` encodes. Modules that store a matrix and
    its inverse in float32 (soft permutations) limit the round trip; :func:`check_invertible`
    measures it.

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
        raise NotInvertibleError(
            got=f"a network with {len(dims)} inputs",
            expected="one input",
            fix="Join them in one tensor, and split it in the functions of from_callables.",
        )
    shape = find_shape(shape, tuple(dims[0]))
    stages: list = getattr(network, "shapes", [shape])
    return _FrEIA(network, shape, find_shape(latent_shape, stages[-1]))


class _FrEIA(Adapter):
    def __init__(
        self, network: nn.Module, shape: tuple[int, ...], latent_shape: tuple[int, ...]
    ) -> None:
        super().__init__(shape, latent_shape)
        self.network = network

    def encode(self, x: Tensor) -> Tensor:
        return first(self.network((x,), jac=False))

    def decode(self, z: Tensor) -> Tensor:
        return first(self.network((z,), rev=True, jac=False))

    def encode_and_logdet(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        z, logdet = self.network((x,), jac=True)
        return first(z), logdet


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


def from_zuko(flow: Any, shape: tuple[int, ...] | None = None) -> Adapter:
    """A flow, lazy transform or transform of zuko, without context, from data to latents.

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
            got=f"a {type(flow).__name__}",
            expected="a flow or transform of zuko",
            fix="Use from_callables.",
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
