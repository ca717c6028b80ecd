"""Styles of pictures: one operator a style between two shared spaces, and the linear algebra of
styles.
"""

from rectilinear.style.fit import StyleObjective, fit_convolution, fit_style
from rectilinear.style.measure import PathScores, path_error, path_scores, style_psnr, transfer_psnr
from rectilinear.style.model import StyleTransfer, in_tiles, new_model
from rectilinear.style.teachers import FILTERS, TEACHERS, Filter, filtered, lessons, pairs, teacher

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
