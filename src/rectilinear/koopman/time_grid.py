"""The regular grid of the rows: equal steps, dates, months, or business hours."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rectilinear.errors import DataError, ForecastWarning

JITTER = 0.2
"""Stamps may be off the grid by this part of a step; more is irregular sampling."""
COVERED = 0.8
"""A grid is the one meant where rows stand on this part of it."""
_EVEN = 1e-3  # stamps off by a smaller part of a step are equal steps
_DAY = np.timedelta64(1, "D")
Stamps = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Clock:
    """A grid of stamps, whose positions are integers.

    Attributes:
        kind: ``"time"`` equal steps of numbers or dates, ``"months"`` whole months, ``"sessions"``
            the same times of the same days of the week.
        origin: the stamp of position 0.
        step: of the grid: a number, a duration, or a number of months.
        mask: days of the week, for sessions.
        slots: times of day, for sessions.
    """

    kind: str
    origin: Any
    step: Any
    mask: str = ""
    slots: Stamps | None = None
    at_end: bool = False

    def stamps(self, positions: Stamps) -> Stamps:
        """The stamps at integer positions."""
        if self.kind == "time":
            return self.origin + positions * self.step
        if self.kind == "months":
            month = self.origin.astype("datetime64[M]") + positions * self.step
            rest = self.origin - self.origin.astype("datetime64[M]")
            if self.at_end:
                time = self.origin - self.origin.astype("datetime64[D]")
                return (month + 1).astype("datetime64[D]").astype("datetime64[ns]") - _DAY + time
            return month.astype("datetime64[ns]") + rest
        assert self.slots is not None, "sessions have times of day"
        day, slot = np.divmod(positions, len(self.slots))
        days = np.busday_offset(self.origin.astype("datetime64[D]"), day, weekmask=self.mask)
        return days.astype("datetime64[ns]") + self.slots[slot]


def read_clock(stamps: Stamps, what: str = "the series") -> tuple[Clock, NDArray[np.int64]]:
    """The grid of increasing stamps (numbers or ``datetime64``), and the position of each.

    Whole months come first, then equal steps and business hours, by the rows that would be missing.

    Example:
        >>> days = np.array(["2024-01-31", "2024-02-29", "2024-04-30"], dtype="datetime64[ns]")
        >>> clock, positions = read_clock(days)
        >>> clock.kind, positions.tolist(), clock.stamps(np.array([4])).astype("datetime64[D]")
        ('months', [0, 1, 3], array(['2024-05-31'], dtype='datetime64[D]'))
    """
    dates = stamps.dtype.kind == "M"
    stamps = stamps.astype("datetime64[ns]") if dates else stamps.astype(np.float64)
    missing = np.isnat(stamps) if dates else ~np.isfinite(stamps)
    if missing.any():
        raise DataError(
            f"{int(missing.sum())} stamps of {what} that are missing, first in row "
            f"{int(missing.argmax())}",
            "a date or time for each row",
            "Leave these rows out.",
        )
    if len(stamps) < 2:
        return Clock("time", stamps[0], np.timedelta64(1, "D") if dates else 1.0), np.zeros(
            1, np.int64
        )
    steps = np.diff(stamps)
    if not (steps > steps[0] * 0).all():
        row = int((steps <= steps[0] * 0).argmax())
        raise DataError(
            f"stamps of {what} that do not increase: {stamps[row]}, then {stamps[row + 1]}",
            "increasing stamps, one row each",
            "Sort the rows, or pass several series apart (on the command line: --run-column, and "
            "--time for the column of times). Local times that repeat at the end of daylight "
            "saving: write UTC or offsets, as in 2024-10-27 02:00+01:00.",
        )
    months = _months(stamps) if dates else None
    if months is not None:
        return months
    equal = _equal(stamps, float(np.median(steps.astype(np.float64))), dates=dates)
    sessions = _sessions(stamps) if dates else None
    if sessions is not None and _covers(sessions) and not (equal is not None and _covers(equal)):
        return sessions
    if equal is not None:
        _say_jitter(stamps, *equal)
        return equal
    short, long = (_said(step) for step in (steps.min(), steps.max()))
    raise DataError(
        f"stamps of {what} on no regular grid: steps from {short} to {long}",
        f"equal steps, up to {JITTER:.0%} of one, rows left out, months, or hours of business",
        "Resample (pandas: frame.resample(...).mean()), or use KoopmanRegressor(delays=1), which "
        "takes irregular times.",
    )


def _equal(stamps: Stamps, usual: float, *, dates: bool) -> tuple[Clock, NDArray[np.int64]] | None:
    apart = (stamps - stamps[0]).astype(np.float64)
    counts = np.round(np.diff(apart) / usual).astype(np.int64)
    positions = np.concatenate([np.zeros(1, np.int64), counts.cumsum()])
    if (counts < 1).any():
        return None
    usual = float(apart @ positions / float(positions @ positions))  # jitter moves the median
    off = float(np.abs(apart - usual * positions).max()) / usual
    if off > JITTER:
        return None
    exact = float(np.median(np.diff(apart)))
    if np.abs(apart - exact * positions).max() <= 1e-6 * exact:
        usual = exact
    if off > _EVEN and dates:
        return Clock("time", *_round(stamps, apart, usual, positions)), positions
    step: Any = np.timedelta64(round(usual), "ns") if dates else usual
    return Clock("time", stamps[0], step), positions


def _round(stamps: Stamps, apart: Stamps, step: float, positions: Stamps) -> tuple[Any, Any]:
    """Origin and step of dates that jitter: as round as they can be, no farther from the dates."""
    first = float(stamps[0].astype(np.int64))

    def off(origin: float, step: float) -> float:
        return float(np.abs(apart - origin + first - step * positions).max())

    rest = apart - step * positions
    origin = first + float(rest.max() + rest.min()) / 2
    most = max(1.5 * off(origin, step), _EVEN * step)
    for unit in (86400, 3600, 1800, 900, 600, 300, 60, 30, 15, 10, 5, 1, 0.1, 0.01, 0.001):
        size = unit * 1e9
        near = round(origin / size) * size, round(step / size) * size
        if near[1] > 0 and off(*near) <= most:
            origin, step = near
            break
    return np.datetime64(round(origin), "ns"), np.timedelta64(round(step), "ns")


def _said(step: Any) -> str:
    """A step; of time with its unit, the largest of which it has at least one."""
    if not isinstance(step, np.timedelta64):
        return f"{step:g}"
    seconds = float(step / np.timedelta64(1, "s"))
    units = {"days": 86_400.0, "h": 3_600.0, "min": 60.0, "s": 1.0}
    unit = next((name for name, size in units.items() if seconds >= size), "s")
    return f"{seconds / units[unit]:.4g} {unit}"


def _covers(found: tuple[Clock, NDArray[np.int64]]) -> bool:
    positions = found[1]
    return len(positions) / (positions[-1] - positions[0] + 1) >= COVERED


def _say_jitter(stamps: Stamps, clock: Clock, positions: NDArray[np.int64]) -> None:
    off = np.abs((stamps - clock.stamps(positions)).astype(np.float64)).max()
    step = clock.step.astype(np.float64) if stamps.dtype.kind == "M" else clock.step
    part = float(off / step)
    if part > _EVEN:
        warnings.warn(
            f"stamps are up to {part:.1%} of a step off equal steps, and count as equal",
            ForecastWarning,
            stacklevel=3,
        )


def _months(stamps: Stamps) -> tuple[Clock, NDArray[np.int64]] | None:
    """Stamps on the same day of the month, or its last, one or more whole months apart."""
    month, day = stamps.astype("datetime64[M]"), stamps.astype("datetime64[D]")
    if len(np.unique(stamps - day)) > 1 or (np.diff(month).astype(int) < 1).any():
        return None
    last = ((day + 1).astype("datetime64[M]") != month).all()
    if not last and len(np.unique(day - month.astype("datetime64[D]"))) > 1:
        return None
    apart = (month - month[0]).astype(np.int64)
    step = int(np.gcd.reduce(apart))
    return Clock("months", stamps[0], step, at_end=bool(last)), apart // step


def _sessions(stamps: Stamps) -> tuple[Clock, NDArray[np.int64]] | None:
    """The same times of day, on the days of the week that occur."""
    days = stamps.astype("datetime64[D]")
    slots, index = np.unique(stamps - days, return_inverse=True)
    weekday = (days.astype(np.int64) + 3) % 7
    mask = "".join("1" if k in weekday else "0" for k in range(7))
    if 2 * len(slots) > len(stamps) or (mask == "1111111" and len(slots) == 1):
        return None
    day = np.busday_count(days[0], days, weekmask=mask)
    clock = Clock("sessions", days[0].astype("datetime64[ns]"), 1, mask, slots)
    return clock, day * len(slots) + index
