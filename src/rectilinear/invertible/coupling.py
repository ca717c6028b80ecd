"""Coupling blocks: one part of the coordinates moves, as a network of the other part says."""

from __future__ import annotations

from abc import ABC

import torch
from torch import Tensor, nn

from rectilinear.errors import ConfigError, ShapeError
from rectilinear.invertible.base import Invertible, VolumePreserving
from rectilinear.invertible.precision import Precision, check_precision, condition, snap


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

    With ``precision="exact"`` the shift is rounded to multiples of ``2^-16`` and the block is a bijection bit for bit
    on inputs of that grid (:func:`to_grid`), for equal batches on an equal device.

    Args:
        shape: shape of the arrays, without the batch axis.
        conditioner: maps the kept part ``(b, *kept)`` to the shape of the moved part.
        axis: axis of ``shape`` that is split; the first ``keep`` entries condition, the rest moves.
        keep: size of the kept part, half of the axis if not given.
        precision: ``"float32"`` (the dtype of the input), ``"bf16"``, ``"exact"`` or ``"exact-bf16"``.

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
    """``z = (x1, x2 exp(s(x1)) + t(x1))`` with ``s = bound tanh(raw / bound)``; log-determinant ``sum s``.

    The bound keeps the inverse well-conditioned: the log-scales of a deep network add, so give each of its couplings
    its share of a total (``VectorFlow`` and ``ImageFlow`` do).

    Args:
        shape: shape of the arrays, without the batch axis.
        conditioner: maps the kept part to twice the moved part, ``raw`` and ``t`` one after the other along the
            feature axis: the first axis of images ``(c, h, w)``, the last axis of vectors and tokens.
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
        if precision.startswith("exact"):
            raise ConfigError(got=f"precision={precision!r} with affine couplings", expected="additive couplings")
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
