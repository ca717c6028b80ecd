"""An operator held as its matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rectilinear.errors import ConfigError
from rectilinear.operators._shape import matvec, require_matrix
from rectilinear.operators.base import Operator

if TYPE_CHECKING:
    from torch import Size


class Dense(Operator):
    """The operator of a matrix, ``A z = weight z``.

    Args:
        in_dim: columns; may be left out where ``weight`` is given.
        out_dim: rows, by default ``in_dim``.
        weight: ``(..., out_dim, in_dim)``; by default normal with variance ``1 / in_dim``.
        trainable: hold ``weight`` as a parameter rather than a buffer.

    Raises:
        ConfigError: if neither dimensions nor ``weight`` are given, or they disagree.

    Example:
        >>> Dense(weight=torch.tensor([[0.0, 1.0], [2.0, 0.0]]))(torch.tensor([1.0, 1.0])).tolist()
        [1.0, 2.0]
    """

    weight: Tensor

    def __init__(
        self,
        in_dim: int | None = None,
        out_dim: int | None = None,
        weight: Tensor | None = None,
        *,
        trainable: bool = True,
    ) -> None:
        super().__init__()
        if weight is None:
            if in_dim is None:
                raise ConfigError("neither in_dim nor weight", "one of them", "Pass in_dim, or weight=matrix.")
            weight = torch.randn(out_dim or in_dim, in_dim) / in_dim**0.5
        require_matrix(weight, "weight")
        self.out_dim, self.in_dim = weight.shape[-2:]
        if (in_dim or self.in_dim, out_dim or self.out_dim) != (self.in_dim, self.out_dim):
            raise ConfigError(
                f"a {self.out_dim} x {self.in_dim} weight", f"{out_dim or self.out_dim} x {in_dim or self.in_dim}"
            )
        self._hold(trainable, weight=weight)

    @property
    def batch_shape(self) -> Size:
        return self.weight.shape[:-2]

    def _matvec(self, z: Tensor) -> Tensor:
        return matvec(self.weight, z)

    def _rmatvec(self, z: Tensor) -> Tensor:
        return matvec(self.weight.mT, z)
