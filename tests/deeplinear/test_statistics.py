import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectilinear.deeplinear import SufficientStatistics, statistics
from rectilinear.errors import DtypeError, InputError, NonFiniteError, ShapeError

EPS = np.finfo(float).eps


def data(
    seed: int, n: int, d: int, m: int, runs: tuple[int, ...] = ()
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X, y = 3 + rng.normal(size=(*runs, n, d)), rng.normal(size=(*runs, n, m)) - 1
    return X, y, rng.integers(1, 4, size=(*runs, n))


def close(a: SufficientStatistics, b: SufficientStatistics) -> None:
    for name in ("n", "mean_x", "mean_y", "cxx", "cxy", "cyy", "sxx", "sxy", "syy"):
        np.testing.assert_allclose(
            getattr(a, name), getattr(b, name), rtol=0, atol=1e4 * EPS, err_msg=name
        )


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 99),
    st.integers(1, 30),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([(), (2,), (2, 3)]),
)
def test_moments(seed: int, n: int, d: int, m: int, runs: tuple[int, ...]) -> None:
    X, y, w = data(seed, n, d, m, runs)
    got = SufficientStatistics.from_data(X, y, w)
    share = (w / w.sum(-1, keepdims=True))[..., None]
    assert (got.runs, got.inputs, got.outputs) == (runs, d, m)
    np.testing.assert_array_equal(got.n, w.sum(-1))
    np.testing.assert_allclose(
        got.sxx, np.einsum("...ni,...nj->...ij", share * X, X), atol=1e4 * EPS
    )
    np.testing.assert_allclose(
        got.sxy, np.einsum("...ni,...nj->...ij", share * X, y), atol=1e4 * EPS
    )
    np.testing.assert_allclose(
        got.syy, np.einsum("...ni,...nj->...ij", share * y, y), atol=1e4 * EPS
    )
    np.testing.assert_allclose(got.mean_x, (share * X).sum(-2), atol=1e3 * EPS)
    centred = y - (share * y).sum(-2, keepdims=True)
    np.testing.assert_allclose(
        got.cyy, np.einsum("...ni,...nj->...ij", share * centred, centred), atol=1e4 * EPS
    )


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 99), st.integers(2, 40), st.integers(1, 39))
def test_streaming_is_all_at_once(seed: int, n: int, cut: int) -> None:
    X, y, w = data(seed, n, 3, 2)
    cut = min(cut, n - 1)
    whole = SufficientStatistics.from_data(X, y, w)
    close(
        SufficientStatistics.from_data(X[:cut], y[:cut], w[:cut]).update(X[cut:], y[cut:], w[cut:]),
        whole,
    )
    rows = [
        SufficientStatistics.from_data(X[i : i + 1], y[i : i + 1], w[i : i + 1]) for i in range(n)
    ]
    close(sum(rows[1:], rows[0]), whole)


def test_weights_are_repeated_rows() -> None:
    X, y, w = data(0, 20, 3, 1)
    repeated = SufficientStatistics.from_data(np.repeat(X, w, axis=0), np.repeat(y, w, axis=0))
    close(SufficientStatistics.from_data(X, y, w), repeated)
    zero = w.copy()
    zero[:5] = 0
    close(
        SufficientStatistics.from_data(X, y, zero),
        SufficientStatistics.from_data(X[5:], y[5:], w[5:]),
    )


@pytest.mark.parametrize("rows", [997, 1000])
def test_blocks_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, w = data(1, rows, 2, 1)
    w[:300] = 0  # whole blocks without weight
    whole = SufficientStatistics.from_data(X, y, w)
    monkeypatch.setattr(statistics, "BLOCK_ENTRIES", 300)
    close(SufficientStatistics.from_data(X, y, w), whole)


def test_far_from_zero() -> None:
    """Where a sum of squares keeps no digit, centring keeps all that the rows have."""
    z = np.random.default_rng(0).normal(size=500)
    got = SufficientStatistics.from_data(1e8 + z[:, None], z)
    assert abs(got.cxx[0, 0] / z.var() - 1) < 1e8 * EPS
    stream = sum((SufficientStatistics.from_data(1e8 + part[:, None], part) for part in np.split(z, 10)[1:]),
                 SufficientStatistics.from_data(1e8 + z[:50, None], z[:50]))  # fmt: skip
    assert abs(stream.cxx[0, 0] / z.var() - 1) < 1e8 * EPS


@pytest.mark.parametrize("value", [0.1, -7e5, 1 / 3, 0.0])
def test_constant_columns_are_zero(value: float) -> None:
    X, y, w = data(2, 333, 2, 1)
    X[:, 1] = value
    for got in (
        SufficientStatistics.from_data(X, y),
        SufficientStatistics.from_data(X, y, w / 7),
        SufficientStatistics.from_data(X[:100], y[:100]).update(X[100:], y[100:]),
    ):
        assert not got.cxx[1].any()
        scaled, spread, _ = got.standardized()
        assert spread[1] == 1
        assert not scaled.cxx[1].any()


def test_standardized() -> None:
    X, y, _ = data(3, 50, 3, 2)
    scaled, x_spread, y_spread = SufficientStatistics.from_data(X, y).standardized()
    close(
        scaled,
        SufficientStatistics.from_data((X - X.mean(0)) / X.std(0), (y - y.mean(0)) / y.std(0)),
    )
    np.testing.assert_allclose(x_spread, X.std(0))
    about_zero, x_spread, y_spread = SufficientStatistics.from_data(X, y).standardized(centre=False)
    close(about_zero, SufficientStatistics.from_data(X / x_spread, y / y_spread))
    np.testing.assert_allclose(y_spread, np.sqrt((y**2).mean(0)))


def test_some_of_the_runs() -> None:
    X, y, _ = data(4, 20, 2, 1, runs=(5,))
    close(SufficientStatistics.from_data(X, y)[1:3], SufficientStatistics.from_data(X[1:3], y[1:3]))


@pytest.mark.parametrize(
    ("X", "y", "weight", "error", "says"),
    [
        ([["a"]], [1.0], None, DtypeError, "Encode text"),
        ([[object()]], [1.0], None, DtypeError, "Encode text"),
        ([[1j]], [1.0], None, DtypeError, "real numbers"),
        ([[np.nan]], [1.0], None, NonFiniteError, "1 NaN or infinite entry in X"),
        ([[1.0]], [np.inf], None, NonFiniteError, "in y"),
        ([1.0, 2.0], [1.0, 2.0], None, ShapeError, r"X\[:, None\]"),
        ([[1.0]], [1.0, 2.0], None, ShapeError, "same rows"),
        (np.ones((0, 2)), np.ones(0), None, ShapeError, "none of them empty"),
        (np.ones((2, 0)), np.ones(2), None, ShapeError, "none of them empty"),
        (np.ones((2, 1)), np.ones(2), [1.0], ShapeError, "one weight a row"),
        (np.ones((2, 1)), np.ones(2), [1.0, -1.0], InputError, "negative"),
        (np.ones((2, 1)), np.ones(2), [0.0, 0.0], InputError, "all zero"),
    ],
)
def test_bad_input(X: object, y: object, weight: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        SufficientStatistics.from_data(X, y, weight)


def test_adding_other_columns() -> None:
    with pytest.raises(ShapeError, match="same columns"):
        SufficientStatistics.from_data([[1.0]], [1.0]) + SufficientStatistics.from_data(
            [[1.0, 2.0]], [1.0]
        )
    with pytest.raises(TypeError):
        SufficientStatistics.from_data([[1.0]], [1.0]) + 1
