"""Couplings that move each coordinate by a monotone spline, for densities that no affine map can reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectilinear.errors import ConfigError
from rectilinear.invertible.coupling import _Coupling
from rectilinear.invertible.precision import condition

if TYPE_CHECKING:
    from rectilinear.invertible.precision import Precision

_LEAST = 0.1  # width and height of a bin, relative to their mean: with the slopes below, what bounds the inverse


class SplineCoupling(_Coupling):
    """``z = (x1, h(x2 exp(s(x1)) + t(x1); x1))`` on vectors, ``h`` a rational-quadratic spline in each coordinate.

    On ``[-box, box]`` the spline goes through ``bins + 1`` knots, read from ``x1``; outside it is the identity. Its
    slope at a knot is the harmonic mean of the slopes beside it, times a factor between ``1/e`` and ``e``: nowhere is
    it much flatter than its bins, which keeps the inverse well-conditioned. It can put the mass of a Gaussian into
    several places, where affine couplings need many layers.

    Args:
        dim: number of coordinates.
        conditioner: maps the kept part ``(b, keep)`` to ``(b, (dim - keep)(3 bins + 1))``: for each moved coordinate
            the log-scale, the shift, ``bins`` widths, ``bins`` heights and ``bins - 1`` slopes, each raw.
        keep: size of the kept part, half of the coordinates if not given.
        bins: pieces of a spline.
        box: half the width of its interval.
        bound: largest absolute log-scale.
        precision: ``"float32"`` (the dtype of the input) or ``"bf16"`` (in the conditioner only).

    Raises:
        ConfigError: for fewer than two bins, an empty interval, or an exact precision.

    Reference:
        Durkan, Bekasov, Murray, Papamakarios, "Neural Spline Flows", 2019 (arXiv 1906.04032).

    Example:
        >>> g = SplineCoupling(4, torch.nn.Linear(2, 2 * 25), bins=8).double()
        >>> x = torch.randn(5, 4, dtype=torch.float64)
        >>> torch.allclose(g.inverse(g(x)), x)
        True
    """

    def __init__(
        self,
        dim: int,
        conditioner: nn.Module,
        *,
        keep: int | None = None,
        bins: int = 8,
        box: float = 5.0,
        bound: float = 1.0,
        precision: Precision = "float32",
    ) -> None:
        super().__init__(dim, conditioner, keep=keep, precision=precision)
        if bins < 2 or not box > 0 or not bound > 0:
            raise ConfigError(f"bins={bins}, box={box}, bound={bound}", "two bins or more, a positive box and bound")
        if precision.startswith("exact"):
            raise ConfigError(got=f"precision={precision!r} with splines", expected="additive couplings")
        self.bins, self.box, self.bound = bins, box, bound

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept, moved = self._split(x)
        log_scale, shift, knots = self._read(kept)
        y, log_slope = self._spline(moved * log_scale.exp() + shift, *knots)
        return self._join(kept, y), (log_scale + log_slope).sum(1)

    def _decode(self, z: Tensor) -> Tensor:
        kept, moved = self._split(z)
        log_scale, shift, knots = self._read(kept)
        return self._join(kept, (self._unspline(moved, *knots) - shift) * (-log_scale).exp())

    def _read(self, kept: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Log-scale, shift, and the knots: places ``x``, ``y`` and slopes, each ``(b, moved, bins + 1)``."""
        raw = condition(self.conditioner, kept, self.precision).unflatten(1, (-1, 3 * self.bins + 1))
        log_scale, shift, widths, heights, slopes = raw.split([1, 1, self.bins, self.bins, self.bins - 1], dim=2)
        x, y = self._places(widths), self._places(heights)
        mean = y.diff(dim=2) / x.diff(dim=2)
        left, right = mean[..., :-1], mean[..., 1:]
        inner = 2 * left * right / (left + right) * torch.tanh(slopes).exp()
        knots = x, y, functional.pad(inner, (1, 1), value=1.0)
        return self.bound * torch.tanh(log_scale[..., 0] / self.bound), shift[..., 0], knots

    def _places(self, raw: Tensor) -> Tensor:
        parts = _LEAST / self.bins + (1 - _LEAST) * raw.softmax(2)
        inner = self.box * (2 * parts[..., :-1].cumsum(2) - 1)
        return functional.pad(functional.pad(inner, (1, 0), value=-self.box), (0, 1), value=self.box)

    def _spline(self, v: Tensor, x: Tensor, y: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        inside = v.abs() < self.box
        x0, width, y0, height, d0, d1 = _bin(x, v, x, y, d)
        s, u = height / width, torch.where(inside, v - x0, 0) / width
        bottom = s + (d0 + d1 - 2 * s) * u * (1 - u)
        out = y0 + height * (s * u.square() + d0 * u * (1 - u)) / bottom
        slope = s.square() * (d1 * u.square() + 2 * s * u * (1 - u) + d0 * (1 - u).square()) / bottom.square()
        return torch.where(inside, out, v), torch.where(inside, slope, 1).log()

    def _unspline(self, w: Tensor, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
        inside = w.abs() < self.box
        x0, width, y0, height, d0, d1 = _bin(y, w, x, y, d)
        s, up = height / width, torch.where(inside, w - y0, 0)
        bend = up * (d0 + d1 - 2 * s)
        a, b, c = height * (s - d0) + bend, height * d0 - bend, -s * up
        u = 2 * c / (-b - (b.square() - 4 * a * c).clamp(min=0).sqrt())
        return torch.where(inside, x0 + u * width, w)


def _bin(edges: Tensor, at: Tensor, x: Tensor, y: Tensor, d: Tensor) -> tuple[Tensor, ...]:
    """Of the bin that holds ``at`` among ``edges``: left end, width, lower end, height and both slopes."""
    i = (edges[..., 1:-1].detach() <= at.detach().unsqueeze(2)).sum(2, keepdim=True)
    (x0, x1), (y0, y1), (d0, d1) = (t.gather(2, torch.cat([i, i + 1], 2)).unbind(2) for t in (x, y, d))
    return x0, x1 - x0, y0, y1 - y0, d0, d1
