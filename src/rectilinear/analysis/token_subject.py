"""A network of tokens under audit: its data in batches, and where the audited map starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rectilinear.errors import DtypeError, InputError, ShapeError
from rectilinear.networks.batches import Batch, Batches
from rectilinear.networks.data import Task
from rectilinear.networks.determinism import check_steady
from rectilinear.networks.embeddings import embeddings_of
from rectilinear.networks.forward_pass import Output, forward
from rectilinear.networks.network import Resolution, copied, evaluating
from rectilinear.networks.places import Place, find
from rectilinear.networks.sample_split import SampleSplit
from rectilinear.networks.token_vectors import vectors
from rectilinear.random import stream

MAX_OUTPUTS = 4096  # outputs up to which each is looked at
DIRECTIONS = 256  # random directions that stand for more
CACHED_NUMBERS = 2**26  # numbers of passes that are kept: 256 MB in float32
COMPUTED = 4.0  # last digits by which the arithmetic of a network errs


class TokenPass(NamedTuple):
    """A batch, the value ``h`` at the start, and the outputs as vectors with their samples."""

    batch: Batch
    h: Tensor
    rows: Tensor
    out: Tensor
    samples: Tensor


@dataclass(eq=False)
class TokenSubject:
    """The map from the vectors at ``start`` to the output, one vector a token or one a sample.

    Attributes:
        model: the module.
        batches: the data.
        start: where the map starts.
        by_token: whether there is an output for each token.
        split: which samples are held out.
        task: the loss, where there are labels.
        seed: of random numbers.
        head: random directions ``(O, 256)`` that stand for more outputs.
        shape: of one output vector.
        longest: tokens in the longest sample.
        count: how many tokens there are in all.
    """

    model: nn.Module
    batches: Batches
    output: Output
    start: Place
    by_token: bool
    split: SampleSplit
    task: Task | None
    seed: int
    head: Tensor | None
    shape: tuple[int, ...]
    dim: int
    longest: int
    count: int
    blocks: list[str] | None = None
    found: dict[object, object] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        batches: Batches,
        output: Output,
        task: Callable[[int], Task | None],
        seed: int,
        blocks: list[str] | None = None,
    ) -> TokenSubject:
        """The subject, after one pass over the data."""
        first = next(iter(batches))
        start = _start(model, first, output)
        check_steady(model, first, output)
        seen = forward(model, first, [start], output=output)
        h, out = seen.at[str(start)], seen.out
        if h.ndim < 3:
            h = h.reshape(len(h), -1, h.shape[-1])
        by_token = out.ndim > 2 and out.shape[:2] == h.shape[:2]
        if len(out) != len(first):
            raise InputError(
                f"an output of shape {tuple(out.shape)} for {len(first)} samples",
                "the batch as the first axis",
                "Pass output=, or build the model with batch_first=True.",
            )
        shape = tuple(out.shape[2:] if by_token else out.shape[1:])
        width, longest, count = torch.Size(shape).numel(), 0, 0
        for batch in batches:
            tokens = batch.main.shape[1] if batch.main.ndim > 1 else 1
            longest = max(longest, tokens)
            count += len(batch) * tokens if batch.mask is None else int(batch.mask.sum())
        head = None
        if width > MAX_OUTPUTS:
            draw = torch.randn(
                width, DIRECTIONS, generator=stream(seed, "outputs"), dtype=torch.float64
            )
            head = (draw / DIRECTIONS**0.5).to(out.device)
        split = SampleSplit.of(batches, seed)
        return cls(
            model,
            batches,
            output,
            start,
            by_token,
            split,
            task(width),
            seed,
            head,
            shape,
            h.shape[-1],
            longest,
            count,
            blocks,
        )

    @property
    def width(self) -> int:
        """Numbers in one output vector."""
        return torch.Size(self.shape).numel()

    def passes(self, held_out: bool) -> Iterator[TokenPass]:
        """The samples that are held out, or the others; computed once where they fit in memory."""
        kept = self.found.get(held_out)
        if isinstance(kept, list):
            yield from kept
            return
        fresh: list[TokenPass] | None = []
        numbers = 0
        for batch in self.batches:
            chosen = self.split(batch)
            part = batch.take(chosen if held_out else ~chosen)
            if not len(part):
                continue
            made = self.one(part)
            numbers += made.h.numel() + made.rows.numel() + made.out.numel()
            fresh = [*fresh, made] if fresh is not None and numbers <= CACHED_NUMBERS else None
            yield made
        if fresh is not None:
            self.found[held_out] = fresh

    def one(self, batch: Batch) -> TokenPass:
        """The outputs of one batch."""
        seen = forward(self.model, batch, [self.start], output=self.output)
        h = seen.at[str(self.start)]
        out, samples = self.outputs(seen.out, batch)
        return TokenPass(batch, h, self.rows(h, batch), out, samples)

    def at(self, batch: Batch, h: Tensor) -> Tensor:
        """The outputs ``(n, O)`` for other values at the start."""
        seen = forward(self.model, batch, (), {str(self.start): lambda _: h}, output=self.output)
        return self.outputs(seen.out, batch)[0]

    def outputs(self, out: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Output vectors ``(n, O)`` in float32 at least, and their samples ``(n,)``."""
        if self.by_token:
            found = vectors(out.flatten(2), batch.mask, "tokens")
        else:
            found = vectors(out.flatten(1), None, "rows")
        rows = found.rows if torch.finfo(out.dtype).bits > 16 else found.rows.float()
        return (rows if self.head is None else rows.double() @ self.head), found.samples

    def rows(self, h: Tensor, batch: Batch) -> Tensor:
        """The vectors that a map acts on: those of tokens, or their mean over a sample."""
        found = vectors(h, batch.mask)
        if self.by_token:
            return found.rows
        sums = found.rows.new_zeros(len(h), found.rows.shape[1]).double()
        sums.index_add_(0, found.samples, found.rows.double())
        return sums / found.samples.bincount(minlength=len(h))[:, None]

    def resolution(self, out: Tensor) -> Resolution:
        """The rounding of outputs ``(n, O)``: by the digits of the model's dtype.

        In half precision errors are measured, against a copy of the model in float32.
        """
        dtype = self.batches.like.dtype
        eps = torch.finfo(dtype).eps
        size = out.double().square().mean(0).sqrt().cpu()
        stored, computed = eps * size / 12**0.5, COMPUTED * eps * size
        if torch.finfo(dtype).bits <= 16:
            computed = torch.maximum(stored, self._measured())
        return Resolution(stored, computed, str(dtype).removeprefix("torch."))

    def _measured(self) -> Tensor:
        """Roots of mean squares of the errors of half precision on a few samples, ``(O,)``."""
        if "errors" not in self.found:
            p = next(self.passes(held_out=True))
            wide = copied(self.model).float()
            with evaluating(wide):
                batch = p.batch.to(next(wide.parameters()).detach())
                exact = self.outputs(forward(wide, batch, output=self.output).out, batch)[0]
            self.found["errors"] = (exact.double() - p.out).square().mean(0).sqrt().cpu()
        errors = self.found["errors"]
        assert isinstance(errors, Tensor)
        return errors


def _start(model: nn.Module, batch: Batch, output: Output) -> Place:
    """The place where the audited map starts: the input if it is vectors, else the embeddings."""
    if batch.main.is_floating_point():
        return find(model, "@input")
    try:
        return embeddings_of(model, batch, output)
    except ShapeError as error:
        raise DtypeError(
            f"x of dtype {batch.main.dtype}: {error.got}",
            "ids of a model with embeddings, or floating-point numbers",
            "Convert numbers with .float().",
        ) from error
