"""Why a linear net is not at least squares: from its loss, its slope and its curvature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rectilinear.deeplinear.statistics import SufficientStatistics
from rectilinear.errors import ShapeError

State = Literal["converged", "saddle", "stationary", "undertrained", "diverged"]
STATES: tuple[State, ...] = get_args(State)

_BLOCK = 1_000_000  # entries of the Hessians held at once: 16 megabytes while they are complex
_DENSE = 500  # parameters up to which the whole Hessian is formed; above, Lanczos finds its ends
_KRYLOV = 100  # with so many products
_STEP = 1e-30  # imaginary, so it may be tiny: nothing cancels
_DIVERGED = 1e10  # times the loss of the zero map
_SLOW = 1e-3  # of the gap: what a step of 1 / largest curvature gains where the gradient counts as small


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What each of ``runs`` nets came to, and what says so.

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


def diagnose(
    statistics: SufficientStatistics,
    weights: Sequence[NDArray[np.float64]],
    biases: Sequence[NDArray[np.float64]] = (),
    *,
    tol: float,
) -> Diagnosis:
    """Tell nets that arrived from nets at a saddle, nets that need more steps and nets that blew
    up.

    * ``converged``: the loss is within ``tol`` of least squares, or of the best map of the rank of
      its narrowest layer.
    * ``diverged``: it is not finite, or beyond ten billion times that of the zero map.
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
        weights: a layer ``(runs, out, in)``, the first layer first.
        biases: a layer ``(runs, out)``, or none at all.
        tol: the loss above least squares that counts as none.

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
            expected=f"{shape[0] if len(shape) == 3 else 'flat'} runs, from {shape[-2]} inputs to {shape[-1]} outputs",
            fix="Weights are (runs, out, in), the first layer first, and statistics have one axis of runs.",
        )
    net = Loss.of(statistics, [w.shape[1:] for w in weights], bias=bool(biases))
    theta = np.concatenate([layer.reshape(len(layer), -1) for layer in (*weights, *biases)], axis=1)
    zero = np.square(statistics.factor[..., statistics.inputs :]).sum((-2, -1)) + np.square(
        statistics.mean_y
    ).sum(-1)
    with np.errstate(invalid="ignore", over="ignore"):
        gap = net.loss(theta)
        sound = gap <= _DIVERGED * np.maximum(zero / statistics.outputs, np.finfo(float).tiny)
    gradient, smallest, largest = (np.full(len(theta), np.nan) for _ in range(3))
    for run in _blocks(np.flatnonzero(sound), theta.shape[1]):
        at = net[run]
        gradient[run] = np.square(at.gradient(theta[run])).sum(-1)
        smallest[run], largest[run] = _extremes(at, theta[run])
    with np.errstate(divide="ignore", invalid="ignore"):
        rounding = (
            100 * np.finfo(float).eps * theta.shape[1] ** 0.5 * largest
        )  # as _tolerance.py, without torch
        slope = gradient / (2 * gap)
        small, negative = slope <= _SLOW * largest, smallest < -np.maximum(slope, rounding)
        still = (gradient == 0) | (slope * largest <= rounding**2)
    state = np.select(
        [~sound, gap <= tol, small & negative, still],
        ["diverged", "converged", "saddle", "stationary"],
        "undertrained",
    )
    return Diagnosis(state, np.where(sound, gap, np.inf), gradient, smallest, largest)


