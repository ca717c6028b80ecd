"""Families whose factors stay in fixed spans: their steps fold at the cost of small cores, to a
rank that stays.

All steps of a linear flow folded into one operator, and the whole sampler into one Linearizer.

Two numbers that show that a flow folds: many steps against one, and times that compose.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import singledispatch
from typing import NamedTuple

import torch
from torch import Tensor

from rectilinear.checks import check_tolerance, whole
from rectilinear.errors import ConfigError, ShapeError, StructureError, StructureWarning
from rectilinear.flow.generator import LinearFlow, check_flow
from rectilinear.flow.integrate import (
    Element,
    along,
    check_family,
    exponential,
    fold,
    integrate,
    look,
    scalar_plus_low_rank,
    side_by_side,
    step_element,
    structured,
    transport,
)
from rectilinear.flow.methods import Interval, Jump, Node, RungeKutta, grid
from rectilinear.flow.velocities import (
    ChebyshevVelocity,
    ScalarPlusLowRankVelocity,
    TimeVarying,
    as_time,
    chebyshev,
)
from rectilinear.linearizer import Linearizer
from rectilinear.operators import (
    DENSE_LIMIT,
    Adjoint,
    Dense,
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


class Basis(NamedTuple):
    """Factors that serve at all times: ``W(t) = scale(t) I + u core(t) v^T``, ``u`` and ``v`` of
    shape ``(n, R)``.
    """

    u: Tensor
    v: Tensor
    at: Callable[[float], tuple[Tensor, Tensor]]


@singledispatch
def fixed_basis(velocity: TimeVarying) -> Basis | None:  # noqa: ARG001 - families register
    """The basis of a family whose factors stay in fixed spans; None for others."""
    return None


@fixed_basis.register
def _(velocity: ChebyshevVelocity) -> Basis:
    u, v = (x.transpose(0, 1).flatten(1) for x in (velocity.u, velocity.v))

    def at(t: float) -> tuple[Tensor, Tensor]:
        weights = chebyshev(as_time(t, velocity.a), velocity.degree)
        eye = torch.eye(velocity.rank, dtype=weights.dtype, device=weights.device)
        return weights @ velocity.a, torch.kron(torch.outer(weights, weights), eye)

    return Basis(u, v, at)


@fixed_basis.register
def _(velocity: ScalarPlusLowRankVelocity) -> Basis:
    def at(t: float) -> tuple[Tensor, Tensor]:
        scale, *_ = out = velocity.weights(as_time(t, velocity.u))
        return scale, torch.diag(out[1:])

    return Basis(velocity.u, velocity.v, at)


def fold_fixed(intervals: Iterable[Interval], basis: Basis) -> ScalarPlusLowRank:
    """The product of all steps over a basis that serves them all: rank ``R`` however many they are."""
    gram = (basis.v.mT @ basis.u).double()
    product = Element(gram.new_ones(()), torch.zeros_like(gram), gram)
    for interval in intervals:
        velocities = {}
        for node in interval.nodes:
            assert node.rate is not None, "a family with a fixed basis is given by its velocity"
            scale, core = basis.at(node.t)
            velocities[node] = node.rate * Element(scale.double(), core.double(), gram)
        product = step_element(interval, velocities) @ product
    u = basis.u @ product.core.to(basis.u)
    return ScalarPlusLowRank(product.scale.to(basis.u), u, basis.v, trainable=False)


class Propagator(NamedTuple):
    """The product of all steps, and a bound of the spectral norm of what compression left out (0
    without).
    """

    operator: Operator
    error: float


def collapse(
    flow: LinearFlow,
    steps: int = 100,
    method: str = "rk4",
    *,
    t0: float = 0.0,
    t1: float = 1.0,
    tol: float | None = None,
    max_rank: int | None = None,
) -> Linearizer:
    """The sampler as one Linearizer, noise to data: ``g_data^-1 . B . g_noise`` with ``B`` the
    product of all steps.

    Equal to :func:`~rectilinear.flow.sample` with the same steps and method, up to rounding. See
    :func:`propagate` for the structure of ``B``, for ``tol`` and ``max_rank``, and for the error
    they cost.

    Raises:
        ConfigError: if the method, the number of steps, the times or a tolerance are out of range.
        StructureError: where ``B`` would be a dense operator too large to hold, or cannot be
            compressed.

    Reference: Berman et al., "Who Said Neural Networks Aren't Linear?", arXiv 2510.08570, section
    4.1.

    Example:
        >>> import torch, rectilinear as rl
        >>> g, W = rl.invertible.VectorFlow(4, 2, 8), rl.flow.ScalarPlusLowRankVelocity(4, 1)
        >>> flow = rl.flow.LinearFlow(g, rl.invertible.Identity((4,)), W)
        >>> f, noise = collapse(flow, steps=10), torch.randn(3, 4)
        >>> torch.allclose(f(noise), rl.flow.sample(flow, noise, steps=10), atol=1e-4)
        True
    """
    check_flow(flow)
    propagator = propagate(
        flow.velocity, steps, method, t0=t0, t1=t1, end=flow.end, tol=tol, max_rank=max_rank
    )
    return Linearizer(flow.g_noise, propagator.operator, flow.g_data)


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
    by ``r`` at every time that the steps look at, and past ``n`` the operator is dense; it stays
    where the family has a fixed basis (``r (degree + 1)`` for Chebyshev, ``r`` for fixed factors),
    and is ``r`` where the last step is a prediction of rank ``r``. Diagonal, spectral and other
    closed families keep their form. The rest gives a dense operator.

    ``tol`` and ``max_rank`` ask for a ``B`` of lower rank: the lowest that leaves out at most
    ``tol`` in the spectral norm, but at most ``max_rank``. ``error`` bounds the distance to the
    exact product. Long products are lowered in runs that share ``tol``; what a run leaves out is
    then amplified by the steps that follow, and the bound says so.

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
    n, first = velocity.dim, look(velocity, intervals[0].nodes[0])
    factors = scalar_plus_low_rank(first)
    if tol is not None or max_rank is not None:
        _check_compression(tol, max_rank, first, structured=factors is not None)
        return _compressed(velocity, intervals, tol, n if max_rank is None else max_rank)
    product: Operator | None = None
    if factors is not None:
        product = _of_fixed_rank(velocity, intervals)
        if product is None and _columns(velocity, intervals) < n:
            product = _folded(velocity, intervals)
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
    if isinstance(last.method, Jump) and isinstance(end := look(velocity, last.nodes[0]), LowRank):
        v = end.v.mT  # B = u v^T (M_{T-1} ... M_1): the steps' adjoints on r vectors, from the last to the first
        for interval, looks in along(velocity, reversed(body)):
            factors = structured(looks)
            assert factors is not None, "a family keeps its structure at all times"
            v = v + fold([interval], side_by_side(factors), less=1.0).apply_adjoint(v)
        return LowRank(end.u, v.mT, trainable=False)
    basis = fixed_basis(velocity)
    return (
        fold_fixed(intervals, basis)
        if basis is not None and basis.u.shape[-1] < velocity.dim
        else None
    )


def _columns(velocity: TimeVarying, intervals: Sequence[Interval]) -> int:
    """How many columns the joint basis of all these steps has."""
    nodes = dict.fromkeys(node for interval in intervals for node in interval.nodes)
    factors = scalar_plus_low_rank(look(velocity, next(iter(nodes))))
    return 0 if factors is None else factors.u.shape[-1] * len(nodes)


def _folded(velocity: TimeVarying, intervals: Sequence[Interval]) -> ScalarPlusLowRank:
    return fold(
        intervals, side_by_side(_factors(velocity, intervals))
    )  # which lets go of the operators, once copied


def _factors(velocity: TimeVarying, intervals: Sequence[Interval]) -> dict[Node, ScalarPlusLowRank]:
    looks: dict[Node, Operator] = {}
    for _, new in along(velocity, intervals):
        looks |= new
    factors = structured(looks)
    assert factors is not None, "a family keeps its structure at all times"
    return factors


def _closed(velocity: TimeVarying, intervals: Sequence[Interval], one: Operator) -> Operator | None:
    """The product in the family's own algebra (diagonal, spectral), or None where that is not
    closed.
    """
    product = one
    for interval, looks in along(velocity, intervals):
        stages = [looks[node] for node in interval.nodes]
        if isinstance(interval.method, Jump):
            product = stages[0] @ product
        elif isinstance(interval.method, RungeKutta):
            product = interval.method.step(
                [stage.__matmul__ for stage in stages], interval.width, product
            )
        else:
            product = exponential(interval, looks) @ product
        if isinstance(product, Dense | Sum | Product | Scaled | Adjoint):
            return None
    return product


def _compressed(
    velocity: TimeVarying, intervals: Sequence[Interval], tol: float | None, max_rank: int
) -> Propagator:
    """Runs of steps folded, lowered and multiplied in turn.

    With ``|B - B'| <= e`` so far and ``|P - P'| <= d`` for the next run, ``|P B - P' B'| <= (|P'| +
    d) e + d |B'|``.
    """
    whole = _of_fixed_rank(velocity, intervals)
    runs = _runs(velocity, intervals) if whole is None else [intervals]
    share = 0.0 if tol is None else tol / (2 * len(runs) - 1)
    product, bound = None, 0.0
    for run in runs:
        exact = _folded(velocity, run) if whole is None else scalar_plus_low_rank(whole)
        assert exact is not None
        part, error = _lower(exact, share, max_rank)
        if product is None:
            product, bound = part, error
        else:
            bound = (float(norm(part)) + error) * bound + error * float(norm(product))
            product, error = _lower(_multiplied(part, product), share, max_rank)
            bound += error
    assert product is not None
    return Propagator(product, bound)


def _runs(velocity: TimeVarying, intervals: Sequence[Interval]) -> list[Sequence[Interval]]:
    """The steps in runs whose joint bases have at most ``n / 4`` columns, or one step's."""
    length = max(1, len(intervals) * velocity.dim // (4 * max(1, _columns(velocity, intervals))))
    return [intervals[k : k + length] for k in range(0, len(intervals), length)]


def _lower(A: ScalarPlusLowRank, tol: float, max_rank: int) -> tuple[ScalarPlusLowRank, float]:
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
            f"steps of {type(first).__name__} operators have no structured product: folded as a dense {n} x {n} matrix",
            StructureWarning,
            stacklevel=3,
        )


