"""Each layer of a network of tokens: an affine map in its place, and the layer left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rectilinear.analysis.blocks_and_jacobians import few_rows_note, rows_of_fit
from rectilinear.analysis.measure import Measure, ratio
from rectilinear.analysis.token_subject import TokenSubject
from rectilinear.maps.blocks import (
    Call,
    check_names,
    is_affine,
    r2_each,
    replaced,
    watching,
    worst_of,
)
from rectilinear.maps.map_forms import RIDGES
from rectilinear.networks.batches import Batch
from rectilinear.networks.forward_pass import forward
from rectilinear.networks.places import block_names, named_parts
from rectilinear.networks.sample_split import sums_by_sample
from rectilinear.networks.token_vectors import Layout, on_vectors, vectors
from rectilinear.numerics import Fit, Moments

NAME = "blocks"
MAX_BLOCKS = 64  # blocks that are measured
JUDGED_SAMPLES = 128  # held-out samples on which each block is judged
BUDGET = 3e10  # products that go into the fit of one block
LEAST = 1e-300


class _Block:
    """Streaming least squares of one block, on the vectors of its calls."""

    def __init__(self, x: Tensor, out: Tensor) -> None:
        self.layout: Layout = "rows" if x.ndim == 2 else "tokens"
        self.residual = x.shape == out.shape
        self.moments = Moments(computed=True)
        self._budget = BUDGET

    def add(self, call: Call, batch: Batch) -> None:
        if self._budget < 0:
            return
        x, out = (self.rows(value, batch)[0] for value in (call.x, call.out))
        self.moments.add(x, out)
        self._budget -= x.numel() * x.shape[1]

    def rows(self, value: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The vectors of a value, and their samples."""
        mask = batch.mask if self.layout == "tokens" else None
        found = vectors(value, mask, self.layout)
        return found.rows, found.samples


def block_replacement(subject: TokenSubject) -> Measure:
    """The smallest held-out R^2 of an affine map of tokens in place of a block; in details each.

    For each block: how much of its output and of what it adds to the stream the map explains, and
    how much of the network's output stays with the map in its place, and without the block.
    """
    model, parts = subject.model, dict(named_parts(subject.model))
    asked = subject.blocks
    names = check_names(model, asked) if asked else block_names(model)
    modules = {n: parts[n] for n in names if not is_affine(parts[n])}
    modules = dict(list(modules.items())[:MAX_BLOCKS])
    if not modules:
        return Measure.missing(NAME, "no module that is not affine by itself")
    blocks, refused = _fitted(subject, modules)
    table: list[dict[str, Any]] = []
    intervals: dict[str, tuple[float, float] | None] = {}
    for name, block in blocks.items():
        row, intervals[name] = _judged(subject, name, modules[name], block)
        table.append(row)
    if not table:
        return Measure.missing(NAME, "; ".join(f"{n}: {reason}" for n, reason in refused.items()))
    least = min(table, key=lambda row: row["r2"])
    note = (
        f"least held-out R² of an affine map of tokens, at block '{least['name']}' "
        f"({len(table)} measured){few_rows_note(table)}"
    )
    details = {"blocks": table, "refused": refused}
    return Measure(NAME, least["r2"], "estimated", intervals[least["name"]], note, details)


def _fitted(
    subject: TokenSubject, modules: Mapping[str, nn.Module]
) -> tuple[dict[str, _Block], dict[str, str]]:
    """The fits of all blocks in one pass over the samples that are not held out."""
    blocks: dict[str, _Block] = {}
    refused: dict[str, str] = {}
    for batch in subject.batches:
        part = batch.take(~subject.split(batch))
        if not len(part):
            continue
        with watching(modules) as seen:
            forward(subject.model, part, output=subject.output)
        for name, calls in seen.items():
            if name in refused:
                continue
            if reason := _unfit(calls, part):
                refused[name] = reason
                blocks.pop(name, None)
                continue
            blocks.setdefault(name, _Block(calls[0].x, calls[0].out)).add(calls[0], part)
    return blocks, refused


