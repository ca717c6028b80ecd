"""Koopman models of time series: linear in an induced space, with an exact decoder."""

from .closed_form import fit as fit
from .diagnostics import chapman_kolmogorov_error as chapman_kolmogorov_error
from .diagnostics import one_step_error as one_step_error
from .diagnostics import round_trip_error as round_trip_error
from .dictionaries import Fourier as Fourier
from .dictionaries import Monomials as Monomials
from .feature_fit import FitConfig as FitConfig
from .forecast import Check as Check
from .forecast import Comparison as Comparison
from .forecast import Forecast as Forecast
from .forecaster import Forecaster as Forecaster
from .model import Features as Features
from .model import Koopman as Koopman
from .model import Lift as Lift
from .model import MultiStep as MultiStep
from .model import Spectrum as Spectrum
from .realization import Modes as Modes
from .realization import modes as modes
from .regressor import DMD as DMD
from .regressor import KoopmanRegressor as KoopmanRegressor
from .series import as_series as as_series
from .series import embed as embed
from .series import windows as windows
