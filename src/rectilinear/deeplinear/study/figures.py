"""Figures of a depth study: distance over steps; error, success and time over depth; slopes."""

from __future__ import annotations

from collections.abc import Callable
from colorsys import hls_to_rgb

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from rectilinear.deeplinear import statistical_tests
from rectilinear.deeplinear.study.result import StudyResult
from rectilinear.plots import canvas
from rectilinear.plots.charts import ROLES

# Hues, blue over purple to red: of middle lightness, for light and dark paper.
SHALLOW_HUE, DEEP_HUE = 205 / 360, 368 / 360
FAMILY_COLOURS = (*(ROLES[role] for role in ("first", "second", "third")), "#8a63b8", "#b08a1e")
FAMILY_MARKERS = "osD^v"
MIN_DISTANCE = 1e-6  # the lower end of logarithmic axes


def families(result: StudyResult) -> dict[str, list[int]]:
    """The indices of trained models that differ in depth alone, from shallow to deep, by name."""
    found: dict[str, list[int]] = {}
    for m, model in enumerate(result.models):
        if model.trained:
            found.setdefault(result.asked[m].family, []).append(m)
    return {
        name: sorted(group, key=lambda m: result.models[m].depth) for name, group in found.items()
    }


def distance(result: StudyResult, family: str) -> Figure:
    """``D`` over steps, one line for each depth: the mean, and the median with its quartiles.

    If some trials are stuck, the distribution has two modes, at 0 and at the size of the slope,
    which a mean does not show.
    """
    figure, panels = canvas(7.0, 3.2, columns=2, sharey=True)
    group = families(result)[family]
    steps = np.maximum(result.checkpoints, 0.6)  # step 0 has no logarithm
    for i, m in enumerate(group):
        curve, colour = result.cell(m)["curve"], ramp(i, len(group))
        curve = np.maximum(curve, MIN_DISTANCE)
        label = str(result.models[m].depth)
        low, middle, high = np.quantile(curve, (0.25, 0.5, 0.75), axis=0)
        panels[0].plot(steps, curve.mean(0), color=colour, label=label, linewidth=1.2)
        panels[1].plot(steps, middle, color=colour, label=label, linewidth=1.2)
        panels[1].fill_between(steps, low, high, color=colour, alpha=0.10, linewidth=0)
    for axes, name in zip(panels, ("mean", "median and quartiles"), strict=True):
        axes.set(xscale="log", yscale="log", xlabel="steps")
        axes.set_ylim(bottom=MIN_DISTANCE)
        _title(axes, name)
    panels[0].set_ylabel("D, distance to least squares")
    _legend(panels[1], "layers", outside=True)
    return figure


def test_error(result: StudyResult, family: str) -> Figure:
    """Mean and median test error over depth at each level of noise, least squares dashed."""
    figure, panels = canvas(7.0, 3.0, columns=2)
    group = families(result)[family]
    depths = [result.models[m].depth for m in group]
    base = next((m for m, model in enumerate(result.models) if model.kind == "least_squares"), None)
    middles: dict[str, Callable[[np.ndarray], float]] = {"mean": np.mean, "median": np.median}
    for axes, (name, middle) in zip(panels, middles.items(), strict=True):
        for i, noise in enumerate(result.levels):
            colour = ramp(i, len(result.levels))
            errors = [middle(result.cell(m, noise)["test_error"]) for m in group]
            label = "" if np.isnan(noise) else f"noise {noise:g}"
            axes.plot(
                depths, errors, color=colour, marker="o", markersize=3, label=label, linewidth=1.2
            )
            if base is not None:
                level = middle(result.cell(base, noise)["test_error"])
                axes.axhline(level, color=colour, linestyle=(0, (4, 3)), linewidth=0.8)
        axes.set(yscale="log", xlabel="layers")
        _title(axes, name)
        _widen(axes)
        _depths(axes, depths)
    panels[0].set_ylabel("test error (least squares dashed)")
    if not np.isnan(result.levels).any():
        _legend(panels[1], "", outside=True)
    return figure


def success(result: StudyResult) -> Figure:
    """The share of trials that converge, over depth, with Wilson's interval: a line a family."""
    figure, (axes,) = canvas(6.4, 3.0)
    depths: set[int] = set()
    for i, (name, group) in enumerate(families(result).items()):
        x = np.array([result.models[m].depth for m in group])
        cells = [result.cell(m)["success"] for m in group]
        rates = [statistical_tests.wilson(int(cell.sum()), len(cell)) for cell in cells]
        value, low, high = (
            np.array([getattr(rate, part) for rate in rates]) for part in ("value", "low", "high")
        )
        colour, mark = (
            FAMILY_COLOURS[i % len(FAMILY_COLOURS)],
            FAMILY_MARKERS[i % len(FAMILY_MARKERS)],
        )
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, value, color=colour, marker=mark, markersize=4, label=name, linewidth=1.2)
        depths |= set(x.tolist())
    axes.set(ylim=(-0.03, 1.05), xlabel="layers", ylabel="share that converges")
    _depths(axes, sorted(depths))
    _legend(axes, "", outside=False)
    return figure


