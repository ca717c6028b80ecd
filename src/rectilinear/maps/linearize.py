"""Blocks of a network replaced by the best affine maps, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from rectilinear.errors import ConfigError, StructureError
from rectilinear.maps.affine_block import BlockMoments, Shapes
from rectilinear.maps.blocks import (
    Call,
    block_names,
    check_alone,
    check_names,
    is_affine,
    r2_each,
    replaced,
    shapes_of,
    watching,
    worst_of,
)
from rectilinear.networks import data as points
from rectilinear.networks.calls import (
    Network,
    as_network,
    check_module,
    check_not_scripted,
    copied,
    evaluating,
    parts,
    progress_of,
    uncompiled,
)
from rectilinear.networks.data import HeldOut, Task, task_for
from rectilinear.random import seeded

BUDGET = 3e11  # products that go into the fit of one block: some ten seconds
BATCH, REPEATS = 256, 3


@dataclass(frozen=True)
class Replaced:
    """One block that was replaced.

    Attributes:
        name: of the submodule.
        module: its class.
        form: "rows", "tokens" or "convolution", with "identity + " before it where that is added to
            the map.
        r2: how much of the variance of the block's output the map that was put in explains, on
            held-out rows.
        parameters_before: of the block.
        parameters_after: of the map.
        worst_r2: the least share of one number of the block's output, or of one channel: large ones
            outweigh small ones in ``r2``.
    """

    name: str
    module: str
    form: str
    r2: float
    parameters_before: int
    parameters_after: int
    worst_r2: float = float("nan")

    def __str__(self) -> str:
        count = f"parameters {self.parameters_before:,} -> {self.parameters_after:,}"
        r2 = f"R² {self.r2:.4g} (of one output at least {self.worst_r2:.4g})"
        return f"{self.name} ({self.module}) -> affine on {self.form}, {r2}, {count}"


@dataclass(frozen=True)
class Kept:
    """One block that was left as it is, and why."""

    name: str
    module: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.module}) kept: {self.reason}"


@dataclass(frozen=True, eq=False)
class Linearized:
    """A network with affine blocks, and what they cost on rows that they were not fitted on.

    Attributes:
        model: the new network.
        blocks: what was replaced.
        output_r2: how much of the old output's variance the new one explains, of all outputs
            together: large ones outweigh small ones.
        loss_before: the loss on the data, None without labels.
        loss_after: the same of the new network.
        accuracy_before: the accuracy, None without classes.
        accuracy_after: the same of the new network.
        parameters_before: of the whole network.
        parameters_after: the same of the new one.
        seconds_before: to run a batch.
        seconds_after: the same of the new network.
        kept: the blocks that ``blocks="all"`` left as they are.
        held_out: how many rows the costs were measured on.
        output_r2_each: how much of each output's variance it explains, ``(O,)``; NaN where it is
            constant.
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

    def __str__(self) -> str:
        lines = [*map(str, self.blocks), *map(str, self.kept)]
        lines.append(f"output R² {self.output_r2:.4g}")
        if len(self.output_r2_each) > 1:
            worst, share = self.worst_output
            lines[-1] += f", of output {worst} {share:.4g}"
        if self.loss_before is not None:
            lines.append(f"loss {self.loss_before:.4g} -> {self.loss_after:.4g}")
        if self.accuracy_before is not None:
            lines.append(f"accuracy {self.accuracy_before:.4g} -> {self.accuracy_after:.4g}")
        larger = " (larger)" if self.parameters_after > self.parameters_before else ""
        lines.append(f"parameters {self.parameters_before:,} -> {self.parameters_after:,}{larger}")
        lines.append(f"seconds a batch {self.seconds_before:.2g} -> {self.seconds_after:.2g}")
        lines.append(f"all on {self.held_out:,} rows that nothing was fitted on")
        return "\n".join(lines)

    @property
    def worst_output(self) -> tuple[int, float]:
        """The output of which the new network explains the least, and how much of its variance."""
        return worst_of(torch.tensor(self.output_r2_each, dtype=torch.float64))


