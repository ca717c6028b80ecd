"""What full-batch training of a linear network needs to know of the data: a few numbers, whatever
the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rectilinear.checks import check_finite
from rectilinear.deeplinear.least_squares import (
    LeastSquares,
    column_norms,
    powers_of_two,
    solve_factor,
)
from rectilinear.errors import DtypeError, InputError, NonFiniteError, ShapeError

_BLOCK = 1 << 18  # numbers reduced at once: two megabytes, so that a block stays in the cache


@dataclass(frozen=True, eq=False)
class SufficientStatistics:
    """Weight, means and second moments of ``d`` inputs and ``m`` outputs, in float64, a batch over
    ``runs``.

    The centred second moments are kept as a triangular factor ``R`` with ``R'R = Z'Z / n`` for the
    centred ``Z = [X y]``: the gradient takes its Gram matrix ``cxx``, least squares takes ``R``
    itself, and adding two statistics is a small QR decomposition. So data that stream by keep the
    accuracy of data at hand.

    Attributes:
        n: ``(*runs,)``, the number of rows, or the sum of their weights.
        mean_x: ``(*runs, d)``.
        mean_y: ``(*runs, m)``.
        factor: ``(*runs, d + m, d + m)``.

    Reference: Demmel, Grigori, Hoemmen and Langou, "Communication-optimal Parallel and Sequential
    QR and LU Factorizations", 2012.

    Example:
        >>> X, y = np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 4.0, 7.0])
        >>> statistics = SufficientStatistics.from_data(X[:2], y[:2]).update(X[2:], y[2:])
        >>> float(statistics.n), statistics.mean_y, statistics.sxy.round(12)
        (3.0, array([4.]), array([[6.]]))
    """

    n: np.ndarray
    mean_x: np.ndarray
    mean_y: np.ndarray
    factor: np.ndarray

    @classmethod
    def from_data(
        cls, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> SufficientStatistics:
        """The statistics of inputs ``(*runs, n, d)`` and outputs ``(*runs, n)`` or ``(*runs, n,
        m)``.

        Args:
            X: inputs.
            y: outputs, with the same runs and rows.
            sample_weight: ``(*runs, n)`` or ``(n,)``, not negative and not all zero; an integer
                weight means as many equal rows.

        Raises:
            DtypeError: for what is not a table of real numbers.
            NonFiniteError: for NaN or infinite entries.
            ShapeError: if rows or runs do not agree, or there are none.
            InputError: for weights that are negative or add up to zero.
        """
        inputs, outputs = _numbers(X, "X"), _numbers(y, "y")
        if outputs.ndim == inputs.ndim - 1:
            outputs = outputs[..., None]
        if (
            inputs.ndim < 2
            or outputs.shape[:-1] != inputs.shape[:-1]
            or 0 in (*inputs.shape, outputs.shape[-1])
        ):
            raise ShapeError(
                got=f"X of shape {inputs.shape} and y of shape {np.shape(y)}",
                expected="X of shape (rows, inputs) and y of shape (rows,) or (rows, outputs), none of them empty",
                fix="Give both the same rows; a single input is a column: X[:, None].",
            )
        # Columns in front of rows: then every pass goes through contiguous memory.
        table = np.concatenate([np.swapaxes(inputs, -1, -2), np.swapaxes(outputs, -1, -2)], axis=-2)
        *_, columns, rows = table.shape
        weights = None if sample_weight is None else _weights(sample_weight, inputs.shape[:-1])
        step = max(columns, _BLOCK // columns)
        parts = [
            cls._block(
                table[..., i : i + step],
                inputs.shape[-1],
                None if weights is None else weights[..., i : i + step],
            )
            for i in range(0, rows, step)
        ]
        while (
            len(parts) > 1
        ):  # in pairs, so that rounding errors grow with the logarithm of the rows
            parts = [
                left + right for left, right in zip(parts[::2], parts[1::2], strict=False)
            ] + parts[len(parts) & ~1 :]
        return parts[0]

    @classmethod
    def _block(cls, table: np.ndarray, d: int, weights: np.ndarray | None) -> SufficientStatistics:
        *runs, _, rows = table.shape
        if weights is None:
            n, shares = np.full(runs, float(rows)), np.full(rows, 1 / rows)
        else:
            n = weights.sum(-1)
            shares = np.divide(
                weights, n[..., None], out=np.zeros_like(weights), where=n[..., None] > 0
            )
        mean = table @ shares[..., None]
        centred = table - mean
        left = centred @ shares[..., None]  # a second pass takes out what rounding left in
        centred -= left
        mean = (mean + left)[..., 0]
        centred *= np.sqrt(shares)[..., None, :]
        return cls(n, mean[..., :d], mean[..., d:], _triangle(np.swapaxes(centred, -1, -2), mean))

    def __add__(self, other: SufficientStatistics) -> SufficientStatistics:
        """The statistics of both sets of rows together."""
        if not isinstance(other, SufficientStatistics):
            return NotImplemented
        if (self.runs, self.inputs, self.outputs) != (other.runs, other.inputs, other.outputs):
            raise ShapeError(
                got=f"statistics of runs, inputs, outputs {(other.runs, other.inputs, other.outputs)}",
                expected=f"{(self.runs, self.inputs, self.outputs)}",
                fix="Add statistics of the same columns.",
            )
        n = self.n + other.n
        share = np.divide(other.n, n, out=np.zeros_like(n), where=n > 0)[..., None]
        between = np.concatenate([other.mean_x - self.mean_x, other.mean_y - self.mean_y], axis=-1)
        mean = np.concatenate([self.mean_x, self.mean_y], axis=-1) + share * between
        stacked = np.concatenate(
            [
                np.sqrt(1 - share)[..., None] * self.factor,
                np.sqrt(share)[..., None] * other.factor,
                (np.sqrt(share * (1 - share)) * between)[..., None, :],
            ],
            axis=-2,
        )
        return type(self)(
            n, mean[..., : self.inputs], mean[..., self.inputs :], _triangle(stacked, mean)
        )

    def update(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> SufficientStatistics:
        """The statistics of these rows and of more."""
        return self + self.from_data(X, y, sample_weight)

    def __getitem__(self, index: Any) -> SufficientStatistics:
        """The statistics of some of the runs."""
        return type(self)(self.n[index], self.mean_x[index], self.mean_y[index], self.factor[index])

    def least_squares(self, *, bias: bool = True, rank: int | None = None) -> LeastSquares:
        """The least-squares solution, from the factor: as accurate as from the rows.

        With ``rank`` the best map of at most that rank, reduced-rank regression: all that a net
        with so narrow a layer can represent.

        Reference: Izenman, "Reduced-rank regression for the multivariate linear model", 1975.

        Example:
            >>> X = np.eye(3)
            >>> best = SufficientStatistics.from_data(X, X * [3, 2, 1]).least_squares(bias=False, rank=2)
            >>> abs(best.coef).round(12), best.loss.round(12)
            (array([[3., 0., 0.],
                   [0., 2., 0.],
                   [0., 0., 0.]]), np.float64(0.111111111111))
        """
        d = self.inputs
        if not bias:
            mean = np.concatenate([self.mean_x, self.mean_y], axis=-1)
            coef, loss, found = solve_factor(
                np.concatenate([self.factor, mean[..., None, :]], axis=-2), d, rank
            )
            return LeastSquares(coef, np.zeros_like(self.mean_y), loss, found)
        coef, loss, found = solve_factor(self.factor, d, rank)
        return LeastSquares(
            coef, self.mean_y - (coef @ self.mean_x[..., None])[..., 0], loss, found
        )

    def root(self, *, bias: bool = True) -> np.ndarray:
        """The triangular ``R`` ``(*runs, d, d)`` with ``R'R`` the second moments of the inputs.

        About their mean with a bias, about zero without. A map that errs by ``e`` loses ``|R
        e|^2``, which is never negative; formed with the Gram matrix, ``e'(R'R)e`` can be, and has
        half the digits.
        """
        d = self.inputs
        if bias:
            return self.factor[..., :d, :d]
        return _qr(np.concatenate([self.factor[..., :d], self.mean_x[..., None, :]], axis=-2))

    def standardized(
        self, *, centre: bool = True
    ) -> tuple[SufficientStatistics, np.ndarray, np.ndarray]:
        """The statistics of the columns divided by their spread, and the spreads of inputs and
        outputs.

        The spread is the standard deviation about the mean (``centre``) or about zero; a constant
        column has spread 1.
        """
        mean = np.concatenate([self.mean_x, self.mean_y], axis=-1)
        spread = column_norms(
            self.factor if centre else np.concatenate([self.factor, mean[..., None, :]], axis=-2)
        )
        spread = np.where(spread > 0, spread, 1.0)
        x, y = spread[..., : self.inputs], spread[..., self.inputs :]
        scaled = self.factor / spread[..., None, :]
        if centre:
            return type(self)(self.n, np.zeros_like(x), np.zeros_like(y), scaled), x, y
        return type(self)(self.n, self.mean_x / x, self.mean_y / y, scaled), x, y

    @property
    def runs(self) -> tuple[int, ...]:
        return self.n.shape

    @property
    def inputs(self) -> int:
        return self.mean_x.shape[-1]

    @property
    def outputs(self) -> int:
        return self.mean_y.shape[-1]

    @property
    def cxx(self) -> np.ndarray:
        """Covariance of the inputs ``(*runs, d, d)``, divided by ``n``."""
        return (
            np.swapaxes(self.factor[..., : self.inputs], -1, -2) @ self.factor[..., : self.inputs]
        )

    @property
    def cxy(self) -> np.ndarray:
        """Covariance of inputs and outputs ``(*runs, d, m)``."""
        return (
            np.swapaxes(self.factor[..., : self.inputs], -1, -2) @ self.factor[..., self.inputs :]
        )

    @property
    def cyy(self) -> np.ndarray:
        """Covariance of the outputs ``(*runs, m, m)``."""
        return (
            np.swapaxes(self.factor[..., self.inputs :], -1, -2) @ self.factor[..., self.inputs :]
        )

    @property
    def sxx(self) -> np.ndarray:
        """``X'X / n`` of shape ``(*runs, d, d)``."""
        return self.cxx + self.mean_x[..., :, None] * self.mean_x[..., None, :]

    @property
    def sxy(self) -> np.ndarray:
        """``X'y / n`` of shape ``(*runs, d, m)``."""
        return self.cxy + self.mean_x[..., :, None] * self.mean_y[..., None, :]

    @property
    def syy(self) -> np.ndarray:
        """``y'y / n`` of shape ``(*runs, m, m)``."""
        return self.cyy + self.mean_y[..., :, None] * self.mean_y[..., None, :]


