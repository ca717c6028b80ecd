"""Blocks of a network replaced by the best affine maps, and what that costs."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from rectilinear.audit import data as points
from rectilinear.audit.affine_block import BlockMoments, Shapes
from rectilinear.audit.blocks import block_names, is_affine, shapes_of, watching
from rectilinear.audit.network import as_network, check_module, evaluating, uncompiled
from rectilinear.audit.progress import progress_of
from rectilinear.audit.task import task_for
from rectilinear.errors import ConfigError, StructureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor, nn

    from rectilinear.audit.network import Network
    from rectilinear.audit.task import Task

BUDGET = 3e11  # products that go into the fit of one block: some ten seconds
BATCH, REPEATS = 256, 3


@dataclass(frozen=True)
class Replaced:
    """One block that was replaced, and how much of its output the affine map explains where it was fitted."""

    name: str
    module: str
    form: str
    r2: float
    parameters_before: int
    parameters_after: int


@dataclass(frozen=True, eq=False)
class Linearized:
    """A network with affine blocks, and what they cost.

    Attributes:
        model: the new network.
        blocks: what was replaced.
        output_r2: how much of the old output's variance the new one explains.
        loss_before: the loss on the data, None without labels.
        loss_after: the same of the new network.
        accuracy_before: the accuracy, None without classes.
        accuracy_after: the same of the new network.
        parameters_before: of the whole network.
        parameters_after: the same of the new one.
        seconds_before: to run a batch.
        seconds_after: the same of the new network.
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

    def __str__(self) -> str:
        lines = [f"{b.name} ({b.module}) -> affine on {b.form}, R² {b.r2:.4g}" for b in self.blocks]
        lines.append(f"output R² {self.output_r2:.4g}")
        if self.loss_before is not None:
            lines.append(f"loss {self.loss_before:.4g} -> {self.loss_after:.4g}")
        if self.accuracy_before is not None:
            lines.append(f"accuracy {self.accuracy_before:.4g} -> {self.accuracy_after:.4g}")
        lines.append(f"parameters {self.parameters_before:,} -> {self.parameters_after:,}")
        lines.append(f"seconds a batch {self.seconds_before:.2g} -> {self.seconds_after:.2g}")
        return "\n".join(lines)


