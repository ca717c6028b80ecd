"""Many columns in few coordinates: principal components, and the span of few rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rectilinear.koopman.autoregression import Piece, Plan, StrideMap, simulate_all

RANKS = (4, 16, 64)
"""Tried numbers of components."""
FEWEST = 64
"""Tables of more columns are compressed, where they have fewer rows than columns."""


class Reduced:
    """A model of scores ``x B``, whose forecasts are decoded by ``B'``.

    Attributes:
        inner: the model of the scores.
        basis: ``B`` ``(d, r)``, with orthonormal columns.
    """

    def __init__(self, inner: Any, basis: Tensor) -> None:
        self.inner, self.basis = inner, basis

    @property
    def plan(self) -> Plan:
        return self.inner.plan

    def simulate(self, past: Tensor, steps: int, u: Tensor | None = None) -> Tensor:
        """``steps`` rows ``(b, steps, d)`` after ``past`` ``(b, lags, d)``, newest row first."""
        found = self.inner.simulate(past[:, : self.plan.lags] @ self.basis, steps, u)
        return found @ self.basis.T


def components(pieces: Sequence[Piece], most: int) -> Tensor:
    """Leading principal directions ``(d, r)`` of the rows of all pieces, from the smaller side.

    Of ``n`` rows of ``d`` columns it costs the smaller of the two squared times the larger.

    Example:
        >>> x = torch.outer(torch.arange(9.0), torch.tensor([3.0, 4.0])).double()
        >>> components([Piece(x)], 1).abs().flatten().numpy().round(9).tolist()
        [0.6, 0.8]
    """
    rows = torch.cat([p.x for p in pieces])
    rows = rows - rows.mean(0)
    if len(rows) < rows.shape[1]:
        triangle = torch.linalg.qr(rows.T, mode="r").R  # rows' = Q R, so that rows rows' = R' R
        _, s, v = torch.linalg.svd(triangle, full_matrices=False)
        kept = s > 1e-12 * s[0]
        basis = rows.T @ (v[kept].T / s[kept])
    else:
        _, s, v = torch.linalg.svd(torch.linalg.qr(rows, mode="r").R, full_matrices=False)
        basis = v[s > 1e-12 * s[0]].T
    return basis[:, :most].contiguous()


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
        return [p.within(self.basis) for p in pieces]

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