class Loss:
    """The loss above least squares in one vector of all weights, then all biases, and its
    derivatives.

    ``(|E R'|^2 + |E mean + e|^2) / m`` for the errors ``E`` and ``e`` of the map, with ``R'R`` the
    covariance of the
    inputs: no difference of large numbers. Where a layer is narrow it is the loss above the best
    map of its rank, as in
    :mod:`~rectilinear.deeplinear._array`.
    """

    def __init__(
        self, data: tuple[np.ndarray, ...], shapes: Sequence[tuple[int, ...]], bias: bool
    ) -> None:
        self.data, self.shapes, self.bias = data, shapes, bias

    @classmethod
    def of(
        cls, statistics: SufficientStatistics, shapes: Sequence[tuple[int, ...]], *, bias: bool
    ) -> Loss:
        """On these data, for layers of these shapes."""
        rank = min(size for shape in shapes for size in shape)
        fit, root = statistics.least_squares(bias=bias, rank=rank), statistics.root(bias=bias)
        tail = (statistics.least_squares(bias=bias).coef - fit.coef) @ root.mT
        mean = (
            statistics.mean_x if bias else np.zeros_like(statistics.mean_x)
        )  # the root has it, without a bias
        return cls((root, mean, fit.coef, fit.intercept, tail), shapes, bias)

    def __getitem__(self, runs: np.ndarray) -> Loss:
        return Loss(tuple(a[runs] for a in self.data), self.shapes, self.bias)

    def loss(self, theta: np.ndarray) -> np.ndarray:
        root, *_, tail = self.data
        error, offset, *_ = self._forward(theta)
        spread = error @ root.mT
        return (
            (spread * (spread - 2 * tail)).sum((-2, -1)) + np.square(offset).sum(-1)
        ) / error.shape[-2]

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """At real or complex ``(runs, parameters)``, or ``(runs, points, parameters)``; nothing is
        conjugated.
        """
        root, mean, *_, tail = self._data(theta)
        error, offset, weights, maps, constants = self._forward(theta)
        back = (
            2 / error.shape[-2] * offset
        )  # the derivative in the constant, carried from the last layer to the first
        slope = 2 / error.shape[-2] * ((error @ root.mT - tail) @ root)  # that in the map
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
        """The Hessian at ``(runs, parameters)`` times ``(runs, directions, parameters)``, exact to
        rounding.

        The gradient is a polynomial, so the imaginary part at a point moved by a tiny imaginary
        step is the derivative.

        Reference: Squire and Trapp, "Using complex variables to estimate derivatives of real
        functions", 1998.
        """
        return self.gradient(theta[:, None] + _STEP * 1j * directions).imag / _STEP

    def _data(self, theta: np.ndarray) -> tuple[np.ndarray, ...]:
        """With an axis of points where ``theta`` has one."""
        return self.data if theta.ndim == 2 else tuple(a[:, None] for a in self.data)

    def _forward(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, list, list, list]:
        """Errors of map and constant, the weights, and map and constant up to each layer, from the
        input on.
        """
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
    if parameters <= _DENSE:
        H = net.curvature(
            theta, np.broadcast_to(np.eye(parameters), (runs, parameters, parameters))
        )
        values = np.linalg.eigvalsh((H + H.mT) / 2)
        return values[:, 0], values[:, -1]
    return _lanczos(net, theta)


def _lanczos(net: Loss, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ends from the Hessian's restriction to a Krylov space; from inside, so a negative one is
    no artefact.

    All vectors are kept and orthogonalised twice, and the number of products is given: it ends
    where thousands of eigenvalues are zero, too, as they are at a solution that is one of many.
    """
    runs, parameters = theta.shape
    count, rng = min(_KRYLOV, parameters), np.random.default_rng(0)
    basis, image = np.zeros((2, runs, count, parameters))
    vector = rng.normal(size=(runs, parameters))
    for j in range(count):
        size = np.linalg.norm(vector, axis=1)
        vector = _orthogonal(vector, basis[:, :j])
        if (
            spent := np.linalg.norm(vector, axis=1) <= 1e-10 * size
        ).any():  # the space is invariant: into another one
            vector[spent] = _orthogonal(rng.normal(size=(runs, parameters)), basis[:, :j])[spent]
        basis[:, j] = vector / np.linalg.norm(vector, axis=1)[:, None]
        vector = image[:, j] = net.curvature(theta, basis[:, j : j + 1])[:, 0]
    T = basis @ image.mT
    values = np.linalg.eigvalsh((T + T.mT) / 2)
    return values[:, 0], values[:, -1]


def _orthogonal(vector: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """What is left of ``(runs, parameters)`` outside of the span of ``(runs, count, parameters)``."""
    for _ in range(2):
        vector = vector - ((basis @ vector[..., None]).mT @ basis)[:, 0]
    return vector


def _blocks(runs: np.ndarray, parameters: int) -> list[np.ndarray]:
    """The runs in parts whose Hessians, or the vectors for their ends, fit into memory."""
    size = max(1, _BLOCK // (parameters * min(parameters, 2 * _KRYLOV)))
    return [runs[i : i + size] for i in range(0, len(runs), size)]
