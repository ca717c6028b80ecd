"""Mirror symmetry of data: the pairs of rows ``z`` and ``-z``, and groups of equal rows.

Two rows are equal if they agree to 1e-9 of the largest (1e-6 in dtypes of fewer digits), whatever
the units of a column: rows are compared in a few random directions.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rectilinear.networks.batches import as_tensor
from rectilinear.random import stream

DIRECTIONS = 4  # random directions: two rows that agree in all of them are one
CHUNK_ROWS = 16_384
ROW_TOLERANCE = {torch.float64: 1e-9}  # of the largest row: two that are nearer are one
ROW_TOLERANCE_ROUNDED = 1e-6  # in dtypes of fewer digits
COLUMN_ROUNDING = 1e-14  # of the largest column: what is smaller is rounding


class Mirrored(NamedTuple):
    """For rows ``z``: the number of the pair ``{z, -z}`` of each, and its side, 1, -1 or 0.

    The side of a row of zeros is 0.
    """

    pair: Tensor
    side: Tensor

    def counts(self) -> Tensor:
        """The number of rows of each pair on either side, ``(2, pairs)``."""
        many = int(self.pair.max()) + 1
        return torch.stack(
            [self.pair[self.side == side].bincount(minlength=many) for side in (1, -1)]
        )


def mirror_pairs(*columns: Tensor) -> Mirrored:
    """Rows ``z = (x, y)`` of tensors ``(n, ...)`` paired with their mirror images ``-z``.

    Example:
        >>> found = mirror_pairs(torch.tensor([[1.0], [2.0], [-1.0], [0.0]]))
        >>> found.pair.tolist(), (found.side * found.side[0]).tolist()
        ([0, 1, 0, 2], [1, 1, -1, 0])
    """
    same = max(ROW_TOLERANCE.get(column.dtype, ROW_TOLERANCE_ROUNDED) for column in columns)
    z = torch.cat([of_unit_size(column.flatten(1)) for column in columns], 1)
    size = z.abs().amax(0)
    size = torch.where(
        size > COLUMN_ROUNDING * size.max(),
        torch.exp2(size.clamp_min(1e-300).log2().floor()),
        torch.inf,
    )
    z = z / size
    seen = sketch(z)
    pair = clusters(mirrored(seen), same * float(seen.abs().max()))
    side = torch.where(seen[:, 0] < 0, -1, 1)
    return Mirrored(pair, torch.where((z.abs() > same).any(1).cpu(), side, 0))


def asymmetric_fraction(*columns: Any) -> float:
    """The fraction of rows ``z = (x, y)`` without a row ``-z``: 0 for mirror-symmetric data.

    ``columns`` are ``x``, ``y``, ... of as many rows, tensors, arrays or data frames. Every row has
    one partner, so repetitions count. See :func:`mirror_pairs` for the equality of rows.

    Example:
        >>> x, y = torch.randn(5, 3), torch.randn(5, 1)
        >>> asymmetric_fraction(torch.cat([x, -x]), torch.cat([y, -y])), asymmetric_fraction(x, y)
        (0.0, 1.0)
    """
    tensors = [as_tensor(column, "data") for column in columns]
    one, other = mirror_pairs(*(t[:, None] if t.ndim == 1 else t for t in tensors)).counts()
    return int((one - other).abs().sum()) / len(columns[0])


def mirror_half(*columns: Tensor) -> Tensor:
    """The indices of one row of each pair ``z``, ``-z`` of symmetric data, without rows of zeros.

    Example:
        >>> x = torch.tensor([[1.0], [-1.0], [0.0]])
        >>> len(mirror_half(x))
        1
    """
    return (mirror_pairs(*columns).side > 0).nonzero()[:, 0]


def of_unit_size(x: Tensor) -> Tensor:
    """The tensor in float64 times a power of two, with a largest entry of about one.

    No digit changes.

    Example:
        >>> of_unit_size(torch.tensor([3e-200, 1e-200], dtype=torch.float64))
        tensor([1.1482, 0.3827], dtype=torch.float64)
    """
    largest = float(x.abs().max())
    return x.double() * 2.0 ** min(-math.floor(math.log2(largest)), 1000) if largest else x.double()


def sketch(x: Tensor) -> Tensor:
    """Rows ``(n, D)`` in a few random directions, ``(n, k)`` in float64 on the CPU."""
    shape, source = (x.shape[1], DIRECTIONS), stream(0, "lines")
    probe = torch.randn(shape, generator=source, dtype=torch.float64).to(x.device)
    return torch.cat([rows.double() @ probe for rows in x.split(CHUNK_ROWS)]).cpu()


def mirrored(seen: Tensor) -> Tensor:
    """One of each sketch and its negative, the same for both.

    Example:
        >>> x = torch.randn(3, 5)
        >>> torch.equal(mirrored(sketch(x)), mirrored(sketch(-x)))
        True
    """
    return torch.where(seen[:, :1] < 0, -seen, seen)


def clusters(points: Tensor, apart: float) -> Tensor:
    """The number of the cluster of points within ``apart`` that each point ``(n, k)`` is in.

    Clusters are numbered in the order of their first points. Sorted by the first coordinate, points
    between two gaps are few unless they are one cluster.

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
