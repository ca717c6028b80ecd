"""Charts of arrays in one style, their files (png, svg), and grids of images."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from rectilinear.checks import check_finite
from rectilinear.errors import ShapeError
from rectilinear.files import atomic_write

# The colours by their role. In a page each becomes the style sheet's variable of that name, so that
# a chart follows the light or dark of its reader; in a file they stand as they are.
ROLES = {
    "ink": "#1c1d21",
    "muted": "#6c6e76",
    "rule": "#d9d7d0",
    "first": "#c2410c",
    "second": "#1d5fa8",
    "third": "#4d7c0f",
}

_SETTINGS: Any = {
    "axes.edgecolor": ROLES["muted"],
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": ROLES["muted"],
    "axes.labelsize": 9,
    "axes.linewidth": 0.6,
    "axes.prop_cycle": cycler(
        color=[ROLES[role] for role in ("first", "second", "third", "muted")]
    ),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": ROLES["ink"],
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.dpi": 200,
    "font.size": 9,
    "grid.color": ROLES["rule"],
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "rectilinear",
    "text.color": ROLES["ink"],
    "xtick.color": ROLES["muted"],
    "xtick.labelsize": 8,
    "ytick.color": ROLES["muted"],
    "ytick.labelsize": 8,
}


def canvas(
    width: float = 6.4, height: float = 3.0, columns: int = 1, rows: int = 1, **options: Any
) -> tuple[Figure, list[Axes]]:
    """An empty figure of ``rows x columns`` axes of ``width x height`` inches, in the house style.

    Example:
        >>> figure, (axes,) = canvas()
        >>> axes.spines["top"].get_visible()
        False
    """
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False, **options)
        return figure, list(axes.flat)


def save(figure: Figure, path: Path | str) -> None:
    """Write the ``figure`` to ``path``; the suffix gives the format (png, svg, pdf).

    The panels of a figure with several get the letters a, b, c, ... before their titles.

    Raises:
        DiskError: if the disk is full or cannot be written.
    """
    _letter(figure)
    with mpl.rc_context(_SETTINGS), atomic_write(path) as tmp:
        figure.savefig(tmp, metadata=_undated(tmp.suffix))


def _letter(figure: Figure) -> None:
    """Put a, b, c, ... before the titles of panels; not of colour bars, nor of a second y axis."""
    places = {
        axes.get_subplotspec(): axes
        for axes in reversed(figure.axes)
        if axes.get_label() != COLOUR_BAR
    }
    if len(places) < 2:
        return
    size = 9 if len(places) < 4 else 8
    for letter, axes in zip("abcdefghijklmnopqrstuvwxyz", reversed(places.values()), strict=False):
        name, bold = axes.get_title(loc="left"), rf"$\mathbf{{{letter}}}$"
        if not name.startswith(bold):
            title = f"{bold}  {name}".rstrip()
            axes.set_title(title, loc="left", fontsize=size, color=ROLES["ink"])


COLOUR_BAR = "<colorbar>"  # the label that matplotlib gives the axes of one


def colour_bar(
    figure: Figure, axes: Axes | Sequence[Axes], colours: Any, label: str, **options: Any
) -> Axes:
    """The axes of a colour bar beside ``axes``, in the house style; ``options`` as matplotlib's.

    Example:
        >>> figure, (axes,) = canvas()
        >>> colour_bar(figure, axes, axes.imshow([[0, 1]]), "output").get_ylabel()
        'output'
    """
    with mpl.rc_context(_SETTINGS):
        bar = figure.colorbar(colours, ax=axes, label=label, **options)
        bar.outline.set_visible(False)
        bar.ax.grid(visible=False)
        return bar.ax


def svg(figure: Figure) -> str:
    """The chart as an ``<svg>`` element for a page: no fixed size, the page's fonts and colours.

    Example:
        >>> figure, _ = canvas()
        >>> text = svg(figure)
        >>> text.startswith("<svg") and "var(--muted)" in text and "#6c6e76" not in text
        True
    """
    buffer = io.StringIO()
    with mpl.rc_context(_SETTINGS):
        figure.savefig(buffer, format="svg", transparent=True, metadata=_undated(".svg"))
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(
        r'(<svg[^>]*?) (?:width|height)="[^"]*"',
        r"\1",
        re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text),
    )
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)
    text = re.sub(r"font: ([^\"';]*?)(\d+(?:\.\d+)?px)[^;\"]*", r"font-size: \2", text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    for role, colour in ROLES.items():
        text = text.replace(colour, f"var(--{role})")
    return text


def _undated(suffix: str) -> dict[str, None] | None:
    """No date in the file: the same chart gives the same bytes."""
    return {"Date": None} if suffix == ".svg" else None


def grid(images: ArrayLike, columns: int, gap: int = 1) -> NDArray[np.uint8]:
    """The images in rows of ``columns``: ``(n, c, h, w)`` in ``[0, 1]`` to bytes ``(H, W, 4)``.

    ``c`` is 1 or 3; values outside the range are clipped; the gaps of ``gap`` pixels, and places of
    the last row that no image fills, are transparent.

    Raises:
        ShapeError: if the images are not of shape ``(n, 1 or 3, h, w)``.
        NonFiniteError: if a pixel is NaN or infinite.

    Example:
        >>> grid(np.zeros((5, 1, 8, 8)), columns=3).shape
        (17, 26, 4)
    """
    array = np.asarray(images, dtype=np.float64)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or array.shape[0] == 0:
        raise ShapeError(
            f"images of shape {array.shape}",
            "(n, 1 or 3, height, width)",
            "Put the channel axis second.",
        )
    check_finite(array, "images")
    n, _, height, width = array.shape
    rows = -(-n // columns)
    pixels = np.rint(255 * array.clip(0, 1)).astype(np.uint8).transpose(0, 2, 3, 1)
    sheet = np.zeros(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, 4), dtype=np.uint8
    )
    for i, image in enumerate(pixels):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[top : top + height, left : left + width, :3] = image
        sheet[top : top + height, left : left + width, 3] = 255
    return sheet


def png(pixels: NDArray[np.uint8], scale: int = 1) -> bytes:
    """The pixels ``(H, W, 3 or 4)`` as a PNG file, each one a square of ``scale x scale``.

    Example:
        >>> png(np.zeros((2, 2, 3), dtype=np.uint8))[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(np.repeat(pixels, scale, axis=0), scale, axis=1)).save(
        buffer, "PNG", optimize=True
    )
    return buffer.getvalue()


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
    """Descending values against their index, on a logarithmic axis ``label``; one line a name.

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
    """Lines ``y(x)``, named if several, with axis names ``xlabel`` and ``ylabel``.

    ``markers`` for few points, each of them a tick; ``logx`` and ``logy`` for logarithmic axes.

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


