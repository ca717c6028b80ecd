"""Time series: checked input, delay embedding, and training windows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from rectilinear.datasets.text_tables import in_words
from rectilinear.errors import ConfigError, DataError, DtypeError, ForecastWarning, ShapeError
from rectilinear.notebook import short_repr
from rectilinear.random import generator

FILLED = 5
"""Gaps of so many rows are filled by straight lines; longer ones part a series."""
LARGEST_GAP = FILLED + 1.0
"""Irregular samples may be so many median steps apart; beyond, a series has a gap."""
EQUAL_STEPS = 1e-6
"""Steps are equal when they differ by no more than this part of one, or by the rounding of their
times.
"""


@dataclass(frozen=True, eq=False)
class Series:
    """Time series of one system: float64 ``states`` ``(T_i, d)`` and ``times`` ``(T_i,)`` of each.

    Attributes:
        dt: the step; the median step where sampling is irregular.
        regular: whether all steps are equal.
    """

    states: tuple[Tensor, ...]
    times: tuple[Tensor, ...]
    dt: float
    regular: bool

    __repr__ = short_repr

    @property
    def dim(self) -> int:
        return self.states[0].shape[1]


def as_series(states: Any, times: Any = None, dt: float | None = None) -> Series:
    """Checked series from ``states``: ``(T,)``, ``(T, d)``, several ``(count, T, d)``, or a list.

    ``times`` has the same layout without the last axis; without it steps are ``dt``, 1 by default.
    If both are given they must agree; for irregular times ``dt`` is the step of the model, between
    half and twice the median step.

    Raises:
        ShapeError: if the arrays are not such.
        DtypeError: for dates, text or complex numbers.
        DataError: for gaps: entries that are not finite, times that do not increase or leave out a
            stretch.
        ConfigError: if ``dt`` is not positive, or not the step of ``times``.

    Example:
        >>> as_series(np.arange(6.0), dt=0.5).times[0].tolist()
        [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    """
    if dt is not None and not (np.isfinite(dt) and dt > 0):
        raise ConfigError(f"dt = {dt}", "a positive number")
    parts = [two_axes(part) for part in split_series(states, 3)]
    if len({part.shape[1] for part in parts}) != 1:
        raise ShapeError(
            "series with different numbers of columns",
            "the same columns in each",
            "Fit each kind of series by itself, or select the columns that all have.",
        )
    for i, part in enumerate(parts):
        _check_gaps(part, i)
    if times is None:
        step = 1.0 if dt is None else float(dt)
        return Series(
            tuple(parts),
            tuple(step * torch.arange(len(x)).double() for x in parts),
            step,
            regular=True,
        )
    given = split_series(times, 2)
    clocks = [numbers(clock, "times").flatten() for clock in given]
    check_clocks(clocks, len(parts))
    for i, (clock, part) in enumerate(zip(clocks, parts, strict=True)):
        check_stamps(len(clock), len(part), f"series {i}")
    steps = torch.cat([clock.diff() for clock in clocks])
    usual = float(steps.median()) if len(steps) else 1.0
    for i, clock in enumerate(clocks):
        _check_clock(clock, usual, i)
    off = float((steps - usual).abs().max()) if len(steps) else 0.0
    regular = off <= EQUAL_STEPS * usual
    if not regular and off <= min(2 * max(map(_resolution, given, clocks)), 0.01 * usual):
        regular, longest = True, max(clocks, key=len)  # equal but for the precision of the times
        usual = float(longest[-1] - longest[0]) / (len(longest) - 1)
        clocks = [clock[0] + usual * torch.arange(len(clock)).double() for clock in clocks]
    return Series(tuple(parts), tuple(clocks), _agreed(dt, usual, regular=regular), regular)


def check_series(series: object) -> None:
    """Raise a DtypeError for anything but a :class:`Series`, such as an array or a data frame."""
    if not isinstance(series, Series):
        raise DtypeError(
            f"series of type {type(series).__name__}", "a Series", "Pass koopman.as_series(states)."
        )


def _agreed(dt: float | None, usual: float, *, regular: bool) -> float:
    """The step of the model, where ``dt`` does not contradict the usual step of the times."""
    if dt is None or (regular and abs(dt - usual) <= 1e-3 * usual):
        return usual
    if not regular and usual / 2 <= dt <= 2 * usual:
        return float(dt)
    raise ConfigError(
        f"dt = {dt:g} beside times {usual:g} apart",
        "one of them, or both alike",
        "Leave dt out: the times say it.",
    )


def _resolution(given: Any, clock: Tensor) -> float:
    """The rounding of times as they were given."""
    kind = given.dtype if isinstance(given, Tensor) else getattr(np.asarray(given), "dtype", None)
    name = str(kind).removeprefix("torch.")
    eps = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}.get(name, 2.0**-53)
    return 2 * eps * float(clock.abs().max())


def embed(states: Any, delays: int) -> Tensor:
    """The windows of the latest ``delays`` rows of ``states``, newest first, each as one row.

    ``(..., T, d)`` to ``(..., T - delays + 1, delays d)``.

    Raises:
        DataError: for fewer than ``delays`` observations.
        ShapeError: for states without an axis of columns.

    Example:
        >>> embed(torch.tensor([[1.0], [2.0], [3.0]]), 2).tolist()
        [[2.0, 1.0], [3.0, 2.0]]
    """
    states = states if isinstance(states, Tensor) else numbers(states, "states")
    if states.ndim < 2:
        raise ShapeError(
            f"states of shape {tuple(states.shape)}",
            "(..., T, d)",
            "Write one column as states[:, None].",
        )
    if states.shape[-2] < delays:
        raise DataError(
            f"{states.shape[-2]} observations for states of {delays}",
            f"{delays} or more",
            "Pass a longer history.",
        )
    return states.unfold(-2, delays, 1).flip(-1).transpose(-1, -2).flatten(-2)


@dataclass(frozen=True, eq=False)
class Windows:
    """Pieces of series around anchors, to fit a model on.

    Attributes:
        anchors: the states at the anchors, ``(N, delays d)``.
        observed: the observations around them, ``(N, before + 1 + after, d)``.
        times: of the observations, relative to the anchor, ``(N, before + 1 + after)``.
        owner: the number of the series of each, ``(N,)``.
    """

    anchors: Tensor
    observed: Tensor
    times: Tensor
    owner: Tensor

    __repr__ = short_repr

    def __len__(self) -> int:
        return len(self.anchors)

    def __getitem__(self, index: slice | Tensor) -> Windows:
        """Some of the windows."""
        return Windows(
            *(part[index] for part in (self.anchors, self.observed, self.times, self.owner))
        )

    def spread(self, most: int, seed: int = 0) -> Windows:
        """At most so many windows, drawn so that their anchors cover the states evenly.

        The chance of each is that of its cell: the distance to the tenth nearest anchor, to the
        power of the dimension (of 3 at most). Otherwise attractors and equilibria, where series
        stay, would crowd out all else.
        """
        if len(self) <= most:
            return self
        mean, scale = units(self.anchors)
        points = ((self.anchors - mean) / scale).numpy()
        distance = torch.from_numpy(cKDTree(points).query(points, k=11)[0][:, -1])
        chance = (distance / distance.max()).clamp(min=1e-3) ** min(points.shape[1], 3)
        return self[torch.multinomial(chance, most, generator=generator(seed)).sort().values]

    def packed(self) -> Tensor:
        """One row a window for :func:`rectilinear.training.train`; inverse: :func:`unpack`."""
        return torch.cat([self.anchors, self.observed.flatten(1), self.times], dim=1)


def unpack(rows: Tensor, state_dim: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Anchors, observations and times of packed windows."""
    length = (rows.shape[1] - state_dim) // (dim + 1)
    anchors, observed, times = rows.split([state_dim, length * dim, length], dim=1)
    return anchors, observed.unflatten(1, (length, dim)), times


def windows(series: Series, delays: int, before: int, after: int) -> Windows:
    """Every window of ``before`` samples ahead of an anchor and ``after`` behind it.

    Anchors are states of ``delays`` samples. Series shorter than a window have none: a
    ForecastWarning names them.

    Raises:
        DataError: if all series are shorter than a window, or sampling is irregular with more than
            one delay.
    """
    check_series(series)
    if delays > 1 and not series.regular:
        raise DataError(
            "irregular times with delays", "equal steps, or delays=1", "Resample, or use delays=1."
        )
    first = max(before, delays - 1)
    found: list[tuple[Tensor, ...]] = []
    short = [i for i, x in enumerate(series.states) if len(x) <= first + after]
    for i, (x, t) in enumerate(zip(series.states, series.times, strict=True)):
        count = len(x) - first - after
        if count < 1:
            continue
        observed = x[first - before :].unfold(0, before + 1 + after, 1).transpose(1, 2)
        clock = t[first - before :].unfold(0, before + 1 + after, 1)
        anchors = embed(x, delays)[first - delays + 1 :][:count]
        found.append(
            (anchors, observed, clock - clock[:, before : before + 1], torch.full((count,), i))
        )
    if not found:
        raise DataError(
            got=f"series of at most {max(map(len, series.states))} observations",
            expected=(
                f"one of {first + after + 1} or more: {first} before the anchor and {after} after "
                "it"
            ),
            fix="Lower horizon, backward or delays, or pass longer series.",
        )
    if short:
        warn_short(short, series, first + after + 1)
    return Windows(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def split_series(arrays: Any, axes: int) -> Sequence[Any]:
    """A list of series as it is; an array with an axis of series along that axis."""
    if isinstance(arrays, list | tuple) and arrays:
        first = arrays[0]
        if hasattr(first, "__len__") and not isinstance(first, str):  # a date in text is one stamp
            return arrays
    axes_given = getattr(arrays, "ndim", None)
    return (
        list(arrays)
        if (np.ndim(arrays) if axes_given is None else axes_given) == axes
        else [arrays]
    )


def warn_short(short: Sequence[int], series: Series, least: int) -> None:
    """A warning that names the series that are left out, with their lengths."""
    named = ", ".join(f"{i} ({len(series.states[i])} rows)" for i in short[:8])
    warnings.warn(
        f"{len(short)} of {len(series.states)} series left out, too short for windows of {least} "
        f"rows: series {named}"
        f"{', ...' if len(short) > 8 else ''}. Lower horizon, backward or delays to use them.",
        ForecastWarning,
        stacklevel=3,
    )


def units(x: Tensor, *, constant: bool = True) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column, 1 in place of 0, to standardise it with.

    Raises:
        DataError: where all columns are constant, unless they may be.
    """
    mean, spread = moments(x)
    if not (constant or bool((spread > 0).any())):
        raise DataError("series that are constant", "values that change", "Pass another series.")
    return mean, torch.where(spread > 0, spread, torch.ones_like(spread))


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column of ``(n, d)``; 0 where only rounding varies.

    Numbers may be of any size.

    Example:
        >>> moments(torch.tensor([[0.1, 1e200], [0.1, 3e200]], dtype=torch.float64))[1]
        tensor([ 0.0000e+00, 1.4142e+200], dtype=torch.float64)
    """
    low, high = x.min(0).values, x.max(0).values
    middle, reach = low / 2 + high / 2, high / 2 - low / 2
    moves = reach > 2 * torch.finfo(x.dtype).eps * torch.maximum(low.abs(), high.abs())
    unit = torch.where(moves, reach, torch.ones_like(reach))
    u = (x - middle) / unit
    mean, spread = middle + unit * u.mean(0), unit * (u - u.mean(0)).square().mean(0).sqrt()
    spread = spread * (len(x) / max(len(x) - 1, 1)) ** 0.5
    return torch.where(moves, mean, middle), torch.where(moves, spread, torch.zeros_like(spread))


def numbers(array: Any, name: str) -> Tensor:
    """A copy of ``array`` as a float64 tensor on the CPU; what is masked or missing becomes NaN."""
    if isinstance(array, Tensor):
        if array.is_complex():
            raise DtypeError(
                f"{name} that are complex",
                "real numbers",
                "Pass real and imaginary parts as columns.",
            )
        return array.detach().to("cpu", torch.float64, copy=True)
    try:
        values = (
            np.ma.filled(np.ma.asarray(array).astype(np.float64), np.nan)
            if np.ma.isMaskedArray(array)
            else array
        )
        values = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise DtypeError(
            f"{name} that are no array: {error}",
            "numbers in rows of one length",
            "Pass series of several lengths as a list of arrays.",
        ) from error
    if values.dtype.kind in "mMUSVc" or (
        values.dtype.kind == "O" and not all(map(_is_number, values.flat))
    ):
        kind = {
            "m": "durations",
            "M": "dates",
            "c": "complex numbers",
            "O": "dates, text or objects",
        }
        fix = (
            "Make dates the index, frame.set_index(column); leave other such columns out"
            if name != "times"
            else "Pass numbers, such as hours since the first"
        )
        raise DtypeError(
            f"{name} with {kind.get(values.dtype.kind, 'text')}{_columns(array)}",
            "real numbers",
            f"{fix}.",
        )
    if values.dtype.kind == "O":
        values = np.array([_value(v) for v in values.flat]).reshape(values.shape)
    return torch.from_numpy(np.array(values, dtype=np.float64))


def refuse_targets(y: object) -> None:
    """Raise a ConfigError for a second argument of ``fit``, which may be meant as the times."""
    if y is not None:
        raise ConfigError(
            "a second argument y", "series alone", "KoopmanRegressor takes times by name: times=."
        )


def _value(value: Any) -> float:
    """A number, or NaN for what is missing, as pandas writes it."""
    return float("nan") if value is None or str(value) == "<NA>" else float(value)


def _is_number(value: Any) -> bool:
    return (
        value is None
        or str(value) == "<NA>"
        or (hasattr(value, "__float__") and not isinstance(value, np.datetime64))
    )


def _columns(array: Any) -> str:
    """The names of the columns of a data frame that are no numbers."""
    kinds = getattr(array, "dtypes", None)
    if kinds is None or not hasattr(kinds, "items"):
        return ""
    other = [str(c) for c, kind in kinds.items() if getattr(kind, "kind", "O") not in "biuf"]
    return f" in {in_words(other)}"


def two_axes(array: Any) -> Tensor:
    """A series as a tensor ``(T, d)``; a ShapeError for other axes, and for an empty one."""
    x = numbers(array, "series")
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or not x.numel():
        raise ShapeError(
            f"a series of shape {tuple(x.shape)}",
            "(T,), (T, d), or several as (count, T, d)",
            "Flatten each row: x.reshape(len(x), -1)." if x.ndim > 2 else "",
        )
    return x


def check_clocks(clocks: Sequence[Any], count: int) -> None:
    """Raise a ShapeError unless there are times of ``count`` series."""
    if len(clocks) != count:
        raise ShapeError(
            f"times of {len(clocks)} series",
            f"{count}, one for each series",
            f"Write times that all share as [times] * {count}." if len(clocks) == 1 else "",
        )


def check_stamps(times: int, rows: int, of: str) -> None:
    """Raise a ShapeError unless a series has a time for each row."""
    if times != rows:
        raise ShapeError(
            f"{times} times for {rows} rows of {of}",
            "one for each row",
            "Leave times out where rows are regular, and pass dt.",
        )


def _check_gaps(x: Tensor, i: int) -> None:
    bad = (~torch.isfinite(x)).any(1).nonzero().flatten()
    if len(bad):
        raise DataError(
            got=(
                f"a gap in series {i}: {len(bad)} of {len(x)} rows not finite, first at row "
                f"{int(bad[0])}"
            ),
            expected="finite numbers",
            fix="Leave these rows out and pass the times of the others, or split the series there.",
        )


def _check_clock(clock: Tensor, usual: float, i: int) -> None:
    steps = clock.diff()
    if not bool(torch.isfinite(clock).all() and (steps > 0).all()):
        raise DataError(
            f"times of series {i} that do not increase",
            "increasing finite times",
            "Sort the series.",
        )
    if len(steps) and float(steps.max()) > LARGEST_GAP * usual:
        at = int(steps.argmax())
        raise DataError(
            got=(
                f"a gap in series {i}, times {clock[at]:g} to {clock[at + 1]:g}: "
                f"{steps[at] / usual:.3g} usual steps"
            ),
            expected=f"at most {LARGEST_GAP:g} usual steps between samples",
            fix="Pass the parts before and after it as two series.",
        )
