import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_linnerud
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from rectilinear.deeplinear import DeepLinearRegressor, ensemble
from rectilinear.errors import ConfigError, DivergedError

SETTINGS = [
    {},
    {"depth": 1, "optimizer": "gd", "lr": 0.1},
    {"depth": 2, "width": 3, "init": "orthogonal", "optimizer": "momentum", "lr": 0.02},
    {"depth": 5, "width": 4, "init": "torch", "fit_intercept": False},
    {"depth": 2, "standardize": False},
]


def housing() -> tuple[np.ndarray, np.ndarray]:
    """Columns as in the California table: heavy tails, scales from 1 to 1,000, two pairs that
    almost depend.
    """
    rng, n = np.random.default_rng(0), 2000
    income, age = rng.lognormal(1.2, 0.5, n), rng.uniform(1, 52, n)
    rooms = rng.lognormal(1.6, 0.4, n) + 0.3 * income
    bedrooms = 0.2 * rooms * rng.lognormal(0, 0.05, n)
    people, household = rng.lognormal(7, 0.8, n), rng.lognormal(1, 0.3, n)
    latitude = rng.normal(35.6, 2.1, n)
    longitude = -119.5 - 0.9 * (latitude - 35.6) + rng.normal(0, 0.7, n)
    X = np.c_[income, age, rooms, bedrooms, people, household, latitude, longitude]
    return X, X @ [0.44, 0.009, -0.1, 0.6, -4e-6, -0.004, -0.42, -0.43] - 37 + rng.normal(0, 0.7, n)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_conforms(settings: dict) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # budgets that are too small, checks that do not apply
        check_estimator(DeepLinearRegressor(**settings, max_iter=2000))


@pytest.mark.slow
def test_conforms_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble, "find_spec", lambda name: None)
    test_conforms({})


@pytest.mark.parametrize("depth", [1, 2, 3, 6, 10])
@pytest.mark.parametrize(
    ("table", "intercept"),
    [
        pytest.param(load_diabetes(return_X_y=True), True, id="diabetes"),
        pytest.param(load_diabetes(return_X_y=True), False, id="diabetes without intercept"),
        pytest.param(housing(), True, id="housing"),
        pytest.param(load_linnerud(return_X_y=True), True, id="linnerud"),
    ],
)
def test_converges_to_least_squares(table: tuple, intercept: bool, depth: int) -> None:
    X, y = table
    model = DeepLinearRegressor(depth, tol=1e-18, fit_intercept=intercept, random_state=0).fit(X, y)
    best = LinearRegression(fit_intercept=intercept).fit(X, y)
    assert model.converged_
    np.testing.assert_allclose(
        model.coef_, best.coef_, rtol=1e-6, atol=1e-6 * np.abs(best.coef_).max()
    )
    np.testing.assert_allclose(model.predict(X), best.predict(X), rtol=0, atol=1e-6 * np.std(y))


@pytest.mark.parametrize("settings", [
    {"optimizer": "momentum", "lr": 0.02}, {"optimizer": "gd", "lr": 0.1, "max_iter": 50_000}, {"init": "orthogonal"},
    {"init": "torch", "width": 20}, {"init": "uniform", "width": 2}, {"init": "balanced"}, {"init": "normal"},
])  # fmt: skip
def test_other_ways_lead_there(settings: dict) -> None:
    X, y = load_diabetes(return_X_y=True)
    model = DeepLinearRegressor(2, **settings, random_state=0).fit(X, y)
    np.testing.assert_allclose(
        model.predict(X), LinearRegression().fit(X, y).predict(X), atol=1e-3 * y.std()
    )


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("standardize", [True, False])
def test_attributes(targets: int, intercept: bool, standardize: bool) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)) + 1
    Y = X @ rng.normal(size=(4, targets)) * np.arange(1, targets + 1) + rng.normal(
        size=(60, targets)
    )
    model = DeepLinearRegressor(
        3, 5, fit_intercept=intercept, standardize=standardize, tol=1e-6, random_state=0
    )
    model.fit(X, Y)
    assert model.coef_.shape == (targets, 4)
    assert [w.shape for w in model.weights_] == [(5, 4), (5, 5), (targets, 5)]
    assert len(model.biases_) == (3 if intercept else 0)
    np.testing.assert_allclose(
        model.to_torch()(torch.from_numpy(X)).detach().numpy(), model.predict(X), atol=1e-12
    )
    curve = model.learning_curve_
    assert (curve["step"][0], curve["step"][-1]) == (0, model.n_iter_)
    assert (np.diff(curve["step"]) > 0).all()
    assert len(curve["step"]) == len(curve["loss"]) == len(curve["gap"])
    rest = (Y - model.predict(X)) ** 2
    assert curve["loss"][-1] == pytest.approx(rest.mean(), rel=1e-12)
    assert curve["gap"][-1] == model.optimality_gap_ <= 1e-6
    assert model.converged_
    assert 1 <= model.n_iter_ < 10_000
    # the gap: what least squares would save, as a share of the variance of the targets
    best = (Y - LinearRegression(fit_intercept=intercept).fit(X, Y).predict(X)) ** 2
    size = ((Y - intercept * Y.mean(0)) ** 2).mean(0)
    share = (
        ((rest - best).mean(0) / size).mean() if standardize else (rest - best).mean() / size.mean()
    )
    assert model.optimality_gap_ == pytest.approx(share, rel=1e-6)
    flat = DeepLinearRegressor(3, fit_intercept=intercept).fit(X, Y[:, 0])
    assert flat.coef_.shape == (4,)
    assert isinstance(flat.intercept_, float)
    assert flat.predict(X).shape == (60,)


