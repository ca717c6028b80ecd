"""Flow matching between induced spaces that folds into one operator."""

from rectilinear.flow import objectives
from rectilinear.flow.collapse import Propagator, chapman_kolmogorov, collapse, equality, propagate
from rectilinear.flow.generator import LinearFlow, sample
from rectilinear.flow.integrate import integrate
from rectilinear.flow.inversion import (
    Inversion,
    bits_per_dimension,
    denoise,
    interpolate,
    inversion,
    invert,
)
from rectilinear.flow.velocities import (
    ChebyshevVelocity,
    ConstantVelocity,
    LowRankEndpoint,
    ScalarPlusLowRankVelocity,
    SolvedVelocity,
    SpectralVelocity,
    TimeVarying,
)

__all__ = [
    "ChebyshevVelocity",
    "ConstantVelocity",
    "Inversion",
    "LinearFlow",
    "LowRankEndpoint",
    "Propagator",
    "ScalarPlusLowRankVelocity",
    "SolvedVelocity",
    "SpectralVelocity",
    "TimeVarying",
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
