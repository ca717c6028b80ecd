"""Every way to build an operator: the properties are tested on each, adding one is adding a line.

All are in float64 and the same at every call. A maker of ``OPERATORS`` takes the (even) dimension,
6 by default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

import rectilinear as rl
from rectilinear import operators as op

if TYPE_CHECKING:
    from collections.abc import Callable

    from rectilinear.flow import TimeVarying
    from rectilinear.operators import Operator

DIM = 6


def ready(make: Callable[..., torch.nn.Module]) -> Callable[..., torch.nn.Module]:
    """The maker with a seed of its own and in float64."""

    def made(n: int = DIM) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(n)  # torch.manual_seed takes a millisecond
            torch.set_default_dtype(torch.float64)
            try:
                return make(n)
            finally:
                torch.set_default_dtype(torch.float32)

    return made


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def factor(n: int, r: int) -> torch.Tensor:
    """Columns of norm about one."""
    return rand(n, r) / n**0.5


def near_identity(n: int, size: float = 0.3) -> torch.Tensor:
    """A matrix with eigenvalues around one."""
    return torch.eye(n) + size * rand(n, n) / n**0.5


def spectral(n: int) -> Operator:
    q = torch.linalg.qr(rand(n, n)).Q
    return op.Spectral(op.Orthogonal.from_matrix(q), 1 + rand(n - 2) / 4, torch.tensor([0.5, -0.2]))


def kernel(*shape: int) -> torch.Tensor:
    """A filter that is one, and something small."""
    k = 0.15 * rand(*shape)
    if len(shape) == 2:
        k[:, (shape[-1] - 1) // 2] += 1
    else:
        k[..., (shape[-1] - 1) // 2] += torch.eye(shape[0])
    return k


# Square, non-singular, every eigenvalue off the negative real axis: all verbs are defined.
REGULAR: list[tuple[str, Callable[..., Operator]]] = [
    ("dense", ready(lambda n: op.Dense(weight=near_identity(n)))),
    ("diagonal", ready(lambda n: op.Diagonal(torch.rand(n) + 0.5))),
    ("identity", ready(lambda n: op.Identity(n))),
    (
        "scalar-low-rank",
        ready(
            lambda n: op.ScalarPlusLowRank(torch.tensor(0.8), 0.3 * rand(n, 1), 0.3 * rand(n, 1))
        ),
    ),
    (
        "scalar-full-rank",
        ready(
            lambda n: op.ScalarPlusLowRank(torch.tensor(1.5), 0.1 * rand(n, n), 0.3 * rand(n, n))
        ),
    ),
    (
        "scalar-rank-zero",
        ready(lambda n: op.ScalarPlusLowRank(torch.tensor(1.5), rand(n, 0), rand(n, 0))),
    ),
    (
        "core",
        ready(
            lambda n: op.Core(torch.tensor(0.7), torch.linalg.qr(rand(n, 2)).Q, near_identity(2))
        ),
    ),
    ("spectral", ready(spectral)),
    ("circular", ready(lambda n: op.Convolution((1, n), kernel(1, 3)))),
    ("circular-even", ready(lambda n: op.Convolution((2, n // 2), kernel(2, 2)))),
    ("circular-mixing", ready(lambda n: op.Convolution((2, n // 2), kernel(2, 2, 3)))),
    ("zero-padded", ready(lambda n: op.Convolution((1, n), kernel(1, 3), padding="zeros"))),
    (
        "zero-padded-mixing",
        ready(lambda n: op.Convolution((2, n // 2), kernel(2, 2, 2), padding="zeros")),
    ),
    (
        "kronecker",
        ready(
            lambda n: op.Kronecker(
                op.Dense(weight=near_identity(2)), op.Diagonal(torch.rand(n // 2) + 1)
            )
        ),
    ),
    ("sum", ready(lambda n: op.Sum(op.Identity(n), op.Dense(weight=0.2 * rand(n, n))))),
    ("product", ready(lambda n: op.Product(spectral(n), op.Diagonal(torch.rand(n) + 2)))),
    ("scaled", ready(lambda n: op.Scaled(spectral(n), 0.7))),
    ("adjoint", ready(lambda n: op.Adjoint(op.Sum(spectral(n), op.Diagonal(torch.rand(n)))))),
]

# Square, but singular or with eigenvalues on the negative axis: no real powers, or no inverse.
IRREGULAR: list[tuple[str, Callable[..., Operator]]] = [
    ("indefinite", ready(lambda n: op.Dense(weight=factor(n, n)))),
    ("diagonal-singular", ready(lambda n: op.Diagonal(torch.cat([torch.zeros(2), rand(n - 2)])))),
    ("low-rank", ready(lambda n: op.LowRank(factor(n, 2), factor(n, 2)))),
    ("low-rank-dependent", ready(lambda n: op.LowRank(factor(n, 1).expand(n, 2), factor(n, 2)))),
    (
        "scalar-zero",
        ready(lambda n: op.ScalarPlusLowRank(torch.tensor(0.0), factor(n, 2), factor(n, 2))),
    ),
    (
        "scalar-negative",
        ready(lambda n: op.ScalarPlusLowRank(torch.tensor(-2.0), factor(n, 2), factor(n, 2))),
    ),
    (
        "scalar-singular",
        ready(lambda n: op.ScalarPlusLowRank(torch.tensor(1.0), *(2 * [torch.eye(n)[:, :1]]))),
    ),
    (
        "scalar-dependent",
        ready(
            lambda n: op.ScalarPlusLowRank(torch.tensor(1.0), *(2 * [factor(n, 1).expand(n, 2)]))
        ),
    ),
    ("permutation", ready(lambda n: op.Permutation(torch.randperm(n), like=torch.zeros(1)))),
    ("orthogonal", ready(lambda n: op.Orthogonal(n))),
    ("reflection", ready(lambda n: op.Orthogonal(n, reflections=1))),
    ("orthogonal-fixed", ready(lambda n: op.Orthogonal.from_matrix(torch.linalg.qr(rand(n, n)).Q))),
    ("hartley", ready(lambda n: op.Fourier((1, n), real=True, like=torch.zeros(1)))),
    ("projection", ready(lambda n: op.Idempotent(n, 2))),
    ("projection-oblique", ready(lambda n: op.Idempotent(n, 2, oblique=True))),
    (
        "spectral-singular",
        ready(lambda n: op.Spectral(op.Identity(n), torch.arange(n - 1.0), torch.zeros(1))),
    ),
    ("circular-singular", ready(lambda n: op.Convolution((1, n), torch.tensor([[1.0, -1.0]])))),
    ("circular-signed", ready(lambda n: op.Convolution((2, n // 2), rand(2, 2, 3)))),
    (
        "kronecker-factors",
        ready(
            lambda n: op.Kronecker(op.Dense(2, 3), op.LowRank(factor(n // 3, 1), factor(n // 2, 1)))
        ),
    ),
    ("scaled-negative", ready(lambda n: op.Scaled(op.Orthogonal(n), -0.5))),
    (
        "product-singular",
        ready(lambda n: op.Product(op.Dense(weight=factor(n, n)), op.Idempotent(n, 3))),
    ),
]
OPERATORS = REGULAR + IRREGULAR

RECTANGULAR: list[tuple[str, Callable[..., Operator]]] = [
    ("dense-tall", ready(lambda n: op.Dense(n, n + 3))),
    ("dense-wide", ready(lambda n: op.Dense(n, 2))),
    ("low-rank-tall", ready(lambda n: op.LowRank(factor(n + 3, 2), factor(n, 2)))),
    ("circular-channels", ready(lambda n: op.Convolution((2, n // 2), rand(3, 2, 3)))),
    (
        "zero-padded-channels",
        ready(lambda n: op.Convolution((1, 2, n // 2), rand(2, 1, 2, 3), padding="zeros")),
    ),
    ("kronecker-tall", ready(lambda n: op.Kronecker(op.Dense(2, 3), op.Dense(n // 2, 4)))),
    ("product-thin", ready(lambda n: op.Product(op.Dense(2, n + 1), op.Dense(n, 2)))),
]

# With a leading axis of three.
BATCHED: list[tuple[str, Callable[..., Operator]]] = [
    ("dense", ready(lambda n: op.Dense(weight=torch.eye(n) + 0.2 * rand(3, n, n)))),
    ("diagonal", ready(lambda n: op.Diagonal(torch.rand(3, n) + 0.5))),
    ("low-rank", ready(lambda n: op.LowRank(rand(3, n, 2), rand(n, 2)))),
    (
        "scalar-low-rank",
        ready(
            lambda n: op.ScalarPlusLowRank(torch.rand(3) + 1, 0.3 * rand(n, 1), 0.3 * rand(3, n, 1))
        ),
    ),
    (
        "scalar-rank-two",
        ready(
            lambda n: op.ScalarPlusLowRank(torch.rand(3) + 1, 0.1 * rand(3, n, 2), rand(3, n, 2))
        ),
    ),
    (
        "spectral",
        ready(lambda n: op.Spectral(op.Identity(n), torch.rand(3, n - 1) + 0.5, torch.rand(3, 1))),
    ),
    ("scaled", ready(lambda n: op.Scaled(op.Orthogonal(n, reflections=2), torch.rand(3) + 0.5))),
]


def moment(n: int) -> torch.Tensor:
    z = rand(4 * n, n)
    return z.mT @ z / len(z)


def stirred(W: TimeVarying) -> TimeVarying:
    """``W`` away from the zero that it starts at."""
    with torch.no_grad():
        for p in W.parameters():
            p += 0.3 * rand(*p.shape)
    return W


TIME_VARYING: list[tuple[str, Callable[..., TimeVarying]]] = [
    ("constant", ready(lambda n: rl.flow.ConstantVelocity(op.Dense(n)))),
    ("low-rank-endpoint", ready(lambda n: rl.flow.LowRankEndpoint(n, rank=2, width=8))),
    (
        "scalar-low-rank",
        ready(lambda n: stirred(rl.flow.ScalarPlusLowRankVelocity(n, rank=2, width=8))),
    ),
    ("spectral", ready(lambda n: stirred(rl.flow.SpectralVelocity(n)))),
    (
        "spectral-real",
        ready(
            lambda n: stirred(
                rl.flow.SpectralVelocity(n, pairs=1, degree=0, basis=op.Orthogonal(n))
            )
        ),
    ),
    ("chebyshev", ready(lambda n: stirred(rl.flow.ChebyshevVelocity(n, rank=2, degree=3)))),
    (
        "solved-diagonal",
        ready(lambda n: rl.flow.SolvedVelocity(torch.rand(n) + 0.5, torch.rand(n) + 0.2)),
    ),
    ("solved", ready(lambda n: rl.flow.SolvedVelocity(moment(n), moment(n)))),
    ("solved-mixed", ready(lambda n: rl.flow.SolvedVelocity(torch.ones(n), moment(n)))),
]
