"""Projectors by construction, ``f(f(x)) = f(x)``, and image restoration with them."""

from rectilinear.projector.blind import BlindRestorer
from rectilinear.projector.blind_training import fit_blind
from rectilinear.projector.combined import CombinedPrior, fit_combined
from rectilinear.projector.corruption import CORRUPTIONS, RandomCorruption, corrupt, masked
from rectilinear.projector.model import DensityObjective, Projector, Selection, gaussian, spline
from rectilinear.projector.patches import Overlapping
from rectilinear.projector.prior import ImagePrior, Posterior, fit_prior
from rectilinear.projector.restoration import posterior, restore
from rectilinear.projector.restoration_table import restoration
from rectilinear.projector.training import ProjectorObjective, from_pca

__all__ = [
    "CORRUPTIONS",
    "BlindRestorer",
    "CombinedPrior",
    "DensityObjective",
    "ImagePrior",
    "Overlapping",
    "Posterior",
    "Projector",
    "ProjectorObjective",
    "RandomCorruption",
    "Selection",
    "corrupt",
    "fit_blind",
    "fit_combined",
    "fit_prior",
    "from_pca",
    "gaussian",
    "masked",
    "posterior",
    "restoration",
    "restore",
    "spline",
]
