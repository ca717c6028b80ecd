"""Charts of arrays: lines, spectra, histograms, bars with intervals, and strips of images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import ArrayLike
from scipy.stats.distributions import rv_frozen

from rectilinear.plots.style import ROLES, canvas, grid

ROW, AXIS = 0.34, 0.75  # inches


def shares(rows: Mapping[str, Mapping[str, float]]) -> Figure:
    """One horizontal bar a row, cut into named shares of its sum; the first row carries the names.

    Example:
        >>> len(shares({"data": {"odd": 3.0, "even": 1.0}}).axes[0].patches)
        2
    """
    figure, (axes,) = canvas(6.4, AXIS + 0.15 + ROW * len(rows))
    colours = [ROLES[role] for role in ("first", "second", "third", "muted")]
    for y, parts in enumerate(rows.values()):
        total, left = sum(parts.values()) or 1.0, 0.0
        for colour, (name, value) in zip(colours, parts.items(), strict=False):
            axes.barh(y, value / total, left=left, height=0.62, color=colour)
            if y == 0 and value:
                axes.annotate(
                    name,
                    (left + value / total / 2, -0.31),
                    xytext=(0, 2),
                    textcoords="offset points",
                    ha="center",
                    va="bottom",
                    color=colour,
                    annotation_clip=False,
                )
            left += value / total
    _rows(axes, list(rows))
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.95), xlabel="share of the energy")
    return figure


def bars(values: Mapping[str, tuple[float, tuple[float, float] | None]], label: str) -> Figure:
    """One dot a row with its interval, on an axis that holds 0 and 1.

    Example:
        >>> figure = bars({"layer 1": (0.9, (0.8, 0.95)), "layer 2": (0.5, None)}, "R²")
        >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
        ['layer 1', 'layer 2']
    """
    figure, (axes,) = canvas(6.4, AXIS + ROW * len(values))
    for y, (value, interval) in enumerate(values.values()):
        if interval:
            axes.plot(interval, (y, y), color=ROLES["first"], linewidth=1.2)
        axes.plot(value, y, marker="o", markersize=4.5, color=ROLES["first"])
    _rows(axes, list(values))
    low = min([0.0, *(value for value, _ in values.values())])
    high = max([1.0, *(value for value, _ in values.values())])
    axes.set(xlabel=label, xlim=(low - 0.02 * (high - low), high + 0.02 * (high - low)))
    return figure


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """Names at the left, the first on top, a rule for each value and none for each row."""
    axes.set_yticks(np.arange(len(names)), list(names))
    axes.set_ylim(len(names) - 0.5, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.set_axisbelow(True)


def spectrum(values: Mapping[str, ArrayLike], label: str = "singular value") -> Figure:
    """Descending values against their index, on a logarithmic axis; one line a name.

    Example:
        >>> spectrum({"B": [3.0, 1.0, 0.1]}).axes[0].get_yscale()
        'log'
    """
    figure, (axes,) = canvas()
    for name, series in values.items():
        y = np.asarray(series)
        axes.plot(
            np.arange(1, len(y) + 1), y, marker="o", markersize=2.6, linewidth=1.0, label=name
        )
    _name_lines(axes, values)
    axes.set(yscale="log", xlabel="index", ylabel=label)
    _plain_numbers(axes.yaxis)
    return figure


def curves(
    lines: Mapping[str, tuple[ArrayLike, ArrayLike]],
    xlabel: str,
    ylabel: str,
    *,
    logx: bool = False,
    logy: bool = False,
    markers: bool = False,
) -> Figure:
    """Lines ``y(x)``, named if several; ``markers`` for few points, each of them a tick.

    Example:
        >>> len(curves({"a": ([0, 1], [1, 2]), "b": ([0, 1], [3, 2])}, "x", "y").axes[0].lines)
        2
    """
    figure, (axes,) = canvas()
    for name, (x, y) in lines.items():
        axes.plot(x, y, marker="o" if markers else "", markersize=4, label=name)
    _name_lines(axes, lines)
    axes.set(
        xlabel=xlabel,
        ylabel=ylabel,
        xscale="log" if logx else "linear",
        yscale="log" if logy else "linear",
    )
    for axis, is_log in ((axes.xaxis, logx), (axes.yaxis, logy)):
        if is_log:
            _plain_numbers(axis)
    if markers:
        points = sorted({float(value) for x, _ in lines.values() for value in np.asarray(x)})
        axes.set_xticks(points, [f"{point:g}" for point in points])
        axes.set_xticks([], minor=True)
    return figure


def histogram(panels: Mapping[str, tuple[ArrayLike, rv_frozen]], bins: int = 40) -> Figure:
    """Histograms side by side, each under the density it should follow.

    Example:
        >>> from scipy.stats import norm
        >>> len(histogram({"noise": ([0.1, -0.2, 0.4], norm())}).axes)
        1
    """
    figure, all_axes = canvas(columns=len(panels))
    for axes, (name, (values, distribution)) in zip(all_axes, panels.items(), strict=True):
        data = np.asarray(values).ravel()
        low, high = (
            min(data.min(), distribution.ppf(0.001)),
            max(data.max(), distribution.ppf(0.999)),
        )
        x = np.linspace(low, high, 300)
        axes.hist(
            data, bins=bins, range=(low, high), density=True, color=ROLES["second"], alpha=0.35
        )
        axes.plot(x, distribution.pdf(x), color=ROLES["first"])
        axes.set(yticks=[], xlabel=name)
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
    return figure


def strips(rows: Mapping[str, ArrayLike]) -> Figure:
    """Rows of images ``(n, c, h, w)``, all of one shape, each named at its left.

    Example:
        >>> axes = strips({"a": np.zeros((3, 1, 4, 4))}).axes[0]
        >>> [label.get_text() for label in axes.get_yticklabels()]
        ['a']
    """
    arrays = [np.asarray(row) for row in rows.values()]
    columns, height = len(arrays[0]), arrays[0].shape[-2]
    gap = max(1, height // 16)
    figure, (axes,) = canvas(6.4, 6.0 * len(arrays) / columns)
    axes.imshow(grid(np.concatenate(arrays), columns, gap), interpolation="nearest")
    axes.set_yticks(np.arange(len(arrays)) * (height + gap) + (height - 1) / 2, list(rows))
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def _plain_numbers(axis: Axis) -> None:
    """0.01 rather than a power of ten, on a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def _name_lines(axes: Axes, names: Collection[str]) -> None:
    """The names in the colours of their lines, where there is more than one."""
    if len(names) > 1:
        axes.legend(frameon=False, labelcolor="linecolor", handlelength=1.0, fontsize=9)
