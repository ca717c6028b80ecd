"""The singular value decomposition of a Linearizer, with its points."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rectilinear.invertible import Identity
from rectilinear.linearizer.linearizer import Linearizer
from rectilinear.operators import svd, truncate


class LinearizerSVD(NamedTuple):
    """``f = u . diag(s) . v^*`` with isometries ``u`` and ``v`` from ``R^k`` into the spaces of ``f``; ``s`` descends.

    The singular points ``u~_i = g_out^-1(u_i)`` and ``v~_i = g_in^-1(v_i)`` are orthonormal in the induced inner
    products, and ``f(v~_i) = s_i (.) u~_i``.
    """

    u: Linearizer
    s: Tensor
    v: Linearizer

    def left_points(self, k: int | None = None) -> Tensor:
        """The first ``k`` left singular points, ``(k, *g_out.shape)``; all without ``k``."""
        return self.u(self._axes(k))

    def right_points(self, k: int | None = None) -> Tensor:
        """The first ``k`` right singular points, ``(k, *g_in.shape)``; all without ``k``."""
        return self.v(self._axes(k))

    def _axes(self, k: int | None) -> Tensor:
        n = self.s.shape[-1]
        return torch.eye(n if k is None else min(k, n), n, dtype=self.s.dtype, device=self.s.device)


@svd.register(Linearizer)
def _svd(f: Linearizer) -> LinearizerSVD:
    u, s, v = svd(f.operator)
    axes = Identity((s.shape[-1],))
    return LinearizerSVD(Linearizer(axes, u, f.g_out), s, Linearizer(axes, v, f.g_in))


@truncate.register(Linearizer)
def _truncate(f: Linearizer, k: int) -> Linearizer:
    return f._with(truncate(f.operator, k))
