"""Rows that are kept apart from a fit, to judge it: equal rows are always on the same side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from rectilinear.audit.randomness import stream
from rectilinear.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

SHARE = 4  # one distinct row in so many is held out
FEWEST = 8  # distinct rows
CHUNK_NUMBERS = 2**22
MIXER = -0x61C8864680B583EB  # of Steele, Lea and Flood's SplitMix, an odd number of 64 bits
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # as wide as a floating-point number of so many bytes


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Which rows are held out: those whose hash is at most ``threshold``.

    The hash is one of a row's numbers, so that batches may come in another order each time, and repeated rows cannot be
    on both sides.
    """

    threshold: int
    seed: int

    @classmethod
    def of(cls, sample: Tensor, seed: int) -> HeldOut:
        """A quarter of the distinct rows of a sample, and what has such hashes outside of it.

        Raises:
            InputError: if too few rows differ.

        Example:
            >>> rows = torch.arange(40.0).reshape(20, 2).repeat(3, 1)
            >>> held = HeldOut.of(rows, seed=0)(rows)
            >>> int(held.sum()), bool((held[:20] == held[20:40]).all())
            (15, True)
        """
        hashes = _hashes(sample, seed).unique()
        if len(hashes) < FEWEST:
            raise InputError(
                f"{len(hashes)} distinct rows",
                f"at least {FEWEST}: some are held out, to judge what is fitted on the others",
                "Pass more rows.",
            )
        return cls(int(hashes[len(hashes) // SHARE - 1]), seed)

    def __call__(self, x: Tensor) -> Tensor:
        """A mask ``(n,)`` of the rows that are held out."""
        return _hashes(x, self.seed) <= self.threshold


def repeated(x: Tensor, others: Tensor) -> Tensor:
    """A mask ``(n,)`` of the rows of ``x`` that are also among ``others``.

    Example:
        >>> repeated(torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [3.0]])).tolist()
        [False, True]
    """
    return torch.isin(_hashes(x, 0), _hashes(others, 0))


def _hashes(x: Tensor, seed: int) -> Tensor:
    """One integer of 64 bits for each row, ``(n,)``; 0 and -0 are the same number."""
    flat = x.detach().flatten(1)
    width = flat.shape[1]
    random = torch.randint(-(2**62), 2**62, (width,), generator=stream(seed, "held out"))
    factors = (2 * random + 1).to(flat.device)
    found = []
    for rows in flat.split(max(1, CHUNK_NUMBERS // max(1, width))):
        bits = (rows + 0.0).contiguous().view(INTEGERS[rows.element_size()])
        mixed = (bits.long() * factors).sum(1)
        mixed = (mixed ^ (mixed >> 31)) * MIXER
        found.append(mixed ^ (mixed >> 29))
    return torch.cat(found) if found else flat.new_zeros(0, dtype=torch.int64)
