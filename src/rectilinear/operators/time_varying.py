"""Operators that vary with time: the contract, and the constant one. The other families are in ``time_varying_*``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rectilinear._pretrained import Configured
from rectilinear.operators._shape import require_square
from rectilinear.operators.algebra import add, scale
from rectilinear.operators.expm import expm
from rectilinear.operators.identity import Identity

if TYPE_CHECKING:
    from rectilinear.operators.base import Operator


class TimeVarying(Configured, ABC):
    """A velocity field that is linear at every time: ``dz/dt = W(t) z`` for ``t`` in ``[0, 1]``.

    ``velocity(t)`` is ``W(t)``; ``endpoint(t) = I + (1 - t) W(t)`` predicts ``z_1`` from ``z_t``. ``t`` is a float or a
    scalar tensor (one operator), or of shape ``(b,)`` (an operator of batch shape ``(b,)``). A family given by its end
    point is singular at ``t = 1`` and says so by ``singular_at_one``. ``transport(s, t)`` carries ``z_s`` to ``z_t``
    where a closed form exists, and is None elsewhere.
    """

    dim: int
    singular_at_one: bool = False

    @abstractmethod
    def velocity(self, t: float | Tensor) -> Operator:
        """``W(t)``."""

    def endpoint(self, t: float | Tensor) -> Operator:
        """``I + (1 - t) W(t)``."""
        W = self.velocity(t)
        return add(Identity(self.dim, like=W.like), scale(W, 1 - as_time(t, W.like)))

    def transport(self, s: float | Tensor, t: float | Tensor) -> Operator | None:  # noqa: ARG002 - families override it
        """The operator that carries ``z_s`` to ``z_t``, in closed form; None for a family without one."""
        return None


class ConstantVelocity(TimeVarying):
    """``W(t) = A`` at all times; its flow is ``exp((t - s) A)``.

    Example:
        >>> from rectilinear.operators.diagonal import Diagonal
        >>> W = ConstantVelocity(Diagonal(torch.zeros(2)))
        >>> W.transport(0.0, 1.0)(torch.ones(2)).tolist()
        [1.0, 1.0]
    """

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        require_square(operator, "a velocity")
        self.operator, self.dim = operator, operator.in_dim

    def velocity(self, t: float | Tensor) -> Operator:  # noqa: ARG002 - the same at all times
        return self.operator

    def transport(self, s: float | Tensor, t: float | Tensor) -> Operator:
        like = self.operator.like
        return expm(self.operator, as_time(t, like) - as_time(s, like))


def as_time(t: float | Tensor, like: Tensor) -> Tensor:
    """``t`` as a tensor of the dtype and device of ``like``."""
    return torch.as_tensor(t, dtype=like.dtype, device=like.device)
