"""Batches of a data set in memory, in an order that depends on seed and step alone."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from rectilinear.checks import check_batch, check_finite
from rectilinear.errors import ConfigError
from rectilinear.random import generator


class Batches:
    """Batch number ``step`` of the rows of ``data``: a new permutation each epoch, no row left out.

    Epoch ``e`` runs through a permutation drawn with seed ``seed + e``; batch ``s`` holds the rows
    at positions ``s b, ..., s b + b - 1`` of the epochs laid end to end, and process ``rank`` of
    ``world`` takes its share of them. There is no state: the position in the data is the step. The
    data move to ``device`` as a whole where they fit.

    Raises:
        DtypeError, ShapeError, NonFiniteError: for data that are not finite floating-point rows.
        ConfigError: if the processes cannot share the batch.

    Example:
        >>> batches = Batches(torch.arange(3.0), batch_size=2)
        >>> torch.cat([batches(0), batches(1), batches(2)])[:3].sort().values
        tensor([0., 1., 2.])
    """

    def __init__(
        self,
        data: Tensor,
        batch_size: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        check_batch(data, None, "data")
        check_finite(data, "data")
        if batch_size % world:
            raise ConfigError(
                f"batch_size = {batch_size} on {world} processes",
                f"a multiple of {world}",
            )
        self.device = torch.device(device)
        self.data = data.to(self.device) if _fits(data, self.device) else data.pin_memory()
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self._permutations: dict[int, Tensor] = {}

    def __call__(self, step: int) -> Tensor:
        """Batch ``step``, of shape ``(batch_size / world, ...)``, on the device."""
        rows, n = len(self.data), self.batch_size // self.world
        start = step * self.batch_size + self.rank * n
        epochs = range(start // rows, (start + n - 1) // rows + 1)
        self._permutations = {e: self._permutation(e) for e in epochs}
        parts = [
            p[max(start - e * rows, 0) : start + n - e * rows]
            for e, p in self._permutations.items()
        ]
        index = parts[0] if len(parts) == 1 else torch.cat(parts)
        return self.data[index].to(self.device, non_blocking=True)

    def fingerprint(self) -> str:
        """A checksum of shape, dtype and up to 4,096 rows; a resumed run compares it."""
        sample = self.data[:: max(1, len(self.data) // 4096)].cpu().contiguous()
        digest = hashlib.sha256(f"{tuple(self.data.shape)} {self.data.dtype}".encode())
        digest.update(sample.reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _permutation(self, epoch: int) -> Tensor:
        if epoch in self._permutations:
            return self._permutations[epoch]
        return torch.randperm(len(self.data), generator=generator(self.seed + epoch)).to(
            self.data.device
        )


def _fits(data: Tensor, device: torch.device) -> bool:
    """True if the data take at most half of what memory the device has free."""
    if device.type != "cuda" or data.is_cuda:
        return True
    return data.nbytes < torch.cuda.mem_get_info(device)[0] / 2
