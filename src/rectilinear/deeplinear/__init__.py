"""Deep linear networks against linear regression: the engine, a regressor and the study of depth."""

from __future__ import annotations

from rectilinear.deeplinear.diagnosis import Diagnosis, diagnose
from rectilinear.deeplinear.ensemble import OPTIMIZERS, Trajectory, log_grid, train
from rectilinear.deeplinear.initialisation import STARTS, draw
from rectilinear.deeplinear.least_squares import LeastSquares, least_squares
from rectilinear.deeplinear.regressor import DeepLinearRegressor
from rectilinear.deeplinear.statistics import SufficientStatistics
from rectilinear.deeplinear.study import (
    DepthStudy,
    Model,
    StudyResult,
    Synthetic,
    Table,
    deep_linear,
)
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