def survival(result: StudyResult, family: str) -> Figure:
    """Kaplan and Meier's share of trials that have not converged, over steps, a line a depth."""
    figure, (axes,) = canvas(6.4, 3.0)
    group = families(result)[family]
    for i, m in enumerate(group):
        cell = result.cell(m)
        curve = statistical_tests.kaplan_meier(cell["steps"], cell["reached"])
        colour = ramp(i, len(group))
        x = np.concatenate([[1.0], np.maximum(curve.times, 1.0), [result.steps]])
        share = np.concatenate(
            [[1.0], curve.share, curve.share[-1:] if len(curve.share) else [1.0]]
        )
        axes.step(
            x, share, where="post", color=colour, label=str(result.models[m].depth), linewidth=1.2
        )
    steps = np.concatenate([result.cell(m)["steps"] for m in group])
    first = max(1.0, np.quantile(steps, 0.001) / 1.5)
    axes.set(
        xscale="log",
        xlim=(first, result.steps),
        ylim=(-0.03, 1.05),
        xlabel="steps",
        ylabel="not yet converged",
    )
    _legend(axes, "layers", outside=True)
    return figure


def time(result: StudyResult) -> Figure:
    """Median steps to the tolerance over depth, with intervals, and the predicted escape time."""
    figure, (axes,) = canvas(6.4, 3.2)
    depths: set[int] = set()
    for i, (name, group) in enumerate(families(result).items()):
        colour, mark = (
            FAMILY_COLOURS[i % len(FAMILY_COLOURS)],
            FAMILY_MARKERS[i % len(FAMILY_MARKERS)],
        )
        x = np.array([result.models[m].depth for m in group], dtype=float)
        cells = [result.cell(m) for m in group]
        medians = [
            statistical_tests.kaplan_meier(cell["steps"], cell["reached"]).median for cell in cells
        ]
        value, low, high = (
            np.array([getattr(est, part) for est in medians]) for part in ("value", "low", "high")
        )
        known = np.isfinite(value)
        top = np.where(np.isfinite(high), high, result.steps)
        x_, value, low, top = (part[known] for part in (x, value, low, top))
        axes.errorbar(
            *(x_, value),
            yerr=np.maximum([value - low, top - value], 0),
            color=colour, marker=mark, markersize=4, linewidth=1.2, elinewidth=0.8, label=name,
        )  # fmt: skip
        predicted = np.array([np.median(cell["predicted"]) for cell in cells])
        if np.isfinite(predicted).any():
            axes.plot(
                x,
                predicted,
                color=colour,
                linestyle=(0, (4, 3)),
                linewidth=1.0,
                label=f"{name}, theory",
            )
        depths |= set(x.astype(int).tolist())
    axes.axhline(result.steps, color=ROLES["muted"], linewidth=0.8)
    axes.annotate(
        "budget",
        (1, result.steps),
        xycoords=("axes fraction", "data"),
        color=ROLES["muted"],
        fontsize=8,
        ha="right",
        va="bottom",
    )
    axes.set(yscale="log", xlabel="layers", ylabel="median steps to converge")
    _depths(axes, sorted(depths))
    _legend(axes, "", outside=False)
    return figure


def slopes(result: StudyResult, family: str, shown: int = 5) -> Figure:
    """Histograms of the final slope over that of least squares: 1 the solution, 0 the saddle."""
    group = families(result)[family]
    chosen = [
        group[i]
        for i in np.unique(
            np.linspace(0, len(group) - 1, min(shown, len(group))).round().astype(int)
        )
    ]
    figure, panels = canvas(7.0, 2.1, columns=len(chosen), sharey=True)
    bins = np.linspace(-0.525, 1.525, 42).tolist()  # 0 and 1 in the middle of a bar
    for axes, m in zip(panels, chosen, strict=True):
        ratio = result.cell(m)["ratio"]
        ratio = np.clip(ratio[np.isfinite(ratio)], bins[0], bins[-1])
        colour = ramp(group.index(m), len(group))
        axes.hist(
            ratio, bins=bins, weights=np.full(len(ratio), 1 / max(len(ratio), 1)), color=colour
        )
        depth = result.models[m].depth
        axes.set(xticks=[0, 1], ylim=(0, 1))
        _title(axes, f"{depth} layer{'s'[: depth > 1]}")
    panels[0].set(ylabel="share of trials")
    figure.supxlabel("slope over least-squares slope", fontsize=9, color=ROLES["muted"])
    return figure


def ramp(i: int, count: int) -> str:
    """The colour of line ``i`` of ``count``, from shallow to deep."""
    share = i / max(count - 1, 1)
    return to_hex(hls_to_rgb((SHALLOW_HUE + share * (DEEP_HUE - SHALLOW_HUE)) % 1, 0.52, 0.62))


def _widen(axes: Axes) -> None:
    """Stretch a logarithmic axis to a factor of three, with plain numbers where it is short."""
    low, high = axes.get_ylim()
    if high < 30 * low:
        stretch = max(1.0, (3 * low / high) ** 0.5)
        axes.set_ylim(low / stretch, high * stretch)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10)


def _depths(axes: Axes, depths: list[int]) -> None:
    axes.xaxis.set_major_locator(FixedLocator(depths))
    axes.xaxis.set_minor_locator(NullLocator())


def _legend(axes: Axes, title: str, *, outside: bool) -> None:
    place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if outside else {"loc": "best"}
    if len(axes.get_legend_handles_labels()[1]) > 1 or title:
        axes.legend(
            frameon=False,
            labelcolor="linecolor",
            handlelength=1.0,
            fontsize=8,
            title=title or None,
            title_fontsize=8,
            **place,
        )
