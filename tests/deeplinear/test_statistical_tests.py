"""Tests and intervals on data of known distribution: level and coverage are correct."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rectilinear.deeplinear import Synthetic, statistical_tests, train_ensemble
from rectilinear.errors import InputError, NonFiniteError, ShapeError

LEVEL, SLACK, SIMULATIONS = (
    0.05,
    0.015,
    2000,
)  # three standard errors of a rate of 5 % over 2,000 simulations


def rejections(p_values: list[float]) -> float:
    return float(np.mean(np.asarray(p_values) < LEVEL))


def censored(
    rng: np.random.Generator, n: int, budget: float, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Exponential times, cut off at a budget."""
    times = rng.exponential(scale, n)
    return np.minimum(times, budget), times <= budget


@pytest.mark.slow
def test_wilcoxon_rejects_at_its_level() -> None:
    rng = np.random.default_rng(0)
    p_values = [statistical_tests.wilcoxon(rng.laplace(size=40)) for _ in range(SIMULATIONS)]
    assert rejections(p_values) == pytest.approx(LEVEL, abs=SLACK)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9], ids="shared {:g}".format)
@pytest.mark.parametrize("pairs", [9, 13, 60])
def test_paired_logrank_rejects_at_its_level(pairs: int, share: float) -> None:
    """Log-normal times, of which a part of the logarithm belongs to the pair."""
    rng, p_values = np.random.default_rng(1), []
    for _ in range(SIMULATIONS):
        logs = share**0.5 * rng.normal(size=pairs) + (1 - share) ** 0.5 * rng.normal(
            size=(2, pairs)
        )
        times = np.exp(logs)
        left, right = ((np.minimum(t, 2.0), t <= 2.0) for t in times)
        p_values.append(statistical_tests.paired_logrank(*left, *right))
    assert rejections(p_values) == pytest.approx(LEVEL, abs=SLACK)


@pytest.mark.slow
def test_paired_logrank_rejects_at_its_level_on_a_study() -> None:
    """Nets of one kind on the same lines from two initialisations; the usual test hardly ever rejects."""
    p_values, common = [], []
    for repeat in range(SIMULATIONS // 4):
        data, *seeds = np.random.SeedSequence([7, repeat]).spawn(3)
        train_set = Synthetic(noise=(0.05,), rows=50).draw(data, range(60)).train
        runs = [
            train_ensemble(
                train_set,
                (1, 1),
                init="uniform",
                lr=0.01,
                steps=1000,
                checkpoints=2,
                tol=5e-5,
                seed=seed,
            )
            for seed in seeds
        ]
        pair = [(np.where(run.converged, run.hit, 1000), run.converged) for run in runs]
        p_values.append(statistical_tests.paired_logrank(*pair[0], *pair[1]))
        common.append(
            stats.logrank(*(stats.CensoredData.right_censored(t, ~done) for t, done in pair)).pvalue
        )
    assert rejections(p_values) == pytest.approx(
        LEVEL, abs=0.03
    )  # three standard errors over 500 simulations
    assert rejections(common) < 0.02, "what the pairing is for"


def test_paired_logrank_adds_up_to_the_logrank_statistic() -> None:
    """By the definition: convergences of one group less those expected of its share of the runs still
    under way.
    """
    rng = np.random.default_rng(0)
    (left, here), (right, there) = censored(rng, 40, 1.2), censored(rng, 40, 1.2, scale=1.5)
    at, done = np.concatenate([left, right]), np.concatenate([here, there])
    expected = sum(np.sum(left >= t) / np.sum(at >= t) for t in at[done])
    hazard = np.array(
        [np.sum([1 / np.sum(at >= t) for t in at[done] if t <= until]) for until in at]
    )
    d = (done - hazard)[:40] - (done - hazard)[40:]
    assert d.sum() == pytest.approx(2 * (here.sum() - expected))
    z = abs(d.sum()) / np.sqrt(d @ d)
    assert statistical_tests.paired_logrank(left, here, right, there) == pytest.approx(
        2 * stats.norm.sf(z)
    )


def test_corrected_t_rejects_at_its_level_where_folds_share_their_data() -> None:
    """Differences of J folds with the correlation n_test / (n_train + n_test) that the correction
    is made for.
    """
    rng, folds, fraction = np.random.default_rng(2), 20, 1 / 9
    shared = fraction / (1 + fraction)
    p_values, plain = [], []
    for _ in range(SIMULATIONS):
        d = np.sqrt(shared) * rng.normal() + np.sqrt(1 - shared) * rng.normal(size=folds)
        p_values.append(statistical_tests.corrected_t(d, fraction))
        plain.append(statistical_tests.corrected_t(d, 1e-12))
    assert rejections(p_values) == pytest.approx(LEVEL, abs=SLACK)
    assert rejections(plain) > 0.2, "what the correction is for"


def test_corrected_t_on_two_learners_of_equal_error() -> None:
    """Two regressions that see one feature each, equally informative, under repeated random splits
    of one table.
    """
    rng, n, test, splits = np.random.default_rng(3), 60, 12, 15
    p_values = []
    for _ in range(SIMULATIONS):
        x = rng.normal(size=(n, 2))
        y = x.sum(1) + rng.normal(size=n)
        order = np.argsort(rng.random((splits, n)), axis=1)
        inside, outside = order[:, test:], order[:, :test]
        slopes = (x[inside] * y[inside, None]).sum(1) / (x[inside] ** 2).sum(1)
        errors = ((y[outside][..., None] - slopes[:, None] * x[outside]) ** 2).mean(1)
        p_values.append(
            statistical_tests.corrected_t(errors[:, 0] - errors[:, 1], test / (n - test))
        )
    assert rejections(p_values) <= LEVEL + SLACK


def test_holm_keeps_the_chance_of_any_false_rejection() -> None:
    rng = np.random.default_rng(4)
    adjusted = [min(statistical_tests.holm(rng.random(10).tolist())) for _ in range(SIMULATIONS)]
    assert rejections(adjusted) == pytest.approx(1 - 0.995**10, abs=SLACK)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(deadline=None, max_examples=25)
def test_holm_by_its_definition(p: list[float]) -> None:
    ordered = sorted(p)
    by_hand = [
        max(min(1.0, (len(p) - j) * ordered[j]) for j in range(ordered.index(value) + 1))
        for value in p
    ]
    # Equal p values: the definition adjusts the last of them, whose factor is smallest and whose
    # maximum is largest.
    last = [len(p) - 1 - ordered[::-1].index(value) for value in p]
    by_hand = [max(min(1.0, (len(p) - j) * ordered[j]) for j in range(i + 1)) for i in last]
    assert statistical_tests.holm(p) == pytest.approx(by_hand)


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.9])
def test_wilson_covers(rate: float) -> None:
    n = 100
    intervals = [statistical_tests.wilson(k, n) for k in range(n + 1)]
    inside = [interval.low <= rate <= interval.high for interval in intervals]
    coverage = float(stats.binom.pmf(np.arange(n + 1), n, rate)[inside].sum())
    assert coverage == pytest.approx(0.95, abs=0.035), (
        "exact; Wilson's coverage swings around its confidence"
    )