def linearize(
    model: nn.Module,
    x: Tensor | Iterable[Any],
    y: Tensor | None = None,
    *,
    blocks: str | Sequence[str],
    rank: int | None = None,
    enlarge: bool = False,
    loss: str | Callable[[Tensor, Tensor], Tensor] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Linearized:
    """A copy of the model with blocks replaced by the affine maps that fit them best on the data.

    The maps are fitted by streaming least squares.

    Blocks are replaced in the order given, from the input on: each is fitted to what the blocks
    replaced before it leave as its input, with the original output as the target, so that errors do
    not pile up. Sequences of tokens get one map for all tokens, large images a convolution of 3 x
    3, everything else a matrix. A quarter of the rows is
    held out: every R², loss and accuracy is that of the maps that were put in, on rows that they
    were not fitted on.

    Args:
        model: the network; it is not changed.
        x: rows, or an iterable of batches ``x`` or ``(x, y)`` that can be read again.
        y: labels, for the cost in loss.
        blocks: names of submodules (``model.named_modules()``), or "all" for every block of the
            model's containers that is not affine by itself; blocks that cannot be replaced are then
            kept, with the reason.
        rank: of the maps; full by default. Where a block's input and output have one shape, the map
            is the identity plus one of this rank, if that is nearer than one of this rank alone.
        enlarge: with "all", replace blocks also by maps with more parameters than they have, such
            as activations. Blocks that are named are always replaced, and the result has the
            parameters before and after.
        loss: as in :func:`audit`.
        seed: of the rows that are held out and of the sample on which the cost is measured.
        progress: show progress on standard error, where that is a terminal.

    Raises:
        ConfigError: for a name that is no submodule, no names, or a rank below one.
        StructureError: if a block is not called once a pass, is read by more than its output, or no
            affine map fits its shapes; or for a ``ScriptModule``.
        InputError: if there are too few distinct rows.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 2))
        >>> found = linearize(net, torch.randn(500, 4), blocks="1")
        >>> found.blocks[0].module, found.output_r2 > 0.5, found.parameters_before, found.parameters_after
        ('GELU', True, 114, 386)
    """
    check_module(model)
    model = uncompiled(model)
    check_not_scripted(model)
    names = _names(model, blocks)
    if rank is not None and (not isinstance(rank, int) or rank < 1):
        raise ConfigError(f"rank = {rank!r}", "a whole number, at least 1")
    edited = copied(model)
    with evaluating(model), evaluating(edited), seeded(seed, devices=None):
        data = points.read(x, y, seed)
        held = HeldOut.of(data.sample, seed)
        old, new = as_network(model, data.sample), as_network(edited, data.sample)
        task = None if data.labels is None else task_for(data.labels, old.out_dim, loss)
        work = _Replacing(old, new, data, held, rank, enlarge or blocks != "all")
        done: list[Replaced] = []
        kept: list[Kept] = []
        with progress_of(progress, total=len(names)) as advance:
            for name in names:
                advance(name)
                try:
                    done.append(work.replace(name))
                except StructureError as error:
                    if blocks != "all":
                        raise
                    kept.append(Kept(name, type(old.model.get_submodule(name)).__name__, error.got))
        base, out = _outputs(old, work.test), _outputs(new, work.test)
        y = (
            None
            if data.sample_labels is None
            else data.sample_labels[work.held.to(data.sample_labels.device)]
        )
        before, after = (_score(task, f, y) for f in (base, out))
        batch = old.rows(data.sample[:BATCH])
        return Linearized(
            edited,
            tuple(done),
            _r2(out, base),
            before[0],
            after[0],
            before[1],
            after[1],
            sum(p.numel() for p in model.parameters()),
            sum(p.numel() for p in edited.parameters()),
            _seconds(old, batch),
            _seconds(new, batch),
            tuple(kept),
            len(work.test),
            tuple(r2_each(out, base).tolist()),
        )


def _names(model: nn.Module, blocks: str | Sequence[str]) -> list[str]:
    if blocks == "all":
        names = [n for n in block_names(model) if not is_affine(model.get_submodule(n))]
    else:
        names = check_names(model, blocks)
    if not names:
        raise ConfigError(
            "no blocks",
            "at least one",
            f"The model has {', '.join(block_names(model)[:8]) or 'none'}.",
        )
    if nested := [(a, b) for a in names for b in names if a != b and b.startswith(f"{a}.")]:
        raise ConfigError(
            f"block {nested[0][1]!r} inside block {nested[0][0]!r}", "blocks side by side"
        )
    return names


class _Replacing:
    """Blocks of ``new`` replaced one by one by maps to the outputs of ``old``."""

    def __init__(
        self,
        old: Network,
        new: Network,
        data: points.Data,
        held: HeldOut,
        rank: int | None,
        enlarge: bool,
    ) -> None:
        self.old, self.new, self.rank, self.enlarge = old, new, rank, enlarge
        self._data, self._rule = data, held
        self.held = held(data.sample)
        self.test = data.sample[self.held]

    def replace(self, name: str) -> Replaced:
        """Fit one block and put the map in its place, in every container that holds it."""
        source, target = self.new.model.get_submodule(name), self.old.model.get_submodule(name)
        moments = self._fit(source, target)
        block = moments.solve(self.old.like, self.rank).standing_in_for(target)
        form = f"identity + {moments.shapes.form}" if block.identity else moments.shapes.form
        stand_in = block.plain().eval()
        self._check(source, stand_in)
        r2, worst = self._judge(source, target, stand_in, moments.shapes)
        _exchange(self.new.model, source, stand_in)
        before, after = (sum(p.numel() for p in m.parameters()) for m in (target, stand_in))
        return Replaced(name, type(target).__name__, form, r2, before, after, worst)

    def _fit(self, source: nn.Module, target: nn.Module) -> BlockMoments:
        moments: BlockMoments | None = None
        for rows in self._fitting_rows():
            x, out, changed = self._both(source, target, rows)
            if moments is None:
                moments = BlockMoments(shapes_of([Call(x, out, changed)]), BUDGET)
                if changed:
                    check_alone(self.old, target, rows)
                size, has = (
                    moments.shapes.numbers(self.rank),
                    sum(p.numel() for p in target.parameters()),
                )
                if size > has and not self.enlarge:
                    raise StructureError(
                        f"a map of {size:,} parameters for a block of {has:,}",
                        "a smaller one",
                        "Pass enlarge=True.",
                    )
            moments.add(x, out)
        assert moments is not None
        return moments

    def _fitting_rows(self) -> Iterator[Tensor]:
        """All rows that are not held out, some at a time."""
        left: Tensor | None = None
        for x, _ in self._data.batches():
            rows = x[~self._rule(x)]
            rows = rows if left is None else torch.cat([left, rows])
            left = rows if len(rows) < 2 else None
            if left is None:
                yield from parts(rows, BATCH)
        if left is not None and len(left):
            yield left

    def _both(self, source: nn.Module, target: nn.Module, rows: Tensor) -> Call:
        """The input of the block in the new network, and its output in the old one."""
        with watching({"": source}) as inside, watching({"": target}) as outside:
            self.new(rows)
            self.old(rows)
        for calls in (outside[""], inside[""]):
            shapes_of(calls)
        return Call(inside[""][0].x, outside[""][0].out, outside[""][0].changed)

    def _check(self, source: nn.Module, stand_in: nn.Module) -> None:
        """Raise unless exchanging the block does what exchanging its output does."""
        rows = self.test[:BATCH]
        with replaced(source, stand_in):
            wanted = self.new(rows)
        _exchange(self.new.model, source, stand_in)
        try:
            found = self.new(rows)
        except (AttributeError, RuntimeError, TypeError, ValueError, IndexError) as error:
            raise StructureError(
                f"a network that reads more of the block than its output: {str(error).splitlines()[0]}",
                "a block that is called and nothing else",
            ) from error
        finally:
            _exchange(self.new.model, stand_in, source)
        if not torch.allclose(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max())):
            raise StructureError(
                "a network that reads more of the block than its output, such as its weight, or holds it elsewhere",
                "a block that is called and nothing else",
            )

    def _judge(
        self, source: nn.Module, target: nn.Module, stand_in: nn.Module, shapes: Shapes
    ) -> tuple[float, float]:
        """The shares of the variance of the whole output and of its worst number or channel."""
        calls = [self._both(source, target, rows) for rows in parts(self.test, BATCH)]
        with torch.no_grad():
            found = torch.cat([stand_in(call.x) for call in calls])
        wanted = torch.cat([call.out for call in calls])
        return _r2(found, wanted), worst_of(r2_each(shapes.targets(found), shapes.targets(wanted)))[
            1
        ]


def _exchange(model: nn.Module, module: nn.Module, other: nn.Module) -> None:
    """Put ``other`` wherever ``module`` is registered."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is module:
                parent._modules[name] = other


def _r2(found: Tensor, wanted: Tensor) -> float:
    """The share of the variance of ``wanted`` over rows; of a constant 1 where it is met up to
    rounding, else -inf.
    """
    found, wanted = found.double(), wanted.double()
    left, total = (found - wanted).square().sum(), (wanted - wanted.mean(0)).square().sum()
    rounding = (1e3 * torch.finfo(torch.float32).eps) ** 2 * float(wanted.square().sum())
    if float(total) > 0:
        return 1 - float(left / total)
    return 1.0 if float(left) <= rounding else -float("inf")


def _outputs(network: Network, x: Tensor) -> Tensor:
    return torch.cat([network(rows) for rows in parts(x, BATCH)])


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
