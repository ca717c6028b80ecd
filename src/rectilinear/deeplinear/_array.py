"""Training many linear networks at once in array code: one pseudo-sample an output, whatever the number of rows.

With ``s[j]`` the product of the layers from ``j`` on, ``e`` the error of the end-to-end weights against least squares
and ``r`` that of the mean prediction, the gap is ``e C e' + r^2`` (over the outputs: the mean) and one step needs

    u[0] = 2 (e C + r mean'),  g = 2 r,  u[j + 1] = u[j] W[j]' + g b[j]',  dW[j] = s[j + 1]' u[j],  db[j] = s[j + 1]' g.

Arrays have the runs in front. Where layers are narrow the runs lie fastest in memory, so that one call works on long
rows; where they are wide each run is a small matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

NARROW, MANY = 8, 32  # measured: einsum over runs beats matmul up to this width, from about this many runs


@dataclass
class Problem:
    """What a block of ``R`` runs trains on; arrays may have one row for all the runs."""

    sizes: tuple[int, ...]
    bias: bool
    gram: np.ndarray  # (R, d, d): centred with a bias, about zero without
    mean: np.ndarray  # (R, 1, d)
    coef: np.ndarray  # (R, m, d), of least squares
    intercept: np.ndarray  # (R, m, 1)
    tol: np.ndarray  # (R,)
    limit: np.ndarray  # (R,), a gap that counts as divergence

    def take(self, index: np.ndarray) -> Problem:
        """The problem of some of the runs."""
        arrays = (self.gram, self.mean, self.coef, self.intercept, self.tol, self.limit)
        return Problem(self.sizes, self.bias, *(a if len(a) == 1 else _keep(a, index) for a in arrays))


@dataclass
class Rule:
    """An optimiser and its numbers; ``lr`` is ``(R,)``."""

    name: str
    lr: np.ndarray
    momentum: float
    betas: tuple[float, float]
    eps: float


@dataclass
class Record:
    """What a block of runs leaves behind."""

    coef: np.ndarray  # (R, K, m, d)
    intercept: np.ndarray  # (R, K, m)
    gap: np.ndarray  # (R, K)
    n_iter: np.ndarray  # (R,)
    hit: np.ndarray  # (R,), -1 where the tolerance was not reached
    diverged: np.ndarray  # (R,)
    theta: np.ndarray  # (R, P)


def layers(flat: np.ndarray, sizes: Sequence[int], *, bias: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Views ``(R, o, i)`` of the weights and ``(R, o, 1)`` of the biases inside ``(R, P)``."""
    weights, biases, at = [], [], 0
    for i, o in pairwise(sizes):
        weights.append(flat[:, at : at + o * i].reshape(-1, o, i))
        at += o * i
    if bias:
        for o in sizes[1:]:
            biases.append(flat[:, at : at + o].reshape(-1, o, 1))
            at += o
    return weights, biases


def run(
    problem: Problem, theta: np.ndarray, rule: Rule, steps: int, marks: np.ndarray, stop: bool, out: Record
) -> None:
    """Train the rows of ``theta`` ``(R, P)`` for ``steps`` steps or until they reach the tolerance, into ``out``."""
    narrow = max(problem.sizes) <= NARROW and len(theta) >= MANY
    theta = np.array(theta, order="F" if narrow else "C")
    problem = replace(problem, tol=problem.tol.copy())
    if narrow:
        problem.gram, problem.mean, problem.coef, problem.intercept = map(
            _runs_fastest, (problem.gram, problem.mean, problem.coef, problem.intercept)
        )
    index, lr, slots, mark = np.arange(len(theta)), rule.lr[:, None], _slots(rule, theta), 0
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for step in range(steps + 1):
            suffix, coef, intercept = _forward(problem, theta, narrow)
            gap, gradient = _backward(problem, theta, suffix, coef, intercept, narrow, last=step == steps)
            if step == marks[mark]:
                out.coef[index, mark], out.intercept[index, mark], out.gap[index, mark] = coef, intercept[..., 0], gap
                mark += 1
            hit, sane = gap <= problem.tol, gap <= problem.limit
            if hit.any() or not sane.all():
                out.hit[index[hit]] = step
                out.diverged[index[~sane]] = True
                problem.tol[hit] = -np.inf
                done = ~sane | hit if stop else ~sane
                gone = index[done]
                out.n_iter[gone], out.theta[gone] = step, theta[done]
                out.coef[gone, mark:], out.intercept[gone, mark:] = coef[done, None], intercept[done, None, :, 0]
                out.gap[gone, mark:] = gap[done, None]
                if done.all():
                    return
                if done.any():
                    keep = np.flatnonzero(~done)
                    index, lr, theta, gradient = index[keep], lr[keep], _keep(theta, keep), _keep(gradient, keep)
                    problem, slots = problem.take(keep), tuple(_keep(slot, keep) for slot in slots)
            if step < steps:
                _update(rule, theta, gradient, lr, slots, step + 1)
    out.n_iter[index], out.theta[index] = steps, theta


