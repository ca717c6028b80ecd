"""Linear operators with structure, and the verbs of linear algebra on them."""

from rectilinear.operators.algebra import add, adjoint, compose, matmul, scale
from rectilinear.operators.base import Operator
from rectilinear.operators.convert import DENSE_LIMIT, to_dense, to_scipy
from rectilinear.operators.convolution import Convolution
from rectilinear.operators.dense import Dense
from rectilinear.operators.diagonal import Diagonal
from rectilinear.operators.eig import Eig, eig
from rectilinear.operators.expm import expm, logm
from rectilinear.operators.fourier import Fourier
from rectilinear.operators.idempotent import Idempotent
from rectilinear.operators.identity import Identity
from rectilinear.operators.kronecker import Kronecker
from rectilinear.operators.lazy import Adjoint, Product, Scaled, Sum
from rectilinear.operators.logdet import logdet
from rectilinear.operators.low_rank import LowRank
from rectilinear.operators.orthogonal import Orthogonal
from rectilinear.operators.permutation import Permutation
from rectilinear.operators.pinv import pinv
from rectilinear.operators.power import power
from rectilinear.operators.projection import project_null, project_range
from rectilinear.operators.scalar_low_rank import Compressed, Core, ScalarPlusLowRank, compress
from rectilinear.operators.solve import solve
from rectilinear.operators.spectral import Spectral
from rectilinear.operators.svd import SVD, cond, norm, rank, svd, svdvals, truncate
from rectilinear.operators.time_varying import ConstantVelocity, TimeVarying
from rectilinear.operators.time_varying_chebyshev import ChebyshevVelocity
from rectilinear.operators.time_varying_network import LowRankEndpoint, ScalarPlusLowRankVelocity
from rectilinear.operators.time_varying_solved import SolvedVelocity
from rectilinear.operators.time_varying_spectral import SpectralVelocity

__all__ = [
    "DENSE_LIMIT",
    "SVD",
    "Adjoint",
    "ChebyshevVelocity",
    "Compressed",
    "ConstantVelocity",
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
    "LowRankEndpoint",
    "Operator",
    "Orthogonal",
    "Permutation",
    "Product",
    "ScalarPlusLowRank",
    "ScalarPlusLowRankVelocity",
    "Scaled",
    "SolvedVelocity",
    "Spectral",
    "SpectralVelocity",
    "Sum",
    "TimeVarying",
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
