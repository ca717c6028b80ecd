"""What a linear network sees of the data: second moments; and whether the data are their own mirror image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from rectilinear._shapes import check_finite, check_floating
from rectilinear.dynamics.mirror import mirror_pairs
from rectilinear.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor


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

    Every row has one partner: how often rows occur counts. See :func:`mirror_pairs` for when two rows are the same.

    Example:
        >>> x, y = torch.randn(5, 3), torch.randn(5, 1)
        >>> unmirrored(torch.cat([x, -x]), torch.cat([y, -y])), unmirrored(x, y)
        (0.0, 1.0)
    """
    one, other = mirror_pairs(*columns).counts()
    return int((one - other).abs().sum()) / len(columns[0])


def mirror_half(*columns: Tensor) -> Tensor:
    """The indices of one row of each pair ``z``, ``-z`` of data closed under it; rows of zeros are left out.

    Example:
        >>> x = torch.tensor([[1.0], [-1.0], [0.0]])
        >>> len(mirror_half(x))
        1
    """
    return (mirror_pairs(*columns).side > 0).nonzero()[:, 0]
