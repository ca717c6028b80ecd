"""Statistics for repeated runs: rates, times cut off at a budget, paired differences, folds that share their data."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from rectilinear.errors import InputError, NonFiniteError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Estimate:
    """A number and its confidence interval; infinite where the data leave an end open."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Survival:
    """The share of runs that have not arrived yet, just after each of the times at which some did, with its band."""

    times: NDArray[np.float64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    median: Estimate


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Estimate:
    """A rate with Wilson's interval, which keeps its coverage near 0 and 1 and for few trials.

    Reference:
        Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.

    Raises:
        InputError: if there are no trials, or more successes than trials.

    Example:
        >>> rate = wilson(98, 100)
        >>> rate.value, round(rate.low, 3), round(rate.high, 3)
        (0.98, 0.93, 0.994)
    """
    if not 0 <= successes <= trials or trials < 1:
        raise InputError(
            f"{successes} successes of {trials} trials", "0 <= successes <= trials, and at least one trial"
        )
    interval = stats.binomtest(int(successes), int(trials)).proportion_ci(confidence, method="wilson")
    return Estimate(successes / trials, float(interval.low), float(interval.high))


def kaplan_meier(times: ArrayLike, arrived: ArrayLike, confidence: float = 0.95) -> Survival:
    """The law of a time that is known only up to a budget: Kaplan and Meier's estimate, and its median.

    ``S(t) = prod over arrivals t_i <= t of (1 - d_i / n_i)`` with ``d_i`` arrivals among ``n_i`` still under way. The
    band is Greenwood's on the log-log scale; the interval of the median is where the band crosses one half.

    Args:
        times: of arrival, or the budget of a run that did not arrive.
        arrived: whether it did; of the same length.
        confidence: of the band, pointwise.

    Raises:
        ShapeError: if the two differ in length or are empty.
        NonFiniteError: for a time that is not finite.

    Reference:
        Brookmeyer, Crowley, "A confidence interval for the median survival time", Biometrics 38, 1982.

    Example:
        >>> kaplan_meier([10, 20, 30, 100, 100], [True, True, True, False, False]).median.value
        30.0
    """
    at, done = _times(times, arrived)
    if not done.any():
        never, none = Estimate(np.inf, np.inf, np.inf), np.empty(0)
        return Survival(none, none, none, none, never)
    curve = stats.ecdf(_censored(at, done)).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the band is undefined where the share is 0 or 1
        band = curve.confidence_interval(confidence, method="log-log")
    here = np.isin(curve.quantiles, at[done])
    steps, share = np.asarray(curve.quantiles)[here], np.asarray(curve.probabilities)[here]
    low, high = (np.asarray(edge.probabilities)[here] for edge in (band.low, band.high))
    if share[-1] == 0:  # nobody is left to say how much higher it could be: the band stays where it was
        low[-1], high[-1] = 0.0, high[-2] if len(high) > 1 else 1.0
    median = Estimate(*(_crossing(steps, line) for line in (share, low, high)))
    return Survival(steps, share, low, high, median)


def logrank(times: ArrayLike, arrived: ArrayLike, other_times: ArrayLike, other_arrived: ArrayLike) -> float:
    """The p value of the log-rank test: that two groups arrive at the same rate at all times.

    One when nothing arrived in either. Arguments are those of :func:`kaplan_meier`, twice.

    Reference:
        Mantel, "Evaluation of survival data and two new rank order statistics", Cancer Chemotherapy Reports 50, 1966.

    Example:
        >>> logrank([1, 2, 3, 4], [True] * 4, [11, 12, 13, 14], [True] * 4) < 0.05
        True
    """
    left, right = _times(times, arrived), _times(other_times, other_arrived)
    if not (left[1].any() or right[1].any()):
        return 1.0
    with np.errstate(invalid="ignore"):  # 0/0 where all arrive at once
        return _probability(stats.logrank(_censored(*left), _censored(*right)).pvalue)


def wilcoxon(differences: ArrayLike) -> float:
    """The p value of Wilcoxon's signed-rank test: that paired differences are symmetric about zero.

    One when every difference is zero.

    Raises:
        NonFiniteError: for a difference that is NaN or infinite.

    Example:
        >>> wilcoxon([0.1, 0.4, 0.2, 0.5, 0.3, 0.6]) < 0.05
        True
    """
    d = _finite(differences, "differences")
    return 1.0 if not d.any() else _probability(stats.wilcoxon(d).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted so that the chance of any false rejection among them stays at the level: Holm's steps.

    ``p'_(i) = max over j <= i of min(1, (m - j + 1) p_(j))`` for the ordered p values.

    Reference:
        Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted.tolist()


def corrected_t(differences: ArrayLike, test_fraction: float) -> float:
    """The p value of the corrected resampled t test, for differences over folds whose training sets overlap.

    ``t = mean(d) / sqrt((1/J + n_test/n_train) var(d))`` with ``J - 1`` degrees of freedom. The plain t test takes
    the ``J`` differences for independent and rejects far too often.

    Args:
        differences: one a fold, ``(J,)``.
        test_fraction: ``n_test / n_train``.

    Raises:
        ShapeError: for fewer than two differences.
        NonFiniteError: for a difference that is NaN or infinite.
        InputError: for a fraction that is not positive.

    Reference:
        Nadeau, Bengio, "Inference for the generalization error", Machine Learning 52, 2003.

    Example:
        >>> corrected_t([0.9, 1.1, 1.0, 0.8, 1.2], test_fraction=1 / 4) < 0.05
        True
    """
    d = _finite(differences, "differences")
    if len(d) < 2:
        raise ShapeError(f"{len(d)} difference", "at least two folds", "Use more folds or repeats.")
    if not test_fraction > 0:
        raise InputError(f"test_fraction = {test_fraction}", "n_test / n_train, a positive number")
    if not d.any():
        return 1.0
    if (spread := np.sqrt((1 / len(d) + test_fraction) * d.var(ddof=1))) == 0:
        return 0.0
    return _probability(2 * stats.t.sf(abs(d.mean()) / spread, df=len(d) - 1))


def _times(times: ArrayLike, arrived: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    at, done = _finite(times, "times"), np.asarray(arrived, dtype=bool)
    if at.shape != done.shape or not len(at):
        raise ShapeError(
            got=f"{len(at)} times and arrivals of shape {done.shape}",
            expected="one boolean a time, and at least one",
            fix="A run that did not arrive has its budget for a time, and False.",
        )
    return at, done


def _finite(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ShapeError(f"{name} of shape {array.shape}", "one dimension", "Flatten them.")
    if not np.isfinite(array).all():
        raise NonFiniteError(
            f"{name} with NaN or infinite entries", "finite numbers", "Leave out the runs they are of."
        )
    return array


def _censored(at: NDArray[np.float64], done: NDArray[np.bool_]) -> stats.CensoredData:
    return stats.CensoredData.right_censored(at, ~done)


def _crossing(times: NDArray[np.float64], share: NDArray[np.float64]) -> float:
    """The first time at which the share is at most one half."""
    below = np.flatnonzero(share <= 0.5)
    return float(times[below[0]]) if len(below) else np.inf


def _probability(p: float) -> float:
    """The p value; one where the statistic is 0/0, which says that nothing differs."""
    return float(p) if np.isfinite(p) else 1.0
