"""Dynamics that are linear in an induced space: Koopman models with an exact decoder."""

from rectilinear.koopman.checks import (
    ChapmanKolmogorov,
    OneStep,
    Return,
    chapman_kolmogorov,
    one_step,
    there_and_back,
)
from rectilinear.koopman.closed_form import FitConfig, fit, solve_features
from rectilinear.koopman.dmd import DMD
from rectilinear.koopman.lift import Features, Lift
from rectilinear.koopman.model import Koopman, MultiStep, Spectrum
from rectilinear.koopman.realization import Modes, Realization, modes, realize
from rectilinear.koopman.regressor import KoopmanRegressor
from rectilinear.koopman.series import Series, Windows, as_series, embed, unpack, windows

__all__ = [
    "DMD",
    "ChapmanKolmogorov",
    "Features",
    "FitConfig",
    "Koopman",
    "KoopmanRegressor",
    "Lift",
    "Modes",
    "MultiStep",
    "OneStep",
    "Realization",
    "Return",
    "Series",
    "Spectrum",
    "Windows",
    "as_series",
    "chapman_kolmogorov",
    "embed",
    "fit",
    "modes",
    "one_step",
    "realize",
    "solve_features",
    "there_and_back",
    "unpack",
    "windows",
]
