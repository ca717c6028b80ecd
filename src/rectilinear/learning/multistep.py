"""Gradient descent, and its flow, over long stretches at once.

On a stretch the state is a polynomial in the number of steps, or in time, held by its values ``Y``
at Chebyshev nodes. It solves ``Y = y0 + A f(Y)``, where ``A`` sums the polynomial through ``f(Y)``
over the steps before each node, or
integrates it: a thousand steps of descent cost what a stretch of the flow costs. The equation is
solved by iteration, one evaluation of ``f`` for all nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.special import bernoulli, factorial

from rectilinear.errors import DivergedError

DEGREE = 20
ROUNDS = 32  # of the iteration: if it needs more, the stretch is too long
CONTRACTION = 1.2  # wanted between its first two rounds: half the curvature times the length
SAME, SMOOTH = (
    1e-14,
    1e-12,
)  # of the largest entry: iterates that agree, last coefficients that no longer matter
SHORT = 2 * DEGREE  # fewer steps are taken one by one, of large states more
LARGE = 100_000  # numbers in a state that is held at all nodes
LEAST = 1e-13  # part of the time that a stretch of the flow has at least


def follow(
    slope: Callable[[NDArray], NDArray],
    start: NDArray,
    at: NDArray,
    lr: float | None = None,
    read: Callable[[NDArray], NDArray] = np.array,
) -> NDArray:
    """The states ``(T, n)`` at ascending ``at``: numbers of steps ``y + lr slope(y)``, or times of
    ``y' = slope(y)``.

    ``slope`` takes states ``(..., n)``; of states ``(k, n)`` is kept what ``read`` makes of them.
    They are those of the steps themselves, up to rounding.

    Raises:
        DivergedError: if the state leaves the finite numbers.
    """
    kept, state, now, end = (
        [read(np.repeat(start[None], (at == 0).sum(), axis=0))],
        start,
        0,
        at[-1],
    )
    short = _fewest(len(start)) if lr else LEAST * end
    length, alone = (2 * short if lr else end), 1
    with np.errstate(over="ignore", invalid="ignore"):
        while now < end:
            length = min(length, end - now)
            values, factor = None, 1.0
            if length >= short:
                values, factor = _solve(
                    slope, state, lr * _sums(length) if lr else length * _integral()
                )
            if values is not None:
                here = at[(at > now) & (at <= now + length)]
                if len(here):
                    kept.append(read(_between(values, (here - now) / length)))
                now, state, alone = now + length, values[-1], 1
            elif lr and (length < short or factor * length < short):
                # Too few steps are left, or they are too large for a polynomial, which is tried
                # again later and later.
                for _ in range(int(min(alone * short, end - now))):
                    now, state = now + 1, state + lr * slope(state)
                    if count := (at == now).sum():
                        kept.append(read(np.repeat(state[None], count, axis=0)))
                alone, length, factor = 2 * alone, 2 * short, 1.0
            if not np.isfinite(state).all() or (not lr and now < end and length < short):
                raise DivergedError(
                    f"weights that leave the finite numbers at {'step' if lr else 'time'} {now:.6g}",
                    "a loss that falls",
                    "Lower the learning rate." if lr else "Ask for earlier times.",
                )
            length = int(factor * length) if lr else factor * length
    return np.concatenate(kept)


def _fewest(numbers: int) -> int:
    """Steps of a state of so many numbers from which on a stretch is cheaper, and fits into memory."""
    return SHORT + numbers // 50 if numbers <= LARGE else 2**62


def _solve(
    slope: Callable[[NDArray], NDArray], start: NDArray, matrix: NDArray
) -> tuple[NDArray | None, float]:
    """The values at the nodes, or None where the stretch is too long; and by how much the next
    should be longer.
    """
    values, change, factor, size = np.broadcast_to(start, (len(matrix), len(start))), 0.0, 2.0, 0.0
    for turn in range(ROUNDS):
        new = matrix @ slope(values)
        new += start
        before, change = (
            change,
            np.abs(np.subtract(new, values, out=values if turn else None)).max(),
        )
        values = new
        if not math.isfinite(change):
            return None, 0.1
        if turn == 1 and before:
            size = np.abs(values).max()
            factor = float(np.clip(CONTRACTION * before / max(change, 1e-300), 0.1, 2.0))
            if factor < 0.3:
                return None, factor
        if change <= SAME * size:
            smooth = np.abs(_to_coefficients()[-2:] @ values).max() <= SMOOTH * size
            return (values, factor) if smooth else (None, min(factor, 0.7))
    return None, min(factor, 0.7)


def _between(values: NDArray, at: NDArray) -> NDArray:
    """The polynomial through values at the nodes, at these parts of the stretch."""
    angles = np.arccos(np.clip(2 * at - 1, -1, 1))
    return np.cos(np.outer(angles, np.arange(DEGREE + 1))) @ (_to_coefficients() @ values)


@lru_cache(maxsize=1)
def _to_coefficients() -> NDArray:
    """From values at the nodes, ascending on ``[-1, 1]``, to Chebyshev coefficients."""
    nodes = -np.cos(np.pi * np.arange(DEGREE + 1) / DEGREE)
    return np.linalg.inv(chebyshev.chebvander(nodes, DEGREE))


@lru_cache(maxsize=1)
def _integral() -> NDArray:
    """From values at the nodes to integrals from the first one, for a stretch of length 1."""
    nodes = -np.cos(np.pi * np.arange(DEGREE + 1) / DEGREE)
    integrals = [
        chebyshev.chebval(nodes, chebyshev.chebint(unit, lbnd=-1)) for unit in np.eye(DEGREE + 1)
    ]
    return np.stack(integrals, axis=1) @ _to_coefficients() / 2


@lru_cache(maxsize=1)
def _corrections() -> NDArray:
    """``B_2j/(2j)! (q^(2j-1)(k) - q^(2j-1)(0))`` at the nodes, for a stretch of length 1: a row for
    each ``j``.
    """
    nodes = -np.cos(np.pi * np.arange(DEGREE + 1) / DEGREE)
    terms = []
    for order in range(1, DEGREE, 2):
        slopes = [
            chebyshev.chebval(nodes, chebyshev.chebder(unit, order)) for unit in np.eye(DEGREE + 1)
        ]
        term = 2.0**order * np.stack(slopes, axis=1) @ _to_coefficients()
        terms.append(bernoulli(order + 1)[-1] / factorial(order + 1) * (term - term[:1]))
    return np.stack(terms).reshape(len(terms), -1)


def _sums(steps: float) -> NDArray:
    """From values at the nodes of so many steps to the sum of the polynomial over the steps before
    each node.

    ``sum_(i<k) q(i) = int_0^k q - (q(k) - q(0))/2 + sum_j B_2j/(2j)! (q^(2j-1)(k) - q^(2j-1)(0))``,
    which of a polynomial is exact, for ``k`` between whole numbers too.
    """
    powers = float(steps) ** -np.arange(1, DEGREE, 2)
    matrix = (
        steps * _integral()
        - np.eye(DEGREE + 1) / 2
        + (powers @ _corrections()).reshape(_integral().shape)
    )
    matrix[:, 0] += 0.5
    return matrix
