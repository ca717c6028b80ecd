"""Operators that vary with time: the contract, and the families that implement it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from rectilinear._pretrained import Configured

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear.operators.base import Operator


class TimeVarying(Configured, ABC):
    """A velocity field that is linear at every time: ``dz/dt = W(t) z`` for ``t`` in ``[0, 1]``.

    ``velocity(t)`` is ``W(t)``; ``endpoint(t) = I + (1 - t) W(t)`` predicts ``z_1`` from ``z_t``. A family implements
    one of the two. ``t`` is a float or a scalar tensor (one operator), or of shape ``(b,)`` (an operator of batch
    shape ``(b,)``). A family given by its end point is singular at ``t = 1`` and says so by ``singular_at_one``.
    """

    dim: int
    singular_at_one: bool = False

    @abstractmethod
    def velocity(self, t: float | Tensor) -> Operator: ...

    @abstractmethod
    def endpoint(self, t: float | Tensor) -> Operator: ...
