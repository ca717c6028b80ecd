"""Families whose factors stay in fixed spans: their steps fold at the cost of small cores, to a rank that stays."""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rectilinear.flow.factors import Element, step_element
from rectilinear.operators import ChebyshevVelocity, ScalarPlusLowRank, ScalarPlusLowRankVelocity, TimeVarying
from rectilinear.operators._chebyshev import chebyshev
from rectilinear.operators.time_varying import as_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rectilinear.flow.grid import Interval


class Basis(NamedTuple):
    """Factors that serve at all times: ``W(t) = scale(t) I + u core(t) v^T``, ``u`` and ``v`` of shape ``(n, R)``."""

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
