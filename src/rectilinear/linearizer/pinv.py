"""Pseudo-inverse and least squares of a Linearizer, in the induced inner products."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from rectilinear.induced_space import Point
from rectilinear.linearizer.linearizer import Linearizer, between
from rectilinear.operators import pinv, solve

T = TypeVar("T", Tensor, Point)


@pinv.register(Linearizer)
def _pinv(f: Linearizer, rtol: float | None = None) -> Linearizer:
    return Linearizer(f.g_out, pinv(f.operator, rtol=rtol), f.g_in)


@solve.register(Linearizer)
def _solve(f: Linearizer, y: T, damping: float = 0.0) -> T:
    """The point ``x`` of least ``|f(x) (-) y|^2 + damping |x|^2``, the shortest if there are several."""
    return between(f.out_space, lambda z: solve(f.operator, z, damping=damping), f.in_space, y)
