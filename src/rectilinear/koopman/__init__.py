"""Koopman models of time series: linear in an induced space, with an exact decoder."""

from rectilinear.koopman.closed_form import FitConfig, fit
from rectilinear.koopman.diagnostics import (
    chapman_kolmogorov_error,
    one_step_error,
    round_trip_error,
)
from rectilinear.koopman.model import Features as Features
from rectilinear.koopman.model import Koopman, Lift, Spectrum
from rectilinear.koopman.model import MultiStep as MultiStep
from rectilinear.koopman.realization import Modes, modes
from rectilinear.koopman.regressor import DMD, KoopmanRegressor
from rectilinear.koopman.series import as_series, embed, windows

__all__ = [
    "DMD",
    "FitConfig",
    "Koopman",
    "KoopmanRegressor",
    "Lift",
    "Modes",
    "Spectrum",
    "as_series",
    "chapman_kolmogorov_error",
    "embed",
    "fit",
    "modes",
    "one_step_error",
    "round_trip_error",
    "windows",
]
