"""Restoration: a projector, and what is known of the damage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rectilinear._shapes import whole
from rectilinear._tolerance import tolerance
from rectilinear.errors import ConfigError, DtypeError, ShapeError
from rectilinear.operators import Operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@torch.no_grad()
def restore(f: Callable[[Tensor], Tensor], y: Tensor, measure: Operator | None = None, steps: int = 50) -> Tensor:
    """What ``f`` makes of damaged images ``y``; with the measurement ``y = K x`` known, agreeing with it.

    Without ``measure``, ``f(y)``. With it ``steps`` times ``x <- f(x) + K^T (y - K f(x))`` from ``x = y``: onto the
    range, and towards the data. For a mask ``K`` these are projections onto the range and onto the images with the
    known pixels, in turn; for a blur they are steps of gradient descent between projections. ``|K| <= 1``.

    Args:
        f: a projector, or any map of images to images.
        y: ``(b, *shape)``.
        measure: ``K``, on flattened images.
        steps: how often.

    Raises:
        ConfigError: for fewer than one step, or ``|K| > 1``, where the steps diverge.

    Reference: H. Bauschke and J. Borwein, On projection algorithms for solving convex feasibility problems, 1996.

    Example:
        >>> from rectilinear.operators import Diagonal
        >>> flat = lambda x: x.mean(1, keepdim=True).expand_as(x)  # projects onto constants
        >>> restore(flat, torch.tensor([[3.0, 3.0, 0.0]]), Diagonal(torch.tensor([1.0, 1.0, 0.0]))).round().tolist()
        [[3.0, 3.0, 3.0]]
    """
    steps = whole(steps, "steps", 1)
    if measure is None:
        return f(y)
    x, seen = y, y.flatten(1)
    _check_measure(measure, seen)
    for _ in range(steps):
        x = f(x).flatten(1)
        x = (x + measure.apply_adjoint(seen - measure(x))).reshape(y.shape)
    return x


def _check_measure(measure: Operator, seen: Tensor) -> None:
    """Raise unless ``K`` maps what is seen to its like and ``|K| <= 1``, as far as ten power iterations show."""
    if not isinstance(measure, Operator):
        raise DtypeError(f"a measure of type {type(measure).__name__}", "an Operator", "Wrap a matrix in Dense.")
    if not measure.in_dim == measure.out_dim == seen.shape[1]:
        raise ShapeError(
            f"a {measure.out_dim} x {measure.in_dim} measure", f"{seen.shape[1]} x {seen.shape[1]}, as the images have"
        )
    v, size = torch.cos(torch.arange(seen.shape[1], device=seen.device)).to(seen), 1.0
    for _ in range(10):
        v = measure.apply_adjoint(measure(v / v.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)))
        size = float(v.norm(dim=-1).max()) ** 0.5 if v.numel() else 0.0
    if size > 1 + tolerance(seen.dtype, n=seen.shape[1]):
        raise ConfigError(f"a measure of norm {size:.3g} or more", "|K| <= 1", "Divide K and what is seen by its norm.")
