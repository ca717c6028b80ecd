"""All steps of an integrator folded into one operator: ``B = M_T ... M_2 M_1``, with its structure.

Each step of an integrator of ``dz/dt = W(t) z`` is a matrix, so that all of them have a product.
Scalar-plus-low-rank steps are multiplied over their joint factors; families with factors that serve
at all times fold at the cost of small cores, to a rank that does not grow with the steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from rectilinear.checks import check_tolerance, whole
from rectilinear.errors import StructureError, StructureWarning
from rectilinear.flow.integrate import (
    Element,
    along,
    check_family,
    evaluate,
    exponential,
    fold,
    integrate,
    scalar_plus_low_rank,
    side_by_side,
    step_element,
    structured,
    transport,
)
from rectilinear.flow.integrators import EndpointStep, Interval, Magnus, Node, RungeKutta, grid
from rectilinear.flow.velocities import FixedFactors, TimeVarying
from rectilinear.operators import (
    DENSE_LIMIT,
    Adjoint,
    Dense,
    Diagonal,
    Identity,
    LowRank,
    Operator,
    Product,
    ScalarPlusLowRank,
    Scaled,
    Sum,
    compress,
    norm,
)


class Propagator(NamedTuple):
    """The product of all steps, and a bound of the error in the spectral norm (0 if exact)."""

    operator: Operator
    error: float


def propagate(
    velocity: TimeVarying,
    steps: int = 100,
    method: str = "rk4",
    *,
    t0: float = 0.0,
    t1: float = 1.0,
    end: float | None = None,
    tol: float | None = None,
    max_rank: int | None = None,
) -> Propagator:
    """The operator ``B`` with ``B z = integrate(velocity, z, ...)``: ``B = M_T ... M_2 M_1``.

    Scalar-plus-low-rank families of rank ``r`` give a scalar plus low rank, exactly. Its rank grows
    by ``r`` at every time at which a step evaluates the velocity, and past ``n`` the operator is
    dense. It does not grow where the family has fixed factors (``r (degree + 1)`` for Chebyshev
    series, ``r`` for :class:`~rectilinear.flow.ScalarPlusLowRankVelocity`), and is ``r`` where the
    last step is a prediction of rank ``r``. Diagonal, spectral and other closed families keep their
    form. The rest gives a dense operator.

    Args:
        velocity: the family ``W(t)``.
        steps: number of steps.
        method: ``"euler"``, ``"midpoint"``, ``"rk4"``, ``"magnus2"``, ``"magnus4"``, or ``"exact"``
            for families with a closed form.
        t0: time of the first step, from 0.
        t1: time after the last step, up to 1.
        end: width of the last step of a family singular at ``t = 1``; one step by default.
        tol: largest error in the spectral norm that a lower rank may cost; exact by default.
        max_rank: largest rank of the result; any by default.

    With ``tol`` or ``max_rank``, ``B`` has the lowest rank that leaves out at most ``tol`` in the
    spectral norm, but at most ``max_rank``. ``error`` bounds the distance to the exact product.
    Long products are compressed in runs that share ``tol``; the steps that follow a run amplify
    what it leaves out, which the bound includes.

    Raises:
        ConfigError: if the method, the number of steps, the times or a tolerance are out of range.
        StructureError: where ``B`` would be a dense operator too large to hold, or cannot be
            compressed.

    Example:
        >>> import rectilinear as rl
        >>> B, error = propagate(rl.flow.ChebyshevVelocity(64, rank=2, degree=3), method="magnus4")
        >>> B, B.u.shape, error
        (ScalarPlusLowRank(64 x 64), torch.Size([64, 8]), 0.0)
    """
    check_family(velocity)
    if method == "exact":
        return Propagator(transport(velocity, t0, t1), 0.0)
    intervals = grid(method, steps, singular=velocity.singular_at_one, t0=t0, t1=t1, end=end)
    n, first = velocity.dim, evaluate(velocity, intervals[0].nodes[0])
    factors = scalar_plus_low_rank(first)
    if tol is not None or max_rank is not None:
        _check_compression(tol, max_rank, first, structured=factors is not None)
        return _compressed(velocity, intervals, tol, n if max_rank is None else max_rank)
    product: Operator | None = None
    if factors is not None:
        product = _of_fixed_rank(velocity, intervals)
        if product is None and _columns(velocity, intervals) < n:
            product = _folded(velocity, intervals)
    elif isinstance(first, Diagonal) and not any(isinstance(i.method, Magnus) for i in intervals):
        product = _diagonal(velocity, intervals)
    elif not isinstance(first, Dense):
        product = _closed(velocity, intervals, Identity(n, first.like))
    if product is not None:
        return Propagator(product, 0.0)
    _check_dense(n, first)
    eye = torch.eye(n, dtype=first.like.dtype, device=first.like.device)
    rows = integrate(velocity, eye, steps, method, t0=t0, t1=t1, end=end)
    return Propagator(Dense(weight=rows.mT.contiguous(), trainable=False), 0.0)


def _of_fixed_rank(
    velocity: TimeVarying, intervals: Sequence[Interval]
) -> ScalarPlusLowRank | LowRank | None:
    """The product where its rank does not grow with the steps: None elsewhere."""
    *body, last = intervals
    if isinstance(last.method, EndpointStep) and isinstance(
        end := evaluate(velocity, last.nodes[0]), LowRank
    ):
        # B = u v^T (M_{T-1} ... M_1): the steps' adjoints on r vectors, from the last to the first
        v = end.v.mT
        for interval, operators in along(velocity, reversed(body)):
            factors = structured(operators)
            assert factors is not None, "a family keeps its structure at all times"
            v = v + fold([interval], side_by_side(factors), less=1.0).apply_adjoint(v)
        return LowRank(end.u, v.mT, trainable=False)
    fixed = velocity.fixed_factors()
    if fixed is None or fixed.u.shape[-1] >= velocity.dim:
        return None
    return fold_fixed(intervals, fixed)


def _columns(velocity: TimeVarying, intervals: Sequence[Interval]) -> int:
    """The number of columns of the joint factors of all these steps."""
    nodes = dict.fromkeys(node for interval in intervals for node in interval.nodes)
    factors = scalar_plus_low_rank(evaluate(velocity, next(iter(nodes))))
    return 0 if factors is None else factors.u.shape[-1] * len(nodes)


def _folded(velocity: TimeVarying, intervals: Sequence[Interval]) -> ScalarPlusLowRank:
    return fold(intervals, side_by_side(_factors(velocity, intervals)))  # operators are freed


def _factors(velocity: TimeVarying, intervals: Sequence[Interval]) -> dict[Node, ScalarPlusLowRank]:
    operators: dict[Node, Operator] = {}
    for _, new in along(velocity, intervals):
        operators |= new
    factors = structured(operators)
    assert factors is not None, "a family keeps its structure at all times"
    return factors


def _diagonal(velocity: TimeVarying, intervals: Sequence[Interval]) -> Diagonal:
    """The product of diagonal steps: the same numbers as :func:`_closed`, without its operators."""
    product: Tensor | None = None
    for interval, operators in along(velocity, intervals):
        stages = [cast("Diagonal", operators[node]).values for node in interval.nodes]
        product = torch.ones_like(stages[0]) if product is None else product
        if isinstance(interval.method, RungeKutta):
            actions = [stage.__mul__ for stage in stages]
            product = interval.method.step(actions, interval.width, product)
        else:
            product = stages[0] * product
    assert product is not None
    return Diagonal(product, trainable=False)


def _closed(velocity: TimeVarying, intervals: Sequence[Interval], one: Operator) -> Operator | None:
    """The product in the family's own algebra (diagonal, spectral), or None if not closed."""
    product = one
    for interval, operators in along(velocity, intervals):
        stages = [operators[node] for node in interval.nodes]
        if isinstance(interval.method, EndpointStep):
            product = stages[0] @ product
        elif isinstance(interval.method, RungeKutta):
            product = interval.method.step(
                [stage.__matmul__ for stage in stages], interval.width, product
            )
        else:
            product = exponential(interval, operators) @ product
        if isinstance(product, Dense | Sum | Product | Scaled | Adjoint):
            return None
    return product


