"""Densities in the plane that a generator can be looked at on."""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING

import torch

from rectilinear._seed import generator
from rectilinear.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor


def toy2d(name: str, n: int, seed: int = 0) -> Tensor:
    """``n`` points in the plane, ``(n, 2)`` float32, drawn from a density of about unit scale.

    ``"moons"`` two interleaved half circles, ``"rings"`` three circles, ``"checkerboard"`` the dark fields of a 4 x 4
    board, ``"gaussians"`` eight on a circle, ``"spirals"`` two arms.

    Raises:
        ConfigError: for another name or ``n`` below 1.

    Example:
        >>> toy2d("gaussians", 1000, seed=1).norm(dim=1).mean().item() > 1
        True
    """
    if name not in TOYS:
        raise ConfigError(f"the toy '{name}'", f"one of {', '.join(TOYS)}", "Correct the name.")
    if n < 1:
        raise ConfigError(f"n = {n}", "a positive number of points", "Correct n.")
    return TOYS[name](n, generator(seed))


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


def _moons(n: int, g: Generator) -> Tensor:
    lower = torch.randint(2, (n,), generator=g)
    angle = pi * (torch.rand(n, generator=g) + lower)
    centre = torch.tensor([[-0.5, -0.25], [0.5, 0.25]])[lower]
    return _polar(torch.ones(n), angle) + centre + 0.05 * torch.randn(n, 2, generator=g)


def _rings(n: int, g: Generator) -> Tensor:
    radius = (1 + torch.randint(3, (n,), generator=g)) / 2
    angle = 2 * pi * torch.rand(n, generator=g)
    return _polar(radius + 0.04 * torch.randn(n, generator=g), angle)


def _checkerboard(n: int, g: Generator) -> Tensor:
    column, pair = torch.randint(4, (n,), generator=g), torch.randint(2, (n,), generator=g)
    field = torch.stack([column, 2 * pair + column % 2], dim=1)
    return (field + torch.rand(n, 2, generator=g)) - 2


def _gaussians(n: int, g: Generator) -> Tensor:
    angle = pi / 4 * torch.randint(8, (n,), generator=g)
    return _polar(torch.full((n,), 1.5), angle) + 0.1 * torch.randn(n, 2, generator=g)


def _spirals(n: int, g: Generator) -> Tensor:
    turn = torch.rand(n, generator=g).sqrt()  # even along the arm
    angle = 3 * pi * turn + pi * torch.randint(2, (n,), generator=g)
    return _polar(2 * turn, angle) + 0.05 * torch.randn(n, 2, generator=g)


TOYS: dict[str, Callable[[int, Generator], Tensor]] = {
    "moons": _moons,
    "rings": _rings,
    "checkerboard": _checkerboard,
    "gaussians": _gaussians,
    "spirals": _spirals,
}
"""The toys, each a function of the number of points and a generator."""
