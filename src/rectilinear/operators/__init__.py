"""Linear operators with structure, and the verbs of linear algebra on them."""

from rectilinear.operators.algebra import add, adjoint, matmul, scale
from rectilinear.operators.algebra import compose as compose
from rectilinear.operators.base import Operator
from rectilinear.operators.convolution import Convolution
from rectilinear.operators.dense import DENSE_LIMIT as DENSE_LIMIT
from rectilinear.operators.dense import Dense, Kronecker, to_dense, to_scipy
from rectilinear.operators.diagonal import Diagonal, Identity, Permutation
from rectilinear.operators.eig import Eig, eig
from rectilinear.operators.expm import expm, logm
from rectilinear.operators.fourier import Fourier, Spectral
from rectilinear.operators.lazy import Adjoint as Adjoint
from rectilinear.operators.lazy import Product as Product
from rectilinear.operators.lazy import Scaled as Scaled
from rectilinear.operators.lazy import Sum as Sum
from rectilinear.operators.logdet import logdet
from rectilinear.operators.low_rank import Compressed as Compressed
from rectilinear.operators.low_rank import Core as Core
from rectilinear.operators.low_rank import LowRank, ScalarPlusLowRank
from rectilinear.operators.low_rank import compress as compress
from rectilinear.operators.orthogonal import Idempotent, Orthogonal
from rectilinear.operators.power import power
from rectilinear.operators.solve import pinv, project_null, project_range, solve
from rectilinear.operators.svd import SVD, cond, norm, rank, svd, truncate
from rectilinear.operators.svd import svdvals as svdvals

__all__ = [
    "SVD",
    "Convolution",
    "Dense",
    "Diagonal",
    "Eig",
    "Fourier",
    "Idempotent",
    "Identity",
    "Kronecker",
    "LowRank",
    "Operator",
    "Orthogonal",
    "Permutation",
    "ScalarPlusLowRank",
    "Spectral",
    "add",
    "adjoint",
    "cond",
    "eig",
    "expm",
    "logdet",
    "logm",
    "matmul",
    "norm",
    "pinv",
    "power",
    "project_null",
    "project_range",
    "rank",
    "scale",
    "solve",
    "svd",
    "to_dense",
    "to_scipy",
    "truncate",
]
