"""Blocks of a network replaced by the best affine maps, and the cost of doing so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import torch
from torch import Tensor, nn

from rectilinear.errors import ConfigError, DtypeError, StructureError
from rectilinear.maps.block_replacement import Replaced, Replacing, Wanted
from rectilinear.maps.blocks import block_names, check_names, is_affine, worst_of
from rectilinear.maps.data_split import Portions
from rectilinear.maps.folded_network import FoldedNetwork, fold_into
from rectilinear.maps.held_out_r2 import too_few
from rectilinear.maps.map_forms import FORMS, Form
from rectilinear.maps.network_costs import (
    Loss,
    Score,
    cost,
    first_of,
    flops_of,
    outputs,
    parameters_of,
    seconds_of,
)
from rectilinear.maps.spans import Span, span_of
from rectilinear.networks.batches import Batches, Tokenizer, read_batches
from rectilinear.networks.determinism import PROBED, check_steady
from rectilinear.networks.forward_pass import Output
from rectilinear.networks.network import (
    as_network,
    check_module,
    check_not_scripted,
    copied,
    evaluating,
)
from rectilinear.networks.places import inner
from rectilinear.progress import Progress
from rectilinear.random import seeded
from rectilinear.scalars import share_text

ROWS_AT_ONCE = 256  # samples in a batch of rows of numbers
SAMPLES_AT_ONCE = 32  # and of anything else
__all__ = ["Kept", "Linearized", "Replaced", "linearize"]


@dataclass(frozen=True)
class Kept:
    """A block that was kept, and the reason."""

    name: str
    module: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.module}) kept: {self.reason}"


@dataclass(frozen=True, eq=False)
class Linearized:
    """A network with affine maps in place of blocks, and their cost on held-out samples.

    All values are of the present network, on samples that nothing was fitted or chosen on.
    ``..._before`` is the original network and ``..._after`` the new one.

    Attributes:
        model: the new network.
        blocks: what was replaced.
        output_r2: how much of the old output's variance the new one explains: ``1 - sum (old -
            new)² / sum (old - mean)²`` over samples, or tokens of all samples, and all outputs
            together, so that large ones outweigh small ones. The mean is that of each output over
            all these rows, not of each position.
        loss_before: the loss on the data, None without labels.
        loss_after: the same of the new network.
        accuracy_before: the accuracy, None without classes.
        accuracy_after: the same of the new network.
        parameters_before: of the whole network.
        parameters_after: the same of the new one.
        seconds_before: to run a batch.
        seconds_after: the same of the new network.
        kept: the blocks that ``blocks="all"`` left as they are.
        held_out: how many samples the costs were measured on.
        output_r2_each: how much of each output's variance it explains, ``(O,)``; NaN where it is
            constant.
        agreement: the share of outputs whose largest entry is at the same place; None for one
            number.
        flops_before: floating-point operations for one sample, those that torch counts.
        flops_after: the same of the new network.
        held_out_rows: how many rows these have: of outputs ``(b, t, O)`` each token is one.
        score: what the function ``score`` gave, None without one.
        stock: whether the class of the network makes the new one from its configuration, so that it
            can be saved and loaded without this package; None where no block was taken out, or the
            network has no configuration.
    """

    model: nn.Module
    blocks: tuple[Replaced, ...]
    output_r2: float
    loss_before: float | None
    loss_after: float | None
    accuracy_before: float | None
    accuracy_after: float | None
    parameters_before: int
    parameters_after: int
    seconds_before: float
    seconds_after: float
    kept: tuple[Kept, ...] = ()
    held_out: int = 0
    output_r2_each: tuple[float, ...] = ()
    agreement: float | None = None
    flops_before: int = 0
    flops_after: int = 0
    score: float | None = None
    stock: bool | None = None
    held_out_rows: int = 0

    def _repr_html_(self) -> str:
        """The table, as HTML for a notebook."""
        return f"<pre>{escape(str(self))}</pre>"

    def __str__(self) -> str:
        lines = [*map(str, self.blocks), *map(str, self.kept)]
        lines.append(f"output R² {share_text(self.output_r2)}")
        if len(self.output_r2_each) > 1:
            worst, share = self.worst_output
            lines[-1] += f", of output {worst} {share_text(share)}"
        if self.agreement is not None:
            lines[-1] += f"; the largest output is the same in {self.agreement:.1%}"
        if self.score is not None:
            lines.append(f"score {self.score:.4g}")
        if self.loss_before is not None:
            lines.append(f"loss {self.loss_before:.4g} -> {self.loss_after:.4g}")
        if self.accuracy_before is not None:
            lines.append(f"accuracy {self.accuracy_before:.4g} -> {self.accuracy_after:.4g}")
        larger = " (larger)" if self.parameters_after > self.parameters_before else ""
        lines.append(f"parameters {self.parameters_before:,} -> {self.parameters_after:,}{larger}")
        more = " (more)" if self.flops_after > self.flops_before else ""
        lines.append(f"operations a sample {self.flops_before:,} -> {self.flops_after:,}{more}")
        slower = " (not faster)" if self.seconds_after >= self.seconds_before else ""
        lines.append(
            f"seconds a batch {self.seconds_before:.3g} -> {self.seconds_after:.3g}{slower}"
        )
        if self.stock:
            lines.append("a smaller network of the same class, which its configuration describes")
        of = f" of {self.held_out_rows:,} tokens" if self.held_out_rows > self.held_out else ""
        lines.append(f"all on {self.held_out:,} samples{of} that nothing was fitted on")
        return "\n".join(lines)

    @property
    def worst_output(self) -> tuple[int, float]:
        """The output that the new network explains least, and its share of variance explained."""
        return worst_of(torch.tensor(self.output_r2_each, dtype=torch.float64))


def linearize(
    model: nn.Module,
    x: Any,
    y: Tensor | None = None,
    *,
    blocks: str | Sequence[str],
    form: Form | str = "auto",
    rank: int | None = None,
    fold: bool = False,
    enlarge: bool = False,
    loss: Loss = None,
    score: Score | None = None,
    output: Output = None,
    tokenizer: Tokenizer | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Linearized:
    """A copy of the model with blocks replaced by the affine maps that fit them best on the data.

    Maps are fitted by streaming least squares. Blocks are replaced in the order given: each is
    fitted to the input that the blocks replaced before it give, with the original output as the
    target, so that errors do not accumulate. A span ``"layer.2:layer.5"`` (layers 2, 3 and 4, as in
    a Python slice) becomes one map.

    A map acts on every token separately, on large images and on signals ``(b, c, t)`` of networks
    with 1-D convolutions as a convolution, and else on the whole row. Its form is the one with the
    smallest error on samples that it was not fitted to, among the forms with fewer parameters or
    operations than the block; of forms within one percent, the smallest. A named block that no form
    makes smaller, such as an activation, gets the best form of all. A quarter of the samples is
    held out for the numbers in the result.

    With ``fold`` a span is removed, and its map goes into the last linear layer of the block before
    it: the result is a network of the same class with fewer blocks. In residual networks without a
    normalisation after the sum (pre-norm: GPT-2, Llama) that layer is fitted so that the stream
    best matches the one after the span; with one (post-norm: BERT), it is fitted before the
    normalisation.

    Args:
        model: the network; it is not changed.
        x: the data: a tensor, an array, a mapping, texts with a ``tokenizer``, or batches of these
            that can be read again.
        y: labels, for the cost in loss; without, those in the data.
        blocks: names of submodules (``model.named_modules()``), spans, or "all" for every block of
            the model's containers that is not affine by itself; blocks that cannot be replaced are
            then kept, with the reason.
        form: "auto", or one of "affine", "low rank", "identity + low rank", "diagonal", "depthwise"
            and "pointwise" (3 x 3 in each channel, 1 x 1 over the channels; 3 and 1 for signals).
        rank: of low-rank maps, which are then the only ones that are tried. Where a block's input
            and output have one shape, also the identity plus one of this rank is tried.
        fold: take the one span in ``blocks`` out, and fold its map into the block in front.
        enlarge: with "all", replace blocks also by maps with more parameters than they have, such
            as activations. Blocks that are named are always replaced, and the result has the
            parameters before and after.
        loss: as in :func:`audit`.
        score: a function of the new and the old outputs ``(n, O)`` that gives a number.
        output: what of the model's output counts, where it is more than a tensor: a key such as
            "logits", an index, or a function of it.
        tokenizer: of texts.
        batch_size: samples in a batch of data that come whole.
        seed: of the samples that are held out.
        progress: show progress on standard error: a bar on a terminal, else a line now and then.

    Raises:
        ConfigError: for a name that is no submodule, no names, an unknown form, or a rank below
        one.
        StructureError: if a block is not called once a pass, is read by more than its output, no
            map fits its shapes, or no layer takes a fold in; or for a ``ScriptModule``.
        InputError: if there are too few distinct samples.

    Reference: D. Shopkhoev et al., ReplaceMe: network simplification via depth pruning and
    transformer block linearization, NeurIPS 2025.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 2))
        >>> found = linearize(net, torch.randn(500, 4), blocks="1")
        >>> found.blocks[0].module, found.output_r2 > 0.5, found.parameters_before
        ('GELU', True, 114)
        >>> deep = nn.Sequential(*[nn.Linear(4, 4) for _ in range(5)])
        >>> smaller = linearize(deep, torch.randn(500, 4), blocks="1:4", fold=True)
        >>> len(smaller.model), round(smaller.output_r2, 3)
        (2, 1.0)
        >>> smaller.flops_before, smaller.flops_after
        (160, 64)
    """
    check_module(model)
    check_not_scripted(inner(model))
    items = _items(model, blocks)
    wanted = _wanted(form, rank, enlarge or blocks != "all")
    if fold and len(items) != 1:
        raise ConfigError(
            f"{len(items)} blocks or spans with fold=True",
            "one span",
            "Pass one span, such as 'layer.2:layer.5'.",
        )
    with evaluating(model), seeded(seed, devices=None):
        data = read_for(model, x, y, tokenizer, batch_size, output)
        portions = Portions(data, seed)
        if fold:
            name, found_span = next(iter(items.items()))
            span = span_of(model, name) if found_span is None else found_span
            with Progress("folding", 4, shown=progress) as display:
                folded = fold_into(model, portions, span, output, advance=display.advance)
            with evaluating(folded.model):
                done = (_of_fold(model, span, folded),)
                return _result(
                    model, folded.model, portions, done, (), loss, score, output, folded.stock
                )
        edited = copied(model)
        with evaluating(edited):
            found, kept = _replaced(
                model, edited, portions, items, wanted, output, blocks == "all", progress
            )
            return _result(model, edited, portions, found, kept, loss, score, output)


def _wanted(form: str, rank: int | None, enlarge: bool) -> Wanted:
    if rank is not None and (not isinstance(rank, int) or rank < 1):
        raise ConfigError(f"rank = {rank!r}", "a whole number, at least 1")
    if form not in ("auto", *FORMS):
        raise ConfigError(f"form = {form!r}", f"'auto' or one of {', '.join(map(repr, FORMS))}")
    return Wanted(form, rank, enlarge)


def _replaced(
    model: nn.Module,
    edited: nn.Module,
    portions: Portions,
    items: dict[str, Span | None],
    wanted: Wanted,
    output: Output,
    keeps: bool,
    progress: bool,
) -> tuple[tuple[Replaced, ...], tuple[Kept, ...]]:
    """Replace the blocks one by one; with ``keeps``, keep those that cannot be replaced."""
    done: list[Replaced] = []
    kept: list[Kept] = []
    with Progress("replacement of blocks", len(items), shown=progress) as display:
        work = Replacing(model, edited, portions, wanted, output, display.advance)
        for i, (name, span) in enumerate(items.items()):
            display.update(i, name)
            try:
                done.append(work.replace(name, [name] if span is None else span.names))
            except (StructureError, DtypeError) as error:
                if not keeps:
                    raise
                kept.append(Kept(name, type(inner(model).get_submodule(name)).__name__, error.got))
    return tuple(done), tuple(kept)


def _of_fold(model: nn.Module, span: Span, folded: FoldedNetwork) -> Replaced:
    targets = [inner(model).get_submodule(name) for name in span.names]
    return Replaced(
        str(span),
        type(targets[0]).__name__ if len(targets) == 1 else f"{len(targets)} blocks",
        f"folded into {folded.neighbour.layer} ({folded.neighbour.kind})",
        folded.r2,
        parameters_of(*targets),
        0,
        folded.worst_r2,
        folded.neighbour.layout,
        folded.folded.rows,
        folded.folded.matrix.shape[1],
        folded.folded.fitted_r2,
        too_few(folded.folded.rows, folded.folded.directions, folded.r2, folded.folded.fitted_r2),
    )


def _result(
    old: nn.Module,
    new: nn.Module,
    portions: Portions,
    done: tuple[Replaced, ...],
    kept: tuple[Kept, ...],
    loss: Loss,
    score: Score | None,
    output: Output,
    stock: bool | None = None,
) -> Linearized:
    """The new network compared with the old one on the test samples."""
    base, out = (outputs(net, portions.of("test"), output) for net in (old, new))
    costs = cost(out, base, loss, score)
    batch = first_of(portions.of("fit"))
    flops, flops_after = (flops_of(net, batch, (), output)[0] for net in (old, new))
    seconds = seconds_of((old, new), batch, output)
    losses, hits = costs.loss or (None, None), costs.accuracy or (None, None)
    return Linearized(
        model=new,
        blocks=done,
        output_r2=costs.r2,
        loss_before=losses[0],
        loss_after=losses[1],
        accuracy_before=hits[0],
        accuracy_after=hits[1],
        parameters_before=parameters_of(old),
        parameters_after=parameters_of(new),
        seconds_before=seconds[0],
        seconds_after=seconds[1],
        kept=kept,
        held_out=base.samples,
        output_r2_each=costs.r2_each,
        agreement=costs.agreement,
        flops_before=flops,
        flops_after=flops_after,
        score=costs.score,
        stock=stock,
        held_out_rows=len(base.rows),
    )


def read_for(
    model: nn.Module,
    x: Any,
    y: Any,
    tokenizer: Tokenizer | None,
    batch_size: int | None,
    output: Output,
) -> Batches:
    """The data as batches of a suitable size, on which the model was tried.

    Raises:
        InputError: for a model that is random, or lets samples of a batch act on each other.
    """
    rows = isinstance(x, Tensor) and x.is_floating_point() and x.ndim == 2
    size = batch_size or (ROWS_AT_ONCE if rows else SAMPLES_AT_ONCE)
    data = read_batches(x, model, y, tokenizer=tokenizer, batch_size=size)
    head = data.head(PROBED)
    alone = len(head.args) == 1 and not head.kwargs and head.main.is_floating_point()
    with torch.no_grad():
        out = inner(model)(head.main.clone()) if alone else None
    if isinstance(out, Tensor):
        as_network(model, head.main)
    else:
        check_steady(model, head, output)
    return data


def _items(model: nn.Module, blocks: str | Sequence[str]) -> dict[str, Span | None]:
    """Names of blocks, and spans by their names."""
    asked = [blocks] if isinstance(blocks, str) else list(blocks)
    if blocks == "all":
        net = inner(model)
        asked = [n for n in block_names(net) if not is_affine(net.get_submodule(n))]
    items: dict[str, Span | None] = {}
    for text in asked:
        if ":" in text:
            span = span_of(model, text)
            items[str(span)] = span
        else:
            items |= dict.fromkeys(check_names(model, text))
    if not items:
        raise ConfigError(
            "no blocks",
            "at least one",
            f"The model has {', '.join(block_names(model)[:8]) or 'none'}.",
        )
    names = [n for name, span in items.items() for n in ([name] if span is None else span.names)]
    for i, a in enumerate(names):
        for b in (*names[:i], *names[i + 1 :]):
            if b == a or b.startswith(f"{a}."):
                raise ConfigError(
                    f"block {b!r} inside block {a!r}",
                    "blocks side by side",
                    "Leave one of them out.",
                )
    return items
