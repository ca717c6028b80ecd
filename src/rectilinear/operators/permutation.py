"""A permutation of the coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from rectilinear.errors import DtypeError, InputError
from rectilinear.operators.base import Operator

if TYPE_CHECKING:
    from torch import Size


class Permutation(Operator):
    """The orthogonal operator whose ``j``-th column is the unit vector ``order[j]``: ``(A z)[order[j]] = z[j]``.

    ``order`` is an integer tensor of shape ``(..., n)``; ``B A`` picks the columns of ``B`` in that order.

    Raises:
        DtypeError: if ``order`` is no tensor of integers.
        InputError: if it does not hold each of ``0 .. n - 1`` once.

    Example:
        >>> Permutation(torch.tensor([2, 0, 1]))(torch.tensor([1.0, 2.0, 3.0])).tolist()
        [2.0, 3.0, 1.0]
    """

    _any_dtype = True
    order: Tensor

    def __init__(self, order: Tensor, like: Tensor | None = None) -> None:
        super().__init__()
        _check_order(order)
        self.in_dim = self.out_dim = order.shape[-1]
        self.register_buffer("order", order.long())
        self.register_buffer("marker", (torch.empty(0) if like is None else like.new_empty(0)))

    @property
    def batch_shape(self) -> Size:
        return self.order.shape[:-1]

    def _matvec(self, z: Tensor) -> Tensor:
        return _pick(z, self.order.argsort(-1))

    def _rmatvec(self, z: Tensor) -> Tensor:
        return _pick(z, self.order)


_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def _check_order(order: object) -> None:
    if not isinstance(order, Tensor) or order.ndim == 0 or order.dtype not in _INTEGERS:
        kind = f"{order.dtype} of shape {tuple(order.shape)}" if isinstance(order, Tensor) else type(order).__name__
        raise DtypeError(f"an order of {kind}", "a tensor of integers (..., n)", "Use torch.as_tensor(order).")
    n = order.shape[-1]
    if order.is_meta or is_functorch_wrapped_tensor(order):
        return
    if not bool((order.sort(-1).values == torch.arange(n, device=order.device)).all()):
        raise InputError(
            f"an order of {n} that is no permutation", f"each of 0 to {n - 1} once", "Use torch.randperm or argsort."
        )


def _pick(z: Tensor, index: Tensor) -> Tensor:
    if index.ndim == 1:
        return z[..., index]
    shape = torch.broadcast_shapes(z.shape, index.shape)
    return z.expand(shape).gather(-1, index.expand(shape))
