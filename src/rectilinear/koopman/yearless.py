"""Months, and days of months, in columns without a year: counted from the first row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_LEAP = 59  # the place of 29 February, from 0


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
