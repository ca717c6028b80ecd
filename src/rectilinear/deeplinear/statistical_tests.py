"""Statistical inference on repeated runs: rates, censored times, paired differences, folds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from rectilinear.errors import InputError, ShapeError
from rectilinear.scalars import check_finite_array, wilson_interval

MAX_EXACT_PAIRS = 12  # whose signs are all enumerated


@dataclass(frozen=True)
class Estimate:
    """A number and its confidence interval; infinite where the data leave an end open."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Survival:
    """The share of runs that have not converged yet, with its confidence band.

    Attributes:
        times: at which some runs converged.
        share: of runs that have not, just after these times.
        low: of the band.
        high: likewise.
        median: time to converge.
    """

    times: NDArray[np.float64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    median: Estimate


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Estimate:
    """A rate with Wilson's interval, which keeps its coverage near 0 and 1 and for few trials.

    Args:
        successes: their number.
        trials: their number.
        confidence: of the interval.

    See :func:`rectilinear.numerics.wilson_interval`.

    Example:
        >>> rate = wilson(98, 100)
        >>> rate.value, round(rate.low, 3), round(rate.high, 3)
        (0.98, 0.93, 0.994)
    """
    if not 0 <= successes <= trials or trials < 1:
        raise InputError(
            f"{successes} successes of {trials} trials",
            "0 <= successes <= trials, and at least one trial",
        )
    rate = int(successes) / int(trials)
    return Estimate(rate, *wilson_interval(rate, int(trials), confidence))


def kaplan_meier(times: ArrayLike, arrived: ArrayLike, confidence: float = 0.95) -> Survival:
    """Kaplan and Meier's estimate of the distribution of a censored time, and its median.

    ``S(t) = prod over t_i <= t of (1 - d_i / n_i)`` with ``d_i`` runs that converged at ``t_i``
    among ``n_i`` that had not before. The band is Greenwood's on the log-log scale; the interval
    of the median is where the band crosses one half.

    Args:
        times: to converge, or the budget of a run that did not.
        arrived: whether it converged; of the same length.
        confidence: of the band, pointwise.

    Raises:
        ShapeError: if the two differ in length or are empty.
        NonFiniteError: for a time that is not finite.

    Reference:
        Brookmeyer, Crowley, "A confidence interval for the median survival time", Biometrics 38,
        1982.

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
        # The band is undefined where the share is 0 or 1.
        warnings.simplefilter("ignore", RuntimeWarning)
        band = curve.confidence_interval(confidence, method="log-log")
    here = np.isin(curve.quantiles, at[done])
    steps, share = np.asarray(curve.quantiles)[here], np.asarray(curve.probabilities)[here]
    low, high = (np.asarray(edge.probabilities)[here] for edge in (band.low, band.high))
    if share[-1] == 0:  # no run is left, so the upper end of the band stays where it was
        low[-1], high[-1] = 0.0, high[-2] if len(high) > 1 else 1.0
    median = Estimate(*(_crossing(steps, line) for line in (share, low, high)))
    return Survival(steps, share, low, high, median)


def paired_logrank(
    times: ArrayLike,
    arrived: ArrayLike,
    other_times: ArrayLike,
    other_arrived: ArrayLike,
    *,
    overlap: float = 0.0,
) -> float:
    """The p value of the log-rank test for pairs, whether both converge at the same rate.

    The statistic is the sum of ``d_i``, the difference within pair ``i`` of the scores
    ``1(converged) - H(t)``, with ``H`` the Nelson-Aalen estimate from all runs together. Were the
    two alike, each ``d_i`` could as well have the other sign: ``z = sum d_i / sqrt(sum d_i^2)``,
    and all the signs themselves for few pairs. The common test takes the runs of a pair for
    independent; where they share their data it rejects too seldom. One when nothing converged.

    Args:
        times: to converge, or the budget of a run that did not; pair by pair.
        arrived: whether it converged.
        other_times: of the others.
        other_arrived: likewise.
        overlap: ``n_test / n_train`` where pairs are folds whose training sets overlap: then
            :func:`corrected_t` of the ``d_i``, a heuristic, for its correction was made for errors.

    Raises:
        ShapeError: if the two differ in length or are empty.
        NonFiniteError: for a time that is not finite.

    Reference:
        O'Brien, Fleming, "A paired Prentice-Wilcoxon test for censored paired data", Biometrics 43,
        1987, for scores in pairs; Jung, "Rank tests for matched survival data", Lifetime Data
        Analysis 5, 1999, for the log-rank test.

    Example:
        >>> fast, slow, all_converged = [1, 2, 3, 4, 5, 6], [11, 12, 13, 14, 15, 16], [True] * 6
        >>> round(paired_logrank(fast, all_converged, slow, all_converged), 3)
        0.031
    """
    left, right = _times(times, arrived), _times(other_times, other_arrived)
    if len(left[0]) != len(right[0]):
        raise ShapeError(
            f"{len(left[0])} runs and {len(right[0])} others",
            "pairs",
            "Leave out those without another.",
        )
    at, place = np.unique(np.concatenate([left[0], right[0]]), return_inverse=True)
    done = np.concatenate([left[1], right[1]])
    under_way = np.bincount(place, minlength=len(at))[::-1].cumsum()[::-1]
    scores = done - np.cumsum(np.bincount(place, done, minlength=len(at)) / under_way)[place]
    d = scores[: len(left[0])] - scores[len(left[0]) :]
    if overlap and len(d) > 1:
        return corrected_t(d, overlap)
    d = d[d != 0]
    if len(d) > MAX_EXACT_PAIRS:
        return float(2 * stats.norm.sf(abs(d.sum()) / np.sqrt(d @ d)))
    sums = (1 - 2 * (np.arange(2 ** len(d))[:, None] >> np.arange(len(d)) & 1)) @ d
    # The sum itself is one of them, but for rounding.
    return float(np.mean(np.abs(sums) >= abs(d.sum()) * (1 - 1e-9)))


def wilcoxon(differences: ArrayLike) -> float:
    """The p value of Wilcoxon's signed-rank test, whether differences are symmetric about zero.

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
    """P values adjusted by Holm's method, which bounds the chance of any false rejection.

    ``p'_(i) = max over j <= i of min(1, (m - j + 1) p_(j))`` for the ordered p values.

    Reference:
        Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
        Statistics 6, 1979.

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
    """The p value of the corrected resampled t test, for folds whose training sets overlap.

    ``t = mean(d) / sqrt((1/J + n_test/n_train) var(d))`` with ``J - 1`` degrees of freedom. The
    plain t test takes the ``J`` differences for independent and rejects far too often.

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
        raise InputError(
            f"test_fraction = {test_fraction}",
            "n_test / n_train, a positive number",
            "Use 1 / (k - 1) for k folds.",
        )
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
            fix="Give a run that did not converge its budget as time, and False.",
        )
    return at, done


def _finite(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ShapeError(f"{name} of shape {array.shape}", "one dimension", "Flatten them.")
    check_finite_array(array, name)
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
