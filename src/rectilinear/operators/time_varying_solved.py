"""The velocity that need not be trained: solved from the second moments of both ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from rectilinear.errors import ShapeError, SingularOperatorError
from rectilinear.operators import _matrix
from rectilinear.operators.dense import Dense
from rectilinear.operators.diagonal import Diagonal
from rectilinear.operators.time_varying import TimeVarying, as_time

if TYPE_CHECKING:
    from rectilinear.operators.base import Operator


class SolvedVelocity(TimeVarying):
    """The least-squares velocity between zero-mean latents with second moments ``S0`` and ``S1``.

    ``W(t) = (t S1 - (1 - t) S0) M(t)^-1`` with ``M(t) = (1 - t)^2 S0 + t^2 S1``, and ``A(t) = t S1 M(t)^-1``. Its flow
    is ``(M(t) M(s)^-1)^(1/2)`` in closed form, and carries ``N(0, S0)`` to ``N(0, S1)``: ``B S0 B^T = S1``.

    Args:
        s0: ``(n,)`` for a diagonal moment or ``(n, n)``, positive definite.
        s1: likewise.

    Raises:
        ShapeError: if the moments have different sizes.
        SingularOperatorError: when asked for a time at which ``M(t)`` is not positive definite.

    Example:
        >>> W = SolvedVelocity(torch.ones(2), torch.tensor([4.0, 9.0]))
        >>> W.transport(0.0, 1.0)(torch.ones(2)).tolist()
        [2.0, 3.0]
    """

    s0: Tensor
    s1: Tensor

    def __init__(self, s0: Tensor, s1: Tensor) -> None:
        super().__init__()
        n = s0.shape[-1]
        if any(s.shape not in {(n,), (n, n)} for s in (s0, s1)):
            raise ShapeError(f"moments of shapes {tuple(s0.shape)} and {tuple(s1.shape)}", "(n,) or (n, n) for both")
        self.dim = n
        self.register_buffer("s0", s0)
        self.register_buffer("s1", s1)

    @classmethod
    def from_samples(cls, z0: Tensor, z1: Tensor, *, diagonal: bool = False, shrinkage: float = 0.0) -> Self:
        """From latents ``(b, n)`` of both ends; ``shrinkage`` mixes in that share of a multiple of the identity."""
        return cls(*(_moment(z, diagonal=diagonal, shrinkage=shrinkage) for z in (z0, z1)))

    def velocity(self, t: float | Tensor) -> Operator:
        s0, s1, time = self._moments(t)
        return self._over(time * s1 - (1 - time) * s0, self._mixed(t))

    def endpoint(self, t: float | Tensor) -> Operator:
        _, s1, time = self._moments(t)
        return self._over(time * s1, self._mixed(t))

    def transport(self, s: float | Tensor, t: float | Tensor) -> Operator:
        start, end = self._mixed(s), self._mixed(t)
        if self._diagonal:
            return Diagonal((_positive(end) / _positive(start)).sqrt(), trainable=False)
        root = _cholesky(start)
        half = torch.linalg.solve_triangular(root, end, upper=False)
        inner = torch.linalg.solve_triangular(root, half.mT, upper=False)  # L^-1 M(t) L^-T, positive definite
        middle = root @ _matrix.sqrtm((inner + inner.mT) / 2)
        return Dense(weight=torch.linalg.solve_triangular(root, middle, upper=False, left=False), trainable=False)

    @property
    def _diagonal(self) -> bool:
        return self.s0.ndim == self.s1.ndim == 1

    def _moments(self, t: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        time = as_time(t, self.s0)
        if self._diagonal:
            return self.s0, self.s1, time[..., None]
        s0, s1 = (torch.diag(s) if s.ndim == 1 else s for s in (self.s0, self.s1))
        return s0, s1, time[..., None, None]

    def _mixed(self, t: float | Tensor) -> Tensor:
        s0, s1, time = self._moments(t)
        return (1 - time) ** 2 * s0 + time**2 * s1

    def _over(self, numerator: Tensor, moment: Tensor) -> Operator:
        """``numerator moment^-1``, both symmetric."""
        if self._diagonal:
            return Diagonal(numerator / _positive(moment), trainable=False)
        return Dense(weight=torch.cholesky_solve(numerator, _cholesky(moment)).mT, trainable=False)


def _positive(moment: Tensor) -> Tensor:
    if not bool((moment > 0).all()):
        raise _not_definite()
    return moment


def _cholesky(moment: Tensor) -> Tensor:
    factor, info = torch.linalg.cholesky_ex(moment)
    pivots, largest = factor.detach().diagonal(dim1=-2, dim2=-1), moment.detach().diagonal(dim1=-2, dim2=-1).amax(-1)
    small = pivots.amin(-1) ** 2 <= _matrix.default_rtol(moment.dtype, moment.shape[-1]) * largest
    if bool((small | (info != 0)).any()):
        raise _not_definite()
    return factor


def _not_definite() -> SingularOperatorError:
    return SingularOperatorError(
        got="second moments that are not positive definite",
        expected="positive definite ones",
        fix="Use more samples than dimensions, or shrinkage > 0.",
    )


def _moment(z: Tensor, *, diagonal: bool, shrinkage: float) -> Tensor:
    if z.ndim != 2:
        raise ShapeError(f"latents of shape {tuple(z.shape)}", "(b, n)")
    power = z.square().mean(0)
    if diagonal:
        return (1 - shrinkage) * power + shrinkage * power.mean()
    eye = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    return (1 - shrinkage) * (z.mT @ z) / len(z) + shrinkage * power.mean() * eye
