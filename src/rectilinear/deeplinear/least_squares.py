"""Least squares, the reference of every linear network: from an orthogonal factor, never from the
Gram matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LeastSquares:
    """The least-squares solution of smallest norm, a batch over ``runs``.

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


def least_squares(
    X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None, *, bias: bool = True
) -> LeastSquares:
    """The minimiser of ``|X w + c - y|^2`` in float64, of smallest ``|w|`` where there are many.

    The data are centred and reduced to the triangular factor of their QR decomposition, whose
    singular values give the
    rank: the error grows with the condition number of ``X`` and not with its square.

    Args:
        X: inputs ``(*runs, n, d)``.
        y: outputs ``(*runs, n)`` or ``(*runs, n, m)``.
        sample_weight: ``(*runs, n)`` or ``(n,)``; an integer weight means as many equal rows.
        bias: whether there is an intercept ``c``.

    Reference: Golub and Van Loan, "Matrix Computations", 2013, section 5.3.

    Example:
        >>> X = np.array([[0.0], [1.0], [2.0]])
        >>> fit = least_squares(X, 3 * X[:, 0] + 1)
        >>> fit.coef.round(12), fit.intercept.round(12)
        (array([[3.]]), array([1.]))
    """
    from rectilinear.deeplinear.statistics import SufficientStatistics

    return SufficientStatistics.from_data(X, y, sample_weight).least_squares(bias=bias)


def solve_factor(
    factor: np.ndarray, d: int, rank: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients ``(*runs, m, d)``, loss and rank from ``R`` with ``R'R`` the second moments of
    ``[X y]``.

    With ``rank`` the best coefficients of at most that rank: least squares, projected on the
    leading directions of its predictions among the outputs.

    ``factor`` is ``(*runs, p, d + m)`` with any ``p``; it need not be triangular. Columns are
    scaled to a size between one half and one first, by powers of two, so that units decide neither
    the rank nor the digits.
    """
    size = powers_of_two(factor)
    inputs, outputs = np.split(factor / size[..., None, :], [d], axis=-1)
    u, s, vt = np.linalg.svd(inputs, full_matrices=False)
    # Ten rounding errors a column: what is left of a column that depends on the others, after
    # centring and QR.
    kept = s > 10 * np.finfo(float).eps * factor.shape[-1] * s[..., :1]
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
    """The projection ``(*runs, m, m)`` on the leading directions of predictions ``(*runs, p, m)``."""
    v = np.linalg.svd(predictions, full_matrices=False)[2][..., :rank, :]
    return np.swapaxes(v, -1, -2) @ v


def _smallest(coef: np.ndarray, seen: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The coefficients ``(m, d)`` of scaled columns whose ``coef / size`` is smallest, of the same
    predictions.

    The rows of ``seen`` are orthonormal and span what the columns depend on; ``coef`` lies in their
    span.
    """
    unseen = np.linalg.svd(seen, full_matrices=True)[2][len(seen) :]
    free = unseen / size * size.min()
    q, _ = np.linalg.qr(free.T)
    wanted = coef / size * size.min()
    return (wanted - (wanted @ q) @ q.T) * size / size.min()


def powers_of_two(table: np.ndarray) -> np.ndarray:
    """For each column of ``(*runs, rows, columns)`` the power of two just above its largest entry;
    one for zeros.

    To divide by it is exact, and afterwards no square overflows or vanishes.

    Example:
        >>> powers_of_two(np.array([[3.0, 0.0], [-5.0, 0.0]]))
        array([8., 1.])
    """
    largest = np.abs(table).max(-2, initial=0.0)
    return np.ldexp(1.0, np.where(largest > 0, np.clip(np.frexp(largest)[1], -1000, 1000), 0))


def column_norms(table: np.ndarray) -> np.ndarray:
    """The lengths ``(*runs, columns)`` of the columns, whatever their units: nothing overflows or
    vanishes.
    """
    size = powers_of_two(table)
    return np.sqrt(np.square(table / size[..., None, :]).sum(-2)) * size
