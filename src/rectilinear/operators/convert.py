"""Out of the structures: dense matrices and SciPy's linear operators."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import singledispatch

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from rectilinear.errors import DtypeError, ShapeError, StructureError, StructureWarning
from rectilinear.operators.base import Operator
from rectilinear.operators.dense import Dense
from rectilinear.operators.shapes import unit_columns

DENSE_LIMIT = 4096


@singledispatch
def to_dense(A: object) -> Tensor:
    """The matrix of an operator, ``(..., out_dim, in_dim)``.

    Example:
        >>> to_dense(2 * Dense(weight=torch.eye(2))).tolist()
        [[2.0, 0.0], [0.0, 2.0]]
    """
    raise unknown("to_dense", A)


@to_dense.register(Operator)
def _(A: Operator) -> Tensor:
    batch = A.batch_shape
    eye = unit_columns(A.in_dim, A.in_dim, A.like)
    return A(eye.reshape(A.in_dim, *[1] * len(batch), A.in_dim)).movedim(0, -1)


@to_dense.register(Dense)
def _(A: Dense) -> Tensor:
    return A.weight


def to_scipy(A: Operator) -> LinearOperator:
    """The operator as a ``scipy.sparse.linalg.LinearOperator``, on the CPU and without gradient.

    Raises:
        ShapeError: if the operator is batched.

    Example:
        >>> to_scipy(Dense(weight=torch.eye(3))).shape
        (3, 3)
    """
    if A.batch_shape:
        raise ShapeError(
            f"an operator of batch shape {tuple(A.batch_shape)}",
            "a single one",
            "Convert them one by one.",
        )
    like = A.like

    def run(function: Callable[[Tensor], Tensor], x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return (
                function(torch.as_tensor(x, dtype=like.dtype, device=like.device).mT)
                .mT.cpu()
                .numpy()
            )

    return LinearOperator(
        shape=(A.out_dim, A.in_dim),
        dtype=torch.empty(0, dtype=like.dtype).numpy().dtype,
        matvec=lambda x: run(A, x.reshape(-1, 1))[:, 0],
        rmatvec=lambda x: run(A.apply_adjoint, x.reshape(-1, 1))[:, 0],
        matmat=lambda x: run(A, x),
        rmatmat=lambda x: run(A.apply_adjoint, x),
    )


def densify(A: Operator, verb: str) -> Dense:
    """The dense operator for a verb that cannot keep the structure: with a warning when small,
    refused when large.

    Raises:
        StructureError: above ``DENSE_LIMIT`` dimensions.
    """
    kind, n = type(A).__name__, max(A.out_dim, A.in_dim)
    if n > DENSE_LIMIT:
        raise StructureError(
            got=f"{verb} of a {A.out_dim} x {A.in_dim} {kind}, which has no structured form",
            expected=f"at most {DENSE_LIMIT} dimensions for a dense computation",
            fix=f"If memory and time allow, ask for it: rl.{verb}(rl.operators.Dense(weight=rl.to_dense(A))).",
        )
    warnings.warn(
        f"{verb} of a {kind} has no structured form: computed on the dense {A.out_dim} x {A.in_dim} matrix",
        StructureWarning,
        stacklevel=4,
    )
    return Dense(weight=to_dense(A), trainable=False)


def unknown(verb: str, A: object) -> DtypeError:
    """The error of a verb for what is neither an operator nor registered with it."""
    return DtypeError(
        f"{verb} of a {type(A).__name__}",
        "an Operator or a Linearizer",
        "Wrap a matrix as Dense(weight=matrix).",
    )