def test_partial_fit_is_fit_on_all_the_rows() -> None:
    X, y = load_diabetes(return_X_y=True)
    model, settings = DeepLinearRegressor(tol=1e-18, random_state=0), {"rtol": 1e-6}
    for rows in np.array_split(np.arange(len(X)), 5):
        model.partial_fit(X[rows], y[rows])
    assert model.n_iter_ < 5000
    np.testing.assert_allclose(model.coef_, LinearRegression().fit(X, y).coef_, **settings)
    np.testing.assert_allclose(
        model.learning_curve_["loss"][-1], ((y - model.predict(X)) ** 2).mean(), rtol=1e-10
    )
    model.partial_fit(X[:1], y[:1])
    assert model.learning_curve_["gap"][0] < 1e-3  # a row more: it goes on from where it was
    weight = np.r_[2, np.ones(len(X) - 1)]
    np.testing.assert_allclose(model.coef_, LinearRegression().fit(X, y, weight).coef_, **settings)
    assert model.fit(X[:100], y[:100]).statistics_.n == 100


def test_sample_weight() -> None:
    X, y = load_diabetes(return_X_y=True)
    weight = np.arange(len(X)) % 3
    model = DeepLinearRegressor(tol=1e-18, random_state=0).fit(X, y, weight)
    best = LinearRegression().fit(X, y, weight)
    np.testing.assert_allclose(model.coef_, best.coef_, rtol=1e-6)
    repeated = clone(model).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_allclose(model.coef_, repeated.coef_, rtol=1e-9)
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        clone(model).fit(X, y, -weight)


def test_pandas() -> None:
    pd = pytest.importorskip("pandas")
    table = load_diabetes(as_frame=True).frame
    X, y = table.drop(columns="target"), table["target"]
    model = DeepLinearRegressor(random_state=0).fit(X, y)
    assert list(model.feature_names_in_) == list(X.columns)
    np.testing.assert_array_equal(
        model.predict(X), clone(model).fit(X.to_numpy(), y.to_numpy()).predict(X.to_numpy())
    )
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(X.rename(columns={"age": "years"}))
    pipe = (
        make_pipeline(StandardScaler(), DeepLinearRegressor())
        .set_output(transform="pandas")
        .fit(X, y)
    )
    assert list(pipe[-1].feature_names_in_) == list(X.columns)
    assert list(pd.DataFrame(model.learning_curve_).columns) == ["step", "loss", "gap"]
    with pytest.raises(ValueError, match="could not convert string"):
        model.fit(X.assign(sex="f"), y)


