"""Bars of plain numbers: shares of a whole, and values with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rectilinear.plots.style import ROLES, canvas

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, AXIS = 0.34, 0.75  # inches


def shares(rows: Mapping[str, Mapping[str, float]]) -> Figure:
    """One horizontal bar a row, cut into named shares of its sum; the first row's parts carry the names.

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
