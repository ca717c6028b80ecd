"""The forecaster: linear maps in closed form, the choice among models, inputs, many columns."""

import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from rectilinear.datasets import simulate_system
from rectilinear.errors import (
    ConfigError,
    DataError,
    ForecastWarning,
    MissingDependencyError,
    ShapeError,
)
from rectilinear.koopman import Forecast, Forecaster, Monomials


def noisy_wave(rows: int = 240, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.sin(0.5 * np.arange(rows)) + 0.1 * rng.normal(size=rows)


def ornstein_uhlenbeck(rows: int = 4000, seed: int = 0) -> np.ndarray:
    rng, x = np.random.default_rng(seed), np.zeros(rows)
    for k in range(1, rows):
        x[k] = 0.905 * x[k - 1] + rng.normal()
    return x


@pytest.mark.parametrize("level", ["last", "mean"])
@pytest.mark.parametrize("ridge", [1e-12, 0.1])
def test_the_linear_map_is_ridge_regression_on_lags(level: str, ridge: float) -> None:
    from rectilinear.koopman.autoregression import Piece, Plan, fit_map

    z, lags, horizon = noisy_wave(), 6, 4
    found = fit_map(Plan(lags, horizon, level, ridge=ridge), [Piece(torch.as_tensor(z)[:, None])])
    count = len(z) - lags - horizon + 1
    rows = np.stack([z[k : k + lags][::-1] for k in range(count)])
    later = np.stack([z[k + lags : k + lags + horizon] for k in range(count)])
    if level == "last":
        later, rows = later - rows[:, :1], rows[:, 1:] - rows[:, :1]
    centred = rows - rows.mean(0)
    gram = centred.T @ centred
    gram += ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
    weight = np.linalg.solve(gram, centred.T @ (later - later.mean(0)))
    assert np.allclose(found.matrix.numpy(), weight, atol=1e-8)


def test_waves_on_a_trend_are_continued_exactly() -> None:
    t = np.arange(300.0)
    x = np.stack([np.sin(0.3 * t) + 0.01 * t, np.cos(0.3 * t)], 1)
    model = Forecaster(horizon=20, lags=8).fit(x[:250])
    with pytest.warns(ForecastWarning, match="Fit with horizon=50"):
        found = model.forecast(50)
    assert np.abs(found.mean - x[250:]).max() < 1e-6
    assert model.kind_ == "linear", "the simplest of those that are exact"
    assert np.isfinite(found.lower[:20]).all()
    assert np.isnan(found.lower[20:]).all(), "errors beyond the horizon were not measured"


@pytest.mark.whole
@pytest.mark.parametrize("kind", ["linear", "autoregression"])
def test_a_series_driven_by_noise_keeps_its_time_scale(kind: str) -> None:
    model = Forecaster(kind, horizon=8).fit(ornstein_uhlenbeck(1500))
    assert abs(model.eigenvalues_[0]) == pytest.approx(0.905, abs=0.025)


def test_eigenvalue_intervals_hold_the_true_one() -> None:
    model = Forecaster("autoregression", horizon=10, lags=1).fit(ornstein_uhlenbeck())
    low, high = model.eigenvalue_intervals(30)[0]["radius"]
    assert low < 0.905 < high
    assert high - low < 0.06


def test_eigenvalues_of_a_linear_system() -> None:
    data = simulate_system("linear", count=10, steps=80)
    model = Forecaster("autoregression", horizon=20, lags=1).fit(data.states)
    from rectilinear.datasets.synthetic import linear_eigenvalues

    for true in (0.1 * linear_eigenvalues()).exp():
        if true.imag > 0:
            assert (model.modes_.eigenvalues - true).abs().min() < 1e-9


def test_a_finite_model_has_the_eigenvalues_of_the_slow_manifold() -> None:
    rng = np.random.default_rng(0)
    x = [rng.uniform(-1, 1, (8, 2))]
    for _ in range(60):
        a, b = x[-1].T
        x.append(np.stack([0.95 * a, 0.6 * b + 0.3 * a**2], 1))
    series = np.stack(x, 1)
    model = Forecaster("finite", horizon=30, lags=1, dictionary=2).fit(series)
    for true in (0.95, 0.6, 0.9025):
        assert (model.modes_.eigenvalues - true).abs().min() < 1e-7
    found = model.simulate(series[:, :1], 60)
    assert np.abs(found - series[:, 1:]).max() < 1e-7


def test_an_own_dictionary_is_the_monomials_it_computes() -> None:
    series = simulate_system("duffing", count=12, steps=40).states
    options = {"kind": "finite", "horizon": 10, "lags": 1}
    own = Forecaster(
        dictionary=lambda s: np.stack([s[:, 0] ** 2, s[:, 0] * s[:, 1], s[:, 1] ** 2], 1), **options
    ).fit(series)
    made = Forecaster(dictionary=Monomials(2), **options).fit(series)
    assert np.allclose(own.simulate(series[:, :1], 10), made.simulate(series[:, :1], 10))
    with pytest.raises(ShapeError, match="One row for each state"):
        Forecaster(dictionary=lambda s: s[:-1], **options).fit(series)


@pytest.mark.whole
def test_the_choice_is_never_worse_than_the_linear_candidates() -> None:
    x = simulate_system("duffing", count=10, steps=40).states
    model = Forecaster(horizon=20, lags=1).fit(x, select=("linear", "autoregression", "features"))
    errors = {kind: model.comparison_.average(kind) for kind in model.comparison_.errors}
    assert model.kind_ == "features"
    assert errors["features"] < 0.5 * min(errors["linear"], errors["persistence"])
    held = simulate_system("duffing", count=40, steps=20, seed=5).states.numpy()
    straight = Forecaster("linear", horizon=20, lags=1).fit(x)
    missed = [
        np.square(m.simulate(held[:, :1], 20) - held[:, 1:]).mean() for m in (model, straight)
    ]
    assert missed[0] < 0.2 * missed[1]


def test_noise_is_removed_before_a_nonlinear_fit() -> None:
    from rectilinear.koopman import autoregression as stride
    from rectilinear.koopman.realization import smooth

    x = simulate_system("pendulum", count=30, steps=110, noise=0.05).states
    held = simulate_system("pendulum", count=100, steps=40, seed=5).states
    pieces = [stride.Piece(part) for part in x]
    quiet, noise = smooth(pieces)
    assert noise == pytest.approx(0.05, rel=0.1)
    plan = stride.Plan(dictionary=Monomials(5), ridge=1e-10)
    error, without = (
        (stride.fit_map(plan, p).simulate(held[:, :1], 40) - held[:, 1:]).abs().mean()
        for p in (quiet, pieces)
    )
    assert error < 0.5 * without


def test_inputs() -> None:
    rng = np.random.default_rng(0)
    a, b = np.array([[0.9, 0.2], [-0.2, 0.9]]), np.array([0.0, 1.0])
    u, x = rng.normal(size=(300, 1)), np.zeros((300, 2))
    for k in range(299):
        x[k + 1] = a @ x[k] + b * u[k]
    model = Forecaster(horizon=8).fit(x[:280], controls=u[:280])
    assert np.abs(model.forecast(20, controls=u[280:]).mean - x[280:]).max() < 1e-8
    past = model.forecast(5, history=x[100:150], controls=u[100:155])
    assert np.abs(past.mean - x[150:155]).max() < 1e-8
    with pytest.raises(ConfigError, match="Pass controls"):
        model.forecast(5)
    with pytest.raises(ShapeError, match=r"a row for each step.*controls\[-5:\]"):
        model.forecast(5, controls=u[:280])
    with pytest.raises(ShapeError, match=r"and the 5 forecast ones\. Append those"):
        model.forecast(5, history=x[100:150], controls=u[100:150])
    with pytest.raises(ShapeError, match=r"its grid\. Add the rows that the series skips"):
        Forecaster(horizon=8).fit(x[:280], controls=u[:270])
    with pytest.raises(ShapeError, match=r"one for each\. Pass a list"):
        model.forecast(5, controls=[u[:5], u[:5]])
    with pytest.raises(ConfigError, match="forecast"):
        model.simulate(x[None, :20], 3)


def test_intervals_hold_the_share_that_they_promise() -> None:
    x = ornstein_uhlenbeck(6000)
    model = Forecaster("autoregression", horizon=10, lags=1, level=0.8).fit(x[:3000])
    found, errors = model.forecast(10), model.errors(x[2999:], 10)
    inside = (found.lower - found.mean < errors) & (errors < found.upper - found.mean)
    assert inside.mean((0, 2)) == pytest.approx(0.8, abs=0.02)


def test_many_columns_go_through_their_components() -> None:
    rng = np.random.default_rng(0)
    waves = np.stack([np.sin(0.1 * (k + 2) * np.arange(120) + k) for k in range(3)], 1)
    x = waves @ rng.normal(size=(3, 400))
    model = Forecaster("autoregression", horizon=10, lags=2).fit(x[:100])
    assert np.abs(model.forecast(20).mean - x[100:]).max() < 1e-6 * np.abs(x).max()
    assert model.modes_.shapes.shape[1] == 400


def test_a_drifting_series_is_continued_from_its_last_row() -> None:
    rng, t = np.random.default_rng(0), np.arange(400.0)
    x = (t / 100) ** 1.5 + np.sin(0.5 * t) + 0.1 * rng.normal(size=400)
    model = Forecaster("linear", horizon=12, lags=24).fit(x[:300])
    assert model.model_.plan.level == "last"
    steady = Forecaster("linear", horizon=12, lags=2).fit(ornstein_uhlenbeck(800))
    assert steady.model_.plan.level == "mean"


def test_growth_is_kept_and_said() -> None:
    x = 1.05 ** np.arange(80.0)
    with pytest.warns(ForecastWarning, match=r"grows by 5\.00%"):
        model = Forecaster("autoregression", horizon=10, lags=2).fit(x)
    assert model.forecast(10).mean[-1, 0] == pytest.approx(1.05**89, rel=1e-6)


@pytest.mark.whole
def test_the_check_tells_linear_dynamics_from_others() -> None:
    options = {"horizon": 20, "lags": 1}
    kinds = ("linear", "autoregression")
    linear = Forecaster(**options).fit(simulate_system("linear", 15, 60).states, select=kinds)
    assert linear.check().closed
    assert "eigenvalues are those" in str(linear.check())
    swing = Forecaster(**options).fit(
        simulate_system("pendulum", 10, 40).states, select=(*kinds, "finite")
    )
    assert not swing.check().closed
    assert "not linear" in str(swing.check())
    noise = Forecaster(**options).fit(np.random.default_rng(0).normal(size=400), select=kinds)
    assert "say nothing" in str(noise.check())


def test_score() -> None:
    x = noisy_wave(600)
    model = Forecaster("linear", horizon=10, lags=12).fit(x[:400])
    errors = model.errors(x[400:])
    assert errors.shape == (179, 10, 1)
    still = np.concatenate([x[411 + k : 590 + k] - x[411:590] for k in range(1, 11)])
    assert model.score(x[400:]) == pytest.approx(
        1 - np.square(errors).mean() / np.square(still).mean(), abs=2e-3
    )
    assert model.score(x[400:]) > 0.9


def test_cross_validation_of_scikit_learn() -> None:
    from sklearn.model_selection import TimeSeriesSplit, cross_val_score

    model = Forecaster("autoregression", horizon=5, lags=8)
    found = cross_val_score(model, noisy_wave(400), cv=TimeSeriesSplit(3))
    assert found.min() > 0.8


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match="auto, or some of linear"):
        Forecaster("arima").fit(noisy_wave())
    with pytest.raises(DataError, match="constant"):
        Forecaster("linear").fit(np.ones(100))
    with pytest.raises(DataError, match="Lower horizon"):
        Forecaster("linear", horizon=50).fit(noisy_wave(60))
    model = Forecaster("linear", horizon=5, lags=3).fit(noisy_wave())
    with pytest.raises(ConfigError, match="steps"):
        model.forecast(0)
    with pytest.raises(ConfigError, match="level"):
        model.forecast(2, level=1.5)
    with pytest.raises(ShapeError, match="3 or more"):
        model.simulate(torch.zeros(2, 2, 1), 4)
    model.modes_ = None
    with pytest.raises(ConfigError, match="has no modes"):
        model.plot_modes()


