"""Models of the leading principal components of many columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rectilinear.koopman.autoregression import Piece, Plan

RANKS = (4, 16, 64)
"""Tried numbers of components."""


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


def scores(pieces: Sequence[Piece], basis: Tensor) -> tuple[Piece, ...]:
    """The pieces in coordinates of the components."""
    return tuple(Piece(p.x @ basis, p.u) for p in pieces)
