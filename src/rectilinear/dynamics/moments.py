"""What a linear network sees of the data: second moments; and whether the data are their own mirror image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from rectilinear._seed import generator
from rectilinear._shapes import check_finite, check_floating
from rectilinear.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor

SAME = 1e-9  # rows whose projections agree to this, relative to the largest, are the same up to rounding


@dataclass(frozen=True, eq=False)
class Moments:
    """``sigma = <x x^T>`` of shape ``(d, d)``, ``beta = <y x^T>`` of shape ``(o, d)`` and ``power = <|y|^2>``.

    Example:
        >>> data = Moments.of(torch.eye(2), torch.tensor([1.0, -1.0]))
        >>> data.beta, data.variance
        (tensor([[ 0.5000, -0.5000]], dtype=torch.float64), 0.5)
    """

    sigma: Tensor
    beta: Tensor
    power: float

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> Moments:
        """The moments of points ``x (n, ...)`` and targets ``y (n,)`` or ``(n, o)``, in float64 on the CPU.

        Raises:
            ShapeError, DtypeError, NonFiniteError: for data that are not pairs of finite numbers.
        """
        x, y = rows(x, y)
        return cls(x.mT @ x / len(x), y.mT @ x / len(x), float(y.square().sum() / len(x)))

    def loss(self, maps: Tensor) -> Tensor:
        """``1/2 <|y - M x|^2>`` of each map ``(..., o, d)``, of shape ``(...)``."""
        residual = (self.beta - maps @ self.sigma / 2) * maps
        return self.power / 2 - residual.sum((-2, -1))

    @property
    def variance(self) -> float | None:
        """``lam`` where ``sigma = lam I`` to 1e-10, and None where the inputs are not white."""
        lam = float(self.sigma.diagonal().mean())
        drift = self.sigma - lam * torch.eye(len(self.sigma), dtype=self.sigma.dtype)
        return lam if lam > 0 and float(drift.abs().max()) <= 1e-10 * lam else None

    def optimum(self) -> Tensor:
        """The best linear map ``beta sigma^+``, of least norm where several are best."""
        return self.beta @ torch.linalg.pinv(self.sigma, hermitian=True, rtol=1e-12)


def rows(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The data as float64 matrices ``(n, d)`` and ``(n, o)`` on the CPU.

    Raises:
        ShapeError, DtypeError, NonFiniteError: for data that are not pairs of finite numbers.
    """
    for value, name in ((x, "x"), (y, "y")):
        check_floating(value, name)
        check_finite(value, name)
    if x.ndim < 2 or y.ndim not in (1, 2) or len(x) != len(y) or not len(x):
        raise ShapeError(
            f"x of shape {tuple(x.shape)} and y of shape {tuple(y.shape)}",
            "x of shape (n, d) and y of shape (n,) or (n, o), n at least 1",
            "Give every point one target.",
        )
    x, y = (value.detach().to("cpu", torch.float64).flatten(1) for value in (x, y[:, None] if y.ndim == 1 else y))
    return x, y


def unmirrored(*columns: Tensor) -> float:
    """The fraction of rows ``z = (x, y)`` without a row ``-z``: zero for data closed under ``(x, y) -> (-x, -y)``.

    Rows are told apart by a random projection, in ``O(n d + n log n)``; multiplicities count.

    Example:
        >>> x, y = torch.randn(5, 3), torch.randn(5, 1)
        >>> unmirrored(torch.cat([x, -x]), torch.cat([y, -y])), unmirrored(x, y)
        (0.0, 1.0)
    """
    p, near = _projection(columns)
    p = p.sort().values
    mirrored = -p.flip(0)
    if bool(((p - mirrored).abs() <= near).all()):
        return 0.0
    at = torch.searchsorted(mirrored, p)
    closest = torch.minimum((p - mirrored[at.clamp(max=len(p) - 1)]).abs(), (p - mirrored[(at - 1).clamp(min=0)]).abs())
    # A row whose mirror is there, but not as often as the row, is missed by this count: one of them at least.
    return max(int((closest > near).sum()), 1) / len(p)


def mirror_half(*columns: Tensor) -> Tensor:
    """The indices of one row of each pair ``z``, ``-z`` of data closed under it; rows of zeros are left out.

    Example:
        >>> x = torch.tensor([[1.0], [-1.0], [0.0]])
        >>> len(mirror_half(x))
        1
    """
    p, near = _projection(columns)
    return (p > near).nonzero()[:, 0]


def _projection(columns: tuple[Tensor, ...]) -> tuple[Tensor, float]:
    """The rows along one random direction, and how near two of them are the same."""
    z = torch.cat([column.flatten(1).double() for column in columns], dim=1)
    direction = torch.randn(z.shape[1], generator=generator(0), dtype=z.dtype).to(z.device)
    return z @ direction, SAME * float(z.norm(dim=1).max()) * float(direction.norm())
