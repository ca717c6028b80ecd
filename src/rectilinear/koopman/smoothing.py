"""Smoothing of noisy series before a fit, by the leading singular vectors of their windows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rectilinear.koopman.autoregression import Piece
from rectilinear.koopman.realization import above_noise

LONGEST_WINDOW = 50
_ROWS = 3000  # windows that the singular vectors are computed from


def smooth(
    pieces: Sequence[Piece], length: int = LONGEST_WINDOW
) -> tuple[tuple[Piece, ...], float]:
    """The pieces with their noise removed, and its root mean square, by low-rank windows.

    Each window of ``length`` rows is projected on the singular vectors above white noise of unknown
    size, and a row is the mean of the windows that hold it. A map fitted on noisy states is biased
    towards zero; fitted on smoothed states it is not. Rows that a forecast is made from are not
    smoothed. Pieces shorter than a window stay as they are.

    References: Broomhead, King, "Extracting qualitative dynamics from experimental data" (1986),
    singular spectrum analysis; Gavish, Donoho (2014), the threshold.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> clean = torch.sin(0.2 * torch.arange(300.0, dtype=torch.float64))[:, None]
        >>> noisy = clean + 0.1 * torch.randn(300, 1, generator=g, dtype=torch.float64)
        >>> (found,), size = smooth([Piece(noisy)])
        >>> bool((found.x - clean).std() < 0.05), 0.08 < size < 0.11
        (True, True)
    """
    long = [p for p in pieces if len(p.x) >= 2 * length]
    if not long:
        return tuple(pieces), 0.0
    d = long[0].x.shape[1]
    rows = torch.cat([_windows(p.x, length) for p in long])
    mean = rows.mean(0)
    part = (rows - mean)[:: -(-len(rows) // _ROWS)]
    _, s, v = torch.linalg.svd(part, full_matrices=False)
    rank = above_noise(s, min(part.shape) / max(part.shape))
    basis = v[: min(rank, len(s) - 1)]
    found, left, count = [], 0.0, 0
    for p in pieces:
        if len(p.x) < 2 * length:
            found.append(p)
            continue
        x = _averaged((_windows(p.x, length) - mean) @ basis.T @ basis + mean, len(p.x), d)
        left, count = left + float((x - p.x).square().sum()), count + x.numel()
        found.append(Piece(x, p.u))
    return tuple(found), (left / count) ** 0.5


def _windows(x: Tensor, length: int) -> Tensor:
    return x.unfold(0, length, 1).transpose(1, 2).flatten(1)


def _averaged(rows: Tensor, total: int, d: int) -> Tensor:
    """The series ``(total, d)`` whose windows these are, each row the mean of all that hold it."""
    length = rows.shape[1] // d
    x, held = rows.new_zeros(total, d), rows.new_zeros(total, 1)
    for k, part in enumerate(rows.unflatten(1, (length, d)).unbind(1)):
        x[k : k + len(rows)] += part
        held[k : k + len(rows)] += 1
    return x / held
