"""Projectors by construction: networks with ``f(f(x)) = f(x)`` everywhere, the densities on their ranges, and uses."""

from rectilinear.idempotent.damage import KINDS, SEVERITIES, Damaged, RandomDamage, damage, masked
from rectilinear.idempotent.evaluate import Restoration, decibels, restoration
from rectilinear.idempotent.loss import ProjectorObjective, tightness
from rectilinear.idempotent.model import Projector
from rectilinear.idempotent.prior import DensityObjective, gaussian, spline
from rectilinear.idempotent.restore import restore
from rectilinear.idempotent.selection import Selection, informative
from rectilinear.idempotent.start import from_pca

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
