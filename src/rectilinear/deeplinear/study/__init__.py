"""The depth study: models, trials, workers, and what comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rectilinear.deeplinear.study.depth_study import DepthStudy
from rectilinear.deeplinear.study.models import Model, deep_linear
from rectilinear.deeplinear.study.protocols import Synthetic
from rectilinear.deeplinear.study.table import Table

if TYPE_CHECKING:
    from rectilinear.deeplinear.study.result import StudyResult

__all__ = ["DepthStudy", "Model", "StudyResult", "Synthetic", "Table", "deep_linear"]


def __getattr__(name: str) -> Any:
    if name == "StudyResult":  # with the statistics, which workers do not need
        from rectilinear.deeplinear.study.result import StudyResult

        return StudyResult
    raise AttributeError(f"module 'rectilinear.deeplinear.study' has no attribute '{name}'")
