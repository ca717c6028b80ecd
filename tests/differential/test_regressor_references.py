"""DeepLinearRegressor against least squares, over conditions, units, widths and budgets."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from rectilinear.deeplinear import (
    DeepLinearRegressor,
    SufficientStatistics,
    diagnose,
    initial_weights,
    train_ensemble,
)
from rectilinear.deeplinear.initialisation import INITIALISATIONS
from rectilinear.errors import InputError


def truth(
    X: np.ndarray, Y: np.ndarray, *, bias: bool = True, rank: int | None = None
) -> tuple[float, np.ndarray]:
    """The least sum of squares, and predictions, by Gram and Schmidt in 80 bits: no coefficients,
    no factor.
    """
    X, Y = (X / 2.0 ** np.frexp(np.abs(X).max(0))[1]).astype(np.longdouble), Y.astype(np.longdouble)
    X, Y = (X - X.mean(0), Y - Y.mean(0)) if bias else (X, Y)
    q = np.zeros((len(X), 0), dtype=np.longdouble)
    for column in X.T:
        rest = column
        for _ in range(3):
            rest = rest - q @ (q.T @ rest)
        if (length := np.sqrt(rest @ rest)) > 1e-15 * np.sqrt(column @ column):
            q = np.c_[q, rest / length]
    fitted = (q @ (q.T @ Y)).astype(float)
    if rank is not None:
        u, s, vt = np.linalg.svd(fitted, full_matrices=False)
        fitted = (u[:, :rank] * s[:rank]) @ vt[:rank]
    return float(((Y - fitted) ** 2).sum()), fitted


def relative_gap(
    model: DeepLinearRegressor, X: np.ndarray, y: np.ndarray, **options: object
) -> float:
    bias = bool(model.fit_intercept)
    size = ((y - bias * y.mean(0)) ** 2).sum()
    coef, wide = (
        np.asarray(model.coef_).T,
        np.longdouble,
    )  # predictions in 64 bits would lose what is compared
    left = (
        y.astype(wide)
        - X.astype(wide) @ coef.astype(wide)
        - np.asarray(model.intercept_).astype(wide)
    )
    return float(((left**2).sum() - truth(X, y, bias=bias, **options)[0]) / size)


def quiet(model: DeepLinearRegressor, X: np.ndarray, y: np.ndarray) -> DeepLinearRegressor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y)


@pytest.mark.parametrize("optimizer", ["auto", "adam"])
@given(st.floats(-11, 0), st.integers(0, 99), st.booleans())
@settings(deadline=None, max_examples=6)
def test_nearly_dependent_columns(
    optimizer: str, exponent: float, seed: int, intercept: bool
) -> None:
    """The reported gap is the true one; the default converges."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=(3, 60))
    X, y = np.c_[a, a + 10**exponent * b], a + c
    model = quiet(DeepLinearRegressor(2, optimizer=optimizer, max_iter=3000, fit_intercept=intercept, random_state=0),
                  X, y)  # fmt: skip
    gap = relative_gap(model, X, y)
    rounding = (
        100 * np.finfo(float).eps / 10**exponent
    ) ** 2  # of a prediction: eps times the condition
    assert model.optimality_gap_ == pytest.approx(gap, rel=1e-3, abs=1e-10 + rounding)
    assert model.converged_ == (model.optimality_gap_ <= 1e-10)
    assert (model.learning_curve_["loss"] > 0).all()
    assert (model.learning_curve_["gap"] >= 0).all()
    if optimizer == "auto":
        assert model.converged_


