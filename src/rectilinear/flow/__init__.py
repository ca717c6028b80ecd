"""Flow matching between induced spaces that folds into one operator."""

from rectilinear.flow.collapse import Propagator, collapse, propagate
from rectilinear.flow.integrate import integrate
from rectilinear.flow.model import LinearFlow
from rectilinear.flow.sample import sample

__all__ = ["LinearFlow", "Propagator", "collapse", "integrate", "propagate", "sample"]
