"""Style and files of figures (png, svg), and grids of images."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
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
    """Write the chart to ``path``; the suffix says the format (png, svg, pdf).

    Raises:
        DiskError: if the disk is full or cannot be written.
    """
    with mpl.rc_context(_SETTINGS), atomic_write(path) as tmp:
        figure.savefig(tmp, metadata=_undated(tmp.suffix))


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
