"""Seeds: the same number gives the same run."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch (every device).

    Example:
        >>> seed_all(0); a = torch.rand(3); seed_all(0); torch.equal(a, torch.rand(3))
        True
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global state is what this function is for
    torch.manual_seed(seed)


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A random generator of its own, apart from torch's global one.

    Example:
        >>> torch.equal(torch.rand(3, generator=generator(1)), torch.rand(3, generator=generator(1)))
        True
    """
    return torch.Generator(device=device).manual_seed(seed)
