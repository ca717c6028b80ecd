"""Training of one linear network to the optimum: descent, then L-BFGS on whitened inputs.

Training works on standardised columns. :func:`solve` trains there from given weights, and
:class:`Units` converts to and from the units of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.optimize import OptimizeResult

from rectilinear.deeplinear.diagnosis import Loss
from rectilinear.deeplinear.ensemble import Optimizer, log_grid, train_ensemble
from rectilinear.deeplinear.initialisation import Layers
from rectilinear.deeplinear.statistics import SufficientStatistics, powers_of_two
from rectilinear.errors import DivergedError, InputError
from rectilinear.scalars import rank_tolerance

Map = tuple[np.ndarray, np.ndarray]  # end-to-end weights (m, d) and intercepts (m,)

ADAM_STEPS = 2000  # after which L-BFGS takes over
LBFGS_PAIRS = 30  # pairs of steps and changes of the gradient that are kept
LBFGS_ROUNDS = 5  # runs with an empty memory, where a line search finds nothing better


@dataclass
class Solution:
    """A trained network and its way there, in the units of training.

    Attributes:
        steps: the steps at which ``maps`` were taken, the last step among them.
        maps: the end-to-end maps there.
        layers: weights and biases with the smallest gap of all steps.
        count: the number of steps taken.
        best: the map of ``layers``.
    """

    steps: list[int]
    maps: list[Map]
    layers: Layers
    count: int
    best: Map


def solve(
    units: Units,
    layers: Layers,
    *,
    optimizer: Optimizer | Literal["auto"],
    lr: float,
    max_iter: int,
    tol: float,
) -> Solution:
    """Weights and biases with the smallest optimality gap of all steps, and the way there.

    Args:
        units: the data as training sees them.
        layers: weights and biases to begin from, in these units.
        optimizer: of :func:`~rectilinear.deeplinear.train_ensemble`; with ``auto`` Adam, then
            :func:`lbfgs` where a gap is left.
        lr: the step size of descent, on the mean square error.
        max_iter: the largest number of steps.
        tol: the gap at which training ends, a share of ``units.scale``.

    Raises:
        DivergedError: if the loss grows without bound.
    """
    seen, m, auto = units.seen, units.seen.outputs, optimizer == "auto"
    tol = tol * (1 - 1e-6)  # what the way back to the units of the data may cost
    steps, marks = min(max_iter, ADAM_STEPS) if auto else max_iter, log_grid(max_iter)
    run = train_ensemble(
        seen,
        [len(weight) for weight in layers[0][:-1]],
        init=layers,
        optimizer="adam" if optimizer == "auto" else optimizer,
        # That of train_ensemble is on half the sum over outputs; Adam's step has no such factor.
        lr=lr if optimizer in ("auto", "adam") else lr * 2 / m,
        eps=1e-8 * m / 2,
        steps=steps,
        checkpoints=marks[marks <= steps].tolist(),
        tol=tol * units.scale,
        bias=units.bias,
        keep_best=True,
    )
    if run.diverged:
        raise _diverged(int(run.n_iter), len(layers[0]), lr, units)
    end = int(np.searchsorted(run.steps, run.n_iter)) + 1  # later checkpoints repeat it
    taken = np.minimum(run.steps[:end], run.n_iter).tolist()
    maps = list(zip(run.coef[:end], run.intercept[:end], strict=True))
    layers = run.weights, run.biases
    best = maps[-1] if run.best == run.n_iter else end_to_end(layers)
    if not auto or run.converged or max_iter <= steps:
        return Solution(taken, maps, layers, int(run.n_iter), best)
    done = lbfgs(
        seen,
        layers,
        tol=tol,
        scale=units.scale,
        steps=max_iter - steps,
        marks=(marks - steps).tolist(),
        bias=units.bias,
    )
    taken += [steps + step for step in done.steps if step]
    maps += [end_to_end(net) for step, net in zip(done.steps, done.layers, strict=True) if step]
    best = maps[-1] if done.count else end_to_end(done.layers[-1])
    return Solution(taken, maps, done.layers[-1], steps + done.count, best)


def _diverged(step: int, depth: int, lr: float, units: Units) -> DivergedError:
    if not step:
        return DivergedError(
            got=f"initial weights so large that the product of {depth} layers is out of range",
            expected="a first loss of at most ten billion times that of predicting zero",
            fix="Use another init, such as init='zero_last', a smaller depth or a smaller width.",
        )
    return DivergedError(
        got=f"a loss that grew without bound, up to step {step}",
        expected="a loss that falls",
        fix=f"Use a smaller lr than {lr}"
        + ("." if units.standardized else ", or standardize=True."),
    )


@dataclass
class Iterates:
    """The path of L-BFGS: steps, their weights and biases, and the number of iterations."""

    steps: list[int] = field(default_factory=list)
    layers: list[Layers] = field(default_factory=list)
    count: int = 0


def lbfgs(
    statistics: SufficientStatistics,
    layers: Layers,
    *,
    tol: float,
    scale: float,
    steps: int,
    marks: Sequence[int],
    bias: bool,
) -> Iterates:
    """The network after L-BFGS on whitened inputs: at ``marks``, and at the end, which is the last.

    The first layer is written as ``W L^+`` for inputs whitened by ``L``: then the loss is ``|W_L
    ... W_1 - M|^2`` for the least-squares map ``M``, and inputs that nearly depend on each other
    are as fast as others. What the data do not determine of the first layer stays as it is. Every
    iterate is better than the one before.

    Args:
        statistics: of the data, without runs.
        layers: weights and biases to begin from.
        tol: the gap at which it ends, a share of ``scale``.
        scale: the unit of the gap.
        steps: the largest number of iterations.
        marks: iterations whose weights are kept.
        bias: whether layers have biases.

    Reference: Liu and Nocedal, "On the limited memory BFGS method for large scale optimization",
    1989.

    Example:
        >>> from rectilinear.deeplinear.statistics import SufficientStatistics
        >>> line = SufficientStatistics.from_data([[-1.0], [1.0]], [-2.0, 2.0])
        >>> net = (np.array([[0.5]]), np.array([[0.5]])), ()
        >>> done = lbfgs(line, net, tol=1e-20, scale=1.0, steps=50, marks=(), bias=False)
        >>> first, last = done.layers[-1][0]
        >>> (last @ first).round(9), done.count < 20
        (array([[2.]]), True)
    """
    from scipy.optimize import minimize

    turn, back = _whitening(statistics, bias=bias)
    loss, shapes = _loss(statistics, layers, turn, bias=bias), [w.shape for w in layers[0]]
    origin = layers[0][0]

    def pack(layers: Layers) -> np.ndarray:
        weights, biases = list(layers[0]), list(layers[1])
        if bias:
            biases[0] = biases[0] + weights[0] @ statistics.mean_x
        weights[0] = weights[0] @ turn
        return np.concatenate([a.ravel() for a in (*weights, *biases)])

    def unpack(theta: np.ndarray) -> Layers:
        sizes = [(shapes[0][0], turn.shape[1]), *shapes[1:], *((o,) for o, _ in shapes if bias)]
        parts = np.split(theta, np.cumsum([int(np.prod(size)) for size in sizes])[:-1])
        arrays = [part.reshape(size).copy() for part, size in zip(parts, sizes, strict=True)]
        weights, biases = arrays[: len(shapes)], arrays[len(shapes) :]
        weights[0] = origin + (weights[0] - origin @ turn) @ back
        if bias:
            biases[0] = biases[0] - weights[0] @ statistics.mean_x
        return tuple(weights), tuple(biases)

    def value(theta: np.ndarray) -> tuple[float, np.ndarray]:
        return float(loss.loss(theta[None])[0]) / scale, loss.gradient(theta[None])[0] / scale

    done, theta, wanted = Iterates(), pack(layers), set(marks)
    best = value(theta)[0]

    def after(intermediate_result: OptimizeResult) -> None:
        done.count += 1
        if done.count in wanted:
            done.steps.append(done.count)
            done.layers.append(unpack(intermediate_result.x))
        if intermediate_result.fun <= tol:
            raise StopIteration

    options = {"maxfun": 10 * steps, "ftol": 0, "gtol": 0, "maxcor": LBFGS_PAIRS}
    with np.errstate(over="ignore", invalid="ignore"):  # a line search may look far away
        for _ in range(LBFGS_ROUNDS):
            left = {**options, "maxiter": steps - done.count}
            found = minimize(
                value, theta, jac=True, method="L-BFGS-B", callback=after, options=left
            )
            if not found.fun < best:
                break
            theta, best = found.x, found.fun
            if best <= tol or done.count >= steps:
                break
    if done.count not in done.steps:
        done.steps.append(done.count)
        done.layers.append(unpack(theta))
    done.layers[-1] = unpack(theta)
    return done


def _whitening(statistics: SufficientStatistics, *, bias: bool) -> tuple[np.ndarray, np.ndarray]:
    """``L`` ``(d, k)`` with ``L L'`` the second moments of inputs of rank ``k``, and ``L^+``."""
    root = statistics.root(bias=bias)
    size = powers_of_two(root)
    _, s, vt = np.linalg.svd(root / size)
    kept = s > rank_tolerance(statistics.factor.shape[-1]) * s[0]
    s, vt = s[kept], vt[kept]
    return size[:, None] * vt.T * s, vt / s[:, None] / size


