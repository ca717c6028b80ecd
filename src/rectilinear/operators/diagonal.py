"""Identity, diagonal and permutation operators."""

from __future__ import annotations

import torch
from torch import Size, Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from rectilinear.errors import DtypeError, InputError, ShapeError
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


class Diagonal(Operator):
    """The operator ``A z = values * z`` with ``values`` of shape ``(..., n)``.

    They are a parameter unless ``trainable`` is False.

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
            raise ShapeError(
                "values without an axis", "shape (..., n)", "For c I use c * Identity(n)."
            )
        self.in_dim = self.out_dim = values.shape[-1]

    @property
    def batch_shape(self) -> Size:
        return self.values.shape[:-1]

    def _matvec(self, z: Tensor) -> Tensor:
        return self.values * z

    def _rmatvec(self, z: Tensor) -> Tensor:
        return self.values.conj() * z


class Permutation(Operator):
    """The orthogonal operator whose columns are unit vectors: ``(A z)[order[j]] = z[j]``.

    ``order`` is an integer tensor of shape ``(..., n)``; ``B A`` picks the columns of ``B`` in that
    order. ``like`` gives the dtype and device of its matrix.

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
        kind = (
            f"{order.dtype} of shape {tuple(order.shape)}"
            if isinstance(order, Tensor)
            else type(order).__name__
        )
        raise DtypeError(
            f"an order of {kind}", "a tensor of integers (..., n)", "Use torch.as_tensor(order)."
        )
    n = order.shape[-1]
    if order.is_meta or is_functorch_wrapped_tensor(order):
        return
    if not bool((order.sort(-1).values == torch.arange(n, device=order.device)).all()):
        raise InputError(
            f"an order of {n} that is no permutation",
            f"each of 0 to {n - 1} once",
            "Use torch.randperm or argsort.",
        )


def _pick(z: Tensor, index: Tensor) -> Tensor:
    if index.ndim == 1:
        return z[..., index]
    shape = torch.broadcast_shapes(z.shape, index.shape)
    return z.expand(shape).gather(-1, index.expand(shape))
