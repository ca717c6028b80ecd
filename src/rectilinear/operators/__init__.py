"""Linear operators with structure, and the verbs of linear algebra on them."""

from rectilinear.operators.algebra import add, adjoint, compose, matmul, scale
from rectilinear.operators.base import Operator
from rectilinear.operators.convert import DENSE_LIMIT, to_dense, to_scipy
from rectilinear.operators.convolution import Convolution
from rectilinear.operators.dense import Dense, Kronecker
from rectilinear.operators.diagonal import Diagonal, Identity, Permutation
from rectilinear.operators.eig import Eig, eig
from rectilinear.operators.expm import expm, logm
from rectilinear.operators.fourier import Fourier, Spectral
from rectilinear.operators.idempotent import Idempotent
from rectilinear.operators.lazy import Adjoint, Product, Scaled, Sum
from rectilinear.operators.logdet import logdet
from rectilinear.operators.low_rank import Compressed, Core, LowRank, ScalarPlusLowRank, compress
from rectilinear.operators.orthogonal import Orthogonal
from rectilinear.operators.power import power
from rectilinear.operators.project import project_null, project_range
from rectilinear.operators.solve import pinv, solve
from rectilinear.operators.svd import SVD, cond, norm, rank, svd, svdvals, truncate

__all__ = [
    "DENSE_LIMIT",
    "SVD",
    "Adjoint",
    "Compressed",
    "Convolution",
    "Core",
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
    "Product",
    "ScalarPlusLowRank",
    "Scaled",
    "Spectral",
    "Sum",
    "add",
    "adjoint",
    "compose",
    "compress",
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
    "svdvals",
    "to_dense",
    "to_scipy",
    "truncate",
]