def linearize(
    model: nn.Module,
    x: Tensor | Iterable[Any],
    y: Tensor | None = None,
    *,
    blocks: str | Sequence[str],
    rank: int | None = None,
    loss: str | Callable[[Tensor, Tensor], Tensor] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Linearized:
    """A copy of the model in which blocks are replaced by the best affine maps on the data, by streaming least squares.

    Blocks are replaced in the order given, from the input on: each is fitted to what the blocks replaced before it
    leave as its input, with the original output as the target, so that errors do not pile up. Sequences of tokens
    get one map for all tokens, large images a convolution of 3 x 3, everything else a matrix.

    Args:
        model: the network; it is not changed.
        x: rows, or an iterable of batches ``x`` or ``(x, y)`` that can be read again.
        y: labels, for the cost in loss.
        blocks: names of submodules (``model.named_modules()``), or "all" for every block of the model's containers
            that is not affine by itself.
        rank: of the maps; full by default.
        loss: as in :func:`audit`.
        seed: of the sample on which the cost is measured.
        progress: show progress on standard error, where that is a terminal.

    Raises:
        ConfigError: for a name that is no submodule, no names, or a rank below one.
        StructureError: if a block is not called once a pass, or no affine map fits its shapes.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 2))
        >>> found = linearize(net, torch.randn(500, 4), blocks="1")
        >>> found.blocks[0].module, found.output_r2 > 0.5
        ('GELU', True)
    """
    check_module(model)
    model = uncompiled(model)
    names = _names(model, blocks)
    if rank is not None and rank < 1:
        raise ConfigError(f"rank = {rank}", "at least 1")
    edited = deepcopy(model)
    with evaluating(model), evaluating(edited), torch.random.fork_rng():
        torch.manual_seed(seed)
        data = points.read(x, y, seed)
        old, new = as_network(model, data.sample), as_network(edited, data.sample)
        task = None if data.labels is None else task_for(data.labels, old.out_dim, loss)
        with progress_of(progress, total=len(names)) as advance:
            done = []
            for name in names:
                advance(name)
                done.append(_replace(old, new, name, data, rank))
        base, out = _outputs(old, data.sample), _outputs(new, data.sample)
        variance = (base - base.mean(0)).square().sum()
        r2 = 1 - float((out - base).square().sum() / variance) if float(variance) else 1.0
        before, after = (_score(task, f, data.sample_labels) for f in (base, out))
        batch = old.rows(data.sample[:BATCH])
        return Linearized(
            edited,
            tuple(done),
            r2,
            before[0],
            after[0],
            before[1],
            after[1],
            sum(p.numel() for p in model.parameters()),
            sum(p.numel() for p in edited.parameters()),
            _seconds(old, batch),
            _seconds(new, batch),
        )


def _names(model: nn.Module, blocks: str | Sequence[str]) -> list[str]:
    if blocks == "all":
        names = [n for n in block_names(model) if not is_affine(model.get_submodule(n))]
    else:
        names = [blocks] if isinstance(blocks, str) else list(blocks)
    known = dict(model.named_modules())
    if unknown := [n for n in names if n not in known or not n]:
        raise ConfigError(
            f"no block named {', '.join(map(repr, unknown))}", f"names such as {', '.join(block_names(model)[:8])}"
        )
    if not names:
        raise ConfigError("no blocks", "at least one", f"The model has {', '.join(block_names(model)[:8]) or 'none'}.")
    if nested := [(a, b) for a in names for b in names if a != b and b.startswith(f"{a}.")]:
        raise ConfigError(f"block {nested[0][1]!r} inside block {nested[0][0]!r}", "blocks side by side")
    return list(dict.fromkeys(names))


def _replace(old: Network, new: Network, name: str, data: points.Data, rank: int | None) -> Replaced:
    """Fit one block of ``new`` to the outputs of ``old`` and put the affine map in its place."""
    source, target = new.model.get_submodule(name), old.model.get_submodule(name)
    moments: BlockMoments | None = None
    for x, _ in data.batches():
        for rows in x.split(BATCH):
            with watching({name: source}) as inside, watching({name: target}) as outside:
                new(rows)
                old(rows)
            shapes: Shapes = shapes_of(outside[name])
            if len(inside[name]) != 1:
                raise StructureError("a block that is not called once a pass", "one call")
            moments = BlockMoments(shapes, BUDGET) if moments is None else moments
            moments.add(inside[name][0][0], outside[name][0][1])
    assert moments is not None
    stand_in = moments.solve(old.like, rank).standing_in_for(target).plain().eval()
    parent, _, last = name.rpartition(".")
    new.model.get_submodule(parent)._modules[last] = stand_in
    before, after = (sum(p.numel() for p in m.parameters()) for m in (target, stand_in))
    return Replaced(name, type(target).__name__, moments.shapes.form, moments.score().r2, before, after)


def _outputs(network: Network, x: Tensor) -> Tensor:
    return torch.cat([network(rows) for rows in x.split(BATCH)])


def _score(task: Task | None, out: Tensor, y: Tensor | None) -> tuple[float | None, float | None]:
    if task is None or y is None:
        return None, None
    hits = task.hits(out, y)
    return float(task.losses(out, y).mean()), None if hits is None else float(hits.double().mean())


def _seconds(network: Network, batch: Tensor) -> float:
    """The fastest of some runs."""
    times = []
    for _ in range(REPEATS):
        start = perf_counter()
        network(batch)
        if batch.is_cuda:
            torch.cuda.synchronize(batch.device)
        times.append(perf_counter() - start)
    return min(times)
