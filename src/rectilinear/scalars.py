"""Checks of counts, numbers, seeds and arrays, tolerances and shares, that need no torch.

Processes that compute with NumPy alone start without it.
"""

from __future__ import annotations

from math import sqrt
from numbers import Real
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rectilinear.errors import ConfigError, DataError, NonFiniteError

EPS = float(np.finfo(np.float64).eps)
RANK_ROUNDINGS = 10  # rounding errors a column that count as zero


def is_count(value: object, least: int) -> bool:
    """True if ``value`` is an integer of at least ``least``.

    Example:
        >>> is_count(3, 1), is_count(2.5, 1), is_count("3", 1), is_count(0, 1)
        (True, False, False, False)
    """
    return (
        isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= least
    )


def is_within(value: object, low: float, high: float = np.inf) -> bool:
    """True if ``value`` is a real number, no truth value, with ``low <= value < high``.

    Example:
        >>> is_within(2, 1), is_within("2", 1), is_within(True, 0), is_within(float("nan"), 0)
        (True, False, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool) and low <= float(value) < high


def share_text(share: float) -> str:
    """The share in four digits; near one, what is missing.

    Example:
        >>> share_text(0.98765), share_text(1 - 3e-7), share_text(1.0), share_text(1 - 1e-16)
        ('0.9877', '1 - 3e-07', '1', '1')
    """
    left = 1 - share
    return f"1 - {left:.1g}" if 10 * EPS < left < 5e-5 else f"{share:.4g}"


def check_finite_array(x: NDArray[Any], name: str) -> None:
    """Raise if an array of numbers holds a NaN or an infinity.

    Example:
        >>> check_finite_array(np.array([0.0, np.nan]), "data")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rectilinear.errors.NonFiniteError: Got 1 NaN or infinite entry in data, first at (1,); ...
    """
    known = np.isfinite(x)
    if known.all():
        return
    where = np.argwhere(~known)
    count, first = len(where), tuple(where[0].tolist())
    entries = "entry" if count == 1 else "entries"
    raise NonFiniteError(
        got=f"{count} NaN or infinite {entries} in {name}, first at {first}",
        expected="finite numbers",
        fix=f"Remove or replace {'it' if count == 1 else 'them'}.",
    )


def check_seed(seed: object, least: int = -(2**63)) -> int:
    """The seed as an integer that random generators take.

    Example:
        >>> check_seed(np.int32(3))
        3
        >>> check_seed("a")
        Traceback (most recent call last):
        rectilinear.errors.ConfigError: Got seed = 'a'; expected an integer of at most 64 bits.
    """
    if (
        isinstance(seed, int | np.integer)
        and not isinstance(seed, bool)
        and least <= int(seed) < 2**64
    ):
        return int(seed)
    expected = "an integer of at most 64 bits" if least < 0 else f"an integer of at least {least}"
    raise ConfigError(f"seed = {seed!r}", expected)


def rank_tolerance(columns: int) -> float:
    """The share of the largest singular value below which others are rounding, in float64.

    Ten rounding errors a column: what centring and a QR decomposition leave of a column that
    depends on the others. With one column, the share of its mean below which a spread is rounding.

    Example:
        >>> rank_tolerance(100) < 1e-12
        True
    """
    return RANK_ROUNDINGS * EPS * columns


def wilson_interval(rate: float, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's confidence interval of a rate, which keeps its coverage near 0 and 1.

    Args:
        rate: successes divided by trials, from 0 to 1.
        trials: how many, at least one.
        confidence: coverage, above 0 and below 1.

    Reference: Wilson, "Probable inference, the law of succession, and statistical inference", JASA
    22, 1927; the formula is Newcombe's, Statistics in Medicine 17, 1998.

    Example:
        >>> low, high = wilson_interval(0.98, 100)
        >>> round(low, 3), round(high, 3)
        (0.93, 0.994)
    """
    z = NormalDist().inv_cdf(0.5 + 0.5 * confidence)
    width = 2 * (trials + z**2)
    centre = (2 * trials * rate + z**2) / width
    half = z / width * sqrt(4 * trials * rate * (1 - rate) + z**2)
    return (0.0 if rate == 0 else centre - half), (1.0 if rate == 1 else centre + half)


def check_same_order(X: Any, y: Any) -> None:
    """Raise for frames whose labels say that row ``i`` of one is not row ``i`` of the other.

    Labels are those of an ``index``, as of pandas; what has none passes.

    Example:
        >>> check_same_order([1.0, 2.0], [3.0, 4.0])
    """
    one: Any
    other: Any
    one, other = (getattr(values, "index", None) for values in (X, y))
    if (
        not (hasattr(one, "equals") and hasattr(other, "equals"))
        or len(one) != len(other)
        or one.equals(other)
    ):
        return
    if one.sort_values().equals(other.sort_values()):
        raise DataError(
            got="data and labels whose rows have the same labels in another order",
            expected="row i of the labels for row i of the data",
            fix="Pass y.loc[X.index]; or y.to_numpy(), where the index means nothing.",
        )
