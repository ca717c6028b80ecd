"""Dense matrices: operators held as a matrix, Kronecker products, conversion to a matrix."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import singledispatch
from numbers import Integral

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Size, Tensor

from rectilinear.errors import ConfigError, DtypeError, ShapeError, StructureError, StructureWarning
from rectilinear.modules import SameAs, other
from rectilinear.operators.base import Operator, matvec, require_matrix, unit_columns
from rectilinear.operators.dispatch import unknown

DENSE_LIMIT = 4096  # dimensions up to which a verb without a structured form works on the matrix


class Dense(Operator):
    """The operator of a matrix, ``A z = weight z``.

    Args:
        in_dim: columns; may be left out where ``weight`` is given. A matrix here is the ``weight``:
            ``Dense(matrix)``.
        out_dim: rows, by default ``in_dim``.
        weight: ``(..., out_dim, in_dim)``; by default normal with variance ``1 / in_dim``.
        trainable: hold ``weight`` as a parameter rather than a buffer.

    Raises:
        ConfigError: if neither dimensions nor ``weight`` are given, or they disagree.

    Example:
        >>> Dense(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))(torch.tensor([1.0, 1.0])).tolist()
        [1.0, 2.0]
    """

    weight: Tensor

    def __init__(
        self,
        in_dim: int | Tensor | np.ndarray | None = None,
        out_dim: int | None = None,
        weight: Tensor | np.ndarray | None = None,
        *,
        trainable: bool = True,
    ) -> None:
        super().__init__()
        if isinstance(in_dim, Tensor | np.ndarray) and in_dim.ndim:
            if weight is not None:
                raise ConfigError(
                    "two matrices", "one", "Pass Dense(matrix), or Dense(weight=matrix)."
                )
            in_dim, weight = None, in_dim
        if isinstance(weight, np.ndarray):
            weight = torch.tensor(weight)
        if not (in_dim is None or isinstance(in_dim, Integral)):
            raise ConfigError(
                f"in_dim of type {type(in_dim).__name__}",
                "a number of columns, or a matrix as a tensor",
                "Convert rows of numbers: Dense(torch.tensor(rows)).",
            )
        if weight is None:
            if in_dim is None:
                raise ConfigError(
                    "neither in_dim nor weight", "one of them", "Pass in_dim, or a matrix."
                )
            weight = (
                torch.randn(in_dim if out_dim is None else out_dim, in_dim) / max(in_dim, 1) ** 0.5
            )
        elif isinstance(weight, Tensor) and in_dim is None:
            self._built_as(weight=weight, trainable=trainable)
        if not isinstance(weight, Tensor):
            raise DtypeError(
                f"weight of type {type(weight).__name__}",
                "a matrix",
                "Convert it with torch.as_tensor.",
            )
        require_matrix(weight, "weight")
        self.out_dim, self.in_dim = weight.shape[-2:]
        asked = (
            self.out_dim if out_dim is None else out_dim,
            self.in_dim if in_dim is None else in_dim,
        )
        if asked != (self.out_dim, self.in_dim):
            raise ConfigError(
                f"a {self.out_dim} x {self.in_dim} weight",
                f"{asked[0]} x {asked[1]}",
                "Leave in_dim and out_dim out: the weight has them.",
            )
        self._hold(trainable, weight=weight)

    @property
    def batch_shape(self) -> Size:
        return self.weight.shape[:-2]

    def _matvec(self, z: Tensor) -> Tensor:
        return matvec(self.weight, z)

    def _rmatvec(self, z: Tensor) -> Tensor:
        return matvec(self.weight.mH, z)


class Kronecker(Operator):
    """``A = a (x) b``: ``a Z b^T`` for ``z`` read row by row as ``Z`` ``(a.in_dim, b.in_dim)``.

    Raises:
        ShapeError: if a factor is batched.

    Example:
        >>> import torch
        >>> from rectilinear.operators.diagonal import Diagonal
        >>> a, b = Diagonal(torch.tensor([1.0, 2.0])), Diagonal(torch.tensor([1.0, 10.0]))
        >>> Kronecker(a, b)(torch.ones(4)).tolist()
        [1.0, 10.0, 2.0, 20.0]
    """

    _any_dtype = True

    b = SameAs[Operator]("a")

    def __init__(self, a: Operator, b: Operator) -> None:
        super().__init__()
        if a.batch_shape or b.batch_shape:
            raise ShapeError(
                f"factors of batch shape {a.batch_shape} and {b.batch_shape}", "single operators"
            )
        self.a, self.b = a, other(a, b)
        self.in_dim, self.out_dim = a.in_dim * b.in_dim, a.out_dim * b.out_dim

    def _matvec(self, z: Tensor) -> Tensor:
        z = self.b(z.unflatten(-1, (self.a.in_dim, self.b.in_dim)))
        return self.a(z.mT).mT.flatten(-2)

    def _rmatvec(self, z: Tensor) -> Tensor:
        z = self.b.apply_adjoint(z.unflatten(-1, (self.a.out_dim, self.b.out_dim)))
        return self.a.apply_adjoint(z.mT).mT.flatten(-2)


@singledispatch
def to_dense(A: object) -> Tensor:
    """The matrix of the operator ``A``, ``(..., out_dim, in_dim)``.

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
    """``A`` as a ``scipy.sparse.linalg.LinearOperator``, on the CPU and without gradient.

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
    """The dense operator for a verb without structure: a warning if small, an error if large."""
    kind, n = type(A).__name__, max(A.out_dim, A.in_dim)
    if n > DENSE_LIMIT:
        raise StructureError(
            got=f"{verb} of a {A.out_dim} x {A.in_dim} {kind}, which has no structured form",
            expected=f"at most {DENSE_LIMIT} dimensions for a dense computation",
            fix=(
                "If memory and time allow, ask for it: "
                f"rl.{verb}(rl.operators.Dense(weight=rl.to_dense(A)))."
            ),
        )
    warnings.warn(
        (
            f"{verb} of a {kind} has no structured form: computed on the dense {A.out_dim} x "
            f"{A.in_dim} matrix"
        ),
        StructureWarning,
        stacklevel=4,
    )
    return Dense(weight=to_dense(A), trainable=False)
