"""Few rows of many columns, in as many coordinates as rows; errors are those of all columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rectilinear.koopman.autoregression import Piece, StrideMap, simulate_all
from rectilinear.koopman.principal_components import Reduced

FEWEST = 64
"""Tables of more columns are compressed, where they have fewer rows than columns."""


class Span(NamedTuple):
    """Orthonormal coordinates ``x B`` of rows ``x`` ``(T, d)`` in their span, of dimension ``t``.

    A rotation keeps sums of squares over columns, so a model that is linear across columns has the
    same errors in ``t`` coordinates as in ``d`` columns, at ``t / d`` of the cost.

    Attributes:
        basis: ``B`` ``(d, t)``.
        ones: coordinates of the row of ones, ``(t,)``, which is in the span.
    """

    basis: Tensor
    ones: Tensor

    def inside(self, pieces: Sequence[Piece]) -> list[Piece]:
        """The pieces in these coordinates."""
        return [Piece(p.x @ self.basis, p.u) for p in pieces]

    def simulate(self, maps: Sequence[StrideMap], past: Tensor, steps: int) -> Tensor:
        """``steps`` rows by each of the maps that all columns share, as :func:`simulate_all`.

        A constant is one of every column, so that of a coordinate is in proportion to ``ones``.
        """
        none = past.new_zeros(len(maps), 1, maps[0].plan.lags, 1)
        answer = simulate_all(maps, none, steps)
        return simulate_all(maps, past, steps) + answer * (self.ones - 1)

    def outside(self, model: Any) -> Any:
        """The model of the columns themselves."""
        if isinstance(model, Reduced):
            return Reduced(model.inner, self.basis @ model.basis)
        return model if model.plan.shared else Reduced(model, self.basis)


def span_of(pieces: Sequence[Piece], more: Sequence[Piece] = ()) -> Span | None:
    """The span of all rows, and of ``more``; None of as many rows as columns, or with inputs.

    It costs the number of columns times the square of that of rows.

    Example:
        >>> x = torch.randn(9, 200, dtype=torch.float64)
        >>> found = span_of([Piece(x)])
        >>> inside, = found.inside([Piece(x)])
        >>> inside.x.shape, bool((inside.x.norm(dim=1) - x.norm(dim=1)).abs().max() < 1e-9)
        (torch.Size([9, 10]), True)
    """
    rows = [p.x for p in (*pieces, *more)]
    d = rows[0].shape[1]
    if d <= FEWEST or sum(map(len, rows)) + 1 >= d or pieces[0].u is not None:
        return None
    basis = torch.linalg.qr(torch.cat([*rows, rows[0].new_ones(1, d)]).T).Q
    g = torch.Generator().manual_seed(0)  # a rotation, or coordinates of late rows would be small
    mixed = torch.randn(basis.shape[1], basis.shape[1], generator=g, dtype=basis.dtype)
    basis = basis @ torch.linalg.qr(mixed).Q
    return Span(basis, basis.sum(0))
