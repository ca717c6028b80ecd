"""An operator held as its matrix."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rectilinear.errors import ConfigError, DtypeError
from rectilinear.operators._shape import matvec, require_matrix
from rectilinear.operators.base import Operator

if TYPE_CHECKING:
    from torch import Size


class Dense(Operator):
    """The operator of a matrix, ``A z = weight z``.

    Args:
        in_dim: columns; may be left out where ``weight`` is given. A matrix here is the ``weight``: ``Dense(matrix)``.
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
                raise ConfigError("two matrices", "one", "Pass Dense(matrix), or Dense(weight=matrix).")
            in_dim, weight = None, in_dim
        if isinstance(weight, np.ndarray):
            weight = torch.tensor(weight)
        if not (in_dim is None or isinstance(in_dim, Integral)):
            raise ConfigError(f"in_dim of type {type(in_dim).__name__}", "a number of columns, or a matrix as a tensor")
        if weight is None:
            if in_dim is None:
                raise ConfigError("neither in_dim nor weight", "one of them", "Pass in_dim, or a matrix.")
            weight = torch.randn(in_dim if out_dim is None else out_dim, in_dim) / max(in_dim, 1) ** 0.5
        elif isinstance(weight, Tensor) and in_dim is None:
            self._built_as(weight=weight, trainable=trainable)
        if not isinstance(weight, Tensor):
            raise DtypeError(f"weight of type {type(weight).__name__}", "a matrix", "Convert it with torch.as_tensor.")
        require_matrix(weight, "weight")
        self.out_dim, self.in_dim = weight.shape[-2:]
        asked = (self.out_dim if out_dim is None else out_dim, self.in_dim if in_dim is None else in_dim)
        if asked != (self.out_dim, self.in_dim):
            raise ConfigError(f"a {self.out_dim} x {self.in_dim} weight", f"{asked[0]} x {asked[1]}")
        self._hold(trainable, weight=weight)

    @property
    def batch_shape(self) -> Size:
        return self.weight.shape[:-2]

    def _matvec(self, z: Tensor) -> Tensor:
        return matvec(self.weight, z)

    def _rmatvec(self, z: Tensor) -> Tensor:
        return matvec(self.weight.mH, z)
