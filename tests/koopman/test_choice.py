"""The choice among models on few rows: levels, lags and kinds need evidence."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rectilinear.koopman import Comparison, Forecaster
from rectilinear.koopman.autoregression import Piece, Plan, StrideMap, fit_map, simulate_all
from rectilinear.koopman.candidates import linear
from rectilinear.koopman.dictionaries import Monomials
from rectilinear.koopman.held_out import Candidate, best, hold_out
from rectilinear.koopman.selection import FARTHEST, check_of, choose, refit

RNG = np.random.default_rng


def candidate(kind: str, plan: Plan, square: torch.Tensor, independent: float) -> Candidate:
    return Candidate(kind, StrideMap(plan, torch.zeros(1, 1), torch.zeros(1)), square, independent)


def oscillation(rows: int, seed: int) -> np.ndarray:
    rng, x = RNG(seed), np.zeros(rows + 50)
    for k in range(2, rows + 50):
        x[k] = 1.6 * x[k - 1] - 0.85 * x[k - 2] + rng.normal()
    return x[50:]


@pytest.mark.parametrize(("stretches", "level"), [(4, "last"), (400, "mean")])
def test_a_level_of_the_mean_needs_evidence(stretches: int, level: str) -> None:
    """Of four stretches 13 % are no evidence, of four hundred they are."""
    noise = torch.from_numpy(RNG(0).gamma(2.0, size=(400, 5)))
    last = candidate("linear", Plan(8, 5, "last"), noise, stretches)
    mean = candidate("linear", Plan(8, 5, "mean"), 0.87 * noise.flip(0), stretches)
    assert best([last, mean]).model.plan.level == level


@pytest.mark.parametrize(("stretches", "kind"), [(4, "linear"), (400, "features")])
def test_another_kind_needs_evidence(stretches: int, kind: str) -> None:
    noise = torch.from_numpy(RNG(0).gamma(2.0, size=(400, 5)))
    line = candidate("linear", Plan(8, 5), noise, stretches)
    curve = candidate("features", Plan(8, 5), 0.87 * noise.flip(0), stretches)
    assert choose([line, curve]).kind == kind


def test_of_linear_kinds_and_lags_the_least_error_is_chosen() -> None:
    """Neither is simpler than the other, so a few held-out stretches decide."""
    noise = torch.from_numpy(RNG(0).gamma(2.0, size=(400, 5)))
    direct = candidate("linear", Plan(2, 5), noise, 4)
    iterated = candidate("autoregression", Plan(8, 1), 0.95 * noise.flip(0), 4)
    assert choose([direct, iterated]).kind == "autoregression"
    longer = candidate("linear", Plan(8, 5), 0.97 * noise.flip(0), 4)
    assert best([direct, longer]) is longer
    assert best([direct, candidate("linear", Plan(8, 5), 0.995 * noise, 4)]) is direct


def test_what_every_origin_gains_is_evidence() -> None:
    noise = torch.from_numpy(RNG(0).gamma(2.0, size=(40, 5)))
    line = candidate("linear", Plan(8, 5), noise, 4)
    assert choose([line, candidate("features", Plan(8, 5), 0.87 * noise, 4)]).kind == "features"


def test_of_few_rows_each_fifth_is_held_out_in_turn() -> None:
    x = torch.from_numpy(oscillation(200, 0))[:, None]
    held = hold_out([Piece(x)], 12, 6)
    assert len(held.folds) == 4
    for k, fold in enumerate(held.folds):
        tested = {float(v) for v in fold.future.flatten()}
        assert not tested & {float(v) for p in fold.train for v in p.x.flatten()}
        assert tested <= {float(v) for v in x[40 * k : 40 * (k + 1)].flatten()}
    assert sum(len(p.x) for p in held.folds[1].train) == 160
    assert hold_out([Piece(torch.from_numpy(oscillation(6000, 0))[:, None])], 12, 6).folds == ()


def test_intervals_are_conformal_quantiles_of_the_errors_of_all_folds() -> None:
    x = oscillation(200, 0)
    model = Forecaster("linear", horizon=6, lags=4).fit(x)
    held = hold_out([Piece(torch.from_numpy(x - x.mean())[:, None] / x.std(ddof=0))], 4, 6)
    parts = [held, *held.folds]
    errors = []
    for part in parts:
        again = fit_map(model.model_.plan, part.train)
        errors.append((part.future - again.simulate(part.past, 6)).abs()[..., 0])
    size = torch.cat(errors).numpy() * x.std(ddof=0)
    assert len(size) > 2 * len(held.future)
    found = model.forecast(6, level=0.8)
    for k in range(6):
        count = len(size) / (k + 1)
        half = np.quantile(size[:, k], 0.8 * (count + 1) / count)
        assert found.upper[k, 0] - found.mean[k, 0] == pytest.approx(half, rel=0.05)
        assert found.mean[k, 0] - found.lower[k, 0] == pytest.approx(half, rel=0.05)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("level", ["last", "mean"])
@pytest.mark.parametrize(("lags", "stride"), [(1, 1), (3, 1), (3, 4), (2, 9)])
def test_maps_iterated_at_once_are_maps_iterated(
    lags: int, stride: int, level: str, shared: bool
) -> None:
    x = torch.from_numpy(RNG(0).normal(size=(80, 2)).cumsum(0))
    maps = [fit_map(Plan(lags, stride, level, shared, ridge=r), [Piece(x)]) for r in (1e-6, 1.0)]
    past = torch.from_numpy(RNG(1).normal(size=(2, 5, 4, 2)))
    found = simulate_all(maps, past, 9)
    for one, given, mine in zip(maps, past, found, strict=True):
        assert torch.allclose(one.simulate(given, 9), mine, atol=1e-9)


@pytest.mark.parametrize("shared", [False, True])
def test_candidates_are_the_maps_of_their_plans(shared: bool) -> None:
    """One factor serves both levels and several numbers of lags."""
    x = torch.from_numpy(RNG(0).normal(size=(300, 2)).cumsum(0))
    held = hold_out([Piece(x / x.std(0))], 8, 5)
    found = [c for c in linear(held, (1, 2, 8), "linear") if c.model.plan.shared == shared]
    assert {(c.model.plan.lags, c.model.plan.level) for c in found} >= {(1, "last"), (8, "last")}
    for c in found:
        assert torch.allclose(
            c.model.simulate(held.past, 5),
            fit_map(c.model.plan, held.train).simulate(held.past, 5),
            atol=0.05,  # its factor has fewer windows, of eight lags each
        )


def test_of_a_linear_series_no_other_kind_is_chosen() -> None:
    for seed in range(2):
        model = Forecaster(horizon=8, lags=4).fit(oscillation(120, seed))
        assert model.kind_ in ("linear", "autoregression")
        assert "features" not in model.comparison_.errors, "one step is linear"


@pytest.mark.parametrize("drifts", [False, True])
def test_changes_have_a_constant_only_where_the_series_drifts(drifts: bool) -> None:
    x = torch.from_numpy(oscillation(300, 1) / 4 + drifts * np.linspace(0, 8, 300))[:, None]
    held = hold_out([Piece(x)], 6, 4)
    found = [c for c in linear(held, (6,), "linear") if c.model.plan.level == "last"]
    assert [c.model.plan.constant for c in found] == [drifts]
    (constant,) = {float(v) == 0 for v in found[0].model.constant}
    assert constant is not drifts


def test_a_map_without_a_constant_is_ridge_regression_of_changes() -> None:
    x = oscillation(120, 2)
    plan = Plan(4, 3, "last", ridge=0.1, constant=False)
    found = fit_map(plan, [Piece(torch.from_numpy(x)[:, None])])
    windows = np.lib.stride_tricks.sliding_window_view(x, 7)
    rows, later = windows[:, :3][:, ::-1] - windows[:, 3:4], windows[:, 4:] - windows[:, 3:4]
    gram = rows.T @ rows
    weight = np.linalg.solve(gram + 0.1 * np.trace(gram) / 3 * np.eye(3), rows.T @ later)
    assert np.allclose(found.matrix.numpy(), weight, atol=1e-10)


@pytest.mark.parametrize("kept", [True, False])
def test_a_refit_that_diverges_gets_a_larger_penalty(kept: bool) -> None:
    """Behind noise, rows of a map of the interval lie outside of it, from where it diverges."""
    rng, rows = RNG(0), np.full((200, 1), 0.3)
    for k in range(1, 200):
        rows[k] = 1 - 1.95 * rows[k - 1] ** 2
    pieces = [Piece(torch.from_numpy(rows + (0 if kept else 0.1) * rng.normal(size=rows.shape)))]
    plan = Plan(1, 1, "last", dictionary=Monomials(2), ridge=1e-24)
    found = refit(StrideMap(plan, torch.zeros(2, 1), torch.zeros(1)), pieces, 200, 0)
    forecast = found.simulate(pieces[0].x[:, None], 200)
    assert bool(forecast.abs().max() <= FARTHEST)
    assert (found.plan.ridge == plan.ridge) == kept


def test_a_comparison_says_why_the_least_error_was_not_chosen() -> None:
    errors = {"linear": np.ones(3), "autoregression": np.full(3, 0.9), "mean": np.full(3, 0.5)}
    settings = dict.fromkeys(("linear", "autoregression"), "")
    folds = {"linear": np.full(3, 0.7), "autoregression": np.full(3, 0.8)}
    found = Comparison(errors, settings, "linear", 10, folds)
    assert found.reason.startswith("autoregression has less error")
    assert "less over all held-out folds (0.7, autoregression 0.8)" in found.reason
    assert str(found).endswith(found.reason)
    assert not Comparison(errors, settings, "autoregression", 10).reason
    assert "small or not certain" in Comparison(errors, settings, "linear", 10).reason
    other = errors | {"finite": np.full(3, 0.95)}
    settings["finite"] = ""
    found = Comparison(other, settings, "finite", 10, folds)
    assert "linear models are compared over all held-out folds" in found.reason


def noisy(rows: int, seed: int) -> np.ndarray:
    """An autoregression of one step."""
    noise, x = RNG(seed).normal(size=rows), np.zeros(rows)
    for k in range(1, rows):
        x[k] = 0.8 * x[k - 1] + noise[k]
    return x


def test_a_check_has_the_errors_that_the_model_was_chosen_by() -> None:
    both = ("linear", "autoregression")
    model = Forecaster(horizon=6, lags=3).fit(noisy(150, 7), select=both)
    known = model.comparison_
    assert model.kind_ == "linear"
    assert known.average("linear") > known.average("autoregression"), "on the last rows"
    found, held = model.check(), hold_out(model._fitted_pieces, 3, 6)
    assert found.rows == "all 5 held-out folds"
    assert found.rows in found.text
    assert found.chosen == found.direct < found.linear

    def mean(squares: list[torch.Tensor]) -> float:
        return float(torch.cat(squares).mean(0).log().mean().div(2).exp())

    parts = held.parts
    fitted = [refit(model.model_, part.train, 6, 0) for part in parts]
    squares = [
        (p.future - p.simulated(m)).square()[..., 0] for p, m in zip(parts, fitted, strict=True)
    ]
    assert found.direct == pytest.approx(mean(squares), rel=1e-9)
    still = [(part.future - part.past[:, :1]).square()[..., 0] for part in parts]
    assert found.persistence == pytest.approx(mean(still), rel=1e-9)
    alone = Forecaster("linear", horizon=6, lags=3).fit(noisy(150, 7)).check()
    assert (alone.linear, alone.direct) == (found.linear, found.direct)

    bent = replace(known, errors=known.errors | {"finite": known.errors["linear"] / 2})
    last = check_of(held, replace(bent, chosen="finite"), 3)
    assert last.rows == "the last held-out rows"
    assert (last.linear, last.direct) == (known.average("autoregression"), known.average("linear"))
    assert last.chosen == pytest.approx(known.average("linear") / 2)


def test_a_check_after_validation_is_of_the_validation_rows() -> None:
    x, later = noisy(200, 1)[:150], noisy(200, 1)[150:]
    both = ("linear", "autoregression")
    known = Forecaster(horizon=6, lags=3).fit(x, validation=later, select=both).comparison_
    found = Forecaster("linear", horizon=6, lags=3).fit(x, validation=later).check()
    assert found.rows == "the last held-out rows"
    assert found.linear == known.average("autoregression")
    assert found.direct == known.average("linear")
    elsewhere = Forecaster("linear", horizon=6, lags=3).fit(x).check()
    assert elsewhere.linear != found.linear


def test_a_check_of_an_exact_series_tries_both_linear_maps() -> None:
    model = Forecaster("finite", horizon=10, lags=2).fit(np.sin(0.3 * np.arange(120.0)))
    found = model.check()
    assert found.closed
    assert found.linear < 1e-6
    assert found.direct < 1e-6


def test_a_check_of_rows_too_few_for_a_map_of_the_horizon() -> None:
    x = np.sin(0.3 * np.arange(90.0)) + 1e-4 * RNG(0).normal(size=90)
    found = Forecaster("autoregression", horizon=40, lags=2).fit(x).check()
    assert found.direct == np.inf
    assert found.linear < 1
    assert not found.closed
    assert "so few rows" in found.text


def rotating(rows: int, seed: int) -> np.ndarray:
    rng = RNG(seed)
    x, a = np.zeros((rows, 3)), 0.98 * np.linalg.qr(rng.normal(size=(3, 3)))[0]
    x[0] = 3 * rng.normal(size=3)
    for k in range(1, rows):
        x[k] = a @ x[k - 1] + 0.05 * rng.normal(size=3)
    return x


@pytest.mark.parametrize("rows", [60, 150])
def test_only_a_series_that_is_forecast_has_closed_dynamics(rows: int) -> None:
    """Of noise and of random walks a map is better than the mean and no change by chance alone."""
    both, seeds = ("linear", "autoregression"), range(8)

    def closed(x: np.ndarray) -> bool:
        return Forecaster(horizon=5, lags=1).fit(x, select=both).check().closed

    noise = [closed(RNG(seed).normal(size=(rows, 3))) for seed in seeds]
    walks = [closed(RNG(seed).normal(size=(rows, 3)).cumsum(0)) for seed in seeds]
    assert sum(noise) == 0
    assert sum(walks) <= 1, "of eight, at a level of 2.5 %"
    assert all(closed(rotating(rows, seed)) for seed in seeds)


def test_maps_for_each_step_that_are_worse_than_the_mean_prove_nothing() -> None:
    model = Forecaster(horizon=5, lags=1).fit(rotating(100, 0), select=("linear", "autoregression"))
    held, known = hold_out(model._fitted_pieces, 1, 5), model.comparison_
    assert check_of(held, known, 1).closed
    worse = known.folds | {"linear": 1.5 * np.maximum(known.folds["mean"], 1.0)}
    found = check_of(held, replace(known, folds=worse, chosen="autoregression"), 1)
    assert not found.closed
    assert "not certain" in found.text
    better = known.folds | {"linear": known.folds["autoregression"] / 2}
    beaten = replace(known, folds=better, chosen="linear")
    assert "not certain" in check_of(held, beaten, 1).text
    certain = known.better | {("linear", "autoregression")}
    assert "not linear" in check_of(held, replace(beaten, better=certain), 1).text
    by_chance = check_of(held, replace(known, better=frozenset()), 1)
    assert not by_chance.closed
    assert by_chance.linear == pytest.approx(np.exp(np.log(known.folds["autoregression"]).mean()))