def layers(
    names: Sequence[str], lines: Mapping[str, Sequence[tuple[float, float, float]]], label: str
) -> Figure:
    """Values by layer, one line a name, each with the band from its second to its third number.

    Example:
        >>> points = [(0.5, 0.4, 0.6), (0.7, 0.6, 0.8)]
        >>> len(layers(["0", "1"], {"a": points, "b": points}, "R²").axes[0].lines)
        2
    """
    figure, (axes,) = canvas(6.4, 3.4)
    depth = np.arange(len(names))
    lowest = 0.0
    for name, points in lines.items():
        value, low, high = np.asarray(points, dtype=float).T
        (line,) = axes.plot(depth, value, marker="o", markersize=4, label=name)
        axes.fill_between(depth, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        lowest = min(lowest, float(np.nanmin(low)))
    _name_lines(axes, lines)
    turned = len(names) > 8 or any(len(name) > 10 for name in names)
    axes.set_xticks(
        depth, list(names), rotation=30 if turned else 0, ha="right" if turned else "center"
    )
    axes.set(ylabel=label, ylim=(max(lowest, -1.0) - 0.05, 1.05))
    return figure


class Distribution(Protocol):
    """A distribution of scipy.stats, which is not imported for it: that takes a second."""

    def ppf(self, q: float, /) -> float:
        """The quantile of a probability."""

    def pdf(self, x: Any, /) -> Any:
        """The density at some points."""


def histogram(panels: Mapping[str, tuple[ArrayLike, Distribution]], bins: int = 40) -> Figure:
    """Histograms of ``bins`` bins side by side, each under the density it should follow.

    ``panels`` gives the values and the distribution, such as ``scipy.stats.norm()``, by name.

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
    """A figure of ``rows`` of images ``(n, c, h, w)``, all of one shape, each named at its left.

    Example:
        >>> axes = strips({"a": np.zeros((3, 1, 4, 4))}).axes[0]
        >>> [label.get_text() for label in axes.get_yticklabels()]
        ['a']
    """
    arrays = [np.asarray(row) for row in rows.values()]
    columns, height = len(arrays[0]), arrays[0].shape[-2]
    gap = max(1, height // 16)
    pixels = grid(np.concatenate(arrays), columns, gap)
    names = 0.09 * max(len(part) for name in rows for part in name.split("\n"))  # inches
    figure, (axes,) = canvas(6.4, (6.2 - names) * pixels.shape[0] / pixels.shape[1] + 0.15)
    axes.imshow(pixels, interpolation="nearest")
    axes.set_anchor("E")
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
