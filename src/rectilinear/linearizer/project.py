"""Projections of a Linearizer: onto its range, onto its null space, of a point."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from rectilinear.induced_space import Point
from rectilinear.linearizer.linearizer import Linearizer
from rectilinear.operators import Operator, project_null, project_range

T = TypeVar("T", Tensor, Point)


@project_range.register(Linearizer)
def _project_range(f: Linearizer, rtol: float | None = None) -> Linearizer:
    return Linearizer(f.g_out, project_range(f.operator, rtol))


@project_null.register(Linearizer)
def _project_null(f: Linearizer, rtol: float | None = None) -> Linearizer:
    return Linearizer(f.g_in, project_null(f.operator, rtol))


def project(f: Operator | Linearizer, y: T, rtol: float | None = None) -> T:
    """The point of the range of ``f`` that is nearest to ``y``, ``f(f^+(y))``: for an operator or a Linearizer.

    Example:
        >>> import torch, rectilinear as rl
        >>> project(rl.operators.Diagonal(torch.tensor([2.0, 0.0])), torch.tensor([3.0, 4.0])).tolist()
        [3.0, 0.0]
    """
    return project_range(f, rtol)(y)
