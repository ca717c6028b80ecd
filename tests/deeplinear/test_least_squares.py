import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from rectilinear.deeplinear import SufficientStatistics

EPS = np.finfo(float).eps


def lstsq(X: np.ndarray, Y: np.ndarray, *, bias: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """The twin: one LAPACK call on the rows."""
    mean_x, mean_y = (
        (X.mean(0), Y.mean(0)) if bias else (np.zeros(X.shape[1]), np.zeros(Y.shape[1]))
    )
    w = scipy.linalg.lstsq(X - mean_x, Y - mean_y, cond=1e-12, lapack_driver="gelsd")[0].T
    c = mean_y - w @ mean_x
    return w, c, float(((X @ w.T + c - Y) ** 2).mean())


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 99), st.integers(1, 30), st.integers(1, 6), st.integers(1, 3), st.booleans())
def test_lapack(seed: int, n: int, d: int, m: int, bias: bool) -> None:
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(n, d)) + 2, rng.normal(size=(n, m))
    got, (w, c, loss) = (
        SufficientStatistics.from_data(X, Y).least_squares(bias=bias),
        lstsq(X, Y, bias=bias),
    )
    singular = np.linalg.svd(X - bias * X.mean(0), compute_uv=False)
    tolerance = (
        1e3
        * EPS
        * singular[0]
        / singular[singular > 1e-10 * max(singular[0], 1)].min(initial=np.inf)
        + 1e-13
    )
    tolerance *= 1 + np.abs(w).max()
    np.testing.assert_allclose(got.coef, w, atol=tolerance)
    np.testing.assert_allclose(got.intercept, c, atol=10 * tolerance)
    assert abs(got.loss - loss) < tolerance
    assert got.rank == min(n - bias, d)


def test_error_grows_with_the_condition_and_not_its_square() -> None:
    rng = np.random.default_rng(0)
    u, _ = np.linalg.qr(rng.normal(size=(200, 4)))
    v, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    X = u * [1, 1e-2, 1e-4, 1e-6] @ v.T
    w = rng.normal(size=4)
    y = X @ w  # exact up to rounding: what is left is the error of the method
    halves = SufficientStatistics.from_data(X[:90], y[:90]).update(X[90:], y[90:])
    for got in (
        SufficientStatistics.from_data(X, y).least_squares(bias=False),
        halves.least_squares(bias=False),
    ):
        assert np.abs(got.coef[0] - w).max() < 100 * 1e6 * EPS
    normal = np.linalg.solve(X.T @ X, X.T @ y)
    assert np.abs(normal - w).max() > 1e8 * EPS  # what the Gram matrix would have given


def test_smallest_norm_where_there_are_many() -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(size=(30, 2))
    X = np.c_[a, a[:, 0] + a[:, 1], np.full(30, 5.0)]  # dependent and constant columns
    got, (w, c, _) = (
        SufficientStatistics.from_data(X, a[:, 0]).least_squares(),
        lstsq(X, a[:, :1], bias=True),
    )
    assert got.rank == 2
    np.testing.assert_allclose(got.coef, w, atol=1e-13)
    np.testing.assert_allclose(got.intercept, c, atol=1e-13)


def test_runs_and_weights() -> None:
    rng = np.random.default_rng(2)
    X, y, w = rng.normal(size=(3, 20, 2)), rng.normal(size=(3, 20)), rng.integers(0, 3, size=20)
    got = SufficientStatistics.from_data(X, y, w).least_squares()
    assert got.coef.shape == (3, 1, 2)
    for i in range(3):
        alone = SufficientStatistics.from_data(
            np.repeat(X[i], w, axis=0), np.repeat(y[i], w)
        ).least_squares()
        np.testing.assert_allclose(got.coef[i], alone.coef, atol=1e-13)
        np.testing.assert_allclose(got.loss[i], alone.loss, atol=1e-13)


@pytest.mark.parametrize("bias", [True, False])
def test_one_row(bias: bool) -> None:
    got = SufficientStatistics.from_data([[2.0, 0.0]], [6.0]).least_squares(bias=bias)
    np.testing.assert_allclose(got.coef @ [2.0, 0.0] + got.intercept, [6.0])
    assert got.loss == pytest.approx(0, abs=1e-30)
    assert got.rank == (0 if bias else 1)
