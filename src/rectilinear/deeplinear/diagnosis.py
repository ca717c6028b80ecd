"""Diagnosis of linear networks that have not reached least squares: saddles, slow steps.

:func:`diagnose` tells these states apart by loss, gradient and Hessian. Closed forms give the time
at a saddle and the largest stable step, for half the mean square error as in
:func:`~rectilinear.deeplinear.train_ensemble`. On the mean square error itself, as in
``torch.nn.MSELoss`` with one output, stable steps and times are half as large.

For the product ``a`` of ``L`` weights and the loss ``l(a)``, gradient flow is ``a' = -sum_i (a /
w_i)^2 l'(a)``. If all ``|w_i|`` are equal this is ``a' = -L |a|^(2 - 2/L) l'(a)``: the factor slows
the flow for ``|a|`` below one, speeds it up above, and vanishes at zero, the saddle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rectilinear.deeplinear.statistics import SufficientStatistics
from rectilinear.errors import InputError, ShapeError
from rectilinear.notebook import short_repr

State = Literal["converged", "saddle", "stationary", "undertrained", "diverged"]
STATES: tuple[State, ...] = get_args(State)

DIVERGED_FACTOR = 1e10  # times the loss of predicting zero
SLOW_GAIN = 1e-3  # of the gap: a step of 1 / curvature gains less where the gradient is small
BLOCK_ENTRIES = 1_000_000  # of the Hessians held at once: 16 megabytes while they are complex
MAX_DENSE_PARAMETERS = 500  # up to which the whole Hessian is formed; above, Lanczos finds its ends
LANCZOS_PRODUCTS = 100
COMPLEX_STEP = 1e-30  # imaginary, so it may be tiny: nothing cancels

UNIFORM_SIZE = 1 / math.e
"""The geometric mean of ``|w|`` for weights ``w`` that are uniform on (-1, 1)."""


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The state of each of ``runs`` networks, and the numbers that it follows from.

    Attributes:
        state: ``(runs,)``, one of ``converged``, ``saddle``, ``stationary``, ``undertrained``,
            ``diverged``.
        gap: the loss above that of least squares, or of the best map of its rank where a layer is
            narrower.
        gradient: the squared length of the gradient.
        smallest: the smallest eigenvalue of the Hessian; NaN where diverged.
        largest: the largest one; here a step above ``2 / largest`` on the mean square error is
            unstable, which for one output is ``4 / largest`` on half of it.
    """

    state: NDArray[np.str_]
    gap: NDArray[np.float64]
    gradient: NDArray[np.float64]
    smallest: NDArray[np.float64]
    largest: NDArray[np.float64]

    __repr__ = short_repr


