"""The activations whose algebra is known, as the operations that a network runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

OTHERS = frozenset({"tanh", "sigmoid", "elu", "mish", "hardtanh", "hardsigmoid", "erf", "sin", "cos", "exp", "relu6"})
SMOOTH = 15  # threshold of a softplus from which on its jump, 3e-7, is no more than rounding of float32
MAX_POOLS = frozenset({"max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool1d_with_indices"})


@dataclass(frozen=True, eq=False)
class Activation:
    """An elementwise function ``s``; where ``s(z) - s(-z) = 2 kappa z``, its odd part is ``kappa z``.

    Attributes:
        name: such as "relu".
        apply: the function.
        slope: ``alpha`` of ``s(z) = max(z, alpha z)``, a number or one for each unit; None for another function.
        kappa: half the difference above over ``z``; None where the odd part is not linear.
        homogeneous: ``s(c z) = c s(z)`` for ``c > 0``.
    """

    name: str
    apply: Callable[[Tensor], Tensor]
    slope: float | Tensor | None = None
    kappa: float | Tensor | None = None
    homogeneous: bool = False

    def even(self, z: Tensor) -> Tensor:
        """``(s(z) + s(-z)) / 2``.

        Example:
            >>> leaky(0.2).even(torch.tensor([-2.0, 2.0]))
            tensor([0.8000, 0.8000])
        """
        if self.slope is not None:
            return (1 - self.slope) / 2 * z.abs()
        return (self.apply(z) + self.apply(-z)) / 2


def leaky(slope: float | Tensor, name: str = "leaky_relu") -> Activation:
    """``max(z, alpha z)``: ReLU at 0, the identity at 1, the absolute value at -1.

    Example:
        >>> leaky(0.2).apply(torch.tensor([-1.0, 1.0])), leaky(0.2).kappa
        (tensor([-0.2000,  1.0000]), 0.6)
    """

    def apply(z: Tensor) -> Tensor:
        return torch.where(z >= 0, z, slope * z)

    return Activation(name, apply, slope, (1 + slope) / 2, homogeneous=True)


def recognise(
    name: str, run: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Activation | None:
    """The activation that the operation ``name`` of ATen is with these arguments, or None.

    Of complex numbers there is none: their size is no function of each of the two parts.
    """
    rest = args[1:]
    if args[0].is_complex():
        return None

    def apply(z: Tensor) -> Tensor:
        return run(z.clone(), *rest, **kwargs)

    if name in _FIXED:
        return leaky(_FIXED[name], name)
    if name in ("gelu", "silu", "hardswish") or (name == "softplus" and _threshold(args, kwargs) >= SMOOTH):
        return Activation(name, apply, kappa=0.5)
    if name in OTHERS or name == "softplus":
        return Activation(name, apply)
    if name in MAX_POOLS:
        return Activation("max_pool", apply, homogeneous=True)
    slope = _slope(name, args, kwargs)
    return None if slope is None else leaky(slope, "relu" if isinstance(slope, float) and slope == 0 else name)


_FIXED = {"relu": 0.0, "abs": -1.0}


def _threshold(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """From where on torch takes ``softplus(z)`` for ``z``: its odd part jumps there by ``log(1 + e^-threshold)``."""
    return float(args[2] if len(args) > 2 else kwargs.get("threshold", 20))


def _slope(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | Tensor | None:
    """``alpha`` of the operations that have one among their arguments."""
    if name == "leaky_relu":
        return float(args[1] if len(args) > 1 else kwargs.get("negative_slope", 0.01))
    if name in ("_prelu_kernel", "prelu"):
        weight = args[1].detach()
        return float(weight) if weight.numel() == 1 else weight.expand(1, *args[0].shape[1:]).flatten()
    if name == "rrelu_with_noise" and not (args[4] if len(args) > 4 else kwargs.get("training", False)):
        lower, upper = (args[2], args[3]) if len(args) > 3 else (1 / 8, 1 / 3)
        return float(lower + upper) / 2
    if name == "threshold" and args[1] == 0 and args[2] == 0:
        return 0.0
    if name in ("clamp_min", "clamp") and len(args) > 1 and isinstance(args[1], int | float) and args[1] == 0:
        return 0.0 if (args[2] if len(args) > 2 else kwargs.get("max")) is None else None
    if name == "clamp" and kwargs.get("min") == 0 and kwargs.get("max") is None and len(args) == 1:
        return 0.0
    if name == "maximum" and not bool(args[1].any()):
        return 0.0 if torch.broadcast_shapes(args[0].shape, args[1].shape) == args[0].shape else None
    return None
