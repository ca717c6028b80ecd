"""Training engine in NumPy: many linear networks at once, in array operations over the runs.

A run trains on one pseudo-sample an output, whatever the number of rows. With ``s[j]`` the product
of the layers from ``j`` on, ``e`` the error of the end-to-end weights against least squares, ``R``
the triangular root of the second moments and ``r`` the error of the mean prediction, the gap is
``|e R'|^2 + r^2`` (over the outputs: the mean), and the gradient of half the mean square error is

    u[0] = e R' R + r mean',  u[j + 1] = u[j] W[j]' + r b[j]',
    dW[j] = s[j + 1]' u[j],  db[j] = s[j + 1]' r.

Where a layer is too narrow for least squares, ``e`` is the error against the best map of its rank.
What that map leaves, ``T R'`` for the part ``T`` of least squares it lacks, adds to the gap:
``|(e - T) R'|^2 - |T R'|^2``.

Arrays have the runs in front. Where layers are narrow, the runs are contiguous in memory, so that
one call works on long rows; where they are wide, each run is a small matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

# Measured: einsum over the runs beats matmul up to this width, from about this many runs.
MAX_EINSUM_WIDTH = 8
MIN_EINSUM_RUNS = 32


@dataclass
class Problem:
    """The data of a block of ``R`` runs; an array may have one row for all of them."""

    sizes: tuple[int, ...]
    bias: bool
    root: np.ndarray  # (R, d, d), triangular: centred with a bias, about zero without
    mean: np.ndarray  # (R, 1, d)
    coef: np.ndarray  # (R, m, d), of least squares
    intercept: np.ndarray  # (R, m, 1)
    tol: np.ndarray  # (R,)
    limit: np.ndarray  # (R,), a gap that counts as divergence
    tail: np.ndarray | None = None  # (R, m, d), T R' where a layer is too narrow

    def take(self, index: np.ndarray) -> Problem:
        """The data of some of the runs."""

        def kept(a: np.ndarray) -> np.ndarray:
            return a if len(a) == 1 else _keep(a, index)

        one_each = (kept(self.root), kept(self.mean), kept(self.coef), kept(self.intercept))
        tail = None if self.tail is None else kept(self.tail)
        return Problem(self.sizes, self.bias, *one_each, kept(self.tol), kept(self.limit), tail)


@dataclass
class Rule:
    """An optimiser and its hyperparameters; ``lr`` is ``(R,)``."""

    name: str
    lr: np.ndarray
    momentum: float
    betas: tuple[float, float]
    eps: float

    def corrections(self, steps: int) -> np.ndarray:
        """Adam's bias corrections of its two averages after each step, ``(steps, 2)``."""
        at = np.arange(1, steps + 1)[:, None]
        return (1 - np.array(self.betas) ** at) ** np.array([1.0, 0.5])


@dataclass
class Record:
    """The results of a block of ``R`` runs at ``K`` checkpoints, filled in by an engine."""

    coef: np.ndarray  # (R, K, m, d)
    intercept: np.ndarray  # (R, K, m)
    gap: np.ndarray  # (R, K)
    n_iter: np.ndarray  # (R,)
    hit: np.ndarray  # (R,), -1 where the tolerance was not reached
    diverged: np.ndarray  # (R,)
    theta: np.ndarray  # (R, P)
    best: np.ndarray  # (R,), the step of the smallest gap

    def put(
        self,
        index: np.ndarray,
        mark: int,
        coef: np.ndarray,
        intercept: np.ndarray,
        gap: np.ndarray,
        theta: np.ndarray,
    ) -> None:
        """Store the last state of runs that end, for all checkpoints from ``mark`` on."""
        self.theta[index] = theta
        self.coef[index, mark:], self.intercept[index, mark:] = coef[:, None], intercept[:, None]
        self.gap[index, mark:] = gap[:, None]


def layers(
    flat: np.ndarray, sizes: Sequence[int], *, bias: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
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
    problem: Problem,
    theta: np.ndarray,
    rule: Rule,
    steps: int,
    marks: np.ndarray,
    *,
    stop: bool,
    keep: bool,
    out: Record,
) -> None:
    """Train networks for ``steps`` steps or until they reach the tolerance, and fill in ``out``.

    Args:
        problem: the data.
        theta: initial parameters ``(R, P)``.
        rule: the optimiser.
        steps: the largest number of steps.
        marks: the checkpoints, the first and the last step among them.
        stop: whether a run ends when its gap reaches the tolerance.
        keep: whether the parameters that are left are those of the smallest gap, not of the last
            step.
        out: the record that is filled in.
    """
    least = np.full(len(theta), np.inf)
    narrow = max(problem.sizes) <= MAX_EINSUM_WIDTH and len(theta) >= MIN_EINSUM_RUNS
    nets = _Nets(problem, theta, narrow=narrow)
    index, lr, tol, limit = (
        np.arange(len(theta)),
        rule.lr[:, None],
        problem.tol.copy(),
        problem.limit,
    )
    slots, corrections, mark = _slots(rule, nets.theta), rule.corrections(steps), 0
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for step in range(steps + 1):
            coef, intercept, gap = nets.forward()
            if step == marks[mark]:
                out.coef[index, mark], out.intercept[index, mark], out.gap[index, mark] = (
                    coef,
                    intercept,
                    gap,
                )
                mark += 1
            if keep and (better := gap < least[index]).any():
                least[index[better]], out.best[index[better]] = gap[better], step
                out.theta[index[better]] = nets.theta[better]
            hit, lost = gap <= tol, ~(gap <= limit)
            if hit.any() or lost.any():
                done = lost | hit if stop else lost
                out.hit[index[hit]], out.diverged[index[lost]], out.n_iter[index[done]] = (
                    step,
                    True,
                    step,
                )
                tol[hit] = -np.inf
                if done.any():
                    last = out.theta[index[done]] if keep else nets.theta[done]
                    out.put(index[done], mark, coef[done], intercept[done], gap[done], last)
                    stay = np.flatnonzero(~done)
                    index, lr, tol, limit = index[stay], lr[stay], tol[stay], limit[stay]
                    if not len(index):
                        return
                    nets, slots = nets.take(stay), tuple(_keep(slot, stay) for slot in slots)
                    nets.forward()
            if step < steps:
                nets.backward()
                _update(rule, nets.theta, nets.gradient, lr, slots, corrections[step])
    out.n_iter[index] = steps
    if not keep:
        out.theta[index] = nets.theta


