"""A permutation of the coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rectilinear.operators.base import Operator

if TYPE_CHECKING:
    from torch import Size


class Permutation(Operator):
    """The orthogonal operator whose ``j``-th column is the unit vector ``order[j]``: ``(A z)[order[j]] = z[j]``.

    ``order`` is an integer tensor of shape ``(..., n)``; ``B A`` picks the columns of ``B`` in that order.

    Example:
        >>> Permutation(torch.tensor([2, 0, 1]))(torch.tensor([1.0, 2.0, 3.0])).tolist()
        [2.0, 3.0, 1.0]
    """

    _any_dtype = True
    order: Tensor

    def __init__(self, order: Tensor, like: Tensor | None = None) -> None:
        super().__init__()
        self.in_dim = self.out_dim = order.shape[-1]
        self.register_buffer("order", order)
        self.register_buffer("marker", (torch.empty(0) if like is None else like.new_empty(0)))

    @property
    def batch_shape(self) -> Size:
        return self.order.shape[:-1]

    def _matvec(self, z: Tensor) -> Tensor:
        return _pick(z, self.order.argsort(-1))

    def _rmatvec(self, z: Tensor) -> Tensor:
        return _pick(z, self.order)


def _pick(z: Tensor, index: Tensor) -> Tensor:
    if index.ndim == 1:
        return z[..., index]
    shape = torch.broadcast_shapes(z.shape, index.shape)
    return z.expand(shape).gather(-1, index.expand(shape))
