"""Restoration: a projector, and what is known of the damage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rectilinear.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from rectilinear.operators import Operator


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
        ConfigError: for fewer than one step.

    Reference: H. Bauschke and J. Borwein, On projection algorithms for solving convex feasibility problems, 1996.

    Example:
        >>> from rectilinear.operators import Diagonal
        >>> flat = lambda x: x.mean(1, keepdim=True).expand_as(x)  # projects onto constants
        >>> restore(flat, torch.tensor([[3.0, 3.0, 0.0]]), Diagonal(torch.tensor([1.0, 1.0, 0.0]))).round().tolist()
        [[3.0, 3.0, 3.0]]
    """
    if steps < 1:
        raise ConfigError(f"{steps} steps", "one or more", "Correct the steps.")
    if measure is None:
        return f(y)
    x, seen = y, y.flatten(1)
    for _ in range(steps):
        x = f(x).flatten(1)
        x = (x + measure.apply_adjoint(seen - measure(x))).reshape(y.shape)
    return x
