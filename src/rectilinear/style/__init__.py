"""Style transfer: one affine map at every place for each style, inside one shared network."""

from rectilinear.style.collection import StyleCollection
from rectilinear.style.fit import StyleObjective, fit_style, fit_way_back, with_ways_back
from rectilinear.style.lessons import Lessons
from rectilinear.style.model import StyleTransfer, new_model
from rectilinear.style.place_flow import PlaceFlow
from rectilinear.style.place_operator import PlaceOperator
from rectilinear.style.style_map import StyleMap, WayBack
from rectilinear.style.teachers import FILTERS as FILTERS
from rectilinear.style.teachers import filtered, teacher

__all__ = [
    "Lessons",
    "PlaceFlow",
    "PlaceOperator",
    "StyleCollection",
    "StyleMap",
    "StyleObjective",
    "StyleTransfer",
    "WayBack",
    "filtered",
    "fit_style",
    "fit_way_back",
    "new_model",
    "teacher",
    "with_ways_back",
]