def _unfit(calls: list[Call], batch: Batch) -> str:
    """The reason why no map of vectors can replace a block; None if one can."""
    if not calls:
        return "not called with a floating-point tensor, such as embeddings, which take ids"
    if len(calls) > 1:
        return f"called {len(calls)} times a pass: an affine map takes the place of one call"
    x, out, _ = calls[0]
    if x.ndim not in (2, 3) or x.shape[:-1] != out.shape[:-1]:
        return f"from {tuple(x.shape[1:])} to {tuple(out.shape[1:])}: not vector by vector"
    if x.ndim == 3 and batch.mask is not None and x.shape[:2] != batch.mask.shape:
        return f"{x.shape[1]} vectors for {batch.mask.shape[1]} tokens"
    return ""


def _judged(
    subject: TokenSubject, name: str, module: nn.Module, block: _Block
) -> tuple[dict[str, Any], tuple[float, float] | None]:
    """The shares on held-out samples: explained by the map, and of the output that remains."""
    fit = block.moments.fit()
    stand_in = _stand_in(fit, block.layout)
    left, total, found, wanted, outs, after, without = [], [], [], [], [], [], []
    judged = 0
    for p in subject.passes(held_out=True):
        if judged >= JUDGED_SAMPLES:
            break
        judged += len(p.batch)
        with watching({name: module}) as seen, replaced(module, stand_in):
            out = forward(subject.model, p.batch, output=subject.output).out
        (call,) = seen[name]
        target, samples = block.rows(call.out, p.batch)
        made, _ = block.rows(stand_in(call.x), p.batch)
        apart = (target.double() - made.double()).square().sum(1)
        deviation = (target.double() - fit.mean_t).square().sum(1)
        left.append(sums_by_sample(apart, samples, len(p.batch)))
        total.append(sums_by_sample(deviation, samples, len(p.batch)))
        found.append(made)
        wanted.append(target)
        outs.append(p.out)
        after.append(subject.outputs(out, p.batch)[0])
        if block.residual:
            with replaced(module, lambda x: x):
                out = forward(subject.model, p.batch, output=subject.output).out
            without.append(subject.outputs(out, p.batch)[0])
    missed, interval = ratio(torch.cat(left), torch.cat(total), subject.seed)
    base = torch.cat(outs).double()
    row = {
        "name": name,
        "module": type(module).__name__,
        "form": block.layout,
        "r2": 1 - missed,
        "worst_r2": worst_of(r2_each(torch.cat(found), torch.cat(wanted)))[1],
        "linearity_score": fit.r2,
        "procrustes": block.moments.procrustes(),
        "update_r2": block.moments.update_r2(fit) if block.residual else None,
        "output_r2": _kept(torch.cat(after), base),
        "worst_output_r2": worst_of(r2_each(torch.cat(after), base))[1],
        "deleted_output_r2": _kept(torch.cat(without), base) if without else None,
        **rows_of_fit(fit, 1 - missed),
    }
    ends = None if interval is None else (1 - interval[1], 1 - interval[0])
    return row, ends


def _stand_in(fit: Fit, layout: Layout) -> Callable[[Tensor], Tensor]:
    matrix = fit.damped(fit.ridge_by_gcv(RIDGES))

    def mapped(rows: Tensor) -> Tensor:
        return (rows.double() - fit.mean_x) @ matrix.mT + fit.mean_t

    def stand_in(x: Tensor) -> Tensor:
        return on_vectors(lambda v: mapped(v).to(x), x, layout)

    return stand_in


def _kept(found: Tensor, wanted: Tensor) -> float:
    """The share of the variance of the output that stays."""
    left = (found.double() - wanted).square().sum()
    return 1 - float(left / (wanted - wanted.mean(0)).square().sum().clamp_min(LEAST))
