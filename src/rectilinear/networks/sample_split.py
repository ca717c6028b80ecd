"""Samples, such as texts or images: the held-out ones, and sums over the vectors of each."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from rectilinear.errors import InputError
from rectilinear.networks.batches import Batch, Batches
from rectilinear.networks.data import HELD_OUT_SHARE, MIN_DISTINCT_ROWS, mixed, row_keys
from rectilinear.random import stream


def sample_keys(batch: Batch) -> Tensor:
    """A key of each sample, ``(b,)`` int64 on the CPU: equal for equal samples.

    Samples are equal if all tensors of the call are, up to padding: a text has one key in any
    batch.

    Example:
        >>> ids, mask = torch.tensor([[5, 6, 0]]), torch.tensor([[True, True, False]])
        >>> int(sample_keys(Batch((ids,), {}, mask))) == int(sample_keys(Batch((ids[:, :2],))))
        True
    """
    total = torch.zeros(len(batch), dtype=torch.int64)
    for value in chain(batch.args, batch.kwargs.values()):
        if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != len(batch):
            continue
        value = value.unsqueeze(1) if value.ndim == 1 else value
        if batch.mask is not None and value.shape[:2] == batch.mask.shape:
            shape = (*batch.mask.shape, *[1] * (value.ndim - 2))
            value = value * batch.mask.reshape(shape).to(value.device)
        if batch.mask is not None and value.dtype == torch.bool:
            continue  # the mask itself, which is written in two ways
        numbers = value if value.is_floating_point() else value.double()
        total = mixed(total * 3 + row_keys(numbers))
    return total


@dataclass(frozen=True)
class SampleSplit:
    """The held-out samples: those whose hash is at most ``threshold``.

    Batches may come in another order each time, and equal samples are on one side.
    """

    threshold: int
    seed: int

    @classmethod
    def of(cls, data: Batches, seed: int, share: float = 1 / HELD_OUT_SHARE) -> SampleSplit:
        """A share of the distinct samples of the data, which are read once."""
        hashes = torch.cat([_hashes(batch, seed) for batch in data]).unique()
        if len(hashes) < MIN_DISTINCT_ROWS:
            raise InputError(
                f"{len(hashes)} distinct samples",
                f"at least {MIN_DISTINCT_ROWS}: some are held out, to judge what is fitted on the "
                "others",
                "Pass more data.",
            )
        return cls(int(hashes[max(1, int(share * len(hashes))) - 1]), seed)

    def __call__(self, batch: Batch) -> Tensor:
        """A mask ``(b,)`` of the samples that are held out, on the CPU."""
        return _hashes(batch, self.seed) <= self.threshold


def _hashes(batch: Batch, seed: int) -> Tensor:
    salt = torch.randint(-(2**62), 2**62, (), generator=stream(seed, "held-out samples"))
    return mixed(sample_keys(batch) ^ salt)


def sums_by_sample(values: Tensor, samples: Tensor, count: int) -> Tensor:
    """Sums of ``values`` ``(n, ...)`` over the vectors of each sample, ``(count, ...)``.

    Example:
        >>> sums_by_sample(torch.ones(3, 1), torch.tensor([0, 0, 1]), 2).tolist()
        [[2.0], [1.0]]
    """
    return values.new_zeros(count, *values.shape[1:]).index_add_(
        0, samples.to(values.device), values
    )
