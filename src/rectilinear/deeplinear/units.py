"""The units that training sees, standardised columns, and the way back to those of the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rectilinear.deeplinear.initialisation import Layers
from rectilinear.deeplinear.statistics import SufficientStatistics
from rectilinear.errors import InputError


@dataclass(frozen=True)
class Units:
    """The data as training sees them, and the way back."""

    seen: SufficientStatistics
    x: np.ndarray
    y: np.ndarray
    mean_x: np.ndarray
    mean_y: np.ndarray
    data: SufficientStatistics
    bias: bool
    scale: float  # of the gap: the variance of every target where they are standardised, else of all together

    @classmethod
    def of(cls, data: SufficientStatistics, *, centre: bool, standardize: bool) -> Units:
        seen, x, y = data, np.ones(data.inputs), np.ones(data.outputs)
        if standardize:
            seen, x, y = data.standardized(centre=centre)
        with np.errstate(over="ignore"):
            variance = np.square(seen.factor[:, seen.inputs :]).sum()
            variance += 0.0 if centre else np.square(seen.mean_y).sum()
        if not np.isfinite(variance) or (
            variance < np.finfo(float).tiny and seen.factor[:, seen.inputs :].any()
        ):
            raise InputError(
                got="targets whose squares are beyond the floating-point numbers",
                expected="targets of a size between 1e-150 and 1e150",
                fix="Use standardize=True.",
            )
        moved = standardize and centre
        mean_x, mean_y = (
            (data.mean_x, data.mean_y) if moved else (np.zeros_like(x), np.zeros_like(y))
        )
        return cls(seen, x, y, mean_x, mean_y, data, centre, float(variance) / seen.outputs or 1.0)

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

    def map_to_data(self, coef: np.ndarray, intercept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """End-to-end weights ``(m, d)`` and intercepts ``(m,)`` in the units of the data."""
        coef = coef * self.y[:, None] / self.x
        return coef, intercept * self.y + self.mean_y - coef @ self.mean_x

    def gap(self, coef: np.ndarray, intercept: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """The loss of maps in the units of the data above that of the reference, which is as
        training sees them.
        """
        root = self.seen.root(bias=self.bias)
        spread = (coef * self.x / self.y[:, None] - reference) @ root.T
        tail = (self.seen.least_squares(bias=self.bias).coef - reference) @ root.T
        gap = (spread * (spread - 2 * tail)).sum((-2, -1))
        if self.bias:
            rest = (intercept + coef @ self.data.mean_x - self.data.mean_y) / self.y
            gap = gap + np.square(rest).sum(-1)
        return gap / self.seen.outputs


def end_to_end(layers: Layers) -> tuple[np.ndarray, np.ndarray]:
    """The weights ``(m, d)`` and intercepts ``(m,)`` of a net.

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


def mean_square_error(
    statistics: SufficientStatistics, coef: np.ndarray, intercept: np.ndarray
) -> np.ndarray:
    """The mean square error of maps over rows and targets; infinite where it is beyond the
    floating-point numbers.
    """
    d = statistics.inputs
    with np.errstate(over="ignore"):
        spread = statistics.factor[:, :d] @ coef.mT - statistics.factor[:, d:]
        rest = coef @ statistics.mean_x + intercept - statistics.mean_y
        return (np.square(spread).sum((-2, -1)) + np.square(rest).sum(-1)) / statistics.outputs
