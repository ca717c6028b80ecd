"""A diagonal operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rectilinear.errors import ShapeError
from rectilinear.operators.base import Operator

if TYPE_CHECKING:
    from torch import Size, Tensor


class Diagonal(Operator):
    """The operator ``A z = values * z`` with ``values`` of shape ``(..., n)``.

    Raises:
        ShapeError: if ``values`` has no axis.

    Example:
        >>> import torch
        >>> Diagonal(torch.tensor([1.0, -2.0]))(torch.ones(2)).tolist()
        [1.0, -2.0]
    """

    values: Tensor

    def __init__(self, values: Tensor, *, trainable: bool = True) -> None:
        super().__init__()
        self._hold(trainable, values=values)
        if values.ndim == 0:
            raise ShapeError("values without an axis", "shape (..., n)", "For c I use c * Identity(n).")
        self.in_dim = self.out_dim = values.shape[-1]

    @property
    def batch_shape(self) -> Size:
        return self.values.shape[:-1]

    def _matvec(self, z: Tensor) -> Tensor:
        return self.values * z

    def _rmatvec(self, z: Tensor) -> Tensor:
        return self.values.conj() * z
