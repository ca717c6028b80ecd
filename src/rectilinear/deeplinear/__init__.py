"""Deep linear networks against linear regression: the engine, a regressor and the study of depth."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rectilinear.deeplinear.ensemble import OPTIMIZERS, Trajectory, log_grid, train
from rectilinear.deeplinear.least_squares import LeastSquares, least_squares
from rectilinear.deeplinear.start import STARTS, draw
from rectilinear.deeplinear.statistics import SufficientStatistics

if TYPE_CHECKING:
    from rectilinear.deeplinear.diagnosis import Diagnosis, diagnose
    from rectilinear.deeplinear.regressor import DeepLinearRegressor
    from rectilinear.deeplinear.study import DepthStudy, Model, StudyResult, Synthetic, Table, deep_linear
    from rectilinear.deeplinear.theory import effective_step, escape_time, largest_stable_step

__all__ = [
    "OPTIMIZERS",
    "STARTS",
    "DeepLinearRegressor",
    "DepthStudy",
    "Diagnosis",
    "LeastSquares",
    "Model",
    "StudyResult",
    "SufficientStatistics",
    "Synthetic",
    "Table",
    "Trajectory",
    "deep_linear",
    "diagnose",
    "draw",
    "effective_step",
    "escape_time",
    "largest_stable_step",
    "least_squares",
    "log_grid",
    "train",
]
# Loaded on first use: the engine needs NumPy alone, these scikit-learn and more.
_NAMES = {
    "diagnosis": ("Diagnosis", "diagnose"),
    "regressor": ("DeepLinearRegressor",),
    "study": ("DepthStudy", "Model", "StudyResult", "Synthetic", "Table", "deep_linear"),
    "theory": ("effective_step", "escape_time", "largest_stable_step"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = globals()[name] = getattr(import_module(f"rectilinear.deeplinear.{_HOME[name]}"), name)
        return value
    raise AttributeError(f"module 'rectilinear.deeplinear' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
