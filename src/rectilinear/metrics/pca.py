"""Principal components, and the error that reconstruction from the leading ones leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rectilinear.checks import check_floating, whole
from rectilinear.errors import ConfigError
from rectilinear.metrics.generation import check_pair

MAX_AXES_ROWS = 8192  # that leading axes are found from


class PCA(NamedTuple):
    """Mean ``(d,)``, orthonormal axes ``(d, r)``, standard deviations ``(r,)`` descending."""

    mean: Tensor
    axes: Tensor
    std: Tensor


def pca(x: Tensor, components: int | None = None, *, complete: bool = False) -> PCA:
    """The ``min(n, d)`` principal components of ``x``, in float64.

    Args:
        x: the data, ``(n, ...)``, flattened to ``(n, d)``.
        components: number of leading components to find, by a randomised decomposition: for a few
            out of many dimensions; all by default.
        complete: where ``n < d``, add axes of standard deviation 0 until they are a basis of all
            ``d`` dimensions.

    Raises:
        ConfigError: for components that are not ``1 <= components <= min(n, d)``.
        ShapeError: if ``x`` has less than two axes.
        NonFiniteError: if an entry is NaN or infinite.

    Example:
        >>> pca(torch.tensor([[0.0, 1.0], [0.0, -1.0]])).std
        tensor([1.4142, 0.0000], dtype=torch.float64)
    """
    check_floating(x, "x")
    x = x.flatten(1) if x.ndim > 1 else x
    check_pair(x, x)
    centred = x.double() - x.double().mean(0)
    if components is not None:
        if not 1 <= components <= min(x.shape):
            raise ConfigError(
                f"components={components} of data {tuple(x.shape)}", f"1 to {min(x.shape)}"
            )
        from sklearn.utils.extmath import randomized_svd  # needed here alone; takes seconds

        _, s, vt = (
            torch.from_numpy(part).to(x.device)
            for part in randomized_svd(centred.cpu().numpy(), components, random_state=0)
        )
        return PCA(x.double().mean(0), vt.T, s / max(1, len(x) - 1) ** 0.5)
    if len(x) < x.shape[1]:
        _, s, vt = torch.linalg.svd(centred, full_matrices=False)
        found = PCA(x.double().mean(0), vt.T, s / max(1, len(x) - 1) ** 0.5)
        return _completed(found) if complete else found
    variances, axes = torch.linalg.eigh(centred.T @ centred / max(1, len(x) - 1))
    return PCA(x.double().mean(0), axes.flip(1), variances.flip(0).clamp(min=0).sqrt())


def _completed(found: PCA) -> PCA:
    """The axes completed to an orthonormal basis by axes of standard deviation 0."""
    d, r = found.axes.shape
    others = torch.linalg.qr(found.axes, mode="complete").Q[:, r:]
    return PCA(
        found.mean,
        torch.cat([found.axes, others], 1),
        torch.cat([found.std, found.std.new_zeros(d - r)]),
    )


def principal_axes(x: Tensor, count: int | None = None) -> PCA:
    """The mean, ``count`` principal axes or all ``d``, and the deviations of all ``d`` coordinates.

    The other coordinates, of any basis, share what variance is left. ``count`` axes are found from
    8,192 rows at most, and are fewer where there are not so many rows.

    Args:
        x: the data, ``(n, ...)``, flattened to ``(n, d)``.
        count: number of axes; all where it is None or ``d`` and more.

    Returns:
        float64 mean ``(d,)``, axes ``(d, count)``, deviations ``(d,)``.

    Example:
        >>> x = torch.tensor([[3.0, 0, 0], [-3.0, 0, 0], [0, 1.0, 1.0], [0, -1.0, -1.0]])
        >>> principal_axes(x, 1).std.square().round(decimals=4).tolist()
        [6.0, 0.6667, 0.6667]
    """
    d = x[0].numel()
    if count is None or count >= d:
        return pca(x, complete=True)
    some = x[:: -(-len(x) // MAX_AXES_ROWS)]
    mean, axes, std = pca(some, min(whole(count, "axes", 1), len(some) - 1))
    lost = some.double().flatten(1).var(0).sum() - std.square().sum()
    rest = d - len(std)
    return PCA(mean, axes, torch.cat([std, (lost.clamp(min=0) / rest).sqrt().expand(rest)]))


def held_out_residual(rows: Tensor, rank: int, parts: int = 4) -> Tensor:
    """The mean square residuals of rows off the axes of the others, a part at a time, ``(d,)``.

    Few rows lie near their own axes, and all others far from them. The mean over all values counts
    for two more rows: one or two are near each other somewhere.

    Args:
        rows: ``(n, d)``, two or more.
        rank: number of axes.
        parts: that the rows are held out in.

    Example:
        >>> x = torch.randn(12, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> bool((held_out_residual(x, 11) > 0.2).all())  # of its own axes, 0
        True
    """
    total, number = rows.new_zeros(rows.shape[1]), torch.arange(len(rows), device=rows.device)
    for part in range(min(parts, len(rows))):
        out = number % parts == part
        rest = rows[~out]
        mean = rest.mean(0)
        axes = torch.linalg.svd(rest - mean, full_matrices=False)[2]
        axes = axes[: min(rank, len(rest) - 1)].T
        away = rows[out] - mean
        total += (away - away @ axes @ axes.T).square().sum(0)
    return (total + 2 * total.mean() / len(rows)) / (len(rows) + 2)


def pca_curve(train: Tensor, test: Tensor, ranks: Sequence[int]) -> Tensor:
    """The mean square error of ``test`` behind ``k`` principal components of ``train``, per value.

    Args:
        train: ``(n, ...)``.
        test: ``(m, ...)``.
        ranks: the values of ``k``.

    Returns:
        float64 ``(len(ranks),)``.

    Raises:
        ConfigError: if a rank is negative or above ``min(n, d)``.
        ShapeError: if columns differ.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [0.0, -0.5]])
        >>> pca_curve(x, x, [0, 1, 2]).tolist()
        [0.3125, 0.0625, 0.0]
    """
    train, test = train.flatten(1), test.flatten(1)
    check_pair(train, test)
    most = min(train.shape)
    if bad := [k for k in ranks if not 0 <= k <= most]:
        raise ConfigError(f"rank {bad[0]}", f"between 0 and {most}")
    mean, axes, _ = pca(train)
    centred = test.double() - mean
    explained = (centred @ axes).square().mean(0).cumsum(0)
    kept = torch.cat([explained.new_zeros(1), explained])[list(ranks)]
    return (centred.square().sum(1).mean() - kept).clamp(min=0) / train.shape[1]