def test_figures() -> None:
    model = Forecaster("autoregression", horizon=5, lags=4).fit(noisy_wave())
    axes = model.forecast(5).plot().axes[0]
    assert len(axes.lines[-1].get_xdata()) == 5
    assert model.plot_spectrum().axes[0].get_xlabel() == "real part"
    assert "period 12.5" in model.plot_modes().axes[0].get_title()


def test_a_frame_without_pandas_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    none = np.zeros((2, 1))
    found = Forecast(none, none, none, 0.9, np.arange(2), ("a",))
    with pytest.raises(
        MissingDependencyError, match=r"to_frame without pandas.*'rectilinear\[tables"
    ):
        found.to_frame()


def test_histories_that_diverge_are_counted() -> None:
    model = Forecaster("autoregression", horizon=5, lags=2).fit(noisy_wave())
    near, far = np.array([[0.1], [0.3]]), np.array([[1e9], [-1e9]])
    with pytest.warns(ForecastWarning, match="1 of 2 histories"):
        found = model.simulate(np.stack([near, far]), 5)
    np.testing.assert_allclose(found[0], model.simulate(near[None], 5)[0])


@pytest.mark.parametrize(("rows", "step"), [(60, "QS"), (300, "W"), (200, "h"), (90, "B")])
def test_dates_below_a_figure_do_not_overlap(rows: int, step: str) -> None:
    pandas = pytest.importorskip("pandas")
    index = pandas.date_range("1990-01-01", periods=rows, freq=step)
    x = np.random.default_rng(0).normal(size=(rows, 3)).cumsum(0)
    frame = pandas.DataFrame(x, index, ["a", "b", "c"])
    figure = Forecaster("linear", horizon=8, lags=1).fit(frame).forecast(8).plot()
    figure.canvas.draw()
    for axes in figure.axes:
        boxes = [t.get_window_extent() for t in axes.get_xticklabels() if t.get_text()]
        assert len(boxes) > 1
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
