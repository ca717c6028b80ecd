"""Unusual inputs of regressor, predictions and forecasts: the right value, or one clear error."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from torch import nn

import rectilinear as rl
from rectilinear.deeplinear import DeepLinearRegressor, SufficientStatistics
from rectilinear.errors import DivergedError, InputError, RectilinearError
from rectilinear.koopman import DMD, KoopmanRegressor

X, Y = load_diabetes(return_X_y=True)


@pytest.mark.parametrize("first", [1, 5])
@pytest.mark.parametrize("depth", [2, 4])
@pytest.mark.parametrize("intercept", [True, False])
def test_a_stream_may_begin_with_equal_rows(first: int, depth: int, intercept: bool) -> None:
    """Columns that do not vary at first are learned when they do, without an intercept too."""
    rows = np.repeat(X[:1], first, 0) * (1 if intercept else 0)
    model = DeepLinearRegressor(depth, fit_intercept=intercept, random_state=0)
    model.partial_fit(rows, np.full(first, Y[0] * intercept)).partial_fit(X, Y)
    everything, targets = np.r_[rows, X], np.r_[np.full(first, Y[0] * intercept), Y]
    best = LinearRegression(fit_intercept=intercept).fit(everything, targets).predict(everything)
    assert model.converged_
    np.testing.assert_allclose(model.predict(everything), best, atol=1e-4 * np.abs(Y).max())


def test_a_stream_row_by_row() -> None:
    model = DeepLinearRegressor(2, random_state=0)
    for i in range(15):
        model.partial_fit(X[i : i + 1, :2], Y[i : i + 1])
    best = LinearRegression().fit(X[:15, :2], Y[:15]).predict(X[:15, :2])
    np.testing.assert_allclose(model.predict(X[:15, :2]), best, atol=1e-2)


@pytest.mark.parametrize("change", [{"depth": 2}, {"width": 3}, {"fit_intercept": False}])
def test_a_stream_keeps_its_network(change: dict[str, Any]) -> None:
    model = DeepLinearRegressor(random_state=0).partial_fit(X[:100], Y[:100])
    with pytest.raises(RectilinearError, match="as in the first call of partial_fit"):
        model.set_params(**change).partial_fit(X, Y)


@pytest.mark.parametrize("which", ["X", "y", "sample_weight"])
@pytest.mark.parametrize("use", [SufficientStatistics.from_data, DeepLinearRegressor().fit])
def test_masked_entries_are_refused(use: Callable[..., object], which: str) -> None:
    data = {"X": X, "y": Y, "sample_weight": np.ones(len(Y))}
    data[which] = np.ma.masked_array(
        data[which], mask=np.arange(data[which].size).reshape(data[which].shape) == 3
    )
    with pytest.raises(RectilinearError, match=f"masked entries in {which}"):
        use(**data)


@pytest.mark.parametrize("size", [5e-324, 1e-300, 1.0, 1e300])
def test_weights_of_any_size(size: float) -> None:
    weights = np.full(len(Y), size)
    same = SufficientStatistics.from_data(X, Y, weights).least_squares().coef
    np.testing.assert_allclose(
        same, SufficientStatistics.from_data(X, Y).least_squares().coef, rtol=1e-9
    )


def test_weights_whose_sum_overflows_are_refused() -> None:
    with pytest.raises(InputError, match="sum is infinite"):
        DeepLinearRegressor().fit(X, Y, np.full(len(Y), 1e308))


@pytest.mark.parametrize(
    "parameters",
    [
        {"tol": "a"},
        {"tol": None},
        {"lr": "a"},
        {"lr": None},
        {"lr": np.array([0.1, 0.2])},
        {"fit_intercept": "no"},
    ],
)
def test_parameters_of_another_type_are_named(parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"Got {next(iter(parameters))} = "):
        DeepLinearRegressor(**parameters).fit(X, Y)


def test_a_start_that_is_too_large_is_not_the_fault_of_the_step() -> None:
    with pytest.raises(DivergedError, match="initial weights") as error:
        DeepLinearRegressor(50, init="uniform", optimizer="adam", random_state=0).fit(X, Y)
    assert "lr" not in str(error.value)


def turning(units: tuple[float, float], count: int = 100) -> np.ndarray:
    """A damped rotation by .2 of a radian a step, in these units."""
    t = np.arange(count)
    return 0.97 ** t[:, None] * np.c_[np.cos(0.2 * t), np.sin(0.2 * t)] * units


@pytest.mark.parametrize(
    "units", [(1, 1), (1e12, 1e-12), (1e-18, 1e-18), (1e-200, 1e100), (1e150, 1e150)]
)
def test_units_change_no_eigenvalue_of_the_baseline(units: tuple[float, float]) -> None:
    model = DMD().fit(turning(units))
    np.testing.assert_allclose(
        np.sort_complex(model.eigenvalues_), 0.97 * np.exp([-0.2j, 0.2j]), atol=1e-9
    )
    ahead = model.simulate(turning(units)[:1], 20)[0]
    np.testing.assert_allclose(ahead / units, turning(units)[:21] / units, atol=1e-8)


def test_a_rank_of_the_baseline_is_one_in_the_units_of_the_data() -> None:
    x = turning((1, 1e-3))
    v = np.linalg.svd(x[:-1] - x[:-1].mean(0))[2][:1]
    line = (x[:-1] - x[:-1].mean(0)) @ v.T
    design = np.c_[np.ones(len(line)), line]
    slope = np.linalg.lstsq(design, x[1:] - x[:-1].mean(0), rcond=None)[0][1:]
    np.testing.assert_allclose(
        np.abs(DMD(rank=1).fit(x).eigenvalues_).max(), abs(float((slope @ v.T)[0, 0])), rtol=1e-9
    )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: DMD(rank=0).fit(x),
        lambda x: DMD(rank=-1).fit(x),
        lambda x: DMD(delays=1.5).fit(x),
        lambda x: DMD(delays="2").fit(x),
        lambda x: DMD().fit(x, np.arange(len(x))),
        lambda x: DMD().fit(x).simulate(x[:1], -3),
        lambda x: DMD().fit(x).simulate(x[:1], 2.5),
        lambda x: DMD().fit(x).simulate(x[:1] * np.nan, 3),
        lambda x: small().set_params(rank=2.5).fit(x),
        lambda x: small().set_params(rank="a").fit(x),
        lambda x: small().set_params(horizon=9.5).fit(x),
        lambda x: small().set_params(seed=None).fit(x),
        lambda x: small().set_params(lookahead_features=1.5).fit(x),
        lambda x: small().set_params(epochs="a").fit(x),
        lambda x: small().fit(x, np.arange(len(x))),
        lambda x: small().fit(x).simulate(x[:1], 2.5),
        lambda x: small().fit(x).simulate(x[:1], "a"),
        lambda x: small().fit(x).simulate(x[:1], 3, [1.0]),
        lambda x: small().fit(x).simulate(x[:1], times=[]),
        lambda x: small().fit(x).simulate(x[:1], times=5.0),
        lambda x: small().fit(x).predict(x[:1], "a"),
    ],
)
def test_arguments_of_forecasts_are_checked(wrong: Callable[[np.ndarray], object]) -> None:
    with pytest.raises(RectilinearError, match="expected"):
        wrong(turning((1, 1)))


def small() -> KoopmanRegressor:
    return KoopmanRegressor(rank=2, horizon=10, fourier=0)


def chain(*sizes: int) -> nn.Sequential:
    return nn.Sequential(*[nn.Linear(a, b, bias=False) for a, b in pairwise(sizes)])


POINTS, TARGETS = torch.from_numpy(X * 20)[:60], torch.from_numpy(Y / 100)[:60]


def descended(
    net: nn.Module, x: torch.Tensor, y: torch.Tensor, lr: float, steps: list[int]
) -> list[float]:
    """The losses of a loop with autograd."""
    net, losses = net.double(), []
    for k in range(steps[-1] + 1):
        loss = (net(x)[:, 0] - y).square().mean() / 2
        if k in steps:
            losses.append(loss.item())
        for p, g in zip(
            net.parameters(), torch.autograd.grad(loss, tuple(net.parameters())), strict=True
        ):
            p.data -= lr * g
    return losses


@pytest.mark.parametrize("zero", ["all weights", "the first layer", "the last layer", "the points"])
def test_linear_networks_of_zeros_are_linear(zero: str) -> None:
    torch.manual_seed(0)
    net, x = chain(10, 4, 1), POINTS
    if zero == "the points":
        x = torch.zeros_like(x)
    for place in {"all weights": (0, 1), "the first layer": (0,), "the last layer": (1,)}.get(
        zero, ()
    ):
        nn.init.zeros_(net[place].weight)
    found = rl.predict(net, x, TARGETS, lr=0.05, steps=40)
    assert found.kind == "exact"
    np.testing.assert_allclose(
        found.loss, descended(net, x, TARGETS, 0.05, found.steps.tolist()), rtol=1e-9
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_the_band_holds_from_the_first_step_on(seed: int) -> None:
    """Small initial weights are projected on the modes that grow: the others are in the band."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(10, 60, bias=False), nn.ReLU(), nn.Linear(60, 1, bias=False))
    for p in net.parameters():
        nn.init.normal_(p, std=1e-3)
    y = TARGETS - TARGETS.mean()
    x, y = torch.cat([POINTS, -POINTS]), torch.cat([y, -y])
    found = rl.predict(net, x, y, lr=0.1, steps=60)
    assert "small weights" in found.assumptions
    trained = torch.tensor(descended(net, x, y, 0.1, found.steps.tolist()), dtype=torch.float64)
    assert ((found.low <= trained) & (trained <= found.high)).all()


