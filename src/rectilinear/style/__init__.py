"""Styles of pictures: one operator a style between two shared spaces, and the linear algebra of styles."""

from rectilinear.style.build import new_model
from rectilinear.style.filters import FILTERS, Filter, filtered
from rectilinear.style.fit import fit_convolution, fit_style
from rectilinear.style.measure import PathScores, path_error, path_scores, style_psnr, transfer_psnr
from rectilinear.style.model import StyleTransfer
from rectilinear.style.objective import StyleObjective
from rectilinear.style.teachers import TEACHERS, lessons, pairs, teacher
from rectilinear.style.tiles import in_tiles

__all__ = [
    "FILTERS",
    "TEACHERS",
    "Filter",
    "PathScores",
    "StyleObjective",
    "StyleTransfer",
    "filtered",
    "fit_convolution",
    "fit_style",
    "in_tiles",
    "lessons",
    "new_model",
    "pairs",
    "path_error",
    "path_scores",
    "style_psnr",
    "teacher",
    "transfer_psnr",
]
