"""Dictionaries: functions of the state in which a step of the system may be linear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement
from math import comb
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rectilinear.errors import ConfigError, NonFiniteError, ShapeError
from rectilinear.random import generator

MOST_MONOMIALS = 2000
"""More monomials than these are refused: they no longer fit in seconds."""


class Dictionary(Protocol):
    """Features ``(b, q)`` of standardised states ``(b, p)``."""

    def __call__(self, s: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Monomials:
    """All monomials of degree 2 to ``degree`` of the coordinates, beside these themselves.

    Raises:
        ConfigError: for a degree below 1, or more than 2,000 monomials.

    Example:
        >>> Monomials(2)(torch.tensor([[2.0, 3.0]])).tolist()
        [[2.0, 3.0, 4.0, 6.0, 9.0]]
    """

    degree: int = 2

    def __post_init__(self) -> None:
        if self.degree < 1:
            raise ConfigError(f"degree = {self.degree}", "1 or more")

    def __call__(self, s: Tensor) -> Tensor:
        count = comb(s.shape[1] + self.degree, self.degree) - 1
        if count > MOST_MONOMIALS:
            raise ConfigError(
                f"{count} monomials of degree {self.degree} of {s.shape[1]} coordinates",
                f"at most {MOST_MONOMIALS}",
                "Lower the degree, or reduce the columns first.",
            )
        found = [s]
        for degree in range(2, self.degree + 1):
            index = list(combinations_with_replacement(range(s.shape[1]), degree))
            found.append(torch.stack([s[:, list(i)].prod(1) for i in index], dim=1))
        return torch.cat(found, dim=1)


@dataclass(frozen=True)
class Fourier:
    """The coordinates and ``count`` random cosines ``cos(F s + b)`` of them, drawn with ``seed``.

    ``F`` is normal, with standard deviation ``bandwidth`` over the root of the dimension.

    Reference: Rahimi, Recht, "Random features for large-scale kernel machines" (2007).

    Example:
        >>> Fourier(10)(torch.zeros(3, 2, dtype=torch.float64)).shape
        torch.Size([3, 12])
    """

    count: int = 500
    bandwidth: float = 1.0
    seed: int = 0

    def __call__(self, s: Tensor) -> Tensor:
        frequency, phase = _drawn(self.seed, s.shape[1], self.count, self.bandwidth)
        return torch.cat([s, torch.addmm(phase, s.double(), frequency).cos()], dim=1)


@lru_cache(maxsize=32)
def _drawn(seed: int, p: int, count: int, bandwidth: float) -> tuple[Tensor, Tensor]:
    g = generator(seed)
    frequency = torch.randn(p, count, generator=g, dtype=torch.float64)
    phase = 2 * torch.pi * torch.rand(count, generator=g, dtype=torch.float64)
    return frequency * (bandwidth / p**0.5), phase


@dataclass(frozen=True)
class Own:
    """The coordinates beside what a function of the user gives for them.

    ``function`` maps standardised states ``(b, p)``, as numpy array, to features ``(b, q)``.

    Example:
        >>> Own(lambda s: s[:, :1] ** 2)(torch.tensor([[2.0, 3.0]])).tolist()
        [[2.0, 3.0, 4.0]]
    """

    function: Callable[[Any], Any]

    def __call__(self, s: Tensor) -> Tensor:
        found = torch.from_numpy(np.array(self.function(s.numpy()), dtype=np.float64))
        if found.ndim != 2 or len(found) != len(s):
            raise ShapeError(
                f"features of shape {tuple(found.shape)} for states of shape {tuple(s.shape)}",
                f"({len(s)}, q)",
                "One row for each state.",
            )
        if not bool(torch.isfinite(found).all()):
            raise NonFiniteError(
                "features that are not finite",
                "finite numbers for all states of the data",
                "Check the dictionary: it gets states in standard units.",
            )
        return torch.cat([s, found], dim=1)


def as_dictionary(given: Any) -> Dictionary | None:
    """The dictionary meant by None, a degree of monomials, a dictionary, or a function."""
    if given is None or isinstance(given, Monomials | Fourier | Own):
        return given
    if isinstance(given, int) and not isinstance(given, bool):
        return Monomials(given)
    if callable(given):
        return Own(given)
    raise ConfigError(
        f"dictionary = {given!r}",
        "a degree of monomials, Monomials, Fourier, or a function of states (b, p)",
    )