@pytest.mark.slow
@pytest.mark.parametrize("budget", [1.0, 3.0])
def test_kaplan_meier_interval_of_the_median_covers(budget: float) -> None:
    rng, truth = np.random.default_rng(5), np.log(2)
    found = [
        statistical_tests.kaplan_meier(*censored(rng, 80, budget)).median
        for _ in range(SIMULATIONS // 2)
    ]
    coverage = np.mean([estimate.low <= truth <= estimate.high for estimate in found])
    assert coverage == pytest.approx(0.95, abs=0.025)
    assert np.median([estimate.value for estimate in found]) == pytest.approx(truth, rel=0.05)


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=12))
@settings(deadline=None, max_examples=25)
def test_kaplan_meier_by_its_definition(runs: list[tuple[int, bool]]) -> None:
    times, arrived = zip(*runs, strict=True)
    share, by_hand = 1.0, []
    for time in sorted({time for time, done in runs if done}):
        under_way = sum(other >= time for other in times)
        share *= 1 - sum(other == time and done for other, done in runs) / under_way
        by_hand.append((float(time), share))
    curve = statistical_tests.kaplan_meier(times, arrived)
    assert list(curve.times) == [time for time, _ in by_hand]
    np.testing.assert_allclose(curve.share, [share for _, share in by_hand], atol=1e-12)
    assert np.all(curve.low <= curve.share + 1e-12)
    assert np.all(curve.share <= curve.high + 1e-12)
    assert curve.median.low <= curve.median.value <= curve.median.high


def test_nothing_to_tell_apart() -> None:
    assert statistical_tests.wilcoxon([0.0, 0.0]) == 1.0
    assert statistical_tests.corrected_t([0.0, 0.0], 0.1) == 1.0
    assert statistical_tests.corrected_t([0.5, 0.5], 0.1) == 0.0
    assert statistical_tests.paired_logrank([5, 5], [False, False], [5, 5], [False, False]) == 1.0
    assert statistical_tests.paired_logrank([5], [True], [5], [True]) == 1.0
    assert (
        statistical_tests.paired_logrank([5, 5], [True, True], [9, 9], [False, False], overlap=0.25)
        < 1e-6
    )
    assert statistical_tests.paired_logrank([5, 5], [True, True], [9, 9], [False, False]) == 0.5, (
        "two pairs say no more"
    )
    never = statistical_tests.kaplan_meier([5, 5], [False, False])
    assert never.median.low == np.inf
    assert not len(never.times)


def test_what_is_no_data() -> None:
    with pytest.raises(InputError, match="3 successes of 2"):
        statistical_tests.wilson(3, 2)
    with pytest.raises(InputError, match=r"1 / \(k - 1\) for k folds"):
        statistical_tests.corrected_t([0.1, 0.2], 0.0)
    with pytest.raises(ShapeError, match="one boolean a time"):
        statistical_tests.kaplan_meier([], [])
    with pytest.raises(ShapeError, match="2 runs and 1 others"):
        statistical_tests.paired_logrank([1, 2], [True, True], [1], [True])
    with pytest.raises(NonFiniteError, match="times"):
        statistical_tests.kaplan_meier([np.inf], [False])
    with pytest.raises(ShapeError, match="two folds"):
        statistical_tests.corrected_t([1.0], 0.1)
    with pytest.raises(InputError, match="test_fraction"):
        statistical_tests.corrected_t([1.0, 2.0], 0.0)
