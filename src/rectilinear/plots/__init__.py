"""Charts of arrays and grids of images, in one style; nothing here depends on a model."""

from rectilinear.plots.charts import bars as bars
from rectilinear.plots.charts import curves, histogram, spectrum, strips
from rectilinear.plots.style import canvas as canvas
from rectilinear.plots.style import grid, save

__all__ = ["curves", "grid", "histogram", "save", "spectrum", "strips"]
