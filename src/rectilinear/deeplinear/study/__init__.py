"""The depth study: models, trials, workers, and what comes out."""

from __future__ import annotations

from rectilinear.deeplinear.study.depth_study import DepthStudy
from rectilinear.deeplinear.study.models import Model, deep_linear
from rectilinear.deeplinear.study.protocols import Synthetic
from rectilinear.deeplinear.study.result import StudyResult
from rectilinear.deeplinear.study.table import Table

__all__ = ["DepthStudy", "Model", "StudyResult", "Synthetic", "Table", "deep_linear"]
