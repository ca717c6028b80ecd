"""Charts of arrays and grids of images, in one style; nothing here depends on a model."""

from rectilinear.plots.charts import bars, curves, histogram, spectrum, strips
from rectilinear.plots.style import canvas, grid, save

__all__ = ["bars", "canvas", "curves", "grid", "histogram", "save", "spectrum", "strips"]
