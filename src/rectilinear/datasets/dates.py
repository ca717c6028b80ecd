"""Dates and times written in text or in several columns, in the notations of one meaning."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rectilinear.datasets.text_tables import is_missing
from rectilinear.errors import DataError

_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_NAME = r"(?P<name>[A-Za-z]{3,9})\.?"
_YEAR, _DAY, _CLOCK = r"(?P<year>\d{4})", r"(?P<day>\d{1,2})", r"(?P<clock>[ T]\d{1,2}:\d{2}.*)?"
_QUARTER = re.compile(rf"{_YEAR}[ -]?[Qq](?P<quarter>[1-4])")
_WEEK = re.compile(rf"{_YEAR}[ -]?[Ww](?P<week>\d{{1,2}})")
_NAMED = tuple(
    re.compile(form + _CLOCK)
    for form in (
        rf"{_NAME} {_DAY},? {_YEAR}",
        rf"{_DAY}[ -]{_NAME}[ -]{_YEAR}",
        rf"{_YEAR}[ -]{_NAME}(?:[ -]{_DAY})?",
        rf"{_NAME}[ -]{_YEAR}",
    )
)
_LOOSE = re.compile(r"(\d{4})-(\d{1,2})(?:-(\d{1,2}))?" + _CLOCK)
_POINTS = re.compile(rf"{_DAY}\.(?P<month>\d{{1,2}})\.{_YEAR}" + _CLOCK)
_SLASHES = re.compile(r"(\d{1,2})-(\d{1,2})-(\d{4})" + _CLOCK)
_ISO = re.compile(r"\d{4}-\d{2}(-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?)?")
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_LEAP = 59  # the place of 29 February, from 0
_OFFSET = re.compile(r"(?P<stamp>.*\d:\d{2}.*?) ?(?P<offset>[+-]\d{2}(?::?\d{2})?)")


class _AmbiguousDatesError(DataError):
    """Dates whose day and month could change places."""


def read_dates(texts: Sequence[str]) -> NDArray[np.datetime64]:
    """The dates of texts, in nanoseconds; times with an offset from UTC in UTC.

    2024-01-31, 2024/1/31 and 31.1.2024, with a time or without one; 2024-01; 2024 Q1; 2024 W05 (the
    Monday of this week); 31 Jan 2024, Jan 31, 2024, and Jan 2024. Of 1/31/2024 or 31/1/2024 one
    number above 12 says which is the day, in all rows.

    Raises:
        DataError: for other text, and for days and months that could change places.

    Example:
        >>> [str(day)[:10] for day in read_dates(["2024 Q3", "2024 W02", "Feb 3, 2024"])]
        ['2024-07-01', '2024-01-08', '2024-02-03']
        >>> str(read_dates(["2024-01-31T12:00+02:00"])[0])[:16]
        '2024-01-31T10:00'
        >>> [str(day)[:10] for day in read_dates(["1/2/2024", "1/31/2024"])]
        ['2024-01-02', '2024-01-31']
    """
    plain = [text.strip().replace("/", "-").removesuffix("Z") for text in texts]
    if all(map(_ISO.fullmatch, plain)):
        return np.array(plain, dtype="datetime64[ns]")
    order = _day_and_month(plain)
    found = []
    for text, written in zip(texts, plain, strict=True):
        try:
            found.append(_one(written, order))
        except ValueError as error:
            raise DataError(
                f"times such as '{text}': {error}",
                "numbers, or dates as 2024-01-31, 2024-01-31 06:00, 2024 Q1 or 31 Jan 2024",
                "Write dates as year-month-day.",
            ) from error
    return np.array(found, dtype="datetime64[ns]")


def stamps_of(times: Any) -> NDArray[Any]:
    """Times as float64, or as ``datetime64`` where they are dates or text of dates."""
    array = np.asarray(times)
    if array.dtype.kind in "iuf":
        return array.astype(np.float64).reshape(-1)
    if array.dtype.kind == "M":
        return array.reshape(-1)
    return read_dates([str(t) for t in array.flat])


def are_dates(texts: Sequence[str]) -> bool:
    """True where all of some texts are dates, and none is a number.

    Example:
        >>> are_dates(["1 Jan 2024", ""]), are_dates(["2024", "2025"]), are_dates([""])
        (True, False, False)
    """
    full = [text for text in texts if not is_missing(text)]
    try:
        return bool(full) and not any(map(_is_number, full)) and len(read_dates(full)) > 0
    except _AmbiguousDatesError:
        return True
    except DataError:
        return False


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _day_and_month(texts: Sequence[str]) -> tuple[int, int]:
    """The places of day and month in dates with slashes."""
    pairs = [tuple(map(int, m.groups()[:2])) for m in map(_SLASHES.fullmatch, texts) if m]
    if not pairs:
        return 0, 1
    first, second = (max(pair[k] for pair in pairs) for k in (0, 1))
    if max(first, second) <= 12 or min(first, second) > 12:
        text = next(t for t in texts if _SLASHES.fullmatch(t))
        raise _AmbiguousDatesError(
            f"times such as '{text}', whose day and month could change places",
            "a number above 12 for the day in some row, and never for the month",
            "Write dates as year-month-day.",
        )
    return (0, 1) if first > 12 else (1, 0)


def _one(text: str, order: tuple[int, int]) -> np.datetime64:
    if match := _SLASHES.fullmatch(text):
        day, month = (int(match[k + 1]) for k in order)
        return _stamp(int(match[3]), month, day, match["clock"])
    if match := _QUARTER.fullmatch(text):
        return _stamp(int(match["year"]), 3 * int(match["quarter"]) - 2, 1, None)
    if match := _WEEK.fullmatch(text):
        return np.datetime64(date.fromisocalendar(int(match["year"]), int(match["week"]), 1))
    if match := _POINTS.fullmatch(text):
        return _stamp(int(match["year"]), int(match["month"]), int(match["day"]), match["clock"])
    for form in _NAMED:
        if match := form.fullmatch(text):
            day = int(match.groupdict().get("day") or 1)
            return _stamp(int(match["year"]), _month(match["name"].lower()), day, match["clock"])
    if is_missing(text):
        return np.datetime64("NaT", "ns")
    if match := _LOOSE.fullmatch(text):
        return _stamp(int(match[1]), int(match[2]), int(match[3] or 1), match["clock"])
    return _with_offset(text)


def _month(name: str) -> int:
    found = [i for i, month in enumerate(_MONTHS) if month.startswith(name)]
    if len(found) != 1:
        raise ValueError(f"no month is called {name}")
    return found[0] + 1


def _stamp(year: int, month: int, day: int, clock: str | None) -> np.datetime64:
    time = "" if clock is None else "T" + clock[1:].zfill(5 if clock.count(":") == 1 else 8)
    return _with_offset(date(year, month, day).isoformat() + time)


def _with_offset(text: str) -> np.datetime64:
    match = _OFFSET.fullmatch(text)
    if match is None:
        return np.datetime64(datetime.fromisoformat(text), "ns")
    moment = datetime.fromisoformat(f"{match['stamp']}{match['offset']}")
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "ns")


def count_from_first(
    names: Sequence[str], cells: Sequence[Sequence[str]]
) -> NDArray[np.float64] | None:
    """Months or days since the first row, from columns month, or month and day; None of others.

    A year of whose rows none is 29 February is taken to have 365 days. Months alone that rise in
    all rows, and anything but whole numbers of months and days, are other columns.

    Example:
        >>> count_from_first(["Month", "Day"], [["2", "28"], ["3", "1"], ["3", "4"]]).tolist()
        [0.0, 1.0, 4.0]
        >>> count_from_first(["month"], [["11"], ["12"], ["1"]]).tolist()
        [0.0, 1.0, 2.0]
    """
    kind = tuple(name.lower() for name in names)
    if kind not in (("month",), ("month", "day")):
        return None
    if not all(cell.isdecimal() and len(cell) <= 2 for row in cells for cell in row):
        return None
    rows = [[int(cell) - 1 for cell in row] for row in cells]
    if not all(0 <= row[0] < 12 and 0 <= row[-1] < _DAYS[row[0]] for row in rows):
        return None
    if kind == ("month",):
        places = np.array([row[0] for row in rows])
        steps = np.diff(places) % 12
        return None if (np.diff(places) > 0).all() else np.r_[0.0, steps.cumsum()]
    places = np.array([sum(_DAYS[:month]) + day for month, day in rows])
    before, after = places[:-1], places[1:]
    steps = (after - before) % 366
    wraps = after <= before
    early, late = before < _LEAP, after > _LEAP
    crossed = np.where(wraps, early | late, early & late)
    return np.r_[0.0, (steps - (crossed & (steps > 0))).cumsum()]