def diagnose(
    statistics: SufficientStatistics,
    weights: Sequence[NDArray[np.float64]],
    biases: Sequence[NDArray[np.float64]] = (),
    *,
    tol: float,
) -> Diagnosis:
    """The state of linear networks: converged, at a saddle, undertrained or diverged.

    * ``converged``: the loss is within ``tol`` of least squares, or of the best map of the rank of
      its narrowest layer.
    * ``diverged``: it is not finite, or above ten billion times that of predicting zero.
    * ``saddle``: the gradient is small and there is a way out, down a negative curvature. Small: a
      step of ``1 / lambda_max`` gains less than a thousandth of the gap, ``|grad|^2 < .002
      lambda_max gap``. Negative: ``lambda_min`` below ``-|grad|^2 / (2 gap)``; in a valley of
      curvature ``mu`` that ratio is at least ``mu`` (Polyak and Lojasiewicz).
    * ``stationary``: the gradient is zero, up to rounding, and no curvature is negative: descent
      will never move it.
    * ``undertrained``: otherwise; downhill, and not done.

    The Hessian is that of the mean square error in all weights and biases, from the sufficient
    statistics: its cost does not depend on the number of rows. Beyond 500 parameters Lanczos'
    method finds its ends from 100 products, each from inside the spectrum.

    Args:
        statistics: of the training data, over ``(runs,)``.
        weights: one ``(runs, out, in)`` a layer, the first layer first.
        biases: one ``(runs, out)`` a layer; none by default.
        tol: the loss above least squares that counts as none, in the units of the loss.

    Raises:
        ShapeError: if weights and statistics disagree.

    Example:
        >>> from rectilinear.deeplinear.statistics import SufficientStatistics
        >>> line = SufficientStatistics.from_data([[[-1.0], [1.0]]] * 3, [[-1.0, 1.0]] * 3)
        >>> layer = np.array([0.01, 0.9, 1.0]).reshape(3, 1, 1)
        >>> diagnose(line, [layer, layer], tol=1e-6).state.tolist()
        ['saddle', 'undertrained', 'converged']
    """
    shape = (*statistics.runs, statistics.inputs, statistics.outputs)
    if len(shape) != 3 or (len(weights[0]), weights[0].shape[-1], weights[-1].shape[-2]) != shape:
        raise ShapeError(
            got=f"weights of shapes {[w.shape for w in weights]}",
            expected=f"{shape[0] if len(shape) == 3 else 'one axis of'} runs, "
            f"from {shape[-2]} inputs to {shape[-1]} outputs",
            fix="Give weights (runs, out, in), the first layer first, and statistics over (runs,).",
        )
    net = Loss.of(statistics, [w.shape[1:] for w in weights], bias=bool(biases))
    theta = np.concatenate([layer.reshape(len(layer), -1) for layer in (*weights, *biases)], axis=1)
    zero = np.square(statistics.factor[..., statistics.inputs :]).sum((-2, -1)) + np.square(
        statistics.mean_y
    ).sum(-1)
    with np.errstate(invalid="ignore", over="ignore"):
        gap = net.loss(theta)
        sound = gap <= DIVERGED_FACTOR * np.maximum(zero / statistics.outputs, np.finfo(float).tiny)
    gradient, smallest, largest = (np.full(len(theta), np.nan) for _ in range(3))
    for run in _blocks(np.flatnonzero(sound), theta.shape[1]):
        at = net[run]
        gradient[run] = np.square(at.gradient(theta[run])).sum(-1)
        smallest[run], largest[run] = _extremes(at, theta[run])
    with np.errstate(divide="ignore", invalid="ignore"):
        rounding = 100 * np.finfo(float).eps * theta.shape[1] ** 0.5 * largest
        slope = gradient / (2 * gap)
        small, negative = slope <= SLOW_GAIN * largest, smallest < -np.maximum(slope, rounding)
        still = (gradient == 0) | (slope * largest <= rounding**2)
    state = np.select(
        [~sound, gap <= tol, small & negative, still],
        ["diverged", "converged", "saddle", "stationary"],
        "undertrained",
    )
    return Diagnosis(state, np.where(sound, gap, np.inf), gradient, smallest, largest)


def escape_time(scale: ArrayLike, covariance: ArrayLike, depth: int) -> NDArray[np.float64]:
    """The time that a chain of layers of one unit spends at the saddle at zero.

    ``t* = rho^-(L-2) / ((L-2) |S|)`` for ``L > 2``: the blow-up time of ``w' = |S| w^(L-1)`` from
    ``rho``, which is gradient flow while the product is small; ``log(1/rho) / |S|`` for two layers,
    and zero for one. Divided by the step it is a number of steps.

    Args:
        scale: ``rho``, the geometric mean of the absolute initial weights.
        covariance: ``S`` of input and target.
        depth: ``L``, the number of layers.

    Raises:
        InputError: for a depth below 1.

    Reference:
        Shamir, "Exponential convergence time of gradient descent for one-dimensional deep linear
        neural networks", COLT 2019, on the growth with depth.

    Example:
        >>> (escape_time(UNIFORM_SIZE, 0.6745, depth=10) / 2e-3).round(-3)
        np.float64(276000.0)
    """
    _check_depth(depth)
    rho = np.asarray(scale, dtype=np.float64)
    pull = np.abs(np.asarray(covariance, dtype=np.float64))
    if depth == 1:
        return np.zeros(np.broadcast_shapes(rho.shape, pull.shape))
    # Infinite without covariance, or where the initial weights are the saddle itself.
    with np.errstate(divide="ignore"):
        if depth == 2:
            return np.maximum(-np.log(rho), 0) / pull
        return rho ** (2 - depth) / ((depth - 2) * pull)