def test_pipeline_and_grid_search() -> None:
    X, y = load_diabetes(return_X_y=True)
    pipe = make_pipeline(
        PolynomialFeatures(2, interaction_only=True),
        DeepLinearRegressor(max_iter=200, random_state=0),
    )
    grid = {"deeplinearregressor__depth": [1, 3], "deeplinearregressor__lr": [0.003, 0.1]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search = GridSearchCV(pipe, grid, cv=3).fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    ours, theirs = (
        cross_val_score(model, X, y)
        for model in (DeepLinearRegressor(random_state=0), LinearRegression())
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_degenerate_tables() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 2)).T
    constant = DeepLinearRegressor(tol=1e-20, random_state=0).fit(
        np.c_[a, np.full(40, 7e5)], 2 * a + 1
    )
    np.testing.assert_allclose(constant.coef_, [2, 0], atol=1e-9)
    assert constant.coef_[1] == 0
    collinear = DeepLinearRegressor(tol=1e-20, random_state=0).fit(np.c_[a, 2 * a + 1, b], a - b)
    np.testing.assert_allclose(collinear.predict(np.c_[a, 2 * a + 1, b]), a - b, atol=1e-8)
    X = rng.normal(size=(5, 9))
    np.testing.assert_allclose(
        DeepLinearRegressor(tol=1e-20, random_state=0).fit(X, X[:, 0]).predict(X),
        X[:, 0],
        atol=1e-8,
    )
    one = DeepLinearRegressor().fit([[1.0, 2.0]], [4.0])
    np.testing.assert_array_equal(one.predict([[1.0, 2.0], [5.0, 6.0]]), [4, 4])
    for value in (0.1, 0.0):
        flat = DeepLinearRegressor().fit(np.c_[a, b], np.full(40, value))
        assert flat.predict([[1.0, 1.0]]) == pytest.approx([value], abs=1e-12)
        assert (flat.n_iter_, flat.optimality_gap_, flat.converged_) == (1, 0, True)


def test_columns_of_which_only_rounding_varies_are_named() -> None:
    rng = np.random.default_rng(0)
    a, tiny = rng.normal(size=40), 2.0**50 + np.arange(40) % 2 / 4
    with pytest.warns(UserWarning, match="rounding errors of their mean: x1"):
        model = DeepLinearRegressor().fit(np.c_[a, tiny], a)
    np.testing.assert_allclose(model.coef_, [1, 0], atol=1e-4)
    with pytest.warns(UserWarning, match="mean: target 0"):
        DeepLinearRegressor().fit(a[:, None], tiny)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DeepLinearRegressor().fit(np.c_[a, np.full(40, 0.1)], a)
        DeepLinearRegressor().fit(np.c_[a, tiny - 2.0**50], a)
        weight = np.r_[np.zeros(20), np.ones(20)]
        DeepLinearRegressor().fit(np.c_[a, np.r_[np.arange(20), np.ones(20)]], a, weight)


@pytest.mark.parametrize(
    ("X", "y", "says"),
    [
        ([[np.nan]], [1.0], "contains NaN"),
        ([[1.0]], [np.inf], "contains infinity"),
        ([["a"]], [1.0], "could not convert string"),
        ([[1.0], [2.0]], [1.0], "inconsistent numbers of samples"),
        ([1.0, 2.0], [1.0, 2.0], "Expected 2D array"),
        (np.ones((0, 2)), [], "0 sample"),
    ],
)
def test_bad_rows(X: object, y: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DeepLinearRegressor().fit(X, y)


@pytest.mark.parametrize(
    "settings",
    [{"depth": 0}, {"depth": 1.5}, {"width": 0}, {"max_iter": 0}, {"tol": -1.0}, {"lr": 0.0}, {"optimizer": "lbfgs"},
     {"init": "xavier"}],
)  # fmt: skip
def test_bad_settings(settings: dict) -> None:
    with pytest.raises(
        ConfigError, match=next(iter(settings)) if "max_iter" not in settings else "max_iter"
    ):
        DeepLinearRegressor(**settings).fit(np.eye(3), np.arange(3))


def test_what_did_not_work_is_said() -> None:
    X, y = load_diabetes(return_X_y=True)
    with pytest.warns(ConvergenceWarning, match="after 5 steps, above tol"):
        model = DeepLinearRegressor(max_iter=5).fit(X, y)
    assert not model.converged_
    with pytest.raises(DivergedError, match="Use a smaller lr than 9"):
        DeepLinearRegressor(optimizer="gd", lr=9.0).fit(X, y)
    with pytest.raises(NotFittedError):
        DeepLinearRegressor().predict(X)
    with pytest.raises(NotFittedError):
        DeepLinearRegressor().to_torch()
