"""The place where token ids become vectors: the output of a network's embeddings."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from rectilinear.errors import ConfigError, DtypeError, InputError, ShapeError, StructureError
from rectilinear.networks.batches import Batch
from rectilinear.networks.forward_pass import Output, forward, pick
from rectilinear.networks.places import Place, block_names, find, named_parts
from rectilinear.random import stream

MAX_TRIALS = 64  # places that are tried
EQUAL_OUTPUTS = (
    1e-3  # relative difference of outputs that are the same but for rounding, times the root
)


def embeddings_of(model: nn.Module, batch: Batch, output: Output = None) -> Place:
    """The first place that all of the influence of the ids flows through.

    Tried by exchange: with other ids in the batch and the old value at the place, the output is the
    old one. The input of the first layer is tried first, then the outputs of modules in the order
    in which they are ready. Call it inside :func:`~rectilinear.networks.network.evaluating`.

    Args:
        model: the module.
        batch: ids ``(b, t)`` as its first tensor.
        output: what of the model's output counts.

    Example:
        >>> net = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2))
        >>> print(embeddings_of(net, Batch((torch.arange(6).reshape(2, 3),))))
        0@output
    """
    old = forward(model, batch, output=output).out
    allowed = EQUAL_OUTPUTS * torch.finfo(old.dtype).eps ** 0.25 * float(old.abs().max())
    for other in (_shuffled(batch), _lowered(batch)):
        try:
            new = forward(model, other, output=output).out
        except ShapeError:  # it does not take such ids
            continue
        if float((old - new).abs().max()) > allowed:
            break
    else:
        raise InputError(
            "an output that does not depend on the ids",
            "a model that reads them",
            "Pass samples with different ids.",
        )
    for tried, place in enumerate(_candidates(model, batch, output)):
        if tried >= MAX_TRIALS:
            break
        try:
            value = forward(model, batch, [place], output=output).at[str(place)]
            again = forward(model, other, (), {str(place): lambda _, v=value: v}, output=output)  # type: ignore[misc]
        except (StructureError, DtypeError, ConfigError):
            continue
        if value.shape[0] == len(batch) and float((again.out - old).abs().max()) <= allowed:
            return place
    raise InputError(
        "a model that reads its ids at several places",
        "one embedding through which they all flow",
        "Pass a part of it that takes vectors, and these as data.",
    )


def _shuffled(batch: Batch) -> Batch:
    """The batch with its real ids in another order."""
    ids = batch.main.clone()
    real = torch.ones_like(ids, dtype=torch.bool)
    if batch.mask is not None and batch.mask.shape == ids.shape:
        real = batch.mask.to(ids.device)
    values = ids[real]
    order = torch.randperm(len(values), generator=stream(0, "other ids")).to(ids.device)
    ids[real] = values[order]
    return batch.with_main(ids)


def _lowered(batch: Batch) -> Batch:
    """The batch with ids lower by one: other ids, also of a bag of words or a single token."""
    return batch.with_main((batch.main - 1).clamp_min(0))


def _candidates(model: nn.Module, batch: Batch, output: Output) -> Iterator[Place]:
    """Places in the order in which they are tried."""
    parts = dict(named_parts(model))
    for name in block_names(model):
        parent = parts.get(name.rpartition(".")[0])
        if isinstance(parent, nn.ModuleList):
            for form in (f"{name}@input", f"{name}#0@input"):
                yield find(model, form)
            break
    ready: list[str] = []
    handles = []

    def note(name: str) -> object:
        def hook(_: nn.Module, __: object, out: object) -> None:
            try:
                value: Tensor = pick(out)
            except DtypeError:
                return
            if value.ndim >= 2 and len(value) == len(batch):
                ready.append(name)

        return hook

    try:
        for name, part in parts.items():
            if name:
                handles.append(part.register_forward_hook(note(name)))  # type: ignore[arg-type]
        forward(model, batch, output=output)
    finally:
        for handle in handles:
            handle.remove()
    for name in dict.fromkeys(ready):
        yield find(model, name if ready.count(name) == 1 else f"{name}#0")
