"""Batches of a data set in memory, drawn by seed and step alone; averaged weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rectilinear.checks import check_batch, check_finite, check_floating
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
        check_floating(data, "data")
        check_batch(data, tuple(data.shape[1:]), "data")
        check_finite(data, "data")
        if batch_size % world:
            raise ConfigError(
                f"batch_size = {batch_size} on {world} processes",
                "a multiple",
                "Change batch_size.",
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


class EMA:
    """The exponential moving average ``m <- d m + (1 - d) w`` of a module's trainable parameters.

    ``d = min(decay, (1 + step) / (10 + step))``, so that the initial weights are forgotten quickly.
    With ``decay=None`` there is no average, and the result is the module itself.

    Example:
        >>> module = nn.Linear(1, 1, bias=False); average = EMA(module, decay=0.9)
        >>> _ = nn.init.constant_(module.weight, 1.0)
        >>> for step in range(1000): average.update(step)
        >>> with evaluation(module, average): round(module.weight.item(), 4)
        1.0
    """

    def __init__(self, module: nn.Module, decay: float | None) -> None:
        self.decay = decay
        named = (
            {name: p for name, p in module.named_parameters() if p.requires_grad}
            if decay is not None
            else {}
        )
        self.names: list[str] = list(named)
        self.weights: list[Tensor] = list(named.values())
        self.averages = [p.detach().clone() for p in self.weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average with the weights after step number ``step``."""
        if self.decay is not None:
            torch._foreach_lerp_(
                self.averages, self.weights, 1 - min(self.decay, (1 + step) / (10 + step))
            )

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and averages."""
        for weight, average in zip(self.weights, self.averages, strict=True):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.averages, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, average in zip(self.names, self.averages, strict=True):
            average.copy_(state[name])


@contextmanager
def evaluation(module: nn.Module, ema: EMA) -> Iterator[None]:
    """The module as it will be used, inside the block: averaged weights, eval, no gradients."""
    training = module.training
    ema.swap()
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)
        ema.swap()
