"""Linear maps of the last observations to the next few, and of a dictionary by one step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from rectilinear import numerics
from rectilinear.errors import DataError
from rectilinear.koopman.dictionaries import Dictionary

CHUNK = 8192  # rows of a design that are held at a time
LINEAR_RIDGES = (1e-20, 1e-16, 1e-12, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
"""Tried penalties of maps without a dictionary, in parts of the mean square of an input."""
RIDGES = (1e-24, 1e-22, 1e-20, 1e-18, 1e-16, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1.0)
"""The same in a dictionary."""


@dataclass(frozen=True)
class Plan:
    """The parts of a map.

    Attributes:
        lags: observations that a forecast is made from.
        stride: observations that one application gives.
        level: ``"last"``: differences from the last observation are mapped to such differences, so
            that a penalty pulls towards no change; ``"mean"``: deviations from the mean.
        shared: one map for all columns, each from its own past; else all columns from all.
        dictionary: of the state; None is the state itself.
        constant: whether a constant is fitted; without one, no change is followed by none.
        smoothed: whether noise is removed from the series before the fit.
        ridge: penalty, in parts of the mean square of an input.
    """

    lags: int = 1
    stride: int = 1
    level: str = "last"
    shared: bool = False
    dictionary: Dictionary | None = None
    smoothed: bool = False
    ridge: float = 0.0
    constant: bool = True


class Piece(NamedTuple):
    """A gapless stretch in standard units: ``x`` ``(T, d)`` and inputs ``u`` ``(T, m)`` or None."""

    x: Tensor
    u: Tensor | None = None

    def rows(self, first: int, end: int | None = None) -> Piece:
        """Some of the rows, with their inputs."""
        return Piece(self.x[first:end], None if self.u is None else self.u[first:end])

    def within(self, basis: Tensor) -> Piece:
        """The coordinates ``x B`` of the rows, with the same inputs."""
        return Piece(self.x @ basis, self.u)


class StrideMap:
    """A plan with its weights: ``(b, lags, d)`` to ``(b, stride, d)``, in standard units.

    Attributes:
        plan: what it is made of.
        matrix: ``(inputs, stride d)``, or ``(inputs, stride)`` where it is shared.
        constant: the constant of each output.
    """

    def __init__(self, plan: Plan, matrix: Tensor, constant: Tensor) -> None:
        self.plan, self.matrix, self.constant = plan, matrix, constant

    def step(self, past: Tensor, u: Tensor | None = None) -> Tensor:
        """The next ``stride`` observations ``(b, stride, d)`` after ``past``, newest row first."""
        b, _, d = past.shape
        last = past[:, 0]
        given = inputs(self.plan, past, u)
        found = given @ self.matrix + self.constant
        if self.plan.shared:
            found = found.unflatten(0, (b, d)).transpose(1, 2)
        else:
            found = found.unflatten(1, (-1, d))
        return found + last[:, None] if self.plan.level == "last" else found

    def simulate(self, past: Tensor, steps: int, u: Tensor | None = None) -> Tensor:
        """``steps`` observations ``(b, steps, d)`` after ``past`` ``(b, lags, d)``, newest first.

        ``u`` ``(b, lags + steps, m)`` are the inputs from the oldest row of the past on.
        """
        stride, lags = self.plan.stride, self.plan.lags
        total = -(-steps // stride) * stride
        rows = past.new_empty(len(past), total + lags, past.shape[2])  # newest first
        rows[:, total:] = past[:, :lags]
        for first in range(0, total, stride):
            now = total - first
            inside = None
            if u is not None:
                inside = u[:, first : first + lags + stride]
                short = lags + stride - inside.shape[1]
                if short:  # inputs after the last step asked for: they have no effect on it
                    inside = torch.cat([inside, inside[:, -1:].expand(-1, short, -1)], dim=1)
            rows[:, now - stride : now] = self.step(rows[:, now : now + lags], inside).flip(1)
        return rows[:, total - steps : total].flip(1)

    def plain(self) -> tuple[Tensor, Tensor]:
        """Matrix and constant of the map of the rows themselves, without a dictionary and inputs.

        From ``lags`` rows to ``stride`` rows, both newest first; of one column where it is shared.
        """
        plan, width = self.plan, self.constant.numel() // self.plan.stride
        newest = self.matrix.unflatten(1, (plan.stride, width)).flip(1).flatten(1)
        constant = self.constant.unflatten(0, (plan.stride, width)).flip(0).flatten()
        if plan.level == "mean":
            return newest, constant
        newest = newest if plan.lags > 1 else newest[:0]
        first = torch.eye(width, dtype=newest.dtype).repeat(1, plan.stride)
        first = first - newest.unflatten(0, (plan.lags - 1, width)).sum(0)
        return torch.cat([first, newest]), constant


def simulate_all(maps: Sequence[StrideMap], past: Tensor, steps: int) -> Tensor:
    """``steps`` rows ``(r, b, steps, d)`` by each map after its own ``past`` ``(r, b, lags, d)``.

    The maps have lags, stride and width in common, no dictionary and no inputs.
    """
    plan, (b, _, d) = maps[0].plan, past.shape[1:]
    matrices, constants = (
        torch.stack(parts) for parts in zip(*(m.plain() for m in maps), strict=True)
    )
    past = past[:, :, : plan.lags]
    past = past.transpose(2, 3).flatten(1, 2) if plan.shared else past.flatten(2)
    width, total = 1 if plan.shared else d, -(-steps // plan.stride) * plan.stride
    ahead, size = total * width, plan.stride * width
    rows = past.new_empty(*past.shape[:2], ahead + past.shape[2])  # newest first
    rows[..., ahead:] = past
    for now in range(ahead, 0, -size):
        rows[..., now - size : now] = torch.baddbmm(
            constants[:, None], rows[..., now : now + past.shape[2]], matrices
        )
    found = rows[..., ahead - steps * width : ahead].unflatten(2, (steps, width)).flip(2)
    return found.unflatten(1, (b, d)).flatten(3).transpose(2, 3) if plan.shared else found


def inputs(plan: Plan, past: Tensor, u: Tensor | None = None) -> Tensor:
    """The columns that a map is linear in, of ``past`` ``(b, lags, d)``, newest row first.

    One row for each, or for each and column where the map is shared. Inputs of the system ``u``
    ``(b, lags + stride, m)`` come last, those of the forecast steps first.
    """
    rows = past.transpose(1, 2).reshape(-1, plan.lags, 1) if plan.shared else past
    if plan.dictionary is not None:
        found = plan.dictionary(rows.flatten(1))
    elif plan.level == "mean":
        found = rows.flatten(1)
    else:
        found = (rows[:, 1:] - rows[:, :1]).flatten(1)
    if u is not None:
        outer = u.flip(1).flatten(1)
        found = torch.cat(
            [found, outer.repeat_interleave(past.shape[2], 0) if plan.shared else outer], dim=1
        )
    return found if found.shape[1] else found.new_zeros(len(found), 1)


def count_windows(pieces: Sequence[Piece], lags: int, stride: int) -> int:
    """Windows of so many rows in all pieces."""
    return sum(max(0, len(p.x) - lags - stride + 1) for p in pieces)


def some_windows(parts: Sequence[Tensor], length: int, some: Tensor) -> Tensor:
    """Some of the windows of all parts, ``(n, length, d)``; the others are not copied."""
    found, first = [], 0
    for x in parts:
        views = x.unfold(0, length, 1)
        found.append(views[some[(some >= first) & (some < first + len(views))] - first])
        first += len(views)
    return torch.cat(found).transpose(1, 2)


def design(plan: Plan, pieces: Sequence[Piece], every: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows and targets of the regression, in chunks, of every so many windows."""
    length = plan.lags + plan.stride
    for piece in pieces:
        if len(piece.x) < length:
            continue
        windows = piece.x.unfold(0, length, every).transpose(1, 2)
        outer = None if piece.u is None else piece.u.unfold(0, length, every).transpose(1, 2)
        size = max(1, CHUNK // (piece.x.shape[1] if plan.shared else 1))
        for first in range(0, len(windows), size):
            part = windows[first : first + size]
            past = part[:, : plan.lags].flip(1)
            u = None if outer is None else outer[first : first + size]
            later = part[:, plan.lags :]
            if plan.level == "last":
                later = later - past[:, :1]
            if plan.shared:
                later = later.transpose(1, 2).reshape(-1, plan.stride)
            yield inputs(plan, past, u), later.flatten(1)


def moments(plan: Plan, pieces: Sequence[Piece], most: int | None = None) -> numerics.Moments:
    """The factor of the regression, from which every penalty follows.

    Of all windows, or of at most so many, evenly spaced.
    """
    count = count_windows(pieces, plan.lags, plan.stride)
    if count < 2:
        raise DataError(
            f"{count} windows of {plan.lags} rows and the {plan.stride} after them",
            "two or more",
            "Pass longer series, or lower lags or horizon.",
        )
    found = numerics.Moments()
    for rows, targets in design(plan, pieces, 1 if most is None else -(-count // most)):
        found.add(rows, targets)
    return found


def of_fit(plan: Plan, fit: numerics.Fit, ridge: float, share: float = 1.0) -> StrideMap:
    """The map of a least-squares fit under a penalty in parts of the mean square of an input.

    Where the inputs are a ``share`` of all, of which the others are zero, the mean is over all.
    """
    matrix = fit.damped(ridge, share).mT
    return StrideMap(replace(plan, ridge=ridge), matrix, fit.mean_t - fit.mean_x @ matrix)


def fit_map(plan: Plan, pieces: Sequence[Piece]) -> StrideMap:
    """The map of ``plan``, by ridge regression over all windows of the pieces.

    Example:
        >>> x = torch.sin(0.3 * torch.arange(99.0, dtype=torch.float64))[:, None]
        >>> found = fit_map(Plan(lags=3, stride=5), [Piece(x[:60])])
        >>> bool((found.simulate(x[57:60].flip(0)[None], 39)[0] - x[60:]).abs().max() < 1e-6)
        True
    """
    return of_fit(plan, moments(plan, pieces).fit(centred=plan.constant), plan.ridge)


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
    matrix = fit.damped(ridge).mT
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
