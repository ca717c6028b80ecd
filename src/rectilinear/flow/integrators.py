"""Integrators of ``dz/dt = W(t) z``: Euler, midpoint, RK4, Magnus, and the grid of their steps.

A step is written once, for states and for operators alike. The grid says where each step begins, at
which times it evaluates the velocity, and in which clock: ``t``, or ``tau = -log(1 - t)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, expm1, log, log1p
from typing import NamedTuple, Protocol, Self, TypeVar

from scipy.special import wrightomega

from rectilinear.checks import whole
from rectilinear.errors import ConfigError


class Vector(Protocol):
    """Sums and multiples, as a Runge-Kutta step needs them: of states, or of operators."""

    def __add__(self, other: Self, /) -> Self: ...
    def __rmul__(self, factor: float, /) -> Self: ...


class Algebra(Vector, Protocol):
    """Products and differences besides, as a Magnus step needs them: of operators."""

    def __sub__(self, other: Self, /) -> Self: ...
    def __matmul__(self, other: Self, /) -> Self: ...


X = TypeVar("X", bound=Vector)
Y = TypeVar("Y", bound=Algebra)


@dataclass(frozen=True)
class RungeKutta:
    """An explicit Runge-Kutta method: nested ``k_i = W(t + c_i h)(z + h sum_j a_ij k_j)``.

    A step is ``z + h sum_i b_i k_i``. Applied to a batch of states it samples; applied to the
    identity of an operator algebra, with each stage acting by multiplication from the left, it
    gives the matrix of the very same step.
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

    Reference: Blanes, Casas, Oteo, Ros, "The Magnus expansion and some of its applications",
    Physics Reports 470, 2009.
    """

    order: int
    nodes: tuple[float, ...]

    def generator(self, velocities: Sequence[Y], h: float) -> Y:
        """``Omega`` from ``W`` at the nodes."""
        if len(velocities) == 1:
            return h * velocities[0]
        first, second = velocities
        return (0.5 * h) * (first + second) + (3**0.5 / 12 * h * h) * (
            second @ first - first @ second
        )


@dataclass(frozen=True)
class EndpointStep:
    """The last step of a family singular at ``t = 1``: its prediction ``z_1 = A(t) z_t``."""

    nodes: tuple[float, ...] = (0.0,)


Method = RungeKutta | Magnus
_GAUSS = 3**0.5 / 6

METHODS: dict[str, Method] = {
    "euler": RungeKutta(1, (0.0,), ((),), (1.0,)),
    "midpoint": RungeKutta(2, (0.0, 0.5), ((), (0.5,)), (0.0, 1.0)),
    "rk4": RungeKutta(
        4,
        (0.0, 0.5, 0.5, 1.0),
        ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    ),
    "magnus2": Magnus(2, (0.5,)),
    "magnus4": Magnus(4, (0.5 - _GAUSS, 0.5 + _GAUSS)),
}


def method_named(name: str) -> Method:
    """The method called ``name``.

    Example:
        >>> method_named("rk4").order
        4
    """
    if name not in METHODS:
        raise ConfigError(f"method {name!r}", f"one of {', '.join(METHODS)}")
    return METHODS[name]


def _shifted(z: X, h: float, weights: Sequence[float], slopes: Sequence[X]) -> X:
    """``z + h sum_j w_j k_j``, zero weights left out."""
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            z = z + (h * weight) * slope
    return z


class Node(NamedTuple):
    """A time at which a step evaluates ``rate W(t)``, or ``A(t)`` where ``rate`` is None."""

    t: float
    rate: float | None


class Interval(NamedTuple):
    """One step: the method, its width in the clock of the grid, its nodes."""

    method: RungeKutta | Magnus | EndpointStep
    width: float
    nodes: tuple[Node, ...]


def grid(
    method: str,
    steps: int,
    *,
    singular: bool = False,
    t0: float = 0.0,
    t1: float = 1.0,
    end: float | None = None,
) -> list[Interval]:
    """The ``steps`` intervals from ``t0`` to ``t1``: the same for sampling and for collapse.

    Intervals are equal in ``t``. A family that is singular at ``t = 1`` is followed to ``1 - end``
    in ``steps - 1`` intervals, and its end-point prediction ``z_1 = A(1 - end) z`` is the last
    step: what an Euler step over that interval gives for every such family, so no method evaluates
    ``W`` nearer to the singularity. ``end`` is one step, ``(t1 - t0) / steps``, unless given. For
    such a family the Magnus methods run in ``tau = -log(1 - t)``, where ``dz/dtau = (A - I) z`` has
    no singularity; their end is at ``tau = -log(end)``, and their intervals are equal in
    ``t + tau / 5``: near the end, where ``A`` hardly changes with ``tau``, they may be long in
    ``tau``.

    Raises:
        ConfigError: if the method, the number of steps, the times or ``end`` are out of range.

    Example:
        >>> [round(step.nodes[0].t, 2) for step in grid("euler", 4)]
        [0.0, 0.25, 0.5, 0.75]
        >>> [round(step.nodes[0].t, 3) for step in grid("magnus2", 4, singular=True)]
        [0.15, 0.419, 0.658, 0.75]
    """
    kind = method_named(method)
    steps = whole(steps, "steps", 1)
    check_times(t0, t1)
    if not singular or t1 < 1.0:
        return _intervals(kind, steps, t0, t1, tau=singular and isinstance(kind, Magnus))
    if end is not None and not 0.0 < end < 1.0:
        raise ConfigError(f"end={end}", "a width between 0 and 1", "Leave it out for one step.")
    last = t0 if steps == 1 else 1.0 - ((1.0 - t0) / steps if end is None else end)
    if steps > 1 and last <= t0:
        raise ConfigError(
            f"end={end} from t0={t0}",
            "an end interval that begins after t0",
            "Choose a smaller end.",
        )
    last_step = Interval(EndpointStep(), 1.0 - last, (Node(last, None),))
    return [*_intervals(kind, steps - 1, t0, last, tau=isinstance(kind, Magnus)), last_step]


def check_times(t0: float, t1: float) -> None:
    """Raise ConfigError unless ``0 <= t0 < t1 <= 1``."""
    if not 0.0 <= t0 < t1 <= 1.0:
        raise ConfigError(
            f"times from {t0} to {t1}", "0 <= t0 < t1 <= 1", "Noise is at 0 and data at 1."
        )


def _intervals(method: Method, steps: int, t0: float, t1: float, *, tau: bool) -> list[Interval]:
    if not steps:
        return []
    shares = [k / steps for k in range(steps + 1)]
    if tau:
        a, b = -log1p(-t0), -log1p(-t1)
        points = [a, *(_even(_between(t0 + a / 5, t1 + b / 5, share)) for share in shares[1:-1]), b]
    else:
        points = [_between(t0, t1, share) for share in shares]
    return [
        Interval(method, b - a, tuple(_node(_between(a, b, c), tau=tau) for c in method.nodes))
        for a, b in pairwise(points)
    ]


def _even(u: float) -> float:
    """The ``tau`` at which ``t + tau / 5 = u``, by Wright's omega function."""
    return float(wrightomega(5 * (1 - u) + log(5))) - 5 * (1 - u)


def _between(a: float, b: float, c: float) -> float:
    """``a + c (b - a)``, exact at both ends: neighbouring intervals share their node."""
    return a * (1.0 - c) + b * c


def _node(time: float, *, tau: bool) -> Node:
    return Node(-expm1(-time), exp(-time)) if tau else Node(time, 1.0)
