"""Points that are the same, or each other's mirror image, or lie in one direction.

What a linear network sees of the data: second moments; and whether the data are their own mirror
image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rectilinear.checks import check_finite, check_floating
from rectilinear.errors import ShapeError
from rectilinear.random import stream

PROBES = 4  # random directions: two points that agree in all of them are one
CHUNK = 16_384
SAME = {torch.float64: 1e-9}  # of the largest point: two that are nearer are one
SAME_ROUNDED = 1e-6  # in dtypes of fewer digits
NOISE = 1e-14  # of the largest column: what is smaller is rounding


class Mirrored(NamedTuple):
    """For rows ``z``: the number of the pair ``{z, -z}`` each belongs to, its side (1, -1, or 0 for
    a row of zeros).
    """

    pair: Tensor
    side: Tensor

    def counts(self) -> Tensor:
        """How many rows of each pair are on either side, ``(2, pairs)``."""
        many = int(self.pair.max()) + 1
        return torch.stack(
            [self.pair[self.side == side].bincount(minlength=many) for side in (1, -1)]
        )


def mirror_pairs(*columns: Tensor) -> Mirrored:
    """Rows ``z = (x, y)`` of tensors ``(n, ...)`` in pairs with their mirror images, whatever the
    units of a column.

    The one judge of symmetry in the library: two rows are the same where they agree to 1e-9 of the
    largest (1e-6 where the dtype has fewer digits).

    Example:
        >>> found = mirror_pairs(torch.tensor([[1.0], [2.0], [-1.0], [0.0]]))
        >>> found.pair.tolist(), (found.side * found.side[0]).tolist()
        ([0, 1, 0, 2], [1, 1, -1, 0])
    """
    same = max(SAME.get(column.dtype, SAME_ROUNDED) for column in columns)
    z = torch.cat([of_unit_size(column.flatten(1)) for column in columns], 1)
    size = z.abs().amax(0)
    size = torch.where(
        size > NOISE * size.max(), torch.exp2(size.clamp_min(1e-300).log2().floor()), torch.inf
    )
    z = z / size
    seen = sketch(z)
    pair = clusters(mirrored(seen), same * float(seen.abs().max()))
    side = torch.where(seen[:, 0] < 0, -1, 1)
    return Mirrored(pair, torch.where((z.abs() > same).any(1).cpu(), side, 0))


def of_unit_size(x: Tensor) -> Tensor:
    """The tensor in float64 times a power of two, so that the largest entry is about one: no digit
    changes.

    Example:
        >>> of_unit_size(torch.tensor([3e-200, 1e-200], dtype=torch.float64))
        tensor([1.1482, 0.3827], dtype=torch.float64)
    """
    largest = float(x.abs().max())
    return x.double() * 2.0 ** min(-math.floor(math.log2(largest)), 1000) if largest else x.double()


def sketch(x: Tensor) -> Tensor:
    """Rows ``(n, D)`` in a few random directions, ``(n, k)`` in float64 on the CPU: an odd function
    of each row.
    """
    probe = torch.randn(x.shape[1], PROBES, generator=stream(0, "lines"), dtype=torch.float64).to(
        x.device
    )
    return torch.cat([rows.double() @ probe for rows in x.split(CHUNK)]).cpu()


def mirrored(seen: Tensor) -> Tensor:
    """One of each sketch and its negative, the same for both.

    Example:
        >>> x = torch.randn(3, 5)
        >>> torch.equal(mirrored(sketch(x)), mirrored(sketch(-x)))
        True
    """
    return torch.where(seen[:, :1] < 0, -seen, seen)


def clusters(points: Tensor, apart: float) -> Tensor:
    """The number of the cluster of each of the points ``(n, k)``, in the order of their first;
    within ``apart``.

    Sorted by the first coordinate, points between two gaps are few unless they are one cluster.

    Example:
        >>> clusters(torch.tensor([[0.5], [0.1], [0.5]]), 1e-6).tolist()
        [0, 1, 0]
    """
    order = points[:, 0].argsort(stable=True)
    ordered = points[order].numpy()
    labels = np.empty(len(points), dtype=np.int64)
    gaps = (np.flatnonzero(np.diff(ordered[:, 0]) > apart) + 1).tolist()
    count = 0
    for start, stop in zip([0, *gaps], [*gaps, len(points)], strict=True):
        if stop - start == 1:
            labels[start], count = count, count + 1
            continue
        run, pending = ordered[start:stop], np.arange(stop - start)
        while len(pending):
            near = np.abs(run[pending] - run[pending[0]]).max(1) <= apart
            labels[start + pending[near]] = count
            pending, count = pending[~near], count + 1
    unordered = np.empty(len(points), dtype=np.int64)
    unordered[order.numpy()] = labels
    _, first = np.unique(unordered, return_index=True)
    rank = np.empty(count, dtype=np.int64)
    rank[np.argsort(first)] = np.arange(count)
    return torch.from_numpy(rank[unordered])


@dataclass(frozen=True, eq=False)
class Moments:
    """``sigma = <x x^T>`` of shape ``(d, d)``, ``beta = <y x^T>`` of shape ``(o, d)`` and ``power =
    <|y|^2>``.

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
        """The moments of points ``x (n, ...)`` and targets ``y (n,)`` or ``(n, o)``, in float64 on
        the CPU.

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
    x, y = (
        value.detach().to("cpu", torch.float64).flatten(1)
        for value in (x, y[:, None] if y.ndim == 1 else y)
    )
    return x, y


def unmirrored(*columns: Tensor) -> float:
    """The fraction of rows ``z = (x, y)`` without a row ``-z``: zero for data closed under ``(x, y)
    -> (-x, -y)``.

    Every row has one partner: how often rows occur counts. See :func:`mirror_pairs` for when two
    rows are the same.

    Example:
        >>> x, y = torch.randn(5, 3), torch.randn(5, 1)
        >>> unmirrored(torch.cat([x, -x]), torch.cat([y, -y])), unmirrored(x, y)
        (0.0, 1.0)
    """
    one, other = mirror_pairs(*columns).counts()
    return int((one - other).abs().sum()) / len(columns[0])


def mirror_half(*columns: Tensor) -> Tensor:
    """The indices of one row of each pair ``z``, ``-z`` of data closed under it; rows of zeros are
    left out.

    Example:
        >>> x = torch.tensor([[1.0], [-1.0], [0.0]])
        >>> len(mirror_half(x))
        1
    """
    return (mirror_pairs(*columns).side > 0).nonzero()[:, 0]
