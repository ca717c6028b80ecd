"""Projectors by construction: networks with ``f(f(x)) = f(x)`` everywhere, the densities on their
ranges, and uses.
"""

from rectilinear.projector.corruption import (
    KINDS,
    SEVERITIES,
    Damaged,
    RandomDamage,
    damage,
    masked,
)
from rectilinear.projector.density import DensityObjective, gaussian, spline
from rectilinear.projector.from_pca import from_pca
from rectilinear.projector.model import Projector
from rectilinear.projector.objective import ProjectorObjective, tightness
from rectilinear.projector.restore import Restoration, decibels, restoration, restore
from rectilinear.projector.selection import Selection, informative

__all__ = [
    "KINDS",
    "SEVERITIES",
    "Damaged",
    "DensityObjective",
    "Projector",
    "ProjectorObjective",
    "RandomDamage",
    "Restoration",
    "Selection",
    "damage",
    "decibels",
    "from_pca",
    "gaussian",
    "informative",
    "masked",
    "restoration",
    "restore",
    "spline",
    "tightness",
]
