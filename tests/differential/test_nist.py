"""Least squares and the regressor against values that NIST certified, computed there with 500
digits.

Data and values: ``nist_strd.json``, which names its source.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from rectilinear.deeplinear import (
    DeepLinearRegressor,
    DepthStudy,
    Model,
    SufficientStatistics,
    Table,
)
from rectilinear.numerics import Moments

SETS = json.loads((Path(__file__).parent / "nist_strd.json").read_text(encoding="utf-8"))["sets"]
# Digits of the worst coefficient: condition of the scaled columns times rounding, of residuals too
# (Wampler 3 to 5).
DIGITS = {
    "Norris": 11, "Pontius": 11, "Longley": 11, "Filip": 7,
    "Wampler1": 8, "Wampler2": 11, "Wampler3": 8, "Wampler4": 7, "Wampler5": 5,
}  # fmt: skip


def table(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    given = SETS[name]
    x, y = np.array(given["x"]), np.array(given["y"])
    return (
        x ** np.arange(1, given["degree"] + 1) if given["degree"] else x,
        y,
        np.array(given["certified_coef"]),
    )


def digits(found: np.ndarray, certified: np.ndarray) -> float:
    return float(-np.log10(np.abs(found / certified - 1).max() + 1e-17))


@pytest.mark.parametrize("name", SETS)
def test_certified_coefficients(name: str) -> None:
    X, y, certified = table(name)
    third = len(y) // 3
    stream = SufficientStatistics.from_data(X[:third], y[:third])
    for rows in (slice(third, 2 * third), slice(2 * third, None)):
        stream = stream.update(X[rows], y[rows])
    for fit in (SufficientStatistics.from_data(X, y).least_squares(), stream.least_squares()):
        assert fit.rank == X.shape[1]
        assert digits(np.r_[fit.intercept, fit.coef[0]], certified) > DIGITS[name]
        sd = (fit.loss * len(y) / (len(y) - len(certified))) ** 0.5
        assert sd == pytest.approx(
            SETS[name]["certified_residual_sd"], rel=1e-6, abs=1e-13 * np.ptp(y)
        )
    with_ones = np.c_[np.ones(len(y)), X]
    one = SufficientStatistics.from_data(with_ones, y).least_squares(bias=False)
    assert digits(one.coef[0], certified) > DIGITS[name]


@pytest.mark.parametrize("name", sorted(set(SETS) - {"Filip"}))
def test_the_streamed_moments_have_the_certified_coefficients(name: str) -> None:
    """The least squares of :mod:`rectilinear.numerics`, with the same rank tolerance.

    Filip is left out: columns whose sizes are within a thousand share one scale there, for the sake
    of ridges, and one direction of ten is below the tolerance then.
    """
    X, y, certified = table(name)
    moments = Moments()
    for rows, targets in zip(
        torch.tensor(X).split(7), torch.tensor(y)[:, None].split(7), strict=True
    ):
        moments.add(rows, targets)
    fit = moments.fit()
    assert len(fit.s) == X.shape[1]
    found = np.r_[fit.constant.numpy(), fit.matrix.numpy()[0]]
    assert digits(found, certified) > DIGITS[name]


@pytest.mark.parametrize("exponent", [-500, -7, 3, 400])
@pytest.mark.parametrize("name", ["Longley", "Filip"])
def test_units_change_no_digit(name: str, exponent: int) -> None:
    """Powers of two are exact: the solution in other units is the same to the last bit."""
    X, y, _ = table(name)
    units = 2.0 ** (exponent * (np.arange(X.shape[1]) % 2))
    fit, other = (
        SufficientStatistics.from_data(X, y).least_squares(),
        SufficientStatistics.from_data(X * units, y).least_squares(),
    )
    np.testing.assert_array_equal(other.coef * units, fit.coef)
    np.testing.assert_array_equal(other.loss, fit.loss)


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("name", SETS)
def test_the_regressor_is_what_it_says(name: str, depth: int) -> None:
    """It converges on all of them, and its gap is the one from the certified fit, from the rows."""
    X, y, certified = table(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = DeepLinearRegressor(depth, random_state=0).fit(X, y)
    assert model.converged_
    assert model.score(X, y) == pytest.approx(SETS[name]["certified_r2"], abs=1e-9)
    assert (model.learning_curve_["loss"] >= 0).all()
    best = SETS[name]["certified_residual_sd"] ** 2 * (len(y) - len(certified)) / len(y)
    rows = np.mean((y - model.predict(X)) ** 2)
    assert rows - best == pytest.approx(model.optimality_gap_ * y.var(), abs=3e-10 * y.var())
    assert model.learning_curve_["loss"][-1] == pytest.approx(rows, rel=1e-6, abs=1e-10 * y.var())


def test_a_study_measures_from_the_certified_fit() -> None:
    """Filip: nobody is near it after a short descent, and ``gap`` and ``train_error`` say the same."""
    X, y, _ = table("Filip")
    models = (
        Model("least_squares"),
        Model(depth=1, lr=1e-2),
        Model(depth=2, init="zero_last", lr=1e-2),
    )
    result = DepthStudy(models, trials=5, folds=5, steps=500).run(Table.from_arrays(X, y))
    best = result.cell("least squares")
    assert (best["train_error"] < 0.005).all()  # of the variance: the certified R^2 is .9967
    assert best["success"].all()
    for name in result.names[1:]:
        cell = result.cell(name)
        np.testing.assert_allclose(
            cell["gap"], cell["train_error"] - best["train_error"], rtol=1e-6
        )
        assert not cell["success"].any()