def _forward(problem: Problem, theta: np.ndarray, narrow: bool) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Products of the layers from each on, and the end-to-end weights ``(R, m, d)`` and intercept ``(R, m, 1)``."""
    weights, biases = layers(theta, problem.sizes, bias=problem.bias)
    suffix = [weights[-1]]
    for weight in weights[-2::-1]:
        suffix.append(_product(suffix[-1], weight, narrow))
    suffix.reverse()  # suffix[j] is the product of the layers from j on
    if not biases:
        return suffix, suffix[0], np.zeros((len(theta), problem.sizes[-1], 1))
    intercept = biases[-1]
    for after, b in zip(suffix[1:], biases[:-1], strict=True):
        intercept = intercept + _product(after, b, narrow)
    return suffix, suffix[0], intercept


def _backward(
    problem: Problem,
    theta: np.ndarray,
    suffix: list[np.ndarray],
    coef: np.ndarray,
    intercept: np.ndarray,
    narrow: bool,
    *,
    last: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """The optimality gap ``(R,)`` and the gradient ``(R, P)``, which the last step does not need."""
    m = problem.sizes[-1]
    error = coef - problem.coef
    u = _product(error, problem.gram, narrow)
    gap = (error * u).sum((1, 2))
    if problem.bias:
        r = _product(error, np.swapaxes(problem.mean, 1, 2), narrow) + (intercept - problem.intercept)
        gap = gap + (r * r).sum((1, 2))
        u = u + r * problem.mean
        g = r * (2 / m)
    gradient = np.empty_like(theta)
    if last:
        return gap / m, gradient
    u = u * (2 / m)
    weights, biases = layers(theta, problem.sizes, bias=problem.bias)
    to_weights, to_biases = layers(gradient, problem.sizes, bias=problem.bias)
    for j, weight in enumerate(weights[:-1]):
        after = np.swapaxes(suffix[j + 1], 1, 2)
        _product(after, u, narrow, out=to_weights[j])
        u = _product(u, np.swapaxes(weight, 1, 2), narrow)
        if problem.bias:
            _product(after, g, narrow, out=to_biases[j])
            u += g * np.swapaxes(biases[j], 1, 2)
    to_weights[-1][...] = u
    if problem.bias:
        to_biases[-1][...] = g
    return gap / m, gradient


def _slots(rule: Rule, theta: np.ndarray) -> tuple[np.ndarray, ...]:
    """The optimiser's memory."""
    return tuple(np.zeros_like(theta) for _ in range({"gd": 0, "momentum": 1, "adam": 2}[rule.name]))


def _update(
    rule: Rule, theta: np.ndarray, gradient: np.ndarray, lr: np.ndarray, slots: tuple[np.ndarray, ...], step: int
) -> None:
    """One step in place, with the conventions of ``torch.optim``; ``step`` counts from 1."""
    if rule.name == "gd":
        theta -= lr * gradient
    elif rule.name == "momentum":
        (velocity,) = slots
        velocity *= rule.momentum
        velocity += gradient
        theta -= lr * velocity
    else:
        first, second = slots
        beta1, beta2 = rule.betas
        first += (1 - beta1) * (gradient - first)
        second *= beta2
        gradient *= gradient
        second += (1 - beta2) * gradient
        size = np.sqrt(second)
        size /= sqrt(1 - beta2**step)
        size += rule.eps
        np.divide(first, size, out=size)
        size *= lr / (1 - beta1**step)
        theta -= size


def _product(a: np.ndarray, b: np.ndarray, narrow: bool, out: Any = None) -> np.ndarray:
    """``a @ b`` for every run, as fast as its shapes allow."""
    if a.shape[2] == 1:
        return np.multiply(a, b, out=out)
    if narrow:
        return np.einsum("rpq,rqs->rps", a, b, out=out)
    return np.matmul(a, b, out=out)


def _keep(a: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The rows of ``index``; the runs stay fastest in memory if they were."""
    return _runs_fastest(a[index]) if a.ndim > 1 and a.strides[0] == a.itemsize else a[index]


def _runs_fastest(a: np.ndarray) -> np.ndarray:
    """The same array with its first axis contiguous in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 0, -1)), -1, 0)
