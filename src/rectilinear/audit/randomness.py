"""Random numbers that have nothing to do with those of the data, whatever seed these were drawn with."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from rectilinear._seed import generator

if TYPE_CHECKING:
    import torch


def stream(seed: int, name: str) -> torch.Generator:
    """The random generator of one measurement.

    Seeded by a hash: data are often drawn with a seed of 0, and would otherwise share their numbers with the audit.

    Example:
        >>> import torch
        >>> bool(torch.rand(1, generator=stream(0, "a")) == torch.rand(1, generator=stream(0, "a")))
        True
    """
    return generator(int.from_bytes(hashlib.blake2b(f"{name} {seed}".encode(), digest_size=7).digest(), "little"))
