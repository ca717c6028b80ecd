"""The verbs of linear algebra, for operators and for Linearizers; ``verbs.pyi`` has their types."""

from rectilinear.linearizer import backproject, project
from rectilinear.operators import (
    cond,
    eig,
    expm,
    logdet,
    logm,
    norm,
    pinv,
    power,
    project_null,
    project_range,
    rank,
    solve,
    svd,
    truncate,
)

__all__ = [
    "backproject",
    "cond",
    "eig",
    "expm",
    "logdet",
    "logm",
    "norm",
    "pinv",
    "power",
    "project",
    "project_null",
    "project_range",
    "rank",
    "solve",
    "svd",
    "truncate",
]
