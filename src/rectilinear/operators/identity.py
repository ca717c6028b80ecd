"""The identity."""

from __future__ import annotations

import torch
from torch import Tensor

from rectilinear.operators.base import Operator


class Identity(Operator):
    """``A z = z`` on ``R^dim``, for every dtype.

    ``like`` gives the dtype and device in which its conversions answer.

    Example:
        >>> Identity(2)(torch.ones(2)).tolist()
        [1.0, 1.0]
    """

    _any_dtype = True

    def __init__(self, dim: int, like: Tensor | None = None) -> None:
        super().__init__()
        self.in_dim = self.out_dim = self.dim = dim
        self.register_buffer("marker", (torch.empty(0) if like is None else like.new_empty(0)))

    def _matvec(self, z: Tensor) -> Tensor:
        return z

    def _rmatvec(self, z: Tensor) -> Tensor:
        return z
