"""Linear algebra for neural networks, in PyTorch: what the names of the package are, for type checkers."""

from typing import TypeVar, overload

from torch import Tensor

from rectilinear import datasets as datasets
from rectilinear import deeplinear as deeplinear
from rectilinear import dynamics as dynamics
from rectilinear import errors as errors
from rectilinear import flow as flow
from rectilinear import idempotent as idempotent
from rectilinear import invertible as invertible
from rectilinear import koopman as koopman
from rectilinear import linearizer as linearizer
from rectilinear import metrics as metrics
from rectilinear import operators as operators
from rectilinear import plots as plots
from rectilinear import style as style
from rectilinear import testing as testing
from rectilinear import training as training
from rectilinear._pretrained import Configured as Configured
from rectilinear._pretrained import from_pretrained as from_pretrained
from rectilinear._pretrained import save_pretrained as save_pretrained
from rectilinear.audit.audit import audit as audit
from rectilinear.audit.floors import floor as floor
from rectilinear.audit.fuse import fuse as fuse
from rectilinear.audit.linearize import linearize as linearize
from rectilinear.audit.local import local_map as local_map
from rectilinear.audit.split import split as split
from rectilinear.dynamics import predict as predict
from rectilinear.induced_space import InducedSpace as InducedSpace
from rectilinear.induced_space import Point as Point
from rectilinear.induced_space import PrincipalComponents as PrincipalComponents
from rectilinear.invertible import check_invertible as check_invertible
from rectilinear.linearizer import Linearizer as Linearizer
from rectilinear.linearizer import LinearizerEig as LinearizerEig
from rectilinear.linearizer import LinearizerSVD as LinearizerSVD
from rectilinear.linearizer.project import project as project
from rectilinear.operators import SVD, Eig, Operator
from rectilinear.operators.convert import to_dense as to_dense
from rectilinear.operators.convert import to_scipy as to_scipy

__version__: str

_Map = TypeVar("_Map", Operator, Linearizer)
_Vector = TypeVar("_Vector", Tensor, Point)

@overload
def svd(A: Operator) -> SVD: ...
@overload
def svd(A: Linearizer) -> LinearizerSVD: ...
@overload
def eig(A: Operator) -> Eig: ...
@overload
def eig(A: Linearizer) -> LinearizerEig: ...
def truncate(A: _Map, k: int) -> _Map: ...
def pinv(A: _Map, rtol: float | None = None) -> _Map: ...
def power(A: _Map, p: float) -> _Map: ...
def expm(A: _Map, t: float | Tensor = 1.0) -> _Map: ...
def logm(A: _Map) -> _Map: ...
def project_range(A: _Map, rtol: float | None = None) -> _Map: ...
def project_null(A: _Map, rtol: float | None = None) -> _Map: ...
def solve(A: Operator | Linearizer, y: _Vector, damping: float = 0.0) -> _Vector: ...
def rank(A: Operator | Linearizer, rtol: float | None = None) -> Tensor: ...
def cond(A: Operator | Linearizer) -> Tensor: ...
def norm(A: Operator | Linearizer, kind: str = "spectral") -> Tensor: ...
def logdet(A: Operator | Linearizer) -> Tensor: ...
