"""Style transfer: one linear operator for each style between two shared induced spaces."""

from rectilinear.style.fit import StyleObjective, fit_convolution, fit_style
from rectilinear.style.measure import path_scores
from rectilinear.style.model import StyleTransfer, in_tiles, new_model
from rectilinear.style.teachers import FILTERS, filtered, lessons, pairs, teacher

__all__ = [
    "FILTERS",
    "StyleObjective",
    "StyleTransfer",
    "filtered",
    "fit_convolution",
    "fit_style",
    "in_tiles",
    "lessons",
    "new_model",
    "pairs",
    "path_scores",
    "teacher",
]
