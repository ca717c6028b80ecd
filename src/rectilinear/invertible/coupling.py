"""Coupling blocks: one part of the coordinates is moved by a network of the other part.

Additive and affine couplings move it by a shift and a scale, spline couplings by a monotone spline.
"""

from __future__ import annotations

from abc import ABC

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectilinear.errors import ConfigError, ShapeError
from rectilinear.invertible.base import (
    Invertible,
    Precision,
    VolumePreserving,
    check_precision,
    condition,
    snap,
)


class _Coupling(Invertible, ABC):
    """The split of one axis into a first part, kept, and a second part, moved."""

    def __init__(
        self,
        shape: tuple[int, ...] | int,
        conditioner: nn.Module,
        *,
        axis: int = 0,
        keep: int | None = None,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        check_precision(precision)
        self.shape = self.latent_shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.axis = axis % len(self.shape)
        size = self.shape[self.axis]
        self.keep = (size + 1) // 2 if keep is None else keep
        if not 0 < self.keep < size:
            raise ShapeError(
                got=f"axis {axis} of {self.shape} split after {self.keep}",
                expected="a kept and a moved part that are not empty",
                fix="Give the axis two entries or more (Squeeze makes channels).",
            )
        self.conditioner = conditioner
        self.precision = precision

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        size = self.shape[self.axis]
        return x.split([self.keep, size - self.keep], dim=self.axis + 1)

    def _join(self, kept: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([kept, moved], dim=self.axis + 1)


class AdditiveCoupling(_Coupling, VolumePreserving):
    """``z = (x1, x2 + t(x1))``, volume preserving: the best-conditioned coupling.

    With ``precision="exact"`` the shift is rounded to multiples of ``2^-16`` and the block is a
    bijection bit for bit on inputs of that grid (:func:`to_grid`), for equal batches on an equal
    device.

    Args:
        shape: shape of the arrays, without the batch axis.
        conditioner: maps the kept part ``(b, *kept)`` to the shape of the moved part.
        axis: axis of ``shape`` that is split; the first ``keep`` entries condition, the rest moves.
        keep: size of the kept part, half of the axis if not given.
        precision: ``"float32"`` (the dtype of the input), ``"bf16"``, ``"exact"`` or
            ``"exact-bf16"``.

    Reference:
        Dinh, Krueger, Bengio, "NICE", 2014 (arXiv 1410.8516).

    Example:
        >>> g = AdditiveCoupling(4, torch.nn.Linear(2, 2))
        >>> x = torch.randn(5, 4)
        >>> torch.allclose(g.inverse(g(x)), x, atol=1e-6)
        True
    """

    def _latents(self, x: Tensor) -> Tensor:
        kept, moved = self._split(x)
        return self._join(kept, moved + self._shift(kept))

    def _decode(self, z: Tensor) -> Tensor:
        kept, moved = self._split(z)
        return self._join(kept, moved - self._shift(kept))

    def _shift(self, kept: Tensor) -> Tensor:
        shift = condition(self.conditioner, kept, self.precision)
        return snap(shift) if self.precision.startswith("exact") else shift


class AffineCoupling(_Coupling):
    """``z = (x1, x2 exp(s(x1)) + t(x1))`` with ``s = bound tanh(raw / bound)``.

    The log-determinant is ``sum s``. The bound keeps the inverse well-conditioned: the log-scales
    of a deep network add, so give each of its couplings its share of a total (``VectorFlow`` and
    ``ImageFlow`` do).

    Args:
        shape: shape of the arrays, without the batch axis.
        conditioner: maps the kept part to twice the moved part, ``raw`` and ``t`` one after the
            other along the feature axis: the first axis of images ``(c, h, w)``, the last axis of
            vectors and tokens.
        axis: axis of ``shape`` that is split; the first ``keep`` entries condition, the rest moves.
        keep: size of the kept part, half of the axis if not given.
        bound: largest absolute log-scale.
        precision: ``"float32"`` (the dtype of the input) or ``"bf16"`` (in the conditioner only).

    Raises:
        ConfigError: for an exact precision: only additive couplings are exact.

    Reference:
        Dinh, Sohl-Dickstein, Bengio, "Density estimation using Real NVP", 2017 (arXiv 1605.08803).

    Example:
        >>> g = AffineCoupling(4, torch.nn.Linear(2, 4), bound=0.5)
        >>> z, logdet = g.forward_and_logdet(torch.randn(5, 4))
        >>> logdet.abs().max() <= 2 * 0.5
        tensor(True)
    """

    def __init__(
        self,
        shape: tuple[int, ...] | int,
        conditioner: nn.Module,
        *,
        axis: int = 0,
        keep: int | None = None,
        bound: float = 1.0,
        precision: Precision = "float32",
    ) -> None:
        super().__init__(shape, conditioner, axis=axis, keep=keep, precision=precision)
        _check_not_exact(precision, "affine couplings")
        if not bound > 0:
            raise ConfigError(got=f"bound={bound}", expected="a positive bound of the log-scale")
        self.bound = bound

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept, moved = self._split(x)
        log_scale, shift = self._parameters_at(kept)
        return self._join(kept, moved * log_scale.exp() + shift), log_scale.flatten(1).sum(1)

    def _decode(self, z: Tensor) -> Tensor:
        kept, moved = self._split(z)
        log_scale, shift = self._parameters_at(kept)
        return self._join(kept, (moved - shift) * (-log_scale).exp())

    def _parameters_at(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        features = 1 if len(self.shape) == 3 else -1
        raw, shift = condition(self.conditioner, kept, self.precision).chunk(2, dim=features)
        return self.bound * torch.tanh(raw / self.bound), shift


# Least width and height of a bin, relative to their mean. With the slopes below it bounds the
# inverse.
_MIN_BIN = 0.1


class SplineCoupling(_Coupling):
    """``z = (x1, h(x2 exp(s(x1)) + t(x1); x1))``: ``h`` a rational-quadratic spline of vectors.

    On ``[-box, box]`` the spline goes through ``bins + 1`` knots, read from ``x1``; outside it is
    the identity. Its slope at a knot is the harmonic mean of the slopes beside it, times a factor
    between ``1/e`` and ``e``: nowhere is it much flatter than its bins, which keeps the inverse
    well-conditioned. It can put the mass of a Gaussian into several places, where affine couplings
    need many layers.

    Args:
        dim: number of coordinates.
        conditioner: maps the kept part ``(b, keep)`` to ``(b, (dim - keep)(3 bins + 1))``: for each
            moved coordinate the log-scale, the shift, ``bins`` widths, ``bins`` heights and ``bins
            - 1`` slopes, each raw.
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
            raise ConfigError(
                f"bins={bins}, box={box}, bound={bound}",
                "two bins or more, a positive box and bound",
            )
        _check_not_exact(precision, "splines")
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
        """Log-scale, shift, and knots: ``x``, ``y``, slopes, each ``(b, moved, bins + 1)``."""
        raw = condition(self.conditioner, kept, self.precision).unflatten(
            1, (-1, 3 * self.bins + 1)
        )
        log_scale, shift, widths, heights, slopes = raw.split(
            [1, 1, self.bins, self.bins, self.bins - 1], dim=2
        )
        x, y = self._places(widths), self._places(heights)
        mean = y.diff(dim=2) / x.diff(dim=2)
        left, right = mean[..., :-1], mean[..., 1:]
        inner = 2 * left * right / (left + right) * torch.tanh(slopes).exp()
        knots = x, y, functional.pad(inner, (1, 1), value=1.0)
        return self.bound * torch.tanh(log_scale[..., 0] / self.bound), shift[..., 0], knots

    def _places(self, raw: Tensor) -> Tensor:
        parts = _MIN_BIN / self.bins + (1 - _MIN_BIN) * raw.softmax(2)
        inner = self.box * (2 * parts[..., :-1].cumsum(2) - 1)
        return functional.pad(
            functional.pad(inner, (1, 0), value=-self.box), (0, 1), value=self.box
        )

    def _spline(self, v: Tensor, x: Tensor, y: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        inside = v.abs() < self.box
        x0, width, y0, height, d0, d1 = _bin(x, v, x, y, d)
        s, u = height / width, torch.where(inside, v - x0, 0) / width
        bottom = s + (d0 + d1 - 2 * s) * u * (1 - u)
        out = y0 + height * (s * u.square() + d0 * u * (1 - u)) / bottom
        slope = (
            s.square()
            * (d1 * u.square() + 2 * s * u * (1 - u) + d0 * (1 - u).square())
            / bottom.square()
        )
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
    """Left end, width, lower end, height and both slopes of the bin that holds ``at``."""
    i = (edges[..., 1:-1].detach() <= at.detach().unsqueeze(2)).sum(2, keepdim=True)
    (x0, x1), (y0, y1), (d0, d1) = (
        t.gather(2, torch.cat([i, i + 1], 2)).unbind(2) for t in (x, y, d)
    )
    return x0, x1 - x0, y0, y1 - y0, d0, d1


def _check_not_exact(precision: Precision, name: str) -> None:
    if precision.startswith("exact"):
        raise ConfigError(
            got=f"precision={precision!r} with {name}",
            expected="additive couplings",
            fix="Choose additive couplings, or leave precision= out.",
        )
