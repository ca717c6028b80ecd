"""Charts of plain arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from rectilinear.plots.images import grid
from rectilinear.plots.style import ROLES, canvas

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike
    from scipy.stats.distributions import rv_frozen


def spectrum(values: Mapping[str, ArrayLike], label: str = "singular value") -> Figure:
    """Descending values against their index, on a logarithmic axis; one line a name.

    Example:
        >>> spectrum({"B": [3.0, 1.0, 0.1]}).axes[0].get_yscale()
        'log'
    """
    figure, (axes,) = canvas()
    for name, series in values.items():
        y = np.asarray(series)
        axes.plot(np.arange(1, len(y) + 1), y, marker="o", markersize=2.6, linewidth=1.0, label=name)
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
    """Lines ``y(x)``, named where there are several; with ``markers`` for few points, each of which is a tick.

    Example:
        >>> len(curves({"a": ([0, 1], [1, 2]), "b": ([0, 1], [3, 2])}, "x", "y").axes[0].lines)
        2
    """
    figure, (axes,) = canvas()
    for name, (x, y) in lines.items():
        axes.plot(x, y, marker="o" if markers else "", markersize=4, label=name)
    _name_lines(axes, lines)
    axes.set(xlabel=xlabel, ylabel=ylabel, xscale="log" if logx else "linear", yscale="log" if logy else "linear")
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
    for axes, (name, (values, law)) in zip(all_axes, panels.items(), strict=True):
        data = np.asarray(values).ravel()
        low, high = min(data.min(), law.ppf(0.001)), max(data.max(), law.ppf(0.999))
        x = np.linspace(low, high, 300)
        axes.hist(data, bins=bins, range=(low, high), density=True, color=ROLES["second"], alpha=0.35)
        axes.plot(x, law.pdf(x), color=ROLES["first"])
        axes.set(yticks=[], xlabel=name)
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
    return figure


def strips(rows: Mapping[str, ArrayLike]) -> Figure:
    """Rows of images ``(n, c, h, w)``, all of one shape, each named at its left.

    Example:
        >>> [label.get_text() for label in strips({"a": np.zeros((3, 1, 4, 4))}).axes[0].get_yticklabels()]
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
