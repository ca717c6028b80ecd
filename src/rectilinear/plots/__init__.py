"""Pictures of arrays: images in grids, and charts. Nothing here knows a model or a result."""

from rectilinear.plots.charts import curves, histogram, spectrum, strips
from rectilinear.plots.images import grid, png
from rectilinear.plots.style import canvas, save, svg

__all__ = ["canvas", "curves", "grid", "histogram", "png", "save", "spectrum", "strips", "svg"]