@pytest.mark.parametrize("k", [1e-300, 1e-200, 1e-160, 1e-30, 1e30, 1e160, 1e250])
@pytest.mark.parametrize("intercept", [True, False])
def test_units(k: float, intercept: bool) -> None:
    """Inputs, one input or targets in other units: the same predictions."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3)) + 0.5
    y = X @ [1.0, -2.0, 0.5] + rng.normal(size=50) + 1
    new = DeepLinearRegressor(3, fit_intercept=intercept, random_state=0)
    plain = quiet(new, X, y).predict(X)
    one = np.array([1.0, k, 1.0])
    for units, size in ((k, 1.0), (one, 1.0), (1.0, k)):
        model = DeepLinearRegressor(3, fit_intercept=intercept, random_state=0).fit(
            X * units, y * size
        )
        assert model.converged_
        np.testing.assert_allclose(model.predict(X * units) / size, plain, rtol=0, atol=1e-4)
    free = quiet(
        DeepLinearRegressor(1, standardize=False, max_iter=50, fit_intercept=intercept),
        X * min(k, 1 / k),
        y,
    )
    assert free.converged_ == (relative_gap(free, X * min(k, 1 / k), y) < 1e-9)
    if k in (1e-300, 1e-200, 1e160, 1e250):
        with pytest.raises(InputError, match="standardize=True"):
            DeepLinearRegressor(standardize=False, fit_intercept=intercept).fit(X, y * k)


@pytest.mark.parametrize("k", [1e-200, 1e-160, 1e160])
def test_targets_whose_squares_are_no_numbers_are_refused(k: float) -> None:
    """A loss that is zero for every net would be "converged"; in standard units all is well."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 2))
    statistics = SufficientStatistics.from_data(X, k * (X @ [1.0, 2.0]))
    with pytest.raises(InputError, match="whose squares are floating-point numbers"):
        train_ensemble(statistics, (2,), steps=1, tol=0.0)
    assert train_ensemble(statistics.standardized()[0], (2,), lr=0.1, tol=1e-6).converged


def econometric(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Series that grow together over 50 years, and a product of them: correlations of .999."""
    t = np.linspace(0, 1, 203)[:, None]
    series = np.exp(rng.uniform(0.8, 1.5, 8) * t) * 1000 + rng.normal(size=(203, 8)).cumsum(0)
    rates = rng.normal(size=(203, 2)).cumsum(0)
    return np.c_[series, rates, series[:, :1] * rates], series.sum(1) + 30 * rng.normal(size=203)


def interactions(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Shares of schools with products of two and three of them, as in regressions with
    interactions.
    """
    base = rng.uniform(5, 80, size=(303, 6))
    a, b, c, d, e, f = base.T
    X = np.c_[base, a * b, a * c, b * c, d * e, d * f, e * f, a * b * c, d * e * f]
    return X, X @ rng.normal(size=14) / X.std(0).max() + rng.normal(size=(303,))


@pytest.mark.parametrize("make", [econometric, interactions])
@pytest.mark.parametrize("depth", [1, 3, 6])
def test_tables_of_econometrics_fit_out_of_the_box(make: object, depth: int) -> None:
    X, y = make(np.random.default_rng(1))
    model = DeepLinearRegressor(depth, random_state=0).fit(X, y)
    assert model.converged_
    assert relative_gap(model, X, y) < 2e-10


@pytest.mark.parametrize(
    "settings_", [{}, {"optimizer": "adam", "lr": 0.1}, {"optimizer": "momentum", "lr": 0.05}]
)
def test_more_steps_are_never_worse(settings_: dict) -> None:
    X, y = econometric(np.random.default_rng(2))
    for seed in range(4):
        gaps = [
            quiet(
                DeepLinearRegressor(3, max_iter=n, random_state=seed, **settings_), X, y
            ).optimality_gap_
            for n in (20, 70, 200, 500, 1500, 2100)
        ]
        assert (np.diff(gaps) <= 1e-9 * np.array(gaps[:-1])).all()


def test_the_best_of_all_steps_is_kept() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 6, 3))
    statistics = SufficientStatistics.from_data(X, rng.normal(size=(40, 6)))
    common = {
        "init": "uniform",
        "optimizer": "adam",
        "lr": 0.3,
        "steps": 60,
        "checkpoints": range(61),
    }
    for widths in ((1, 1), (4,)):
        runs = [
            train_ensemble(statistics, widths, keep_best=True, compiled=c, **common)
            for c in (False, None)
        ]
        for run in runs:
            np.testing.assert_array_equal(run.best, run.gap.argmin(-1))
            coef = np.eye(3)
            for weight in run.weights:
                coef = weight @ coef
            np.testing.assert_allclose(
                coef, run.coef[np.arange(40), run.best], rtol=1e-10, atol=1e-12
            )
            assert (run.best < 60).any()
        np.testing.assert_array_equal(runs[0].best, runs[1].best)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_narrow_nets_are_measured_from_reduced_rank_regression(width: int, intercept: bool) -> None:
    rng = np.random.default_rng(width)
    X = rng.normal(size=(80, 6)) @ rng.normal(size=(6, 6)) + 1
    Y = X @ rng.normal(size=(6, 4)) + rng.normal(size=(80, 4))
    Y /= np.sqrt(((Y - intercept * Y.mean(0)) ** 2).mean(0))  # as they are standardised
    model = DeepLinearRegressor(3, width, fit_intercept=intercept, random_state=0).fit(X, Y)
    assert model.converged_
    assert abs(relative_gap(model, X, Y, rank=width)) < 2e-10
    assert relative_gap(model, X, Y) > 1e-4
    statistics = SufficientStatistics.from_data(X, Y)
    best = statistics.least_squares(bias=intercept, rank=width)
    assert best.loss * Y.size == pytest.approx(
        truth(X, Y, bias=intercept, rank=width)[0], rel=1e-10
    )
    state = diagnose(
        SufficientStatistics.from_data(X[None], Y[None]),
        [w[None] for w in model.weights_],
        [b[None] for b in model.biases_],
        tol=1e-9,
    ).state
    assert state.tolist() == ["converged"]


