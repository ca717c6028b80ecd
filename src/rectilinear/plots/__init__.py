"""Pictures of arrays: images in grids, and charts. Nothing here knows a model or a result."""

from rectilinear.plots.bars import bars, shares
from rectilinear.plots.charts import curves, histogram, spectrum, strips
from rectilinear.plots.images import grid, png
from rectilinear.plots.style import canvas, save, svg

__all__ = ["bars", "canvas", "curves", "grid", "histogram", "png", "save", "shares", "spectrum", "strips", "svg"]
