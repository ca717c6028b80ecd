"""The figure of one training run: a panel for each kind of measure."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rectilinear.plots import canvas
from rectilinear.plots.charts import ROLES

PANELS = {
    "loss": ("loss",),
    "modes of the map": ("singular_values", "effective_rank"),
    "sharpness": ("sharpness",),
    "neighbouring layers": ("alignment", "balancedness"),
}
STYLES = ("-", "--")


def figure(steps: np.ndarray, measures: dict[str, np.ndarray], lr: float) -> Figure:
    """The figure of one training run: a panel for each kind of measure that was taken.

    Args:
        steps: ``(K,)``.
        measures: of this run, ``(K, ...)`` by name.
        lr: its step size; the sharpness is beside ``2 / lr``.
    """
    panels = {
        title: [name for name in names if name in measures] for title, names in PANELS.items()
    }
    panels = {title: names for title, names in panels.items() if names}
    drawn, axes = canvas(
        min(2.4 * max(len(panels), 1) + 0.6, 7.0), 2.6, columns=max(len(panels), 1)
    )
    for panel, (title, names) in zip(axes, panels.items(), strict=False):
        for name, style in zip(names, STYLES, strict=False):
            _lines(panel, steps, measures[name], name, style)
        if title == "sharpness":
            panel.axhline(2 / lr, color=ROLES["muted"], linestyle=":", linewidth=1, label="2/lr")
        if title == "loss":
            panel.set(yscale="log")
        panel.set(xlabel="steps")
        panel.set_title(title, loc="left", fontsize=10)
        if len(names) > 1 or title == "sharpness":
            panel.legend(frameon=False, fontsize=7.5, handlelength=1.4)
    return drawn


def _lines(panel: Axes, steps: np.ndarray, values: np.ndarray, name: str, style: str) -> None:
    colours = [ROLES[role] for role in ("first", "second", "third")]
    for i, line in enumerate(np.transpose(values.reshape(len(steps), -1))):
        panel.plot(
            steps,
            line,
            linestyle=style,
            linewidth=1.2,
            color=colours[i % len(colours)],
            label=name.replace("_", " ") if i == 0 else None,
        )