def _loss(
    statistics: SufficientStatistics, layers: Layers, turn: np.ndarray, *, bias: bool
) -> Loss:
    """The loss of the network on whitened inputs of mean zero."""
    rank = min(min(w.shape) for w in layers[0])
    whole = statistics.least_squares(bias=bias).coef @ turn
    best = statistics.least_squares(bias=bias, rank=rank).coef @ turn
    k, shapes = turn.shape[1], [w.shape for w in layers[0]]
    shapes[0] = (shapes[0][0], k)
    intercept = statistics.mean_y if bias else np.zeros_like(statistics.mean_y)
    data = (np.eye(k), np.zeros(k), best, intercept, whole - best)
    return Loss(tuple(a[None] for a in data), shapes, bias)


@dataclass(frozen=True)
class Units:
    """The data as training sees them, and the way back.

    Attributes:
        seen: statistics of the columns that training sees.
        x: ``(d,)``, what the inputs were divided by.
        y: ``(m,)``, what the outputs were divided by.
        mean_x: ``(d,)``, what was subtracted from the inputs.
        mean_y: ``(m,)``, what was subtracted from the outputs.
        data: statistics of the data.
        bias: whether layers have biases.
        standardized: whether columns were divided by their spreads.
        scale: of the gap: the mean variance of the outputs that training sees.
    """

    seen: SufficientStatistics
    x: np.ndarray
    y: np.ndarray
    mean_x: np.ndarray
    mean_y: np.ndarray
    data: SufficientStatistics
    bias: bool
    standardized: bool
    scale: float

    @classmethod
    def of(cls, data: SufficientStatistics, *, centre: bool, standardize: bool) -> Units:
        """The units for these data."""
        seen, x, y = data, np.ones(data.inputs), np.ones(data.outputs)
        if standardize:
            seen, x, y = data.standardized(centre=centre)
        targets = seen.factor[:, seen.inputs :]
        with np.errstate(over="ignore"):
            variance = np.square(targets).sum()
            variance += 0.0 if centre else np.square(seen.mean_y).sum()
        if not np.isfinite(variance) or (variance < np.finfo(float).tiny and targets.any()):
            raise InputError(
                got="targets whose squares are out of the range of float64",
                expected="targets of a size between 1e-150 and 1e150",
                fix="Use standardize=True.",
            )
        mean_x, mean_y = np.zeros_like(x), np.zeros_like(y)
        if standardize and centre:
            mean_x, mean_y = data.mean_x, data.mean_y
        scale = float(variance) / seen.outputs or 1.0
        return cls(seen, x, y, mean_x, mean_y, data, centre, standardize, scale)

    def to_data(self, layers: Layers) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Weights and biases in the units of the data."""
        weights, biases = [w.copy() for w in layers[0]], [b.copy() for b in layers[1]]
        weights[0] /= self.x
        weights[-1] *= self.y[:, None]
        if biases:
            biases[-1] *= self.y
            biases[0] -= weights[0] @ self.mean_x
            biases[-1] += self.mean_y
        return weights, biases

    def from_data(self, layers: Layers) -> Layers:
        """The inverse of :meth:`to_data`."""
        weights, biases = [w.copy() for w in layers[0]], [b.copy() for b in layers[1]]
        if biases:
            biases[-1] -= self.mean_y
            biases[0] += weights[0] @ self.mean_x
            biases[-1] /= self.y
        weights[-1] /= self.y[:, None]
        weights[0] *= self.x
        return tuple(weights), tuple(biases)

    def map_to_data(self, coef: np.ndarray, intercept: np.ndarray) -> Map:
        """End-to-end weights ``(m, d)`` and intercepts ``(m,)`` in the units of the data."""
        coef = coef * self.y[:, None] / self.x
        return coef, intercept * self.y + self.mean_y - coef @ self.mean_x

    def gap(self, coef: np.ndarray, intercept: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """The loss of maps above that of a reference.

        Args:
            coef: weights ``(K, m, d)`` in the units of the data.
            intercept: ``(K, m)``, likewise.
            reference: weights ``(m, d)`` in the units of training.
        """
        root = self.seen.root(bias=self.bias)
        spread = (coef * self.x / self.y[:, None] - reference) @ root.T
        tail = (self.seen.least_squares(bias=self.bias).coef - reference) @ root.T
        gap = (spread * (spread - 2 * tail)).sum((-2, -1))
        if self.bias:
            rest = (intercept + coef @ self.data.mean_x - self.data.mean_y) / self.y
            gap = gap + np.square(rest).sum(-1)
        return gap / self.seen.outputs


def end_to_end(layers: Layers) -> Map:
    """The weights ``(m, d)`` and intercepts ``(m,)`` of the map that a network computes.

    Example:
        >>> end_to_end(((np.array([[2.0]]), np.array([[3.0]])), (np.array([1.0]), np.array([5.0]))))
        (array([[6.]]), array([8.]))
    """
    weights, biases = layers
    coef, intercept = np.eye(weights[0].shape[1]), np.zeros(weights[0].shape[1])
    for i, weight in enumerate(weights):
        coef, intercept = weight @ coef, weight @ intercept if i else np.zeros(len(weight))
        if biases:
            intercept = intercept + biases[i]
    return coef, intercept
