"""From series to windows: what is refused, and how delays and times are laid out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from rectilinear._seed import generator
from rectilinear.errors import ConfigError, DataError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST_GAP = 5.0
"""Irregular samples may be so many median steps apart; beyond, a series has a gap."""


@dataclass(frozen=True, eq=False)
class Series:
    """Observed series of one system: float64 ``states`` ``(T_i, d)`` and ``times`` ``(T_i,)`` of each.

    Attributes:
        dt: the step; the median step where sampling is irregular.
        regular: whether all steps are equal.
    """

    states: tuple[Tensor, ...]
    times: tuple[Tensor, ...]
    dt: float
    regular: bool

    @property
    def dim(self) -> int:
        return self.states[0].shape[1]


def as_series(states: Any, times: Any = None, dt: float | None = None) -> Series:
    """Arrays as checked series: one ``(T,)`` or ``(T, d)``, several ``(count, T, d)``, or a list of them.

    ``times`` has the same layout without the last axis; without it steps are ``dt``, 1 by default.

    Raises:
        ShapeError: if the arrays are not such.
        DataError: for gaps: entries that are not finite, times that do not increase or leave out a stretch.
        ConfigError: if ``dt`` is not positive.

    Example:
        >>> as_series(np.arange(6.0), dt=0.5).times[0].tolist()
        [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    """
    if dt is not None and not (np.isfinite(dt) and dt > 0):
        raise ConfigError(f"dt = {dt}", "a positive number", "Correct dt.")
    parts = [_two_axes(part) for part in _split(states, 3)]
    if len({part.shape[1] for part in parts}) != 1:
        raise ShapeError("series with different numbers of columns", "the same columns in each")
    for i, part in enumerate(parts):
        _check_gaps(part, i)
    if times is None:
        step = 1.0 if dt is None else float(dt)
        return Series(tuple(parts), tuple(step * torch.arange(len(x)).double() for x in parts), step, regular=True)
    clocks = [_tensor(clock).flatten() for clock in _split(times, 2)]
    if [len(clock) for clock in clocks] != [len(part) for part in parts]:
        raise ShapeError(
            f"times of lengths {[len(c) for c in clocks][:4]}", f"one for each row, {[len(p) for p in parts][:4]}"
        )
    steps = torch.cat([clock.diff() for clock in clocks])
    usual = float(steps.median()) if len(steps) else 1.0
    for i, clock in enumerate(clocks):
        _check_clock(clock, usual, i)
    regular = bool((steps - usual).abs().max() <= 1e-6 * usual) if len(steps) else True
    return Series(tuple(parts), tuple(clocks), usual if dt is None else float(dt), regular)


def embed(states: Tensor, delays: int) -> Tensor:
    """The windows of the latest ``delays`` observations, newest first, each as one row.

    ``(..., T, d)`` to ``(..., T - delays + 1, delays d)``.

    Raises:
        DataError: for fewer than ``delays`` observations.

    Example:
        >>> embed(torch.tensor([[1.0], [2.0], [3.0]]), 2).tolist()
        [[2.0, 1.0], [3.0, 2.0]]
    """
    if states.shape[-2] < delays:
        raise DataError(
            f"{states.shape[-2]} observations for states of {delays}", f"{delays} or more", "Pass a longer history."
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

    def __len__(self) -> int:
        return len(self.anchors)

    def __getitem__(self, index: slice | Tensor) -> Windows:
        """Some of the windows."""
        return Windows(*(part[index] for part in (self.anchors, self.observed, self.times, self.owner)))

    def spread(self, most: int, seed: int = 0) -> Windows:
        """At most so many windows, drawn so that their anchors cover the states evenly.

        The chance of each is that of its cell: the distance to the tenth nearest anchor, to the power of the dimension
        (of 3 at most). Otherwise attractors and equilibria, where series stay, would crowd out all else.
        """
        if len(self) <= most:
            return self
        points = ((self.anchors - self.anchors.mean(0)) / self.anchors.std(0).clamp(min=1e-12)).numpy()
        distance = torch.from_numpy(cKDTree(points).query(points, k=11)[0][:, -1])
        chance = (distance / distance.max()).clamp(min=1e-3) ** min(points.shape[1], 3)
        return self[torch.multinomial(chance, most, generator=generator(seed)).sort().values]

    def packed(self) -> Tensor:
        """One row a window, as :func:`rectilinear.training.train` takes them; :func:`unpack` takes them apart."""
        return torch.cat([self.anchors, self.observed.flatten(1), self.times], dim=1)


def unpack(rows: Tensor, state_dim: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Anchors, observations and times of packed windows."""
    length = (rows.shape[1] - state_dim) // (dim + 1)
    anchors, observed, times = rows.split([state_dim, length * dim, length], dim=1)
    return anchors, observed.unflatten(1, (length, dim)), times


def windows(series: Series, delays: int, before: int, after: int) -> Windows:
    """Every window of ``before`` samples ahead of an anchor and ``after`` behind it.

    Raises:
        DataError: if all series are shorter than a window, or sampling is irregular with more than one delay.
    """
    if delays > 1 and not series.regular:
        raise DataError("irregular times with delays", "equal steps, or delays=1", "Resample, or use delays=1.")
    first = max(before, delays - 1)
    found: list[tuple[Tensor, ...]] = []
    for i, (x, t) in enumerate(zip(series.states, series.times, strict=True)):
        count = len(x) - first - after
        if count < 1:
            continue
        observed = x[first - before :].unfold(0, before + 1 + after, 1).transpose(1, 2)
        clock = t[first - before :].unfold(0, before + 1 + after, 1)
        anchors = embed(x, delays)[first - delays + 1 :][:count]
        found.append((anchors, observed, clock - clock[:, before : before + 1], torch.full((count,), i)))
    if not found:
        raise DataError(
            got=f"series of at most {max(map(len, series.states))} observations",
            expected=f"one of {first + after + 1} or more: {first} before the anchor and {after} after it",
            fix="Lower horizon, backward or delays, or pass longer series.",
        )
    return Windows(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _split(arrays: Any, axes: int) -> Sequence[Any]:
    """A list of series as it is; an array with an axis of series along that axis."""
    if isinstance(arrays, list | tuple) and len(arrays) and np.ndim(arrays[0]) >= 1:
        return arrays
    array = arrays if isinstance(arrays, Tensor) else np.asarray(arrays, dtype=np.float64)
    return list(array) if array.ndim == axes else [array]


def _tensor(array: Any) -> Tensor:
    return (
        torch.as_tensor(array if isinstance(array, Tensor) else np.asarray(array, dtype=np.float64)).detach().double()
    )


def _two_axes(array: Any) -> Tensor:
    x = _tensor(array)
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or not x.numel():
        raise ShapeError(f"a series of shape {tuple(x.shape)}", "(T,), (T, d), or several as (count, T, d)")
    return x


def _check_gaps(x: Tensor, i: int) -> None:
    bad = (~torch.isfinite(x)).any(1).nonzero().flatten()
    if len(bad):
        raise DataError(
            got=f"a gap in series {i}: {len(bad)} of {len(x)} rows not finite, first at row {int(bad[0])}",
            expected="finite numbers",
            fix="Leave these rows out and pass the times of the others, or split the series there.",
        )


def _check_clock(clock: Tensor, usual: float, i: int) -> None:
    steps = clock.diff()
    if not bool(torch.isfinite(clock).all() and (steps > 0).all()):
        raise DataError(f"times of series {i} that do not increase", "increasing finite times", "Sort the series.")
    if len(steps) and float(steps.max()) > LARGEST_GAP * usual:
        at = int(steps.argmax())
        raise DataError(
            got=f"a gap in series {i}, times {clock[at]:g} to {clock[at + 1]:g}: {steps[at] / usual:.3g} usual steps",
            expected=f"at most {LARGEST_GAP:g} usual steps between samples",
            fix="Pass the parts before and after it as two series.",
        )
