"""Least squares, the reference of every linear network: from an orthogonal factor, never from the Gram matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LeastSquares:
    """The least-squares solution of smallest norm, a batch over ``runs``.

    Attributes:
        coef: ``(*runs, m, d)``, as in scikit-learn with the outputs first.
        intercept: ``(*runs, m)``; zeros without a bias.
        loss: ``(*runs,)``, the mean square error over rows and outputs on the data that were fitted.
        rank: ``(*runs,)``, the rank of the (centred) inputs; below ``d`` the solution is one of many.
    """

    coef: np.ndarray
    intercept: np.ndarray
    loss: np.ndarray
    rank: np.ndarray


def least_squares(
    X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None, *, bias: bool = True
) -> LeastSquares:
    """The minimiser of ``|X w + c - y|^2`` in float64, of smallest ``|w|`` where there are many.

    The data are centred and reduced to the triangular factor of their QR decomposition, whose singular values give the
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


def solve_factor(factor: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients ``(*runs, m, d)``, loss and rank from ``R`` with ``R'R`` the second moments of ``[X y]``.

    ``factor`` is ``(*runs, p, d + m)`` with any ``p``; it need not be triangular.
    """
    inputs, outputs = factor[..., :d], factor[..., d:]
    u, s, vt = np.linalg.svd(inputs, full_matrices=False)
    # Ten rounding errors a column: what is left of a column that depends on the others, after centring and QR.
    kept = s > 10 * np.finfo(float).eps * factor.shape[-1] * s[..., :1]
    inverse = np.divide(1.0, s, out=np.zeros_like(s), where=kept)
    coef = np.einsum("...sm,...sd->...md", (np.swapaxes(u, -1, -2) @ outputs) * inverse[..., None], vt)
    residual = outputs - inputs @ np.swapaxes(coef, -1, -2)
    return coef, (residual**2).sum((-2, -1)) / outputs.shape[-1], kept.sum(-1)
