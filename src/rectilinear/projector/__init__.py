"""Projectors by construction, ``f(f(x)) = f(x)``, and image restoration with them."""

from rectilinear.projector.corruption import CORRUPTIONS, RandomCorruption, corrupt, masked
from rectilinear.projector.model import DensityObjective, Projector, Selection, gaussian, spline
from rectilinear.projector.restoration import restoration, restore
from rectilinear.projector.training import ProjectorObjective, from_pca

__all__ = [
    "CORRUPTIONS",
    "DensityObjective",
    "Projector",
    "ProjectorObjective",
    "RandomCorruption",
    "Selection",
    "corrupt",
    "from_pca",
    "gaussian",
    "masked",
    "restoration",
    "restore",
    "spline",
]
