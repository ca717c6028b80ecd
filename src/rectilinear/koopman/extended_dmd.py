"""Finite Koopman models: one matrix for the step of a dictionary of the state (extended DMD)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rectilinear import numerics
from rectilinear.koopman.autoregression import CHUNK, Piece, Plan, penalised


class FiniteMap:
    """``phi(x_t+1) = K' phi(x_t) + c``, and the state is the first coordinates of ``phi``.

    Nothing is encoded again: a forecast is a power of one matrix, whose eigenvalues are those of
    the system where the span of ``phi`` is invariant.

    Attributes:
        plan: lags and dictionary.
        matrix: ``K`` on rows, ``(q, q)``.
        constant: ``c``, ``(q,)``.

    Reference: Williams, Kevrekidis, Rowley, "A data-driven approximation of the Koopman operator:
    extending dynamic mode decomposition" (2015).
    """

    def __init__(self, plan: Plan, matrix: Tensor, constant: Tensor) -> None:
        self.plan, self.matrix, self.constant = plan, matrix, constant

    def simulate(self, past: Tensor, steps: int, u: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """``steps`` rows ``(b, steps, d)`` after ``past`` ``(b, lags, d)``, newest row first."""
        z, found = lifted(self.plan, past[:, : self.plan.lags]), []
        for _ in range(steps):
            z = z @ self.matrix + self.constant
            found.append(z[:, : past.shape[2]])
        return torch.stack(found, dim=1)


def lifted(plan: Plan, past: Tensor) -> Tensor:
    """The dictionary of states ``(b, lags, d)``."""
    s = past.flatten(1)
    return s if plan.dictionary is None else plan.dictionary(s)


def finite_moments(plan: Plan, pieces: Sequence[Piece], every: int = 1) -> numerics.Moments:
    """The factor of the regression of each dictionary row on the one before it."""
    found = numerics.Moments()
    for piece in pieces:
        if len(piece.x) <= plan.lags:
            continue
        windows = piece.x.unfold(0, plan.lags + 1, every).transpose(1, 2).flip(1)
        for part in windows.split(CHUNK):
            found.add(lifted(plan, part[:, 1:]), lifted(plan, part[:, :-1]))
    return found


def of_finite_fit(plan: Plan, fit: numerics.Fit, ridge: float) -> FiniteMap:
    """The map of a least-squares fit under a penalty."""
    matrix = penalised(fit, ridge)
    return FiniteMap(replace(plan, ridge=ridge), matrix, fit.mean_t - fit.mean_x @ matrix)


def fit_finite(plan: Plan, pieces: Sequence[Piece]) -> FiniteMap:
    """The finite Koopman model of ``plan``.

    Example:
        >>> from rectilinear.koopman.dictionaries import Monomials
        >>> x = [torch.tensor([1.5, -1.0], dtype=torch.float64)]
        >>> for _ in range(20):
        ...     a, b = x[-1]
        ...     x.append(torch.stack([0.9 * a, 0.5 * b + 0.2 * a**2]))
        >>> found = fit_finite(Plan(dictionary=Monomials(2)), [Piece(torch.stack(x))])
        >>> values = numerics.eigvals(found.matrix).abs()
        >>> all(bool((values - true).abs().min() < 1e-7) for true in (0.9, 0.5, 0.81))
        True
    """
    return of_finite_fit(plan, finite_moments(plan, pieces).fit(), plan.ridge)
