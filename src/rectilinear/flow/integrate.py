"""A state carried along ``dz/dt = W(t) z``, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from rectilinear.errors import ConfigError, DtypeError, ShapeError
from rectilinear.flow.factors import fold, scalar_plus_low_rank, side_by_side
from rectilinear.flow.grid import check_times, grid
from rectilinear.flow.methods import Jump, RungeKutta
from rectilinear.operators import Identity, Operator, ScalarPlusLowRank, TimeVarying, expm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rectilinear.flow.grid import Interval, Node

Looks = dict["Node", Operator]


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

    ``method="exact"`` takes the closed form of families that have one. Otherwise the steps are those of
    :func:`~rectilinear.flow.grid.grid`, and :func:`~rectilinear.flow.propagate` gives their product.

    Raises:
        ShapeError: if the last axis of ``z`` is not the dimension of the family.
        ConfigError: if the method, the number of steps or the times are out of range.

    Example:
        >>> import torch, rectilinear as rl
        >>> shrink = rl.operators.ConstantVelocity(rl.operators.Diagonal(-torch.ones(2, dtype=torch.float64)))
        >>> z = integrate(shrink, torch.ones(2, dtype=torch.float64), steps=10, method="magnus2")
        >>> torch.allclose(z, torch.full((2,), -1.0, dtype=torch.float64).exp())
        True
    """
    check_family(velocity)
    if not isinstance(z, Tensor):
        raise DtypeError(f"states of type {type(z).__name__}", "a torch.Tensor", "Convert with torch.as_tensor.")
    if z.ndim == 0 or z.shape[-1] != velocity.dim:
        raise ShapeError(f"states of shape {tuple(z.shape)}", f"(..., {velocity.dim})", "Encode and flatten first.")
    if method == "exact":
        return transport(velocity, t0, t1)(z)
    for interval, looks in along(
        velocity, grid(method, steps, singular=velocity.singular_at_one, t0=t0, t1=t1, end=end)
    ):
        z = _advance(interval, looks, z)
    return z


def transport(velocity: TimeVarying, t0: float, t1: float) -> Operator:
    """The flow from ``t0`` to ``t1`` in closed form.

    Raises:
        ConfigError: for a family without one, or times out of range.
    """
    check_times(t0, t1)
    exact = velocity.transport(t0, t1)
    if exact is None:
        raise ConfigError(
            got=f"method 'exact' for a {type(velocity).__name__}",
            expected="a family whose flow has a closed form",
            fix="Choose magnus4 and a number of steps.",
        )
    return exact


def look(velocity: TimeVarying, node: Node) -> Operator:
    """The operator that a node looks at: ``rate W(t)``, or ``A(t)``.

    ``W = (A - I) / (1 - t)`` of a family singular at one is made here, where ``1 - t`` has all its digits.
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
    """Raise DtypeError for what is no family of operators."""
    if not isinstance(velocity, TimeVarying):
        fix = "Pass flow.velocity of a flow; wrap one operator in operators.ConstantVelocity."
        raise DtypeError(f"a velocity of type {type(velocity).__name__}", "a TimeVarying family", fix)


def _checked(velocity: TimeVarying, W: Operator) -> Operator:
    """What a family of the user's own returned: a square operator."""
    kind, n = type(velocity).__name__, velocity.dim
    if not isinstance(W, Operator):
        raise DtypeError(f"a {type(W).__name__} from {kind}", "an Operator", "Wrap a matrix as Dense(weight=matrix).")
    if (W.out_dim, W.in_dim) != (n, n):
        raise ShapeError(f"a {W.out_dim} x {W.in_dim} operator from {kind}", f"a {n} x {n} one, as its dim says")
    return W


def along(velocity: TimeVarying, intervals: Iterable[Interval]) -> Iterator[tuple[Interval, Looks]]:
    """Each interval with the operators at its nodes; what neighbours share is evaluated once."""
    looks: Looks = {}
    for interval in intervals:
        looks = {node: looks[node] if node in looks else look(velocity, node) for node in dict.fromkeys(interval.nodes)}
        yield interval, looks


def exponential(interval: Interval, looks: Looks) -> Operator:
    """The Magnus step ``exp(Omega)`` of operators that are not scalar plus low rank."""
    assert not isinstance(interval.method, RungeKutta | Jump)
    return expm(interval.method.generator([looks[node] for node in interval.nodes], interval.width))


def structured(looks: Looks) -> dict[Node, ScalarPlusLowRank] | None:
    """All operators as scalar plus low rank, or None where one is not."""
    found = {node: scalar_plus_low_rank(A) for node, A in looks.items()}
    return {node: A for node, A in found.items() if A is not None} if None not in found.values() else None


def _advance(interval: Interval, looks: Looks, z: Tensor) -> Tensor:
    method, stages = interval.method, [looks[node] for node in interval.nodes]
    if isinstance(method, Jump):
        return stages[0](z)
    if isinstance(method, RungeKutta):
        return method.step(stages, interval.width, z)
    factors = structured(looks)
    return (
        exponential(interval, looks)(z) if factors is None else z + fold([interval], side_by_side(factors), less=1.0)(z)
    )
