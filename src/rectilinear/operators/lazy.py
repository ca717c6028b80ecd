"""Operators made of others: sum, product, multiple and adjoint."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Size, Tensor, nn

from rectilinear.errors import ConfigError, ShapeError
from rectilinear.modules import module_list
from rectilinear.operators.base import Operator, as_factor


class _Parts(Operator):
    """The base of sums and products, with their parts in ``operators``."""

    _any_dtype = True

    def __init__(self, *operators: Operator) -> None:
        super().__init__()
        if not operators:
            raise ConfigError("no operators", "at least one")
        self.operators = module_list(operators)

    def parts(self) -> Iterator[Operator]:
        for part in self.operators:
            assert isinstance(part, Operator)
            yield part

    @property
    def like(self) -> Tensor:
        """The first part's tensor; the factor of a multiple may have another dtype."""
        parts = list(self.parts())
        return next((part for part in parts if _has_numbers(part)), parts[0]).like

    @property
    def batch_shape(self) -> Size:
        return torch.broadcast_shapes(*(part.batch_shape for part in self.parts()))


def _has_numbers(part: Operator) -> bool:
    named = [*part.named_parameters(), *part.named_buffers()]
    held = [x for name, x in named if name.rpartition(".")[2] != "factor" and x.numel()]
    return any(x.is_floating_point() or x.is_complex() for x in held)


def check_product(A: Operator, B: Operator) -> None:
    """Raise a ShapeError, with the products that fit, unless ``A B`` has equal inner dimensions."""
    if A.in_dim == B.out_dim:
        return
    others = {
        "B @ A": A.out_dim == B.in_dim,
        "A.T @ B": A.out_dim == B.out_dim,
        "A @ B.T": A.in_dim == B.in_dim,
    }
    fits = " or ".join(name for name, fit in others.items() if fit)
    raise ShapeError(
        f"a product A @ B of {A.out_dim} x {A.in_dim} and {B.out_dim} x {B.in_dim} operators",
        "equal inner dimensions",
        f"Write {fits}." if fits else "",
    )


def check_sum(A: Operator, B: Operator) -> None:
    """Raise a ShapeError unless ``A`` and ``B`` have one shape."""
    if (A.out_dim, A.in_dim) == (B.out_dim, B.in_dim):
        return
    raise ShapeError(
        f"a sum A + B of {A.out_dim} x {A.in_dim} and {B.out_dim} x {B.in_dim} operators",
        "operators of one shape",
        "Write A + B.T." if (A.out_dim, A.in_dim) == (B.in_dim, B.out_dim) else "",
    )


class Sum(_Parts):
    """``A = A_1 + A_2 + ...``, applied part by part.

    Example:
        >>> from rectilinear.operators.dense import Dense
        >>> Sum(Dense(3), Dense(3)).out_dim
        3
    """

    def __init__(self, *operators: Operator) -> None:
        super().__init__(*operators)
        for first, second in itertools.pairwise(operators):
            check_sum(first, second)
        self.out_dim, self.in_dim = operators[0].out_dim, operators[0].in_dim

    def _matvec(self, z: Tensor) -> Tensor:
        return sum(
            (part(z) for part in self.parts()), torch.zeros((), dtype=z.dtype, device=z.device)
        )

    def _rmatvec(self, z: Tensor) -> Tensor:
        return sum(
            (part.apply_adjoint(z) for part in self.parts()),
            torch.zeros((), dtype=z.dtype, device=z.device),
        )


class Product(_Parts):
    """``A = A_1 A_2 ... A_k``: the last is applied first.

    Example:
        >>> from rectilinear.operators.dense import Dense
        >>> Product(Dense(3, 5), Dense(2, 3)).in_dim
        2
    """

    def __init__(self, *operators: Operator) -> None:
        super().__init__(*operators)
        for left, right in itertools.pairwise(operators):
            check_product(left, right)
        self.out_dim, self.in_dim = operators[0].out_dim, operators[-1].in_dim

    def _matvec(self, z: Tensor) -> Tensor:
        for part in reversed(list(self.parts())):
            z = part(z)
        return z

    def _rmatvec(self, z: Tensor) -> Tensor:
        for part in self.parts():
            z = part.apply_adjoint(z)
        return z


class Scaled(Operator):
    """``factor A``: a number, kept in double precision, or a tensor of batch shape ``(...)``.

    Example:
        >>> from rectilinear.operators.diagonal import Identity
        >>> Scaled(Identity(2), 3.0)(torch.ones(2)).tolist()
        [3.0, 3.0]
    """

    _any_dtype = True
    factor: Tensor

    def __init__(self, operator: Operator, factor: float | Tensor) -> None:
        super().__init__()
        self.operator = operator
        self.in_dim, self.out_dim = operator.in_dim, operator.out_dim
        exact = as_factor(factor, operator)
        self._hold(isinstance(factor, nn.Parameter), factor=exact.to(operator.like.device))

    @property
    def like(self) -> Tensor:
        return self.operator.like

    @property
    def value(self) -> Tensor:
        """``factor`` in the dtype of the operator."""
        return self.factor.to(self.operator.like)

    @property
    def batch_shape(self) -> Size:
        return torch.broadcast_shapes(self.factor.shape, self.operator.batch_shape)

    def _matvec(self, z: Tensor) -> Tensor:
        out = self.operator(z)
        return self.factor.to(out)[..., None] * out

    def _rmatvec(self, z: Tensor) -> Tensor:
        out = self.operator.apply_adjoint(z)
        return self.factor.conj().to(out)[..., None] * out


class Adjoint(Operator):
    """``A^T`` of an operator whose adjoint has no class of its own.

    Example:
        >>> from rectilinear.operators.dense import Dense
        >>> Adjoint(Dense(3, 5)).in_dim
        5
    """

    _any_dtype = True

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.operator = operator
        self.in_dim, self.out_dim = operator.out_dim, operator.in_dim

    @property
    def batch_shape(self) -> Size:
        return self.operator.batch_shape

    def _matvec(self, z: Tensor) -> Tensor:
        return self.operator.apply_adjoint(z)

    def _rmatvec(self, z: Tensor) -> Tensor:
        return self.operator(z)
