"""Linear algebra for neural networks, in PyTorch.

The table of contents. A name is loaded when it is first used, so that ``import rectilinear`` imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rectilinear import datasets as datasets
    from rectilinear import errors as errors
    from rectilinear import flow as flow
    from rectilinear import invertible as invertible
    from rectilinear import linearizer as linearizer
    from rectilinear import metrics as metrics
    from rectilinear import operators as operators
    from rectilinear import plots as plots
    from rectilinear import testing as testing
    from rectilinear import training as training
    from rectilinear._pretrained import Configured as Configured
    from rectilinear._pretrained import from_pretrained as from_pretrained
    from rectilinear._pretrained import save_pretrained as save_pretrained
    from rectilinear.induced_space import InducedSpace as InducedSpace
    from rectilinear.induced_space import Point as Point
    from rectilinear.induced_space import PrincipalComponents as PrincipalComponents
    from rectilinear.invertible import check_invertible as check_invertible
    from rectilinear.linearizer import Linearizer as Linearizer
    from rectilinear.linearizer import LinearizerEig as LinearizerEig
    from rectilinear.linearizer import LinearizerSVD as LinearizerSVD
    from rectilinear.linearizer import project as project
    from rectilinear.operators import cond as cond
    from rectilinear.operators import eig as eig
    from rectilinear.operators import expm as expm
    from rectilinear.operators import logdet as logdet
    from rectilinear.operators import logm as logm
    from rectilinear.operators import norm as norm
    from rectilinear.operators import pinv as pinv
    from rectilinear.operators import power as power
    from rectilinear.operators import project_null as project_null
    from rectilinear.operators import project_range as project_range
    from rectilinear.operators import rank as rank
    from rectilinear.operators import solve as solve
    from rectilinear.operators import svd as svd
    from rectilinear.operators import to_dense as to_dense
    from rectilinear.operators import to_scipy as to_scipy
    from rectilinear.operators import truncate as truncate

__version__ = "0.1.0"

_FOLDERS = (
    "datasets",
    "errors",
    "flow",
    "invertible",
    "linearizer",
    "metrics",
    "operators",
    "plots",
    "testing",
    "training",
)
_NAMES = {
    "_pretrained": ("Configured", "from_pretrained", "save_pretrained"),
    "induced_space": ("InducedSpace", "Point", "PrincipalComponents"),
    "invertible": ("check_invertible",),
    "linearizer": ("Linearizer", "LinearizerEig", "LinearizerSVD", "project"),
    "operators": (
        *("cond", "eig", "expm", "logdet", "logm", "norm", "pinv", "power", "project_null", "project_range"),
        *("rank", "solve", "svd", "to_dense", "to_scipy", "truncate"),
    ),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(["__version__", *_FOLDERS, *_HOME])


def __getattr__(name: str) -> Any:
    if name in _FOLDERS:
        return import_module(f"rectilinear.{name}")
    if name in _HOME:
        value = globals()[name] = getattr(import_module(f"rectilinear.{_HOME[name]}"), name)
        return value
    raise AttributeError(f"module 'rectilinear' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
