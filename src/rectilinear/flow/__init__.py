"""Flow matching between induced spaces that folds into one operator."""

from rectilinear.flow import objectives
from rectilinear.flow.checks import chapman_kolmogorov, equality
from rectilinear.flow.collapse import Propagator, collapse, propagate
from rectilinear.flow.integrate import integrate
from rectilinear.flow.invert import Inversion, interpolate, inversion, invert
from rectilinear.flow.likelihood import bits_per_dimension, denoise
from rectilinear.flow.model import LinearFlow
from rectilinear.flow.sample import sample

__all__ = [
    "Inversion",
    "LinearFlow",
    "Propagator",
    "bits_per_dimension",
    "chapman_kolmogorov",
    "collapse",
    "denoise",
    "equality",
    "integrate",
    "interpolate",
    "inversion",
    "invert",
    "objectives",
    "propagate",
    "sample",
]
