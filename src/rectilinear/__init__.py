"""Linear algebra for neural networks, in PyTorch.

The table of contents. A name is loaded when it is first used, so that ``import rectilinear`` imports no torch;
type checkers read ``__init__.pyi``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_FOLDERS = (
    "audit",
    "datasets",
    "deeplinear",
    "dynamics",
    "errors",
    "flow",
    "idempotent",
    "invertible",
    "koopman",
    "linearizer",
    "metrics",
    "operators",
    "plots",
    "style",
    "testing",
    "training",
)
_NAMES = {
    "_pretrained": ("Configured", "from_pretrained", "save_pretrained"),
    "audit": ("floor", "fuse", "linearize", "local_map", "split"),
    "dynamics": ("predict",),
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
