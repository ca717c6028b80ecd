"""Groups of images that are nearly the same, which belong to one split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rectilinear.datasets.read_image import read_image
from rectilinear.errors import DataError

SIDE = 12  # of the thumbnails that are compared
NEAR = 0.25  # largest difference of two thumbnails, relative to the contrast of the first
_BLOCK_ROWS = 512
_ROUNDING = 1e-6  # of mean squares in float32
_Signature = tuple[tuple[str, int, int], ...]
_known: dict[_Signature, list[list[Path]]] = {}


def near_copies(files: Sequence[Path]) -> list[list[Path]]:
    """The files in groups of images that are nearly the same, in order of their first.

    Each is drawn as a thumbnail of 12 x 12 pixels. It joins the first image, of those that lead a
    group, whose thumbnail differs by a root mean square of at most a quarter of the contrast of
    that thumbnail: the standard deviation over its pixels, of the channels together. Groups are not
    chained: all of a group are near its first. Files that cannot be read stay alone, for the reader
    to refuse.
    """
    signature = tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.exists())
    if len(signature) < len(files):
        return [[file] for file in files]
    if signature not in _known:
        _known.clear()  # of one folder at a time
        _known[signature] = _grouped(files)
    return [list(group) for group in _known[signature]]


def _grouped(files: Sequence[Path]) -> list[list[Path]]:
    thumbnails, readable = [], []
    for file in files:
        try:
            image = read_image(file, grey=False, size=(SIDE, SIDE))
        except DataError:
            continue
        thumbnails.append(image.astype(np.float32).ravel() / 255)
        readable.append(file)
    rows = np.array(thumbnails, dtype=np.float32).reshape(len(readable), SIDE * SIDE, 3)
    contrast = np.sqrt(rows.var(1).mean(1))
    leader = dict(zip(readable, leaders(rows.reshape(-1, 3 * SIDE * SIDE), contrast), strict=True))
    groups: dict[Path, list[Path]] = {}
    for file in files:
        first = readable[leader[file]] if file in leader else file
        groups.setdefault(first, []).append(file)
    return list(groups.values())


def leaders(rows: NDArray[np.float32], contrast: NDArray[np.float32]) -> list[int]:
    """The first row near each row ``(n, d)``, among those that are near no earlier one.

    Example:
        >>> rows = np.array([[0.0, 1.0], [1.0, 0.0], [0.05, 1.0]], dtype=np.float32)
        >>> leaders(rows, rows.std(1))
        [0, 1, 0]
    """
    limit = np.square(contrast * NEAR).astype(np.float64) - _ROUNDING
    found = np.arange(len(rows))
    first = np.empty(0, dtype=np.int64)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = np.arange(start, min(start + _BLOCK_ROWS, len(rows)))
        near = _squares(rows[block], rows[first]) <= limit[first]
        hit = near.any(1)
        found[block[hit]] = first[near[hit].argmax(1)] if len(first) else 0
        new: list[int] = []
        among = _squares(rows[block], rows[block]) <= limit[block]
        for i in np.flatnonzero(~hit):
            earlier = [j for j in new if among[i, j]]
            if earlier:
                found[block[i]] = block[earlier[0]]
            else:
                new.append(int(i))
        first = np.concatenate([first, block[new]])
    return [int(i) for i in found]


def _squares(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean square differences of all pairs of rows, ``(n, m)``."""
    size_a, size_b = (np.square(x, dtype=np.float64).mean(1) for x in (a, b))
    return size_a[:, None] + size_b - 2 * (a @ b.T).astype(np.float64) / a.shape[1]