class _Nets:
    """The networks of some runs: parameters, forward pass and backward pass."""

    def __init__(self, problem: Problem, theta: np.ndarray, *, narrow: bool) -> None:
        order = _runs_fastest if narrow else np.ascontiguousarray
        self.problem, self.narrow = problem, narrow
        self.theta = order(theta.copy())
        self.gradient = np.empty_like(self.theta)
        self.root, self.mean, self.coef, self.intercept = map(
            order, (problem.root, problem.mean, problem.coef, problem.intercept)
        )
        self.root_t = np.swapaxes(self.root, 1, 2)
        self.mean_column = np.swapaxes(self.mean, 1, 2)
        sizes, bias = problem.sizes, problem.bias
        self.weights, self.biases = layers(self.theta, sizes, bias=bias)
        self.to_weights, self.to_biases = layers(self.gradient, sizes, bias=bias)
        self.weights_t = [np.swapaxes(w, 1, 2) for w in self.weights]
        self.biases_t = [np.swapaxes(b, 1, 2) for b in self.biases]
        self.no_intercept = np.zeros((len(theta), sizes[-1], 1))

    def take(self, index: np.ndarray) -> _Nets:
        """The networks of some of the runs."""
        return _Nets(self.problem.take(index), self.theta[index], narrow=self.narrow)

    def forward(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """End-to-end weights ``(R, m, d)``, intercepts ``(R, m)`` and optimality gap ``(R,)``."""
        s = self.weights_t[-1]
        self.suffix = [s]  # transposed: (R, width, m)
        for w in self.weights_t[-2::-1]:
            s = self._product(w, s)
            self.suffix.append(s)
        self.suffix.reverse()
        coef, intercept = np.swapaxes(s, 1, 2), self.no_intercept
        error = coef - self.coef
        spread = self._product(error, self.root_t)
        if self.problem.tail is None:
            gap = (spread * spread).sum((1, 2))
        else:
            gap = (spread * (spread - 2 * self.problem.tail)).sum((1, 2))
            spread -= self.problem.tail
        self.u = self._product(spread, self.root)
        if self.problem.bias:
            intercept = self.biases[-1]
            for after, b in zip(self.suffix[1:], self.biases_t[:-1], strict=True):
                intercept = intercept + np.swapaxes(self._product(b, after), 1, 2)
            self.r = self._product(error, self.mean_column)
            self.r += intercept - self.intercept
            gap += (self.r * self.r).sum((1, 2))
        return coef, intercept[..., 0], gap / self.problem.sizes[-1]

    def backward(self) -> None:
        """Store the gradient at the weights of the last forward pass in ``gradient``."""
        u, bias = self.u, self.problem.bias
        if bias:
            g = self.r
            u += g * self.mean
        for j, after in enumerate(self.suffix[1:]):
            self._product(after, u, out=self.to_weights[j])
            u = self._product(u, self.weights_t[j])
            if bias:
                self._product(after, g, out=self.to_biases[j])
                u += g * self.biases_t[j]
        self.to_weights[-1][...] = u
        if bias:
            self.to_biases[-1][...] = g

    def _product(self, a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """``a @ b`` for every run, as fast as the shapes allow."""
        if a.shape[2] == 1:
            return np.multiply(a, b, out=out)
        if self.narrow:
            return np.einsum("rpq,rqs->rps", a, b, out=out)
        return np.matmul(a, b, out=out)


def _slots(rule: Rule, theta: np.ndarray) -> tuple[np.ndarray, ...]:
    """The averages that the optimiser keeps, zero at first."""
    return tuple(
        np.zeros_like(theta) for _ in range({"gd": 0, "momentum": 1, "adam": 2}[rule.name])
    )


def _update(
    rule: Rule,
    theta: np.ndarray,
    gradient: np.ndarray,
    lr: np.ndarray,
    slots: tuple[np.ndarray, ...],
    correct: np.ndarray,
) -> None:
    """One step in place, with the conventions of ``torch.optim``."""
    if rule.name == "gd":
        gradient *= lr
        theta -= gradient
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
        gradient *= 1 - beta2
        second += gradient
        size = np.sqrt(second)
        size /= correct[1]
        size += rule.eps
        np.divide(first, size, out=size)
        size *= lr / correct[0]
        theta -= size


def _keep(a: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The rows of ``index``; runs stay contiguous in memory if they were."""
    return _runs_fastest(a[index]) if a.ndim > 1 and a.strides[0] == a.itemsize else a[index]


def _runs_fastest(a: np.ndarray) -> np.ndarray:
    """A copy of the array whose first axis is contiguous in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 0, -1)), -1, 0)
