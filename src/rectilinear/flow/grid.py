"""The steps of an integration: where each begins, at which times it looks at the operator, and by which clock."""

from __future__ import annotations

from itertools import pairwise
from math import exp, expm1, log, log1p
from typing import NamedTuple

from scipy.special import wrightomega

from rectilinear._shapes import whole
from rectilinear.errors import ConfigError
from rectilinear.flow.methods import Jump, Magnus, Method, RungeKutta, method_named


class Node(NamedTuple):
    """A look at the operator: ``rate W(t)``, or the end-point operator ``A(t)`` where ``rate`` is None."""

    t: float
    rate: float | None


class Interval(NamedTuple):
    """One step: the method, its width in the clock of the grid, its nodes."""

    method: RungeKutta | Magnus | Jump
    width: float
    nodes: tuple[Node, ...]


def grid(
    method: str, steps: int, *, singular: bool = False, t0: float = 0.0, t1: float = 1.0, end: float | None = None
) -> list[Interval]:
    """The ``steps`` intervals from ``t0`` to ``t1``: the same for sampling and for collapse.

    Intervals are equal in ``t``. A family that is singular at ``t = 1`` is followed to ``1 - end`` in ``steps - 1``
    intervals, and its end-point prediction ``z_1 = A(1 - end) z`` is the last step: what an Euler step over that
    interval gives for every such family, so no method evaluates ``W`` nearer to the singularity. ``end`` is one step,
    ``(t1 - t0) / steps``, unless given. For such a family the Magnus methods run in ``tau = -log(1 - t)``, where
    ``dz/dtau = (A - I) z`` has no singularity; their end is at ``tau = -log(end)``, and their intervals are equal in
    ``t + tau / 5``: near the end, where ``A`` hardly changes with ``tau``, they may be long in ``tau``.

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
        raise ConfigError(f"end={end} from t0={t0}", "an end interval that begins after t0", "Choose a smaller end.")
    jump = Interval(Jump(), 1.0 - last, (Node(last, None),))
    return [*_intervals(kind, steps - 1, t0, last, tau=isinstance(kind, Magnus)), jump]


def check_times(t0: float, t1: float) -> None:
    """Raise ConfigError unless ``0 <= t0 < t1 <= 1``."""
    if not 0.0 <= t0 < t1 <= 1.0:
        raise ConfigError(f"times from {t0} to {t1}", "0 <= t0 < t1 <= 1", "Noise is at 0 and data at 1.")


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
    """The ``tau`` at which ``t + tau / 5 = u``: with ``y = 5 exp(-tau)``, ``y + log y = 5 (1 - u) + log 5``."""
    return float(wrightomega(5 * (1 - u) + log(5))) - 5 * (1 - u)


def _between(a: float, b: float, c: float) -> float:
    """``a + c (b - a)``, exact at both ends, so that neighbouring intervals share their common node."""
    return a * (1.0 - c) + b * c


def _node(time: float, *, tau: bool) -> Node:
    return Node(-expm1(-time), exp(-time)) if tau else Node(time, 1.0)
