"""Charts of arrays and grids of images, in one style; nothing here depends on a model."""

from rectilinear.plots.charts import bars as bars
from rectilinear.plots.charts import canvas as canvas
from rectilinear.plots.charts import curves, grid, histogram, save, spectrum, strips

__all__ = ["curves", "grid", "histogram", "save", "spectrum", "strips"]
