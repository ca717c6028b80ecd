"""Slow, independently written twins: matrices column by column, and SciPy's functions of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

if TYPE_CHECKING:
    from rectilinear.operators import Operator


def matrix(A: Operator) -> Tensor:
    """Column by column."""
    n = A.in_dim
    columns = [A(torch.eye(n, dtype=torch.float64)[i].expand(*A.batch_shape, n)) for i in range(n)]
    return torch.stack(columns, -1).detach()


def logm(M: Tensor) -> Tensor:
    return torch.from_numpy(np.real(scipy.linalg.logm(M.numpy())))


def power(M: Tensor, p: float) -> Tensor:
    return torch.from_numpy(np.real(scipy.linalg.fractional_matrix_power(M.numpy(), p)))


def damped(M: Tensor, y: Tensor, damping: float) -> Tensor:
    return torch.linalg.solve(M.mT @ M + damping * torch.eye(M.shape[1], dtype=M.dtype), M.mT @ y)


def same_multiset(a: Tensor, b: Tensor, tol: float) -> bool:
    """Whether two sets of complex numbers agree in some order (nearest first)."""
    left = list(b.detach())
    for value in a.detach():
        nearest = min(range(len(left)), key=lambda i: float((left[i] - value).abs()))
        if float((left.pop(nearest) - value).abs()) > tol * (1 + float(value.abs())):
            return False
    return not left


def name_of(make: object, makers: list) -> str:
    return next(name for name, other in makers if other is make)


def expm(M: Tensor) -> Tensor:
    return torch.from_numpy(scipy.linalg.expm(M.numpy()))