def test_partial_fit_goes_on_in_the_units_of_all_rows() -> None:
    """A second part in which a column has a thousand times the spread."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    X[100:, 1] *= 1000
    y = X @ [1.0, 0.5, -1.0] + 7
    model = DeepLinearRegressor(2, random_state=0).partial_fit(X[:100], y[:100])
    model.partial_fit(X[100:], y[100:])
    assert model.learning_curve_["gap"][0] < 1e-6  # what fits both needs no step
    assert model.converged_


@pytest.mark.parametrize("init", INITIALISATIONS)
@pytest.mark.parametrize("sizes", [(1, 3, 3, 1), (5, 5, 1), (4, 5, 5, 5, 2)])
def test_fresh_nets_are_not_at_a_saddle(init: str, sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 50, sizes[0]))
    y = X @ rng.normal(size=(30, sizes[0], sizes[-1])) + 0.1 * rng.normal(size=(30, 50, sizes[-1]))
    weights, biases = initial_weights(init, sizes, (30,), seed=1)
    state = diagnose(SufficientStatistics.from_data(X, y), weights, biases, tol=1e-9).state
    assert (state == "saddle").mean() <= 0.05
    assert not (state == "stationary").any()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_nets_that_will_never_move_are_called_so(bias: bool, scale: float) -> None:
    """All weights zero, the mean fitted: a strict saddle with two layers, no way down at all with
    more.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2, 30, 3))
    y = scale * (X @ [1.0, 2.0, 3.0] + rng.normal(size=(2, 30)))
    statistics = SufficientStatistics.from_data(X, y)
    for depth, wanted in ((2, "saddle"), (3, "stationary"), (6, "stationary")):
        sizes = [3, *[4] * (depth - 1), 1]
        weights = [np.zeros((2, o, i)) for i, o in pairwise(sizes)]
        biases = [np.zeros((2, o)) for o in sizes[1:]] if bias else []
        if bias:
            biases[-1][:] = statistics.mean_y
        found = diagnose(statistics, weights, biases, tol=1e-9 * scale**2)
        assert found.state.tolist() == [wanted] * 2
        run = train_ensemble(
            statistics, [4] * (depth - 1), init=(weights, biases), steps=20, bias=bias
        )
        np.testing.assert_allclose(run.gap[:, -1], run.gap[:, 0], rtol=1e-12)


def test_the_advice_is_not_in_force_already() -> None:
    X, y = econometric(np.random.default_rng(2))
    with pytest.warns(ConvergenceWarning, match="Try a larger max_iter") as caught:
        DeepLinearRegressor(random_state=0, max_iter=5).fit(X, y)
    text = str(caught[0].message)
    assert not any(word in text for word in ("zero_last", "standardize", "optimizer"))
    with pytest.warns(
        ConvergenceWarning, match=r"optimizer='auto'.*standardize=True.*init='zero_last'"
    ):
        DeepLinearRegressor(optimizer="adam", init="torch", standardize=False, max_iter=5).fit(X, y)
