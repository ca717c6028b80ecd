"""Flow matching between induced spaces whose steps fold into one operator."""

from rectilinear.flow import objectives
from rectilinear.flow.generator import (
    LinearFlow,
    collapse,
    collapse_error,
    denoise,
    sample,
    semigroup_error,
)
from rectilinear.flow.inversion import bits_per_dimension, interpolate, inversion, invert
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
    "LinearFlow",
    "LowRankEndpoint",
    "ScalarPlusLowRankVelocity",
    "SolvedVelocity",
    "SpectralVelocity",
    "TimeVarying",
    "bits_per_dimension",
    "collapse",
    "collapse_error",
    "denoise",
    "interpolate",
    "inversion",
    "invert",
    "objectives",
    "sample",
    "semigroup_error",
]
