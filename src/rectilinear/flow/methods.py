"""Integrators of ``dz/dt = W(t) z``: one step each, written once for states and for operators alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from rectilinear.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Vector(Protocol):
    """What a Runge-Kutta step needs: sums and multiples (a batch of states, or an element of an operator algebra)."""

    def __add__(self, other: Self, /) -> Self: ...
    def __rmul__(self, factor: float, /) -> Self: ...


class Algebra(Vector, Protocol):
    """What a Magnus step needs besides: products and differences."""

    def __sub__(self, other: Self, /) -> Self: ...
    def __matmul__(self, other: Self, /) -> Self: ...


X = TypeVar("X", bound=Vector)
Y = TypeVar("Y", bound=Algebra)


@dataclass(frozen=True)
class RungeKutta:
    """An explicit Runge-Kutta method, the stages nested: ``k_i = W(t + c_i h)(z + h sum_j a_ij k_j)``.

    A step is ``z + h sum_i b_i k_i``. Applied to a batch of states it samples; applied to the identity of an operator
    algebra, with each stage acting by multiplication from the left, it gives the matrix of the very same step.
    """

    order: int
    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]

    def step(self, actions: Sequence[Callable[[X], X]], h: float, z: X) -> X:
        """One step of width ``h`` from ``z``; ``actions[i]`` applies ``W`` at the ``i``-th node."""
        slopes: list[X] = []
        for act, row in zip(actions, self.stages, strict=True):
            slopes.append(act(_shifted(z, h, row, slopes)))
        return _shifted(z, h, self.weights, slopes)


@dataclass(frozen=True)
class Magnus:
    """A Magnus method: the step is ``exp(Omega)``.

    Order 2: ``Omega = h W(t + h/2)``. Order 4, on the two Gauss nodes:
    ``Omega = h/2 (W_1 + W_2) + sqrt(3)/12 h^2 [W_2, W_1]``.

    Reference: Blanes, Casas, Oteo, Ros, "The Magnus expansion and some of its applications", Physics Reports 470, 2009.
    """

    order: int
    nodes: tuple[float, ...]

    def generator(self, velocities: Sequence[Y], h: float) -> Y:
        """``Omega`` from ``W`` at the nodes."""
        if len(velocities) == 1:
            return h * velocities[0]
        first, second = velocities
        return (0.5 * h) * (first + second) + (3**0.5 / 12 * h * h) * (second @ first - first @ second)


@dataclass(frozen=True)
class Jump:
    """The last step of a family singular at ``t = 1``: its end-point prediction, ``z_1 = A(t) z_t``."""

    nodes: tuple[float, ...] = (0.0,)


Method = RungeKutta | Magnus
_GAUSS = 3**0.5 / 6

METHODS: dict[str, Method] = {
    "euler": RungeKutta(1, (0.0,), ((),), (1.0,)),
    "midpoint": RungeKutta(2, (0.0, 0.5), ((), (0.5,)), (0.0, 1.0)),
    "rk4": RungeKutta(4, (0.0, 0.5, 0.5, 1.0), ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
    "magnus2": Magnus(2, (0.5,)),
    "magnus4": Magnus(4, (0.5 - _GAUSS, 0.5 + _GAUSS)),
}


def method_named(name: str) -> Method:
    """The method called ``name``.

    Raises:
        ConfigError: if there is none.

    Example:
        >>> method_named("rk4").order
        4
    """
    if name not in METHODS:
        raise ConfigError(f"method {name!r}", f"one of {', '.join(METHODS)}", "Choose one of these.")
    return METHODS[name]


def _shifted(z: X, h: float, weights: Sequence[float], slopes: Sequence[X]) -> X:
    """``z + h sum_j w_j k_j``, zero weights left out."""
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            z = z + (h * weight) * slope
    return z
