"""Figures of forecasts with their interval, of eigenvalues, and of modes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

from rectilinear.plots import canvas
from rectilinear.plots.charts import ROLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rectilinear.koopman.realization import Modes


class Drawable(Protocol):
    """A forecast, as :class:`~rectilinear.koopman.Forecast` has it."""

    @property
    def mean(self) -> Any: ...
    @property
    def lower(self) -> Any: ...
    @property
    def upper(self) -> Any: ...
    @property
    def level(self) -> float: ...
    @property
    def index(self) -> Any: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def known(self) -> Any: ...
    @property
    def runs(self) -> tuple[str, ...] | None: ...


def forecast_figure(found: Sequence[Drawable], columns: int = 3) -> Figure:
    """The figure of forecasts ``(steps, d)`` after the observed rows, a row for each series."""
    count = min(columns, len(found[0].names))
    figure, all_axes = canvas(columns=count, rows=len(found), height=2.4 * len(found))
    for i, one in enumerate(found):
        for j, name in enumerate(one.names[:count]):
            axes = all_axes[count * i + j]
            _draw(axes, one, j)
            axes.set(title=f"{one.runs[0]}, {name}" if one.runs else name)
    all_axes[0].legend(frameon=False, handlelength=1.2, fontsize=8)
    return figure


def _draw(axes: Axes, found: Drawable, j: int) -> None:
    if found.known is not None:
        rows = drawn(found.known[0]), found.known[1][:, j]
        axes.plot(*rows, color=ROLES["muted"], label="observed")
    ahead = drawn(found.index)
    axes.fill_between(
        ahead,
        found.lower[:, j],
        found.upper[:, j],
        color=ROLES["first"],
        alpha=0.2,
        linewidth=0,
        label=f"{found.level:.0%} interval",
    )
    axes.plot(ahead, found.mean[:, j], color=ROLES["first"], label="forecast", linewidth=1.3)
    if np.asarray(ahead).dtype.kind == "M":
        few = AutoDateLocator(minticks=3, maxticks=5)
        axes.xaxis.set_major_locator(few)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(few))


def spectrum_figure(modes: Modes) -> Figure:
    """The figure of eigenvalues and their conjugates with the unit circle, by amplitude."""
    figure, (axes,) = canvas(columns=1, height=3.2)
    turn = np.linspace(0, 2 * np.pi, 400)
    values, weight = modes.eigenvalues.numpy(), modes.amplitude.numpy()
    both, size = np.concatenate([values, values.conj()]), np.tile(weight, 2)
    area = 6 + 90 * np.sqrt(size / max(float(size.max()), 1e-300))
    axes.plot(np.cos(turn), np.sin(turn), color=ROLES["rule"], linewidth=1.0)
    axes.scatter(both.real, both.imag, s=area, color=ROLES["first"], alpha=0.55, linewidths=0)
    axes.set(xlabel="real part", ylabel="imaginary part", aspect="equal")
    return figure


def modes_figure(modes: Modes, names: tuple[str, ...], count: int = 4) -> Figure:
    """The figure of the strongest modes: size and angle of each column in them."""
    count = min(count, len(modes.eigenvalues))
    figure, all_axes = canvas(columns=max(count, 1), height=2.4, sharey=True)
    rows = np.arange(modes.shapes.shape[1])
    for i, axes in zip(range(count), all_axes, strict=False):
        shape = modes.shapes[i].numpy()
        axes.bar(rows, np.abs(shape) * np.sign(np.cos(np.angle(shape))), color=ROLES["first"])
        period = float(modes.period[i])
        title = f"period {period:.4g}" if np.isfinite(period) else "no oscillation"
        axes.set(title=f"{title}, radius {abs(complex(modes.eigenvalues[i])):.3f}")
        if len(names) <= 12:
            axes.set_xticks(rows, names, rotation=30, ha="right", rotation_mode="anchor")
    return figure


def drawn(index: Any) -> Any:
    """Stamps that matplotlib draws: periods by the instant they begin."""
    if hasattr(index, "to_timestamp"):
        index = index.to_timestamp()
    return index.to_numpy() if hasattr(index, "to_numpy") else index