def effective_step(lr: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """The step on the product of weights, ``lr sum_i (a / w_i)^2``, of descent on the weights.

    Args:
        lr: the step on each weight.
        weights: ``(..., L)``, the last axis over layers.

    Reference:
        Arora, Cohen, Hazan, "On the optimization of deep networks: implicit acceleration by
        overparameterization", ICML 2018.

    Example:
        >>> effective_step(0.1, [2.0, 2.0]), effective_step(0.1, [0.5, 0.5, 0.5]).round(6)
        (np.float64(0.8), np.float64(0.01875))
    """
    w = np.asarray(weights, dtype=np.float64)
    others = np.stack([np.delete(w, i, axis=-1).prod(-1) for i in range(w.shape[-1])], axis=-1)
    return np.asarray(lr) * (others**2).sum(-1)


def largest_stable_step(
    statistics: SufficientStatistics, depth: int, *, bias: bool = True
) -> NDArray[np.float64]:
    """The largest step ``(*runs,)`` of gradient descent that is stable at a balanced solution.

    ``2 / lambda_max(H)`` of half the mean square error at the balanced minimum ``w``, where ``H``
    has the non-zero eigenvalues of ``P C`` with ``C`` the second moments and ``P = |w|^(2-2/L) (I +
    (L-1) w w' / |w|^2)``: curvature grows with depth where ``|w| > 1``. In one dimension without
    bias it is ``2 / (L |w|^(2-2/L) C)``. A bias a layer adds ``sum_i |w|^(2i/L)``, ``i`` from 0 to
    ``L - 1``.

    Args:
        statistics: of the data, with one output.
        depth: ``L``, the number of layers.
        bias: whether layers have biases.

    Raises:
        ShapeError: for several outputs.
        InputError: for a depth below 1.

    Reference:
        Arora, Cohen, Hazan, ICML 2018, theorem 2, for ``P``.

    Example:
        >>> from rectilinear.deeplinear.statistics import SufficientStatistics
        >>> line = SufficientStatistics.from_data([[-1.0], [1.0]], [-2.0, 2.0])
        >>> [float(largest_stable_step(line, depth, bias=False).round(6)) for depth in (1, 2)]
        [2.0, 0.5]
    """
    _check_depth(depth)
    if statistics.outputs != 1:
        raise ShapeError(
            f"{statistics.outputs} outputs", "one output", "Study one column of y at a time."
        )
    w = statistics.least_squares(bias=bias).coef[..., 0, :]
    size = np.linalg.norm(w, axis=-1)
    moments, d = statistics.sxx, w.shape[-1]
    along = np.divide(w, size[..., None], out=np.zeros_like(w), where=size[..., None] > 0)
    metric = np.eye(d) + (depth - 1) * along[..., :, None] * along[..., None, :]
    metric = size[..., None, None] ** (2 - 2 / depth) * metric
    if bias:
        mean = statistics.mean_x
        moments = _bordered(moments, mean, np.ones(mean.shape[:-1]))
        layers = sum((size ** (2 * i / depth) for i in range(1, depth)), np.ones_like(size))
        metric = _bordered(metric, np.zeros_like(mean), layers)
    with np.errstate(divide="ignore"):  # a target without slope: any step is stable
        return 2 / np.linalg.eigvals(metric @ moments).real.max(-1)


class Loss:
    """The loss above least squares as a function of all parameters, with its derivatives.

    ``(|E R'|^2 + |E mean + e|^2) / m`` for the errors ``E`` and ``e`` of the map, with ``R'R`` the
    covariance of the inputs: no difference of large numbers. Where a layer is narrow, it is the
    loss above the best map of its rank, as in :mod:`~rectilinear.deeplinear.engine_numpy`. The
    parameters ``theta`` ``(runs, parameters)`` are all weights, then all biases.
    """

    def __init__(
        self, data: tuple[np.ndarray, ...], shapes: Sequence[tuple[int, ...]], bias: bool
    ) -> None:
        self.data, self.shapes, self.bias = data, shapes, bias

    @classmethod
    def of(
        cls, statistics: SufficientStatistics, shapes: Sequence[tuple[int, ...]], *, bias: bool
    ) -> Loss:
        """The loss on these data, for layers of these shapes ``(out, in)``."""
        rank = min(size for shape in shapes for size in shape)
        fit, root = statistics.least_squares(bias=bias, rank=rank), statistics.root(bias=bias)
        tail = (statistics.least_squares(bias=bias).coef - fit.coef) @ root.mT
        # Without a bias, the mean is part of the root.
        mean = statistics.mean_x if bias else np.zeros_like(statistics.mean_x)
        return cls((root, mean, fit.coef, fit.intercept, tail), shapes, bias)

    def __getitem__(self, runs: np.ndarray) -> Loss:
        return Loss(tuple(a[runs] for a in self.data), self.shapes, self.bias)

    def loss(self, theta: np.ndarray) -> np.ndarray:
        """The loss ``(runs,)``."""
        root, *_, tail = self.data
        error, offset, *_ = self._forward(theta)
        spread = error @ root.mT
        return (
            (spread * (spread - 2 * tail)).sum((-2, -1)) + np.square(offset).sum(-1)
        ) / error.shape[-2]

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """The gradient, of the shape of ``theta``.

        ``theta`` may be complex, and have an axis of points, ``(runs, points, parameters)``; the
        gradient is the same polynomial then, and nothing is conjugated.
        """
        root, mean, *_, tail = self._data(theta)
        error, offset, weights, maps, constants = self._forward(theta)
        # The derivatives in the constant and in the map, carried from the last layer to the first.
        back = 2 / error.shape[-2] * offset
        slope = 2 / error.shape[-2] * ((error @ root.mT - tail) @ root)
        slope = slope + back[..., :, None] * mean[..., None, :]
        dw, db = [], []
        for weight, before, constant in zip(
            weights[::-1], maps[-2::-1], constants[-2::-1], strict=True
        ):
            dw.append(slope @ before.mT + back[..., :, None] * constant[..., None, :])
            db.append(back)
            slope, back = weight.mT @ slope, (weight.mT @ back[..., None])[..., 0]
        parts = [
            g.reshape(*theta.shape[:-1], -1) for g in (*dw[::-1], *(db[::-1] if self.bias else ()))
        ]
        return np.concatenate(parts, axis=-1)

    def curvature(self, theta: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """The Hessian at ``theta`` times ``directions`` ``(runs, K, parameters)``, of their shape.

        Exact to rounding: the gradient is a polynomial, so the imaginary part of its value at a
        point moved by a tiny imaginary step is the derivative.

        Reference: Squire and Trapp, "Using complex variables to estimate derivatives of real
        functions", 1998.
        """
        return self.gradient(theta[:, None] + COMPLEX_STEP * 1j * directions).imag / COMPLEX_STEP

    def _data(self, theta: np.ndarray) -> tuple[np.ndarray, ...]:
        """The data, with an axis of points where ``theta`` has one."""
        return self.data if theta.ndim == 2 else tuple(a[:, None] for a in self.data)

    def _forward(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, list, list, list]:
        """Errors of map and constant, the weights, and maps and constants up to each layer."""
        _, mean, coef, intercept, _ = self._data(theta)
        sizes = [rows * columns for rows, columns in self.shapes]
        sizes += [rows for rows, _ in self.shapes] if self.bias else []
        parts = np.split(theta, np.cumsum(sizes)[:-1], axis=-1)
        depth, inputs = len(self.shapes), self.shapes[0][1]
        weights = [
            part.reshape(*theta.shape[:-1], *shape)
            for part, shape in zip(parts, self.shapes, strict=False)
        ]
        maps, constants = [np.eye(inputs)], [np.zeros(inputs)]
        for i, weight in enumerate(weights):
            maps.append(weight @ maps[-1])
            constants.append(
                (weight @ constants[-1][..., None])[..., 0] + (parts[depth + i] if self.bias else 0)
            )
        error = maps[-1] - coef
        offset = (error @ mean[..., None])[..., 0] + constants[-1] - intercept
        return error, offset, weights, maps, constants


def _extremes(net: Loss, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest eigenvalue of the Hessian, for each run."""
    runs, parameters = theta.shape
    if parameters <= MAX_DENSE_PARAMETERS:
        H = net.curvature(
            theta, np.broadcast_to(np.eye(parameters), (runs, parameters, parameters))
        )
        values = np.linalg.eigvalsh((H + H.mT) / 2)
        return values[:, 0], values[:, -1]
    return _lanczos(net, theta)


def _lanczos(net: Loss, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the spectrum from the restriction of the Hessian to a Krylov space.

    They lie inside the spectrum, so a negative one is no artefact. All vectors are kept and
    orthogonalised twice, and the number of products is fixed: it also ends where thousands of
    eigenvalues are zero, as they are at a solution that is one of many.
    """
    runs, parameters = theta.shape
    count, rng = min(LANCZOS_PRODUCTS, parameters), np.random.default_rng(0)
    basis, image = np.zeros((2, runs, count, parameters))
    vector = rng.normal(size=(runs, parameters))
    for j in range(count):
        size = np.linalg.norm(vector, axis=1)
        vector = _orthogonal(vector, basis[:, :j])
        spent = np.linalg.norm(vector, axis=1) <= 1e-10 * size
        if spent.any():  # the space is invariant: into another one
            vector[spent] = _orthogonal(rng.normal(size=(runs, parameters)), basis[:, :j])[spent]
        basis[:, j] = vector / np.linalg.norm(vector, axis=1)[:, None]
        vector = image[:, j] = net.curvature(theta, basis[:, j : j + 1])[:, 0]
    T = basis @ image.mT
    values = np.linalg.eigvalsh((T + T.mT) / 2)
    return values[:, 0], values[:, -1]


def _orthogonal(vector: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """The part of ``(runs, parameters)`` outside of the span of ``(runs, K, parameters)``."""
    for _ in range(2):
        vector = vector - ((basis @ vector[..., None]).mT @ basis)[:, 0]
    return vector


def _blocks(runs: np.ndarray, parameters: int) -> list[np.ndarray]:
    """The runs in parts whose Hessians, or Krylov vectors, fit into memory."""
    size = max(1, BLOCK_ENTRIES // (parameters * min(parameters, 2 * LANCZOS_PRODUCTS)))
    return [runs[i : i + size] for i in range(0, len(runs), size)]


def _bordered(matrix: np.ndarray, edge: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """``[[matrix, edge], [edge', corner]]``, over runs."""
    top = np.concatenate([matrix, edge[..., :, None]], axis=-1)
    return np.concatenate(
        [top, np.concatenate([edge, corner[..., None]], axis=-1)[..., None, :]], axis=-2
    )


def _check_depth(depth: int) -> None:
    if depth < 1:
        raise InputError(f"depth {depth}", "at least one layer")
