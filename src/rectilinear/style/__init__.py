"""Style transfer: one linear operator for each style between two shared induced spaces."""

from rectilinear.style.fit import StyleObjective, fit_style
from rectilinear.style.fit import fit_convolution as fit_convolution
from rectilinear.style.measure import path_scores as path_scores
from rectilinear.style.model import StyleTransfer, in_tiles, new_model
from rectilinear.style.teachers import FILTERS as FILTERS
from rectilinear.style.teachers import filtered, lessons, pairs, teacher

__all__ = [
    "StyleObjective",
    "StyleTransfer",
    "filtered",
    "fit_style",
    "in_tiles",
    "lessons",
    "new_model",
    "pairs",
    "teacher",
]
