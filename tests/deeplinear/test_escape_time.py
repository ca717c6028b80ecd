import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from rectilinear.deeplinear import diagnosis
from rectilinear.deeplinear.diagnosis import diagnose
from rectilinear.deeplinear.ensemble import train_ensemble
from rectilinear.deeplinear.statistics import SufficientStatistics
from rectilinear.errors import InputError, ShapeError


@given(st.integers(3, 10), st.floats(0.2, 1.5), st.floats(0.3, 3))
@settings(deadline=None, max_examples=15)
def test_escape_time_is_when_the_flow_near_zero_blows_up(
    depth: int, rho: float, pull: float
) -> None:
    """``w' = |S| w^(L-1)``: the time from ``w`` to ``w + dw`` is ``dw / w'``."""
    time, _ = quad(lambda w: 1 / (pull * w ** (depth - 1)), rho, np.inf)
    assert diagnosis.escape_time(rho, -pull, depth) == pytest.approx(time, rel=1e-6)


def test_a_chain_escapes_at_the_predicted_time() -> None:
    """From equal weights, without noise: when gradient descent is half way."""
    X = np.random.default_rng(0).normal(size=(1, 100, 1))
    statistics = SufficientStatistics.from_data(X, 2 * X[..., 0])
    initial = (np.full((1, 1, 1), 0.15),) * 4, ()
    run = train_ensemble(
        statistics, (1, 1, 1), init=initial, lr=0.02, steps=2000, checkpoints=400, bias=False
    )
    half_way = run.steps[np.argmax(run.coef[0, :, 0, 0] > 1)]
    predicted = diagnosis.escape_time(0.15, statistics.sxy.item(), 4) / 0.02
    assert half_way == pytest.approx(
        predicted, rel=0.1
    )  # the formula takes the loss near zero for the whole


def test_escape_time_of_few_layers() -> None:
    assert diagnosis.escape_time(0.1, 2.0, 1) == 0
    assert diagnosis.escape_time(np.exp(-3), 0.5, 2) == pytest.approx(6)
    assert diagnosis.escape_time(0.5, [1.0, 0.0], 3).tolist() == [2.0, np.inf]
    with pytest.raises(InputError, match="at least one layer"):
        diagnosis.escape_time(0.5, 1.0, 0)


def test_effective_step_is_the_step_of_the_product() -> None:
    weights, lr, slope = np.array([0.7, -1.3, 0.4]), 1e-6, 2.5
    gradient = slope * np.array([np.delete(weights, i).prod() for i in range(3)])
    moved = (weights - lr * gradient).prod() - weights.prod()
    assert moved == pytest.approx(-diagnosis.effective_step(lr, weights) * slope, rel=1e-5)


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("bias", [True, False])
def test_largest_stable_step_is_two_over_the_curvature_at_a_balanced_minimum(
    depth: int, bias: bool
) -> None:
    rng = np.random.default_rng(depth)
    X = rng.normal(size=(3, 50, 4)) @ rng.normal(size=(4, 4))
    X = X - X.mean(1, keepdims=True) if bias else X + 1
    y = X @ rng.normal(size=4)
    statistics = SufficientStatistics.from_data(X, y)
    w = statistics.least_squares(bias=bias).coef[:, 0]
    size = np.linalg.norm(w, axis=-1)
    first = (w / size[:, None] * size[:, None] ** (1 / depth))[:, None, :]
    weights = [
        first,
        *(np.ones((3, 1, 1)) * size[:, None, None] ** (1 / depth) for _ in range(depth - 1)),
    ]
    biases = [np.zeros((3, 1)) for _ in range(depth)] if bias else []
    largest = diagnose(statistics, weights, biases, tol=1e-9).largest
    # the diagnosis is of the mean square error, the step is on half of it
    np.testing.assert_allclose(
        diagnosis.largest_stable_step(statistics, depth, bias=bias), 4 / largest, rtol=1e-9
    )


def test_a_step_below_it_stays_and_a_step_above_it_leaves() -> None:
    X = np.random.default_rng(0).normal(size=(200, 1))
    statistics = SufficientStatistics.from_data(X - X.mean(), 2 * (X[:, 0] - X.mean()))
    weight = np.full((1, 1), 2 ** (1 / 3)) * (1 + 1e-6)
    initial = (weight,) * 3, ()
    limit = diagnosis.largest_stable_step(statistics, 3, bias=False)
    runs = [
        train_ensemble(statistics, (1, 1), init=initial, lr=lr, steps=400, bias=False)
        for lr in (0.95 * limit, 1.05 * limit)
    ]
    assert runs[0].gap[-1] < 1e-3 * runs[0].gap[0]
    assert runs[1].gap[-1] > 1e3 * runs[1].gap[0]


def test_several_outputs_have_no_single_solution() -> None:
    X = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(ShapeError, match="one output"):
        diagnosis.largest_stable_step(SufficientStatistics.from_data(X, X), 2)
