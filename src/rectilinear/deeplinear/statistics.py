"""Sufficient statistics of linear regression, and least squares from their orthogonal factor.

Full-batch training of a linear network, and its reference least squares, need of ``n`` rows of
``d`` inputs and ``m`` outputs only the means and the triangular factor ``R`` of the centred
table ``Z = [X y]``, ``R'R = Z'Z / n``. The Gram matrix ``Z'Z`` is never formed: its condition
number is the square of that of ``Z``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rectilinear.errors import DtypeError, InputError, NonFiniteError, ShapeError
from rectilinear.notebook import short_repr
from rectilinear.scalars import check_finite_array, rank_tolerance

BLOCK_ENTRIES = 1 << 18  # numbers that are reduced at once: two megabytes stay in the cache


@dataclass(frozen=True)
class LeastSquares:
    """The least-squares solution of smallest norm, of a batch of ``runs`` data sets.

    Attributes:
        coef: ``(*runs, m, d)``, as in scikit-learn with the outputs first.
        intercept: ``(*runs, m)``; zeros without a bias.
        loss: ``(*runs,)``, the mean square error over rows and outputs on the data that were
            fitted.
        rank: ``(*runs,)``, the rank of the (centred) inputs; below ``d`` the solution is one of
            many.
    """

    coef: np.ndarray
    intercept: np.ndarray
    loss: np.ndarray
    rank: np.ndarray


@dataclass(frozen=True, eq=False)
class SufficientStatistics:
    """Number of rows, means and second moments of inputs and outputs, of a batch of data sets.

    Float64 throughout. Adding the statistics of two sets of rows is a small QR decomposition, so
    streamed data keep the accuracy of data in memory.

    Attributes:
        n: ``(*runs,)``, the number of rows, or the sum of their weights.
        mean_x: ``(*runs, d)``, the means of the inputs.
        mean_y: ``(*runs, m)``, the means of the outputs.
        factor: ``(*runs, d + m, d + m)``, the triangular ``R`` with ``R'R = Z'Z / n`` for the
            centred columns ``Z = [X y]``.

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

    __repr__ = short_repr

    @classmethod
    def from_data(
        cls, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> SufficientStatistics:
        """The statistics of rows of inputs and outputs.

        Args:
            X: inputs ``(*runs, n, d)``.
            y: outputs ``(*runs, n)`` or ``(*runs, n, m)``.
            sample_weight: weights ``(*runs, n)`` or ``(n,)``, not negative and not all zero; an
                integer weight means as many equal rows. All one by default.

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
                expected="X (rows, inputs) and y (rows,) or (rows, outputs), none of them empty",
                fix="Give both the same rows; a single input is a column: X[:, None].",
            )
        # Columns in front of rows: then every pass goes through contiguous memory.
        table = np.concatenate([np.swapaxes(inputs, -1, -2), np.swapaxes(outputs, -1, -2)], axis=-2)
        *_, columns, rows = table.shape
        weights = None if sample_weight is None else _weights(sample_weight, inputs.shape[:-1])
        step = max(columns, BLOCK_ENTRIES // columns)
        parts = [
            cls._block(
                table[..., i : i + step],
                inputs.shape[-1],
                None if weights is None else weights[..., i : i + step],
            )
            for i in range(0, rows, step)
        ]
        # In pairs, so that rounding errors grow with the logarithm of the rows.
        while len(parts) > 1:
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
                got=f"(runs, inputs, outputs) = {(other.runs, other.inputs, other.outputs)}",
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
        """The statistics of these rows and of more, given as in :meth:`from_data`.

        They are ``X``, ``y`` and ``sample_weight``.
        """
        return self + self.from_data(X, y, sample_weight)

    def __getitem__(self, index: Any) -> SufficientStatistics:
        """The statistics of some of the runs."""
        return type(self)(self.n[index], self.mean_x[index], self.mean_y[index], self.factor[index])

    def least_squares(self, *, bias: bool = True, rank: int | None = None) -> LeastSquares:
        """The minimiser of ``|X w + c - y|^2``, of smallest ``|w|`` where there are many.

        It comes from the factor and is as accurate as from the rows: the error grows with the
        condition number of ``X`` and not with its square.

        Args:
            bias: whether there is an intercept ``c``.
            rank: if given, the best map of at most this rank instead, reduced-rank regression:
                all that a network with a layer of so few units can represent.

        Reference: Golub and Van Loan, "Matrix Computations", 2013, section 5.3; Izenman,
        "Reduced-rank regression for the multivariate linear model", 1975.

        Example:
            >>> X = np.eye(3)
            >>> statistics = SufficientStatistics.from_data(X, X * [3, 2, 1])
            >>> best = statistics.least_squares(bias=False, rank=2)
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

        About their mean with a bias, about zero without. A map with the error ``e`` has a loss of
        ``|R e|^2`` above the smallest, which is never negative; ``e'(R'R)e``, formed with the
        Gram matrix, can be, and has half the digits.
        """
        d = self.inputs
        if bias:
            return self.factor[..., :d, :d]
        return _qr(np.concatenate([self.factor[..., :d], self.mean_x[..., None, :]], axis=-2))

    def standardized(
        self, *, centre: bool = True
    ) -> tuple[SufficientStatistics, np.ndarray, np.ndarray]:
        """The statistics of standardised columns, and the spreads of inputs and of outputs.

        Args:
            centre: whether the means are subtracted and the spread is the standard deviation;
                otherwise it is the root of the mean square. That of a constant column is taken
                as 1.
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

    def mean_square_error(self, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """The mean square error of maps on these rows; infinite where it leaves float64.

        Args:
            coef: weights ``(*runs, m, d)``.
            intercept: ``(*runs, m)``.

        Example:
            >>> line = SufficientStatistics.from_data([[0.0], [2.0]], [1.0, 1.0])
            >>> float(line.mean_square_error(np.array([[1.0]]), np.array([0.0])).round(9))
            1.0
        """
        d = self.inputs
        with np.errstate(over="ignore"):
            spread = self.factor[..., :d] @ coef.mT - self.factor[..., d:]
            offset = (coef @ self.mean_x[..., None])[..., 0] + intercept - self.mean_y
            squares = np.square(spread).sum((-2, -1)) + np.square(offset).sum(-1)
        return squares / self.outputs

    @property
    def runs(self) -> tuple[int, ...]:
        """The shape of the batch."""
        return self.n.shape

    @property
    def inputs(self) -> int:
        """The number of inputs ``d``."""
        return self.mean_x.shape[-1]

    @property
    def outputs(self) -> int:
        """The number of outputs ``m``."""
        return self.mean_y.shape[-1]

    @property
    def cxx(self) -> np.ndarray:
        """Covariance of the inputs ``(*runs, d, d)``, divided by ``n``."""
        return self.factor[..., : self.inputs].mT @ self.factor[..., : self.inputs]

    @property
    def cxy(self) -> np.ndarray:
        """Covariance of inputs and outputs ``(*runs, d, m)``."""
        return self.factor[..., : self.inputs].mT @ self.factor[..., self.inputs :]

    @property
    def cyy(self) -> np.ndarray:
        """Covariance of the outputs ``(*runs, m, m)``."""
        return self.factor[..., self.inputs :].mT @ self.factor[..., self.inputs :]

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


def solve_factor(
    factor: np.ndarray, d: int, rank: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients ``(*runs, m, d)``, loss and rank of least squares.

    Columns are first scaled to a size between one half and one, by powers of two, so that their
    units decide neither the rank nor the digits.

    Args:
        factor: ``R`` ``(*runs, p, d + m)`` of any height, with ``R'R`` the second moments of
            ``[X y]``; it need not be triangular.
        d: the number of inputs.
        rank: of the best map of at most this rank: least squares, projected on the leading
            directions of its predictions among the outputs.
    """
    size = powers_of_two(factor)
    inputs, outputs = np.split(factor / size[..., None, :], [d], axis=-1)
    u, s, vt = np.linalg.svd(inputs, full_matrices=False)
    kept = s > rank_tolerance(factor.shape[-1]) * s[..., :1]
    inverse = np.divide(1.0, s, out=np.zeros_like(s), where=kept)
    seen = np.swapaxes(u, -1, -2) @ outputs * kept[..., None]
    coef = np.einsum("...sm,...sd->...md", seen * inverse[..., None], vt)
    found = kept.sum(-1)
    for run in np.argwhere(found < d):
        at = tuple(run)
        coef[at] = _smallest(coef[at], vt[at][kept[at]], size[at][:d])
    fitted = u @ seen  # the predictions themselves: no large coefficients cancel
    if rank is not None and rank < min(d, outputs.shape[-1]):
        leading = _leading(seen * size[..., None, d:], rank) * (
            size[..., d:, None] / size[..., None, d:]
        )
        coef, fitted = np.swapaxes(leading, -1, -2) @ coef, fitted @ leading
    coef = coef / size[..., None, :d] * size[..., d:, None]
    with np.errstate(over="ignore"):  # beyond the floating-point numbers it is infinite
        residual = (outputs - fitted) * size[..., None, d:]
        return coef, (residual**2).sum((-2, -1)) / outputs.shape[-1], found


def _leading(predictions: np.ndarray, rank: int) -> np.ndarray:
    """The projection ``(*runs, m, m)`` on leading directions of predictions ``(*runs, p, m)``."""
    v = np.linalg.svd(predictions, full_matrices=False)[2][..., :rank, :]
    return np.swapaxes(v, -1, -2) @ v


def _smallest(coef: np.ndarray, seen: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The coefficients ``(m, d)`` of the same predictions whose ``coef / size`` is smallest.

    The orthonormal rows of ``seen`` span the row space of the scaled columns, and ``coef`` lies
    in it.
    """
    unseen = np.linalg.svd(seen, full_matrices=True)[2][len(seen) :]
    free = unseen / size * size.min()
    q, _ = np.linalg.qr(free.T)
    wanted = coef / size * size.min()
    return (wanted - (wanted @ q) @ q.T) * size / size.min()


def powers_of_two(table: np.ndarray) -> np.ndarray:
    """For each column of ``(*runs, rows, columns)`` the power of two above its largest entry.

    One for a column of zeros. Dividing by it is exact, and no square overflows or vanishes then.

    Example:
        >>> powers_of_two(np.array([[3.0, 0.0], [-5.0, 0.0]]))
        array([8., 1.])
    """
    largest = np.abs(table).max(-2, initial=0.0)
    return np.ldexp(1.0, np.where(largest > 0, np.clip(np.frexp(largest)[1], -1000, 1000), 0))


def column_norms(table: np.ndarray) -> np.ndarray:
    """The lengths ``(*runs, columns)`` of columns, without overflow or underflow of squares."""
    size = powers_of_two(table)
    return np.sqrt(np.square(table / size[..., None, :]).sum(-2)) * size


def _triangle(table: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The square triangular factor of a centred table ``(*runs, rows, columns)``.

    A column that varies by a few rounding errors of its mean is constant, and exactly zero here:
    left in, it would get a huge coefficient.
    """
    short = table.shape[-1] - table.shape[-2]
    if short > 0:
        table = np.concatenate(
            [table, np.zeros((*table.shape[:-2], short, table.shape[-1]))], axis=-2
        )
    factor = _qr(table)
    return factor * (column_norms(factor) > rank_tolerance(1) * np.abs(mean))[..., None, :]


def _qr(table: np.ndarray) -> np.ndarray:
    """The triangular factor of a table whose columns may be in any units."""
    size = powers_of_two(table)[..., None, :]
    return np.asarray(np.linalg.qr(table / size, mode="r")) * size


def check_unmasked(values: object, name: str) -> None:
    """Raise for masked entries, which an array would replace by the numbers under the mask.

    Example:
        >>> check_unmasked(np.ma.masked_array([1.0], mask=[True]), "y")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rectilinear.errors.NonFiniteError: Got 1 masked entries in y; expected finite numbers...
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
    check_finite_array(array, name)
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
        )
    if not np.isfinite(total).all():
        raise InputError(
            "weights whose sum is infinite",
            "a sum that is a number",
            "Divide sample_weight by its size.",
        )
    return weights
