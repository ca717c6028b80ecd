"""Base class of invertible networks, log-determinants by autograd, and the bit-exact grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import prod
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from rectilinear.checks import check_floating, single
from rectilinear.errors import ConfigError, DtypeError, InputError, ShapeError
from rectilinear.modules import precision_of
from rectilinear.serialization import Configured


class Invertible(Configured, ABC):
    """A bijection ``g`` between arrays of ``shape`` and ``latent_shape``, batch axis first.

    ``forward`` encodes ``(b, *shape) -> (b, *latent_shape)``, ``inverse`` decodes, and
    ``forward_and_logdet`` also returns ``log |det dg/dx|`` of shape ``(b,)``. A subclass sets
    ``shape`` and ``latent_shape`` (equal in size) and implements ``_encode``, returning latents and
    log-determinant, and ``_decode``; it may implement ``_latents`` where the latents alone are
    cheaper.

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
                f"a {type(both).__name__} from {type(self).__name__}._encode",
                "latents and log-determinant, a pair",
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
        """The output of a subclass, checked: (b, 1) for (b,) would broadcast to (b, b)."""
        if not isinstance(y, Tensor):
            raise DtypeError(
                f"{name} of type {type(y).__name__} from a {type(self).__name__}", "a torch.Tensor"
            )
        if tuple(y.shape) != shape:
            raise ShapeError(
                got=f"{name} of shape {tuple(y.shape)} from a {type(self).__name__}",
                expected=f"{shape}",
                fix="Return that shape from its _encode, _latents or _decode.",
            )
        return y

    def _check(self, x: Tensor, shape: tuple[int, ...]) -> None:
        if not isinstance(x, Tensor):
            raise DtypeError(
                f"an array of type {type(x).__name__}",
                "a torch.Tensor",
                "Convert with torch.as_tensor.",
            )
        if x.ndim != len(shape) + 1 or tuple(x.shape[1:]) != shape:
            fix = "Add the batch axis first, and resize or reshape the rest."
            if x.ndim == 4 == len(shape) + 1 and x.shape[2:] == shape[1:]:
                fix = f"Pass images with {shape[0]} in place of {x.shape[1]} channels."
            raise ShapeError(
                got=f"an array of shape {tuple(x.shape)}",
                expected=f"(batch, {', '.join(map(str, shape))}) for this {type(self).__name__}",
                fix=fix,
            )
        dtype = next((p.dtype for p in self.parameters() if p.is_floating_point()), x.dtype)
        if x.dtype != dtype or not x.is_floating_point():
            raise DtypeError(
                got=f"an array of {x.dtype}",
                expected=f"{dtype if dtype.is_floating_point else 'a floating dtype'} for this "
                f"{type(self).__name__}",
                fix="Convert the array (`x.float()`) or the network (`g.to(x.dtype)`).",
            )


class VolumePreserving(Invertible, ABC):
    """An invertible network with ``log |det dg/dx| = 0``, made of ``_latents`` and ``_decode``."""

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._latents(x), x.new_zeros(x.shape[0])

    @abstractmethod
    def _latents(self, x: Tensor) -> Tensor: ...


MAX_JACOBIAN_SIDE = 1024  # coordinates


def autograd_logdet(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``log |det dg/dx|`` of shape ``(b,)``, row by row of the Jacobian: ``n`` backward passes.

    Example:
        >>> autograd_logdet(lambda x: 2 * x, torch.ones(3, 4)) / torch.tensor(2.0).log()
        tensor([4., 4., 4.])
    """
    n = x[0].numel()
    if n > MAX_JACOBIAN_SIDE:
        raise InputError(
            got=f"{n} coordinates and no log-determinant",
            expected=f"at most {MAX_JACOBIAN_SIDE} for a Jacobian by automatic differentiation",
            fix="Give a function that returns log |det dg/dx|.",
        )
    wanted = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        z = function(x).flatten(1)
        rows = [
            torch.autograd.grad(
                z[:, i].sum(), x, create_graph=wanted, retain_graph=True, materialize_grads=True
            )[0]
            for i in range(n)
        ]
        jacobian = torch.stack([row.flatten(1) for row in rows], dim=1)
        logdet = torch.linalg.slogdet(single(jacobian)).logabsdet.to(x.dtype)
    return logdet if wanted else logdet.detach()


Precision = Literal["float32", "bf16", "exact", "exact-bf16"]
GRID = 2.0**-16


def to_grid(x: Tensor) -> Tensor:
    """The nearest multiples of ``2^-16`` to ``x``, which ``"exact"`` networks invert bit for bit.

    Sums of such numbers are exact in float32 while they stay below 256 (below ``2^37`` in float64).

    Example:
        >>> to_grid(torch.tensor([0.1])) == 6554 / 65536
        tensor([True])
    """
    check_floating(x, "x")
    nearest = (x / GRID).round() * GRID
    # Larger numbers are all on the grid.
    return torch.where(x.abs() < GRID / torch.finfo(x.dtype).eps, nearest, x)


def on_grid(x: Tensor) -> bool:
    """True if every entry is a multiple of ``2^-16``, and small enough that sums are exact.

    Example:
        >>> on_grid(torch.tensor([0.5])), on_grid(torch.tensor([0.1]))
        (True, False)
    """
    limit = 2 * GRID / torch.finfo(x.dtype).eps
    return bool(((to_grid(x) == x) & (x.abs() < limit)).all())


def check_precision(precision: str) -> None:
    """Raise ConfigError unless ``precision`` is a :data:`Precision`."""
    if precision not in get_args(Precision):
        raise ConfigError(
            got=f"precision={precision!r}", expected=f"one of {', '.join(get_args(Precision))}"
        )


def condition(conditioner: nn.Module, x: Tensor, precision: Precision) -> Tensor:
    """The conditioner's output for the kept part, in the dtype of ``x``.

    Its own precision rules, not an autocast region around the network: a coupling computed in bf16
    loses the inverse.
    """
    if precision.startswith("exact"):
        x = x.contiguous()  # one memory layout in both directions: the same bits
    with precision_of(x, bf16=precision.endswith("bf16")):
        return conditioner(x).to(x.dtype)


def snap(shift: Tensor) -> Tensor:
    """``shift`` rounded to the grid, with the gradient of the identity."""
    return to_grid(shift).detach() + (shift - shift.detach())
