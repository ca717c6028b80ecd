"""The contract of a linear operator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from numbers import Real
from typing import TYPE_CHECKING

from torch import Size, Tensor

from rectilinear._pretrained import Configured
from rectilinear.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable


class Operator(Configured, ABC):
    """A linear map ``A`` from ``R^in_dim`` to ``R^out_dim``, applied to the last axis: ``(..., in_dim) -> (..., out_dim)``.

    Subclasses set ``in_dim`` and ``out_dim`` and implement ``_matvec`` (``A z``) and ``_rmatvec`` (``A^T z``).
    Parameters may carry leading batch axes (``batch_shape``); these broadcast against the leading axes of ``z``,
    so an operator of batch shape ``(b,)`` maps ``z`` of shape ``(b, in_dim)`` row by row.

    The Python operators build new operators: ``A @ B`` (product), ``A + B``, ``A - B``, ``c * A``, ``-A``, ``A ** p``,
    and ``A.T`` (adjoint). They keep structure where a closed form exists and are lazy otherwise.

    Raises:
        ShapeError: if the last axis of ``z`` is not ``in_dim``.
    """

    in_dim: int
    out_dim: int

    @property
    def batch_shape(self) -> Size:
        """Leading axes of the parameters; ``()`` for a single operator."""
        return Size()

    @property
    def is_square(self) -> bool:
        return self.in_dim == self.out_dim

    def forward(self, z: Tensor) -> Tensor:
        """``A z`` over the last axis."""
        self._check(z, self.in_dim)
        return self._matvec(z)

    def apply_adjoint(self, z: Tensor) -> Tensor:
        """``A^T z`` over the last axis."""
        self._check(z, self.out_dim)
        return self._rmatvec(z)

    @abstractmethod
    def _matvec(self, z: Tensor) -> Tensor: ...

    @abstractmethod
    def _rmatvec(self, z: Tensor) -> Tensor: ...

    def _check(self, z: Tensor, dim: int) -> None:
        if z.ndim == 0 or z.shape[-1] != dim:
            raise ShapeError(
                got=f"a tensor of shape {tuple(z.shape)}",
                expected=f"a last axis of {dim} for a {self.out_dim} x {self.in_dim} {type(self).__name__}",
                fix="Flatten or transpose the tensor so that vectors lie along the last axis.",
            )

    @property
    def T(self) -> Operator:  # noqa: N802 - the field's name
        return _algebra("adjoint")(self)

    def __matmul__(self, other: Operator) -> Operator:
        return _algebra("matmul")(self, other) if isinstance(other, Operator) else NotImplemented

    def __add__(self, other: Operator) -> Operator:
        return _algebra("add")(self, other) if isinstance(other, Operator) else NotImplemented

    def __sub__(self, other: Operator) -> Operator:
        return self + (-1.0) * other if isinstance(other, Operator) else NotImplemented

    def __mul__(self, factor: Real | Tensor) -> Operator:
        return _algebra("scale")(self, factor) if isinstance(factor, Real | Tensor) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, divisor: Real | Tensor) -> Operator:
        return self * (1 / divisor) if isinstance(divisor, Real | Tensor) else NotImplemented

    def __neg__(self) -> Operator:
        return self * -1.0

    def __pow__(self, exponent: Real) -> Operator:
        return _algebra("power")(self, exponent) if isinstance(exponent, Real) else NotImplemented

    def extra_repr(self) -> str:
        return f"{self.out_dim} x {self.in_dim}"


def _algebra(name: str) -> Callable[..., Operator]:
    """The named rule of the algebra: imported late, because the rules import the classes."""
    from rectilinear.operators import algebra

    return getattr(algebra, name)
