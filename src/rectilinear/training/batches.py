"""Batches of a data set in memory by seed and step, and gradients from parts of a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rectilinear.checks import check_batch, check_finite
from rectilinear.errors import ConfigError
from rectilinear.random import generator

RESERVED = {"step", "seconds", "lr", "gradient_norm"}
"""Fields of the log that say where the run is."""


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


def add_gradients(
    compute: Callable[[Tensor], Any],
    objective: nn.Module,
    batch: Tensor,
    size: int | None,
    must_end: Callable[[], bool],
) -> tuple[dict[str, Any], int]:
    """The mean terms over the rows of ``batch``, and the number of rows that were computed.

    The gradient of the mean loss over these rows is in the parameters of ``objective``.

    Args:
        compute: rows to terms, ``{"loss": mean over the rows, ...}``.
        objective: whose parameters take the gradient; zero before.
        batch: ``(b, ...)``.
        size: rows computed at a time; all where None.
        must_end: asked after each part; True leaves out the parts that follow.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> compute = lambda x: {"loss": model(x).mean()}
        >>> _, rows = add_gradients(compute, model, torch.tensor([[1.0], [3.0]]), 1, lambda: False)
        >>> model.weight.grad, rows
        (tensor([[2.]]), 2)
    """
    parts = batch.split(size or len(batch))
    if len(parts) == 1:
        terms = compute(batch)
        loss_of(terms).backward()
        return terms, len(batch)
    sums: dict[str, Tensor] = {}
    rows = 0
    for part in parts:
        terms = compute(part)
        (loss_of(terms) * (len(part) / len(batch))).backward()
        for name, x in scalars(terms).items():
            sums[name] = sums.get(name, torch.zeros_like(x)) + len(part) * x
        rows += len(part)
        if rows < len(batch) and must_end():
            for p in objective.parameters():
                if p.grad is not None:
                    p.grad *= len(batch) / rows
            break
    return {name: x / rows for name, x in sums.items()}, rows


def scalars(terms: Mapping[str, Any]) -> dict[str, Tensor]:
    """The numbers among the terms of an objective, without gradients."""
    found = {name: x for name, x in terms.items() if isinstance(x, Tensor) and x.ndim == 0}
    return {name: x.detach() for name, x in found.items()}


def loss_of(terms: Any) -> Tensor:
    """The loss among what an objective returned.

    Raises:
        ConfigError: if there is none, or it has no gradient.
    """
    loss = terms.get("loss") if isinstance(terms, dict) else None
    if taken := RESERVED & set(terms if isinstance(terms, dict) else ()):
        raise ConfigError(
            f"a term {min(taken)!r}", "a name that the log does not use itself", "Rename the term."
        )
    if isinstance(loss, Tensor) and loss.ndim == 0:
        if not loss.requires_grad or loss.is_complex():
            got = (
                "a complex loss"
                if loss.is_complex()
                else "a loss that depends on no trainable parameter"
            )
            raise ConfigError(
                got, "a real one with a gradient", "Compute it from the parameters, without detach."
            )
        return loss
    got = (
        f"a loss of shape {tuple(loss.shape)}"
        if isinstance(loss, Tensor)
        else f"no loss in a {type(terms).__name__}"
    )
    raise ConfigError(
        got,
        'a dictionary with the scalar tensor "loss"',
        "Return {'loss': the mean over the batch}.",
    )
