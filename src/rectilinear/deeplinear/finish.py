"""L-BFGS from the weights that descent came to, with inputs turned so that none is slow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import OptimizeResult

from rectilinear.deeplinear.diagnosis import Loss
from rectilinear.deeplinear.initialisation import Layers
from rectilinear.deeplinear.least_squares import powers_of_two
from rectilinear.deeplinear.statistics import SufficientStatistics

_MEMORY = 30  # pairs of steps and changes of the gradient that are kept
_ROUNDS = 5  # starts with an empty memory, where a line search finds nothing better


@dataclass
class Finished:
    """Weights and biases at the end and at the marks, and the iterations it took."""

    steps: list[int] = field(default_factory=list)
    layers: list[Layers] = field(default_factory=list)
    count: int = 0


def finish(
    statistics: SufficientStatistics,
    layers: Layers,
    *,
    tol: float,
    scale: float,
    steps: int,
    marks: Sequence[int],
    bias: bool,
) -> Finished:
    """The net after L-BFGS, at ``marks`` and at the end, which is the last.

    The first layer is written as ``W L^+`` for inputs whitened by ``L``: then the loss is ``|W_L
    ... W_1 - M|^2`` for the map ``M`` of least squares, and inputs that nearly depend on each other
    are as fast as others. What the data do not see of the first layer stays as it is. Every iterate
    is better than the one before.

    Args:
        statistics: of the data, without runs.
        layers: weights and biases to begin from.
        tol: the gap at which it ends, a share of ``scale``.
        scale: what the gap is measured with.
        steps: the largest number of iterations.
        marks: iterations whose weights are kept.
        bias: whether layers have biases.

    Reference: Liu and Nocedal, "On the limited memory BFGS method for large scale optimization",
    1989.

    Example:
        >>> from rectilinear.deeplinear.statistics import SufficientStatistics
        >>> line = SufficientStatistics.from_data([[-1.0], [1.0]], [-2.0, 2.0])
        >>> net = (np.array([[0.5]]), np.array([[0.5]])), ()
        >>> done = finish(line, net, tol=1e-20, scale=1.0, steps=50, marks=(), bias=False)
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

    done, theta, wanted = Finished(), pack(layers), set(marks)
    best = value(theta)[0]

    def after(intermediate_result: OptimizeResult) -> None:
        done.count += 1
        if done.count in wanted:
            done.steps.append(done.count)
            done.layers.append(unpack(intermediate_result.x))
        if intermediate_result.fun <= tol:
            raise StopIteration

    with np.errstate(over="ignore", invalid="ignore"):  # a line search may look far away
        for _ in range(_ROUNDS):
            options = {
                "maxiter": steps - done.count,
                "maxfun": 10 * steps,
                "ftol": 0,
                "gtol": 0,
                "maxcor": _MEMORY,
            }
            found = minimize(
                value, theta, jac=True, method="L-BFGS-B", callback=after, options=options
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
    """``L`` ``(d, k)`` with ``L L' = R'R`` for the second moments of the inputs, of rank ``k``, and
    ``L^+``.
    """
    root = statistics.root(bias=bias)
    size = powers_of_two(root)
    _, s, vt = np.linalg.svd(root / size)
    kept = s > 10 * np.finfo(float).eps * statistics.factor.shape[-1] * s[0]
    s, vt = s[kept], vt[kept]
    return size[:, None] * vt.T * s, vt / s[:, None] / size


def _loss(
    statistics: SufficientStatistics, layers: Layers, turn: np.ndarray, *, bias: bool
) -> Loss:
    """That of the net on whitened inputs of mean zero."""
    rank = min(min(w.shape) for w in layers[0])
    whole = statistics.least_squares(bias=bias).coef @ turn
    best = statistics.least_squares(bias=bias, rank=rank).coef @ turn
    k, shapes = turn.shape[1], [w.shape for w in layers[0]]
    shapes[0] = (shapes[0][0], k)
    intercept = statistics.mean_y if bias else np.zeros_like(statistics.mean_y)
    data = (np.eye(k), np.zeros(k), best, intercept, whole - best)
    return Loss(tuple(a[None] for a in data), shapes, bias)
