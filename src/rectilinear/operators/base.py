"""The contract of a linear operator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from itertools import chain
from typing import Any, Self

import torch
from torch import Size, Tensor, nn

from rectilinear.checks import is_differentiated, is_factor, is_zero, real_number
from rectilinear.errors import DtypeError, InputError, ShapeError
from rectilinear.modules import autocasts, precision_of
from rectilinear.serialization import Configured

ALGEBRA: dict[str, Callable[..., Operator]] = {}
"""What the Python operators call, by name; ``rectilinear.operators.dispatch`` fills it."""


class Operator(Configured, ABC):
    """A linear map ``A`` from ``R^in_dim`` to ``R^out_dim`` on the last axis of ``(..., in_dim)``.

    Subclasses set ``in_dim`` and ``out_dim`` and implement ``_matvec`` (``A z``) and ``_rmatvec``
    (``A^T z``). The adjoint of a complex operator is its conjugate transpose, and ``.T`` and
    ``A^T`` mean the adjoint throughout. Parameters may carry leading batch axes (``batch_shape``);
    these broadcast against the leading axes of ``z``, so an operator of batch shape ``(b,)`` maps
    ``z`` of shape ``(b, in_dim)`` row by row.

    The Python operators build new operators: ``A @ B`` (product), ``A + B``, ``A - B``, ``c * A``,
    ``-A``, ``A ** p``, and ``A.T`` (adjoint). They keep structure where a closed form exists and
    are lazy otherwise. What they and the verbs return is a value: gradients flow back to the
    parameters it was computed from, it has none of its own.

    Raises:
        ShapeError: if the last axis of ``z`` is not ``in_dim``.
        DtypeError: if ``z`` and the operator have different dtypes. Under ``torch.autocast`` an
            operator converts ``z`` and computes in its own dtype, since a chain of products in
            bfloat16 keeps two digits.
    """

    in_dim: int
    out_dim: int
    __array_ufunc__ = None  # numpy leaves 0.5 * A to A
    _any_dtype = (
        False  # operators without numbers of their own, and those whose parts check for themselves
    )

    @property
    def batch_shape(self) -> Size:
        """Leading axes of the parameters; ``()`` for a single operator."""
        return Size()

    @property
    def is_square(self) -> bool:
        return self.in_dim == self.out_dim

    def forward(self, z: Tensor) -> Tensor:
        """``A z`` over the last axis."""
        return self._times_own(self._matvec, z, self.in_dim)

    def apply_adjoint(self, z: Tensor) -> Tensor:
        """``A^T z`` over the last axis; ``A^H z`` for complex operators."""
        return self._times_own(self._rmatvec, z, self.out_dim)

    def _times_own(self, times: Callable[[Tensor], Tensor], z: Tensor, dim: int) -> Tensor:
        """The product in the dtype of the operator, also where autocast changed that of ``z``."""
        if not isinstance(z, Tensor) or not autocasts(z):
            self._check(z, dim)
            return self._product(times, z, dim)
        if not self._any_dtype and z.is_floating_point() and self.like.is_floating_point():
            z = z.to(self.like.dtype)
        self._check(z, dim)
        with precision_of(z):
            return self._product(times, z, dim)

    def _product(self, times: Callable[[Tensor], Tensor], z: Tensor, dim: int) -> Tensor:
        """``times(z)``, which a subclass computes, with its shape and dtype checked."""
        y, last = times(z), self.in_dim + self.out_dim - dim
        if not isinstance(y, Tensor):
            raise DtypeError(
                f"a {type(y).__name__} from {times.__qualname__}",
                "a torch.Tensor",
                "Return the product.",
            )
        if y.shape[:-1] != z.shape[:-1] or y.shape[-1] != last:
            leading = torch.broadcast_shapes(self.batch_shape, z.shape[:-1])
            if tuple(y.shape) != (*leading, last):
                raise ShapeError(
                    got=f"a product of shape {tuple(y.shape)} from {times.__qualname__}",
                    expected=f"{(*leading, last)} for z of shape {tuple(z.shape)}",
                    fix="It acts on the last axis of z, whatever the leading axes are.",
                )
        if not self._any_dtype and y.dtype != z.dtype:
            raise DtypeError(
                f"a product of dtype {y.dtype} from {times.__qualname__}",
                f"{z.dtype}, as z has",
                "Keep the dtype of z.",
            )
        return y

    @abstractmethod
    def _matvec(self, z: Tensor) -> Tensor: ...

    @abstractmethod
    def _rmatvec(self, z: Tensor) -> Tensor: ...

    @property
    def like(self) -> Tensor:
        """A tensor of the operator's dtype and device."""
        held = [
            t
            for t in chain(self.parameters(), self.buffers())
            if t.is_floating_point() or t.is_complex()
        ]
        return next(
            (t for t in held if t.numel()), (held[0] if held else torch.empty(0)).new_empty(())
        )

    def _hold(self, trainable: bool, **tensors: Tensor) -> None:
        """Keep tensors as parameters; as buffers where not trainable or part of a graph."""
        for name, tensor in tensors.items():
            if not isinstance(tensor, Tensor) or not (
                tensor.is_floating_point() or tensor.is_complex()
            ):
                kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
                got = f"{name} of type {kind}"
                raise DtypeError(
                    got, "a floating-point tensor", "Convert it with torch.as_tensor(...).float()."
                )
            if not isinstance(tensor, nn.Parameter):  # views, whose layout safetensors refuses
                tensor = tensor.resolve_conj().contiguous()
            if (
                trainable
                and tensor.is_leaf
                and (isinstance(tensor, nn.Parameter) or not is_differentiated(tensor))
            ):
                parameter = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)
                self.register_parameter(name, parameter)
            else:
                self.register_buffer(name, tensor)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy with tensors of its own, cut from the graph that made them."""
        for tensor in self.buffers():
            if tensor.requires_grad:
                memo.setdefault(id(tensor), tensor.detach().clone())
        copy = type(self).__new__(type(self))
        memo[id(self)] = copy
        copy.__dict__.update(deepcopy(self.__dict__, memo))
        return copy

    def _check(self, z: object, dim: int) -> None:
        if not isinstance(z, Tensor):
            raise DtypeError(
                f"vectors of type {type(z).__name__}",
                "a torch.Tensor",
                "Convert with torch.as_tensor.",
            )
        if not self._any_dtype and z.dtype != (dtype := self.like.dtype):
            raise DtypeError(
                got=f"a tensor of dtype {z.dtype} for a {type(self).__name__} of dtype {dtype}",
                expected="one dtype",
                fix=f"Convert one of them with .to({z.dtype}) or .to({dtype}).",
            )
        if not self._any_dtype and z.device != (device := self.like.device):
            raise InputError(
                got=f"a tensor on the device {z.device} for a {type(self).__name__} on {device}",
                expected="one device",
                fix=f"Move one of them with .to('{device}') or .to('{z.device}').",
            )
        if z.ndim == 0 or z.shape[-1] != dim:
            raise ShapeError(
                got=f"a tensor of shape {tuple(z.shape)}",
                expected=(
                    f"a last axis of {dim} for a {self.out_dim} x {self.in_dim} "
                    f"{type(self).__name__}"
                ),
                fix="Flatten or transpose the tensor so that vectors lie along the last axis.",
            )

    @property
    def T(self) -> Operator:  # noqa: N802 - the field's name
        """The adjoint, which is the conjugate transpose of a complex operator."""
        return ALGEBRA["adjoint"](self)

    @property
    def H(self) -> Operator:  # noqa: N802 - the field's name
        """The adjoint, as ``T``."""
        return self.T

    def __matmul__(self, other: Operator) -> Operator:
        return ALGEBRA["matmul"](self, other) if isinstance(other, Operator) else NotImplemented

    def __add__(self, other: Operator) -> Operator:
        return ALGEBRA["add"](self, other) if isinstance(other, Operator) else NotImplemented

    def __radd__(self, other: object) -> Operator:
        return self if is_zero(other) else NotImplemented  # so that sum(operators) works

    def __sub__(self, other: Operator) -> Operator:
        return self + (-1.0) * other if isinstance(other, Operator) else NotImplemented

    def __mul__(self, factor: float | Tensor) -> Operator:
        return ALGEBRA["scale"](self, factor) if is_factor(factor) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, divisor: float | Tensor) -> Operator:
        return self * (1 / divisor) if is_factor(divisor) else NotImplemented

    def __neg__(self) -> Operator:
        return self * -1.0

    def __pow__(self, exponent: float | Tensor) -> Operator:
        p = real_number(exponent, "an exponent")
        return NotImplemented if p is None else ALGEBRA["power"](self, p)

    def extra_repr(self) -> str:
        return f"{self.out_dim} x {self.in_dim}"


def matvec(m: Tensor, z: Tensor) -> Tensor:
    """``m z`` over the last axis; batch axes of ``m`` against the leading axes of ``z``."""
    return z @ m.mT if m.ndim == 2 else (m @ z.unsqueeze(-1)).squeeze(-1)


def columns(A: Operator, m: Tensor) -> Tensor:
    """``A m``, the operator on each column: ``(..., in_dim, k)`` to ``(..., out_dim, k)``."""
    return A(_rows(A, m)).movedim(0, -1)


def adjoint_columns(A: Operator, m: Tensor) -> Tensor:
    """``A^T m``, the adjoint on each column: ``(..., out_dim, k)`` to ``(..., in_dim, k)``."""
    return A.apply_adjoint(_rows(A, m)).movedim(0, -1)


def _rows(A: Operator, m: Tensor) -> Tensor:
    batch = torch.broadcast_shapes(A.batch_shape, m.shape[:-2])
    return m.expand(*batch, *m.shape[-2:]).movedim(-1, 0)


def as_factor(factor: complex | Tensor, A: Operator) -> Tensor:
    """A number in double precision, a tensor as it is: what multiplies ``A``."""
    if not isinstance(factor, Tensor):
        kind = torch.complex128 if isinstance(factor, complex) else torch.float64
        factor = torch.tensor(factor, dtype=kind, device="cpu")
    if factor.is_complex() and not A.like.is_complex():
        raise DtypeError(
            f"a complex multiple of an operator of dtype {A.like.dtype}",
            "a real number or a complex operator",
            "Convert the operator with .to(torch.complex64).",
        )
    return factor


def unit_columns(n: int, k: int, like: Tensor) -> Tensor:
    """The first ``k`` columns of the ``n x n`` identity."""
    return torch.eye(n, k, dtype=like.dtype, device=like.device)


def require_square(A: Operator, what: str) -> None:
    """Raise ``ShapeError`` unless ``A`` is square."""
    if not A.is_square:
        raise ShapeError(
            f"a {A.out_dim} x {A.in_dim} {type(A).__name__}",
            f"a square operator for {what}",
            "Use rl.svd or rl.pinv, which take any shape.",
        )


def require_matrix(m: Tensor, name: str) -> None:
    """Raise ``ShapeError`` unless ``m`` has rows and columns."""
    if m.ndim < 2:
        raise ShapeError(
            f"{name} of shape {tuple(m.shape)}", "(..., rows, columns)", "Add the missing axis."
        )
