"""Linearizers: networks that are linear between induced spaces, and the verbs of linear algebra on them."""

from rectilinear.linearizer import measures as measures
from rectilinear.linearizer import pinv as pinv
from rectilinear.linearizer import power as power
from rectilinear.linearizer.eig import LinearizerEig
from rectilinear.linearizer.linearizer import Linearizer
from rectilinear.linearizer.project import project
from rectilinear.linearizer.svd import LinearizerSVD

__all__ = ["Linearizer", "LinearizerEig", "LinearizerSVD", "project"]
