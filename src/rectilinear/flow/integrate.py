"""Integration of ``dz/dt = W(t) z`` step by step, and the algebra of scalar-plus-low-rank steps.

Over fixed factors ``U = [u_1 .. u_J]`` and ``V = [v_1 .. v_J]`` every sum, product and exponential
of the operators ``s_j I + u_j v_j^T`` is ``s I + U C V^T``: the pair ``(s, C)`` and the Gram matrix
``V^T U`` are all that a product of steps needs, so that a step and a whole run of steps fold alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from rectilinear.errors import ConfigError, DtypeError, ShapeError
from rectilinear.flow.integrators import EndpointStep, Interval, Node, RungeKutta, check_times, grid
from rectilinear.flow.velocities import TimeVarying
from rectilinear.operators import Identity, LowRank, Operator, ScalarPlusLowRank, expm
from rectilinear.operators.matrix_functions import expm as matrix_expm


def integrate(
    velocity: TimeVarying,
    z: Tensor,
    steps: int = 100,
    method: str = "rk4",
    *,
    t0: float = 0.0,
    t1: float = 1.0,
    end: float | None = None,
) -> Tensor:
    """The state at ``t1`` of ``dz/dt = W(t) z`` from ``z`` at ``t0``: ``(..., n) -> (..., n)``.

    ``method="exact"`` takes the closed form of families that have one. Otherwise the steps are
    those of :func:`~rectilinear.flow.integrators.grid`, and
    :func:`~rectilinear.flow.collapse.propagate` gives their product.

    Raises:
        ShapeError: if the last axis of ``z`` is not the dimension of the family.
        ConfigError: if the method, the number of steps or the times are out of range.

    Example:
        >>> import torch, rectilinear as rl
        >>> A = rl.operators.Diagonal(-torch.ones(2, dtype=torch.float64))
        >>> shrink = rl.flow.ConstantVelocity(A)
        >>> z = integrate(shrink, torch.ones(2, dtype=torch.float64), steps=10, method="magnus2")
        >>> torch.allclose(z, torch.full((2,), -1.0, dtype=torch.float64).exp())
        True
    """
    check_family(velocity)
    if not isinstance(z, Tensor):
        raise DtypeError(
            f"states of type {type(z).__name__}", "a torch.Tensor", "Convert with torch.as_tensor."
        )
    if z.ndim == 0 or z.shape[-1] != velocity.dim:
        raise ShapeError(
            f"states of shape {tuple(z.shape)}",
            f"(..., {velocity.dim})",
            "Encode and flatten first.",
        )
    if method == "exact":
        return transport(velocity, t0, t1)(z)
    for interval, operators in along(
        velocity, grid(method, steps, singular=velocity.singular_at_one, t0=t0, t1=t1, end=end)
    ):
        z = _advance(interval, operators, z)
    return z


def transport(velocity: TimeVarying, t0: float, t1: float) -> Operator:
    """The flow from ``t0`` to ``t1`` in closed form."""
    check_times(t0, t1)
    exact = velocity.transport(t0, t1)
    if exact is None:
        raise ConfigError(
            got=f"method 'exact' for a {type(velocity).__name__}",
            expected="a family whose flow has a closed form",
            fix="Choose magnus4 and a number of steps.",
        )
    return exact


def evaluate(velocity: TimeVarying, node: Node) -> Operator:
    """The operator of a node: ``rate W(t)``, or ``A(t)``.

    ``W = (A - I) / (1 - t)`` of a family singular at ``t = 1`` is formed here, where ``1 - t`` is
    known to all its digits.
    """
    if node.rate is None:
        return _checked(velocity, velocity.endpoint(node.t))
    if velocity.singular_at_one:
        A, rate = _checked(velocity, velocity.endpoint(node.t)), node.rate / (1 - node.t)
        if (low := scalar_plus_low_rank(A)) is not None:
            return ScalarPlusLowRank(rate * (low.scale - 1), rate * low.u, low.v, trainable=False)
        return rate * (A - Identity(velocity.dim, like=A.like))
    W = _checked(velocity, velocity.velocity(node.t))
    return W if node.rate == 1.0 else node.rate * W


def check_family(velocity: TimeVarying) -> None:
    """Raise DtypeError unless ``velocity`` is a family of operators."""
    if not isinstance(velocity, TimeVarying):
        fix = "Pass flow.velocity of a flow; wrap one operator in flow.ConstantVelocity."
        raise DtypeError(
            f"a velocity of type {type(velocity).__name__}", "a TimeVarying family", fix
        )


def _checked(velocity: TimeVarying, W: Operator) -> Operator:
    """The operator that a family returned, if it is a square one of its dimension."""
    kind, n = type(velocity).__name__, velocity.dim
    if not isinstance(W, Operator):
        raise DtypeError(
            f"a {type(W).__name__} from {kind}",
            "an Operator",
            "Wrap a matrix as Dense(weight=matrix).",
        )
    if (W.out_dim, W.in_dim) != (n, n):
        raise ShapeError(
            f"a {W.out_dim} x {W.in_dim} operator from {kind}", f"a {n} x {n} one, as its dim says"
        )
    return W


def along(
    velocity: TimeVarying, intervals: Iterable[Interval]
) -> Iterator[tuple[Interval, dict[Node, Operator]]]:
    """Each interval with the operators at its nodes; a node of two intervals is evaluated once."""
    operators: dict[Node, Operator] = {}
    for interval in intervals:
        operators = {
            node: operators[node] if node in operators else evaluate(velocity, node)
            for node in dict.fromkeys(interval.nodes)
        }
        yield interval, operators


def exponential(interval: Interval, operators: Mapping[Node, Operator]) -> Operator:
    """The Magnus step ``exp(Omega)`` of operators that are not scalar plus low rank."""
    assert not isinstance(interval.method, RungeKutta | EndpointStep)
    return expm(
        interval.method.generator([operators[node] for node in interval.nodes], interval.width)
    )


def structured(operators: Mapping[Node, Operator]) -> dict[Node, ScalarPlusLowRank] | None:
    """All operators as scalar plus low rank, or None where one is not."""
    found = {node: scalar_plus_low_rank(A) for node, A in operators.items()}
    return (
        {node: A for node, A in found.items() if A is not None}
        if None not in found.values()
        else None
    )


def _advance(interval: Interval, operators: Mapping[Node, Operator], z: Tensor) -> Tensor:
    method, stages = interval.method, [operators[node] for node in interval.nodes]
    if isinstance(method, EndpointStep):
        return stages[0](z)
    if isinstance(method, RungeKutta):
        return method.step(stages, interval.width, z)
    factors = structured(operators)
    return (
        exponential(interval, operators)(z)
        if factors is None
        else z + fold([interval], side_by_side(factors), less=1.0)(z)
    )


def scalar_plus_low_rank(A: Operator) -> ScalarPlusLowRank | None:
    """The operator as ``scale I + u v^T``, or None where it is not stored in this form."""
    if isinstance(A, LowRank):
        return ScalarPlusLowRank(A.u.new_zeros(A.u.shape[:-2]), A.u, A.v, trainable=False)
    return A if isinstance(A, ScalarPlusLowRank) else None


@dataclass(frozen=True)
class Element:
    """``scale I + U core V^T`` by ``core`` and ``gram = V^T U``, both ``(m, m)``."""

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
        core = (
            self.scale * other.core + other.scale * self.core + self.core @ self.gram @ other.core
        )
        return Element(self.scale * other.scale, core, self.gram)

    def one(self) -> Element:
        """The identity over the same basis."""
        return Element(torch.ones_like(self.scale), torch.zeros_like(self.core), self.gram)

    def exp(self) -> Element:
        """``exp(s) (I + U C phi(V^T U C) V^T)``, ``phi(X) = (exp(X) - 1) / X``: of size ``m``."""
        m = len(self.core)
        eye = torch.eye(m, dtype=self.core.dtype, device=self.core.device)
        both = matrix_expm(pad(torch.cat([self.gram @ self.core, eye], dim=-1), (0, 0, 0, m)))
        growth = torch.exp(self.scale)
        return Element(growth, growth * (self.core @ both[:m, m:]), self.gram)


def step_element(interval: Interval, velocities: Mapping[Node, Element]) -> Element:
    """The step over ``interval`` as one element, from those of the operators at its nodes."""
    stages, method = [velocities[node] for node in interval.nodes], interval.method
    if isinstance(method, EndpointStep):
        return stages[0]
    if isinstance(method, RungeKutta):
        return method.step([stage.__matmul__ for stage in stages], interval.width, stages[0].one())
    return method.generator(stages, interval.width).exp()


class Columns(NamedTuple):
    """The factors of all nodes side by side: rows of ``U^T`` and ``V^T``, each ``(R, n)``."""

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
    """The product of all steps, ``s I + (U C) V^T``, from the factors of all nodes.

    Halves are folded apart and multiplied: with ``late = a I + U_a C_a V_a^T`` and
    ``early = b I + U_b C_b V_b^T`` the core of ``late early`` is
    ``b C_a + a C_b + C_a (V_a^T U_b) C_b``. Work ``O(n R^2)`` for ``R`` columns, memory ``O(n R)``.
    Scale and core are float64: one scale multiplied many times would add up its rounding.
    ``less I`` is subtracted before the result is rounded.
    """

    def product(intervals: Sequence[Interval]) -> tuple[slice, Element]:
        if len(intervals) == 1:
            places = {node: columns.place[node] for node in intervals[0].nodes}
            here = slice(
                min(place.start for place in places.values()),
                max(place.stop for place in places.values()),
            )
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
        above, below = (
            late.start - early.start,
            late.stop - early.stop,
        )  # neighbours may share their common node
        core = (
            pad(b.scale * a.core, (above, 0, above, 0))
            + pad(a.scale * b.core, (0, below, 0, below))
            + pad(a.core @ gram @ b.core, (0, below, above, 0))
        )
        return slice(early.start, late.stop), Element(a.scale * b.scale, core, gram)

    _, element = product(intervals)
    scale, u = (element.scale - less).to(columns.u), columns.u.mT @ element.core.to(columns.u)
    return ScalarPlusLowRank(scale, u, columns.v.mT, trainable=False)