@torch.no_grad()
def equality(flow: LinearFlow, noise: Tensor, steps: int = 100, method: str = "rk4") -> float:
    """The largest relative difference, in the latents, between the collapsed operator and the steps
    it folds.

    ``max_i |B z_i - z_i(1)| / |z_i(1)|`` over the batch, with ``z = g_noise(noise)``.

    Example:
        >>> import rectilinear as rl
        >>> g = rl.invertible.Identity((8,))
        >>> flow = rl.flow.LinearFlow(g, g, rl.flow.ChebyshevVelocity(8, rank=1))
        >>> equality(flow, torch.randn(5, 8)) < 1e-5
        True
    """
    check_flow(flow)
    z = flow.noise_space.encode(noise)
    one = propagate(flow.velocity, steps, method, end=flow.end).operator(z)
    many = integrate(flow.velocity, z, steps, method, end=flow.end)
    return _relative(one, many)


@torch.no_grad()
def chapman_kolmogorov(
    flow: LinearFlow, noise: Tensor, s: float = 0.5, steps: int = 100, method: str = "rk4"
) -> float:
    """The largest relative difference, in the latents, between ``B(0, 1)`` and ``B(s, 1) B(0, s)``.

    Zero to rounding where the steps of both are the same: ``s`` a multiple of ``1 / steps``, and
    not a Magnus method on a family singular at one; elsewhere to the accuracy of the method.

    Raises:
        ConfigError: if ``s`` leaves no step on one of its sides.

    Example:
        >>> import rectilinear as rl
        >>> g = rl.invertible.Identity((8,))
        >>> flow = rl.flow.LinearFlow(g, g, rl.flow.ChebyshevVelocity(8, rank=1))
        >>> chapman_kolmogorov(flow, torch.randn(5, 8), s=0.25) < 1e-5
        True
    """
    check_flow(flow)
    if not (0 < s < 1 and 0 < (early := round(steps * s)) < steps):
        raise ConfigError(f"s={s} with {steps} steps", "a time with steps before and after it")
    end = 1 / steps if flow.end is None else flow.end
    z = flow.noise_space.encode(noise)

    def carry(z: Tensor, steps: int, t0: float, t1: float) -> Tensor:
        return propagate(flow.velocity, steps, method, t0=t0, t1=t1, end=end).operator(z)

    whole = carry(z, steps, 0.0, 1.0)
    parts = carry(carry(z, early, 0.0, s), steps - early, s, 1.0)
    return _relative(parts, whole)


def _relative(a: Tensor, b: Tensor) -> float:
    """The largest relative difference of rows; two rows of zeros do not differ."""
    if not len(b):
        raise ShapeError("noise with no rows", "at least one", "Pass noise that is not empty.")
    size = b.norm(dim=-1)
    return float(
        ((a - b).norm(dim=-1) / size).masked_fill((size == 0) & (a == b).all(-1), 0.0).max()
    )
