"""Streaming least squares: moments in one pass, held-out residuals of every row in a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

RIDGES = (0.0, 1e-6, 1e-4, 1e-2, 1e-1)  # times the mean variance
LEVERED = 1e-6  # a row with a leverage this near to one is the only one in its direction


class Moments:
    """Sums of rows ``x`` ``(b, D)``, targets ``t`` ``(b, T)`` and their products, in float64.

    Rows are shifted by the first ones seen, against cancellation.

    Example:
        >>> x = torch.randn(50, 3)
        >>> moments = Moments()
        >>> for rows in x.split(20): moments.add(rows, rows @ torch.ones(3, 2))
        >>> fit = moments.fit()
        >>> torch.allclose(fit.predict(x.double()), x.double().sum(1, keepdim=True).expand(-1, 2), atol=1e-5)
        True
    """

    def __init__(self) -> None:
        self.n = 0

    def add(self, x: Tensor, t: Tensor) -> None:
        """Count rows in."""
        x, t = x.double(), t.double()
        if not self.n:
            self.x0, self.t0 = x.mean(0), t.mean(0)
            self.sx, self.st, self.tt = torch.zeros_like(self.x0), torch.zeros_like(self.t0), torch.zeros_like(self.t0)
            self.xx, self.xt = x.new_zeros(x.shape[1], x.shape[1]), x.new_zeros(x.shape[1], t.shape[1])
        x, t = x - self.x0, t - self.t0
        self.n += len(x)
        self.sx += x.sum(0)
        self.st += t.sum(0)
        self.xx.addmm_(x.mT, x)
        self.xt.addmm_(x.mT, t)
        self.tt += t.square().sum(0)

    def fit(self, columns: slice = slice(None), centred: bool = True) -> Fit:
        """The best affine map to these targets (linear, where not centred), of minimal norm."""
        n, t0, st, xt, tt = self.n, self.t0[columns], self.st[columns], self.xt[:, columns], self.tt[columns]
        if centred:
            mean_x, mean_t = self.x0 + self.sx / n, t0 + st / n
            xx = self.xx - torch.outer(self.sx, self.sx) / n
            xt = xt - torch.outer(self.sx, st) / n
            tt = tt - st.square() / n
        else:
            mean_x, mean_t = torch.zeros_like(self.x0), torch.zeros_like(t0)
            cross = torch.outer(self.x0, self.sx)
            xx = self.xx + cross + cross.mT + n * torch.outer(self.x0, self.x0)
            xt = xt + torch.outer(self.x0, st) + torch.outer(self.sx, t0) + n * torch.outer(self.x0, t0)
            tt = tt + 2 * t0 * st + n * t0.square()
        s, v = torch.linalg.eigh(xx)
        keep = s > s[-1].clamp_min(0) * 4 * len(s) * torch.finfo(s.dtype).eps
        return Fit(n, mean_x, mean_t, v[:, keep], s[keep], v[:, keep].mT @ xt, tt.clamp_min(0), centred)


@dataclass(frozen=True, eq=False)
class Fit:
    """Least squares in the principal basis of the rows.

    Attributes:
        n: how many rows.
        mean_x: ``(D,)``, zero for a linear map.
        mean_t: ``(T,)``, likewise.
        basis: ``v`` ``(D, r)`` with orthonormal columns.
        s: sums of squares of the rows along them, ``(r,)``.
        coefficients: sums of products with the targets, ``(r, T)``.
        total: sums of squares of the (centred) targets, ``(T,)``.
        centred: whether there is a constant.
    """

    n: int
    mean_x: Tensor
    mean_t: Tensor
    basis: Tensor
    s: Tensor
    coefficients: Tensor
    total: Tensor
    centred: bool

    @property
    def matrix(self) -> Tensor:
        """The map ``A`` ``(T, D)``; the constant is ``mean_t - A mean_x``."""
        return (self.basis @ (self.coefficients / self.s[:, None])).mT

    @property
    def constant(self) -> Tensor:
        """``(T,)``."""
        return self.mean_t - self.matrix @ self.mean_x

    def predict(self, x: Tensor) -> Tensor:
        """``A x + b`` for rows ``(b, D)``."""
        return x @ self.matrix.mT + self.constant

    @property
    def r2(self) -> float:
        """The share of the targets' variance that the map explains on its own rows."""
        explained = (self.coefficients.square() / self.s[:, None]).sum()
        total = self.total.sum()
        return float(explained / total) if total > 0 else 1.0

    def residuals(self, x: Tensor, t: Tensor) -> Residuals:
        """What the map leaves of rows it was fitted on, and what maps fitted without each row leave of it.

        For a ridge ``c``, ``t_i - t_i^(-i) = r_i / (1 - h_i)`` with ``h_i = 1/n + sum_j z_ij^2 / (s_j + c)``.
        """
        z = (x.double() - self.mean_x) @ self.basis
        d = t.double() - self.mean_t
        squares, first = z.square(), 1 / self.n if self.centred else 0.0
        held_out, own = [], None
        for ridge in RIDGES:
            damped = self.s + ridge * (self.s.sum() / max(len(self.mean_x), 1))
            r = d - z @ (self.coefficients / damped[:, None])
            free = 1 - first - squares @ (1 / damped)
            own = r if own is None else own
            # A row that alone spans a direction is predicted by the constant there: nothing else is known of it.
            held_out.append(torch.where(free[:, None] > LEVERED, r / free.clamp_min(LEVERED)[:, None], d))
        assert own is not None
        return Residuals(own, torch.stack(held_out), d)


@dataclass(frozen=True, eq=False)
class Residuals:
    """For rows: of the fit itself ``(b, T)``, held out at every ridge ``(R, b, T)``, and of the constant ``(b, T)``."""

    own: Tensor
    held_out: Tensor
    total: Tensor