def _triangle(table: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The square triangular factor of a centred table ``(*runs, rows, columns)``, constant columns
    exactly zero.
    """
    short = table.shape[-1] - table.shape[-2]
    if short > 0:
        table = np.concatenate(
            [table, np.zeros((*table.shape[:-2], short, table.shape[-1]))], axis=-2
        )
    factor = _qr(table)
    # A spread of a few rounding errors of the mean is one: as a column it would get a coefficient,
    # and a huge one.
    return factor * (column_norms(factor) > 10 * np.finfo(float).eps * np.abs(mean))[..., None, :]


def _qr(table: np.ndarray) -> np.ndarray:
    """The triangular factor, whatever the units of the columns."""
    size = powers_of_two(table)[..., None, :]
    return np.asarray(np.linalg.qr(table / size, mode="r")) * size


def check_unmasked(values: object, name: str) -> None:
    """Raise a NonFiniteError for masked entries: as an array they are the numbers under the mask.

    Example:
        >>> check_unmasked(np.ma.masked_array([1.0, 2.0], mask=[True, False]), "y")
        Traceback (most recent call last):
        rectilinear.errors.NonFiniteError: Got 1 masked entries in y; expected finite numbers.
            Remove or replace them.
    """
    if np.ma.isMaskedArray(values) and (count := int(np.ma.count_masked(values))):
        raise NonFiniteError(
            f"{count} masked entries in {name}", "finite numbers", "Remove or replace them."
        )


def _numbers(values: ArrayLike, name: str) -> np.ndarray:
    check_unmasked(values, name)
    array = np.asarray(values.detach() if hasattr(values, "detach") else values)
    try:
        if array.dtype.kind not in "fiubO":
            raise TypeError
        array = array.astype(float, copy=False)
    except (TypeError, ValueError) as error:
        raise DtypeError(
            f"{name} of dtype {array.dtype}", "real numbers", "Encode text and dates as numbers."
        ) from error
    check_finite(array, name)
    return array


def _weights(values: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    weights = _numbers(values, "sample_weight")
    if weights.shape not in (shape, shape[-1:]):
        raise ShapeError(
            f"sample_weight of shape {weights.shape}", f"{shape}", "Give one weight a row."
        )
    weights = np.broadcast_to(weights, shape)
    with np.errstate(over="ignore"):
        total = weights.sum(-1)
    if (weights < 0).any() or (total <= 0).any():
        raise InputError(
            "weights that are negative or all zero",
            "weights of at least zero",
            "Check sample_weight.",
        )
    if not np.isfinite(total).all():
        raise InputError(
            "weights whose sum is infinite",
            "a sum that is a number",
            "Divide sample_weight by its size.",
        )
    return weights
