"""Pictures of arrays: images in grids, and charts. Nothing here knows a model or a result."""

from rectilinear.plots.charts import bars, curves, histogram, shares, spectrum, strips
from rectilinear.plots.style import canvas, grid, png, save, svg

__all__ = [
    "bars",
    "canvas",
    "curves",
    "grid",
    "histogram",
    "png",
    "save",
    "shares",
    "spectrum",
    "strips",
    "svg",
]
