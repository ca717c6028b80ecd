"""Products of operators ``scale I + u v^T`` over one joint basis: the algebra behind a structured collapse.

Over fixed factors ``U = [u_1 .. u_J]`` and ``V = [v_1 .. v_J]`` every sum, product and exponential of the operators
``s_j I + u_j v_j^T`` is ``s I + U C V^T``. The pair ``(s, C)`` and the Gram matrix ``V^T U`` are all one needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from rectilinear.flow.methods import Jump, RungeKutta
from rectilinear.operators import LowRank, Operator, ScalarPlusLowRank
from rectilinear.operators._matrix import expm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rectilinear.flow.grid import Interval, Node


def scalar_plus_low_rank(A: Operator) -> ScalarPlusLowRank | None:
    """The operator as ``scale I + u v^T``, or None where it is not held so."""
    if isinstance(A, LowRank):
        return ScalarPlusLowRank(A.u.new_zeros(A.u.shape[:-2]), A.u, A.v, trainable=False)
    return A if isinstance(A, ScalarPlusLowRank) else None


@dataclass(frozen=True)
class Element:
    """``scale I + U core V^T`` over a basis known by its ``gram = V^T U`` alone: core and gram are ``(m, m)``."""

    scale: Tensor
    core: Tensor
    gram: Tensor

    def __add__(self, other: Element) -> Element:
        return Element(self.scale + other.scale, self.core + other.core, self.gram)

    def __sub__(self, other: Element) -> Element:
        return Element(self.scale - other.scale, self.core - other.core, self.gram)

    def __rmul__(self, factor: float) -> Element:
        return Element(factor * self.scale, factor * self.core, self.gram)

    def __matmul__(self, other: Element) -> Element:
        core = self.scale * other.core + other.scale * self.core + self.core @ self.gram @ other.core
        return Element(self.scale * other.scale, core, self.gram)

    def one(self) -> Element:
        """The identity over the same basis."""
        return Element(torch.ones_like(self.scale), torch.zeros_like(self.core), self.gram)

    def exp(self) -> Element:
        """``exp(s) (I + U C phi(V^T U C) V^T)`` with ``phi(X) = (exp(X) - 1) / X``: an ``m x m`` exponential."""
        m = len(self.core)
        eye = torch.eye(m, dtype=self.core.dtype, device=self.core.device)
        both = expm(pad(torch.cat([self.gram @ self.core, eye], dim=-1), (0, 0, 0, m)))
        growth = torch.exp(self.scale)
        return Element(growth, growth * (self.core @ both[:m, m:]), self.gram)


def step_element(interval: Interval, velocities: Mapping[Node, Element]) -> Element:
    """The step over ``interval`` as one element, from those of the operators at its nodes."""
    stages, method = [velocities[node] for node in interval.nodes], interval.method
    if isinstance(method, Jump):
        return stages[0]
    if isinstance(method, RungeKutta):
        return method.step([stage.__matmul__ for stage in stages], interval.width, stages[0].one())
    return method.generator(stages, interval.width).exp()


class Columns(NamedTuple):
    """The factors of all nodes side by side: rows of ``U^T`` and ``V^T``, ``(R, n)``; a run of nodes is one block."""

    u: Tensor
    v: Tensor
    place: dict[Node, slice]
    scales: dict[Node, Tensor]


def side_by_side(factors: Mapping[Node, ScalarPlusLowRank]) -> Columns:
    """The factors as columns, in the order of the mapping."""
    place, total = {}, 0
    for node, A in factors.items():
        place[node] = slice(total, total := total + A.u.shape[-1])
    u, v = (torch.cat([getattr(A, name).mT for A in factors.values()]) for name in ("u", "v"))
    return Columns(u, v, place, {node: A.scale.double() for node, A in factors.items()})


def fold(intervals: Sequence[Interval], columns: Columns, less: float = 0.0) -> ScalarPlusLowRank:
    """The product of all steps, ``s I + (U C) V^T`` with ``U`` and ``V`` the factors of all nodes side by side.

    Halves are folded apart and multiplied: with ``late = a I + U_a C_a V_a^T`` and ``early = b I + U_b C_b V_b^T`` the
    core of ``late early`` is ``b C_a + a C_b + C_a (V_a^T U_b) C_b``. Work ``O(n R^2)`` for ``R`` columns, memory
    ``O(n R)``. Scale and core are float64: one scale multiplied many times would add up its rounding. ``less I`` is
    taken off before the result is rounded.
    """

    def product(intervals: Sequence[Interval]) -> tuple[slice, Element]:
        if len(intervals) == 1:
            places = {node: columns.place[node] for node in intervals[0].nodes}
            here = slice(min(place.start for place in places.values()), max(place.stop for place in places.values()))
            gram = (columns.v[here] @ columns.u[here].mT).double()
            velocities = {}
            for node, place in places.items():
                ones = torch.zeros(len(gram), dtype=gram.dtype, device=gram.device)
                ones[place.start - here.start : place.stop - here.start] = 1.0
                velocities[node] = Element(columns.scales[node], torch.diag(ones), gram)
            return here, step_element(intervals[0], velocities)
        half = len(intervals) // 2
        early, b = product(intervals[:half])
        late, a = product(intervals[half:])
        gram = (columns.v[late] @ columns.u[early].mT).double()
        above, below = late.start - early.start, late.stop - early.stop  # neighbours may share their common node
        core = (
            pad(b.scale * a.core, (above, 0, above, 0))
            + pad(a.scale * b.core, (0, below, 0, below))
            + pad(a.core @ gram @ b.core, (0, below, above, 0))
        )
        return slice(early.start, late.stop), Element(a.scale * b.scale, core, gram)

    _, element = product(intervals)
    scale, u = (element.scale - less).to(columns.u), columns.u.mT @ element.core.to(columns.u)
    return ScalarPlusLowRank(scale, u, columns.v.mT, trainable=False)
