"""Seeds, random generators, and named streams of random numbers: one seed gives one run."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from rectilinear.scalars import check_seed as check_seed


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch (every device).

    Example:
        >>> seed_all(0); a = torch.rand(3); seed_all(0); torch.equal(a, torch.rand(3))
        True
    """
    seed = check_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global state is what this function is for
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int, devices: Iterable[torch.device] | None = ()) -> Iterator[None]:
    """Inside the block torch is seeded; afterwards the caller's random state is as before.

    The state of the CPU and of ``devices`` is kept; of all devices, if None.

    Example:
        >>> seed_all(0)
        >>> with seeded(1):
        ...     a = torch.rand(3)
        >>> torch.equal(torch.rand(3), torch.rand(3, generator=generator(0)))
        True
    """
    seed = check_seed(seed)
    with torch.random.fork_rng(devices=None if devices is None else list(devices)):
        torch.manual_seed(seed)
        yield


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A random generator of its own, apart from torch's global one.

    Example:
        >>> a, b = torch.rand(3, generator=generator(1)), torch.rand(3, generator=generator(1))
        >>> torch.equal(a, b)
        True
    """
    return torch.Generator(device=device).manual_seed(check_seed(seed))


def seed_step(seed: int, step: int, rank: int = 0, device: torch.device | str = "cpu") -> None:
    """Seed torch for one step of a run, by ``(seed, step, rank)`` alone.

    So a resumed run draws the numbers it would have drawn. Within a run no two steps share a seed
    before step ``2^32``: multiplication by an odd number is a bijection of the integers modulo
    ``2^32``. Only the generators of the CPU and of ``device`` are seeded, in two microseconds.

    Example:
        >>> seed_step(0, step=7); a = torch.rand(3)
        >>> seed_step(0, step=7); torch.equal(a, torch.rand(3))
        True
    """
    start = int.from_bytes(
        hashlib.blake2b(f"{seed} {rank}".encode(), digest_size=4).digest(), "little"
    )
    mixed = (start + step) * 0x9E3779B1 % 2**32
    torch.default_generator.manual_seed(mixed)
    if (device := torch.device(device)).type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(mixed)


def stream(seed: int, name: str) -> torch.Generator:
    """The random generator of one measurement, apart from all others with the same seed.

    Seeded by a hash: data are often drawn with a seed of 0, and would otherwise share their numbers
    with the audit.

    Example:
        >>> a, b = torch.rand(3, generator=stream(0, "a")), torch.rand(3, generator=stream(0, "b"))
        >>> torch.equal(a, b)
        False
    """
    digest = hashlib.blake2b(f"{name} {seed}".encode(), digest_size=7).digest()
    return generator(int.from_bytes(digest, "little"))


def resampled(n: int, times: int, random: torch.Generator) -> torch.Tensor:
    """The counts of draws of each of ``n`` in the samples of a bootstrap, ``(times, n)``.

    Example:
        >>> resampled(5, 2, generator(0)).sum(1).tolist()
        [5.0, 5.0]
    """
    draws = torch.randint(n, (times, n), generator=random)
    counts = torch.zeros(times, n, dtype=torch.float64)
    return counts.scatter_add_(1, draws, torch.ones_like(draws, dtype=torch.float64))