@pytest.mark.parametrize("rate", [torch.tensor(0.05), np.float32(0.05), np.array(0.05)])
def test_a_rate_may_be_any_number(rate: Any) -> None:
    net = chain(10, 1)
    found, plain = (rl.predict(net, POINTS, TARGETS, lr=lr, steps=9).loss for lr in (rate, 0.05))
    np.testing.assert_allclose(found, plain, rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: rl.predict(chain(10, 1), POINTS, TARGETS, lr="a", steps=9),
        lambda: rl.predict(chain(10, 1), POINTS, TARGETS, lr=None, steps=9),
        lambda: rl.predict(chain(10, 1), POINTS, TARGETS, lr=0.1, steps=2.5),
        lambda: rl.predict(chain(10, 1), POINTS, TARGETS, lr=0.1, steps="a"),
        lambda: rl.predict(chain(9, 1), POINTS, TARGETS, lr=0.1, steps=9),
        lambda: rl.predict(lambda x: x, POINTS, TARGETS, lr=0.1, steps=9),
        lambda: rl.predict(
            nn.Linear(10, 1, bias=False, dtype=torch.cfloat), POINTS, TARGETS, lr=0.1, steps=9
        ),
        lambda: rl.predict(
            nn.Sequential(chain(10, 1), chain(3, 3)), POINTS, TARGETS, lr=0.1, steps=9
        ),
    ],
)
def test_arguments_of_predictions_are_checked(wrong: Callable[[], object]) -> None:
    with pytest.raises(RectilinearError, match="expected"):
        wrong()


def test_broken_weights_are_named() -> None:
    net = chain(10, 1)
    nn.init.constant_(net[0].weight, float("nan"))
    with pytest.raises(RectilinearError, match="weight' of the model"):
        rl.predict(net, POINTS, TARGETS, lr=0.1, steps=9)
