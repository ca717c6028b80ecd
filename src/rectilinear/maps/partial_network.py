"""The part of a network behind a place inside it, for one sample, as a module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rectilinear.errors import ShapeError
from rectilinear.networks.batches import Batch, Tokenizer, read_batches
from rectilinear.networks.embeddings import embeddings_of
from rectilinear.networks.forward_pass import Output, forward
from rectilinear.networks.network import evaluating
from rectilinear.networks.places import Place


class FromPlace(nn.Module):
    """The value at a target as a function of the value at a source, for one fixed sample.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> rest = FromPlace(net, Batch((torch.ones(1, 2),)), "0", "@output", None)
        >>> rest(torch.zeros(4, 3)).shape
        torch.Size([4, 1])
    """

    def __init__(
        self, model: nn.Module, batch: Batch, source: str, target: str, output: Output
    ) -> None:
        super().__init__()
        self.model, self.batch = model, batch
        self.source, self.target, self.output = source, target, output

    def forward(self, h: Tensor) -> Tensor:
        """The values at the target for values ``(b, ...)`` at the source."""
        batch = self.batch.take(torch.zeros(len(h), dtype=torch.long))
        seen = forward(
            self.model,
            batch,
            [self.target],
            {self.source: lambda _: h},
            output=self.output,
            live=torch.is_grad_enabled(),
        )
        return seen.at[self.target]


def from_place(
    model: nn.Module,
    data: Any,
    source: str | None,
    target: str,
    *,
    tokenizer: Tokenizer | None = None,
    output: Output = None,
) -> tuple[FromPlace, Tensor]:
    """The network behind a place, and the value of one sample there, without its batch axis.

    The default source is the input of the model, or for token ids the output of the embeddings.

    Raises:
        ShapeError: for more than one sample.
        ConfigError: for a place that there is not.
    """
    batches = read_batches(data, model, tokenizer=tokenizer)
    if batches.size != 1:
        raise ShapeError(f"{batches.size} samples", "one", "Pass one text, image or row of ids.")
    batch = batches.head(1)
    with evaluating(model):
        if source is None:
            vectors = batch.main.is_floating_point()
            place: str | Place = (
                "@input" if vectors else embeddings_of(model, _doubled(batch), output)
            )
            source = str(place)
        point = forward(model, batch, [source]).at[source]
    return FromPlace(model, batch, source, target, output), point[0]


def _doubled(batch: Batch) -> Batch:
    """A batch of one sample of token ids and the same ids in reverse order."""

    def of(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != 1:
            return value
        other = value.flip(1) if value is batch.main and value.ndim > 1 else value
        return torch.cat([value, other])

    return Batch(
        tuple(map(of, batch.args)),
        {name: of(v) for name, v in batch.kwargs.items()},
        of(batch.mask),
    )