def _compressed(
    velocity: TimeVarying, intervals: Sequence[Interval], tol: float | None, max_rank: int
) -> Propagator:
    """Runs of steps folded, compressed and multiplied in turn.

    With ``|B - B'| <= e`` so far and ``|P - P'| <= d`` for the next run,
    ``|P B - P' B'| <= (|P'| + d) e + d |B'|``.
    """
    whole = _of_fixed_rank(velocity, intervals)
    runs = _runs(velocity, intervals) if whole is None else [intervals]
    share = 0.0 if tol is None else tol / (2 * len(runs) - 1)
    product, bound = None, 0.0
    for run in runs:
        exact = _folded(velocity, run) if whole is None else scalar_plus_low_rank(whole)
        assert exact is not None
        part, error = _compress(exact, share, max_rank)
        if product is None:
            product, bound = part, error
        else:
            bound = (float(norm(part)) + error) * bound + error * float(norm(product))
            product, error = _compress(_multiplied(part, product), share, max_rank)
            bound += error
    assert product is not None
    return Propagator(product, bound)


def _runs(velocity: TimeVarying, intervals: Sequence[Interval]) -> list[Sequence[Interval]]:
    """The steps in runs whose joint factors have at most ``n / 4`` columns, or those of a step."""
    length = max(1, len(intervals) * velocity.dim // (4 * max(1, _columns(velocity, intervals))))
    return [intervals[k : k + length] for k in range(0, len(intervals), length)]


def _compress(A: ScalarPlusLowRank, tol: float, max_rank: int) -> tuple[ScalarPlusLowRank, float]:
    lower, error = compress(A, tol, max_rank)
    return lower, float(error)


def _multiplied(A: ScalarPlusLowRank, B: ScalarPlusLowRank) -> ScalarPlusLowRank:
    """``A B`` with the factors of both, whatever their rank."""
    u = torch.cat([A.u, A.scale * B.u + A.u @ (A.v.mT @ B.u)], dim=-1)
    return ScalarPlusLowRank(
        A.scale * B.scale, u, torch.cat([B.scale * A.v, B.v], dim=-1), trainable=False
    )


def _check_compression(
    tol: float | None, max_rank: int | None, first: Operator, *, structured: bool
) -> None:
    check_tolerance(tol, "tol")
    if max_rank is not None:
        whole(max_rank, "max_rank")
    if not structured:
        raise StructureError(
            got=f"tol or max_rank for a family of {type(first).__name__} operators",
            expected="a scalar-plus-low-rank family, whose rank grows with the steps",
            fix="Leave them out, and truncate the result with rl.truncate.",
        )


def _check_dense(n: int, first: Operator) -> None:
    if n > DENSE_LIMIT:
        raise StructureError(
            got=f"a product of {type(first).__name__} steps that fills a dense {n} x {n} matrix",
            expected=f"at most {DENSE_LIMIT} dimensions for a dense product",
            fix="Take fewer steps (magnus4 needs the fewest), or pass tol or max_rank.",
        )
    if not isinstance(first, Dense | LowRank | ScalarPlusLowRank):
        warnings.warn(
            f"steps of {type(first).__name__} operators have no structured product: "
            f"folded as a dense {n} x {n} matrix",
            StructureWarning,
            stacklevel=3,
        )


def fold_fixed(intervals: Iterable[Interval], factors: FixedFactors) -> ScalarPlusLowRank:
    """The product of all steps over factors that serve them all: rank ``R`` for any number."""
    gram = (factors.v.mT @ factors.u).double()
    product = Element(gram.new_ones(()), torch.zeros_like(gram), gram)
    for interval in intervals:
        velocities = {}
        for node in interval.nodes:
            assert node.rate is not None, "a family with fixed factors is given by its velocity"
            scale, core = factors.at(node.t)
            velocities[node] = node.rate * Element(scale.double(), core.double(), gram)
        product = step_element(interval, velocities) @ product
    u = factors.u @ product.core.to(factors.u)
    return ScalarPlusLowRank(product.scale.to(factors.u), u, factors.v, trainable=False)
