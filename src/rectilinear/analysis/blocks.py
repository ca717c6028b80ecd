"""What it costs to replace each block of a network by one affine map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rectilinear.analysis.measure import Measure, ratio
from rectilinear.analysis.subject import Subject
from rectilinear.maps.affine_block import AffineBlock, Shapes
from rectilinear.maps.blocks import (
    BATCH,
    block_names,
    check_names,
    fit_blocks,
    is_affine,
    r2_each,
    replaced,
    watching,
    worst_of,
)
from rectilinear.networks.calls import is_scripted, parts
from rectilinear.networks.data import repeated

ROWS = 2048
MOST = 64  # blocks that are measured


def blocks(subject: Subject, names: list[str] | None = None) -> Measure:
    """The smallest held-out R^2 of an affine stand-in, over the blocks; in the details each block.

    Fitted on one half of the sample and judged on the other: how much of the block's output it
    explains, how much of the network's output then stays, and what that does to the loss.
    """
    network, name = subject.network, "blocks"
    model = network.model
    chosen = check_names(model, names) if names else block_names(model)
    modules = dict(model.named_modules())
    chosen = [n for n in chosen if not is_affine(modules[n])][:MOST]
    if not chosen:
        if is_scripted(model):
            return Measure.missing(name, "a ScriptModule, whose parts cannot be watched")
        return Measure.missing(
            name, "no module that is not affine by itself" if block_names(model) else "one module"
        )
    modules = {n: modules[n] for n in chosen}
    x = subject.columns(ROWS)
    half = len(x) // 2
    labels = subject.column_labels(ROWS)
    apart = ~repeated(x[half:], x[:half])
    train, test = x[:half], x[half:][apart]
    if min(len(train), len(test)) < 2:
        return Measure.missing(
            name, f"{len(x)} rows" if len(x) < 4 else "rows that repeat each other"
        )
    moments, refused = fit_blocks(network, modules, train)
    table: list[dict[str, Any]] = []
    worst: tuple[float, tuple[float, float] | None] | None = None
    base = network(test)
    for block, gathered in moments.items():
        stand_in = gathered.solve(network.like)
        score = gathered.score()
        left, total, each = _judge(network, modules[block], stand_in, gathered.shapes, test)
        missed, interval = ratio(left, total, subject.seed)
        with replaced(modules[block], stand_in):
            out = network(test)
        row = {
            "name": block,
            "module": type(modules[block]).__name__,
            "form": gathered.shapes.form,
            "r2": 1 - missed,
            "worst_r2": worst_of(each)[1],
            "linearity_score": score.r2,
            "procrustes": score.procrustes,
            "update_r2": score.update_r2,
            "output_r2": 1
            - float(
                (out - base).square().sum() / (base - base.mean(0)).square().sum().clamp_min(1e-300)
            ),
            "worst_output_r2": worst_of(r2_each(out, base))[1],
        }
        if subject.task is not None and labels is not None:
            y = labels[half:][apart.to(labels.device)]
            row |= {
                "loss": float(subject.task.losses(base, y).mean()),
                "loss_after": float(subject.task.losses(out, y).mean()),
            }
            if (hits := subject.task.hits(out, y)) is not None:
                row["accuracy_after"] = float(hits.double().mean())
        table.append(row)
        if worst is None or 1 - missed < worst[0]:
            worst = 1 - missed, None if interval is None else (1 - interval[1], 1 - interval[0])
    if worst is None:
        return Measure.missing(name, "; ".join(f"{n}: {reason}" for n, reason in refused.items()))
    least = min(table, key=lambda row: row["r2"])["name"]
    note = f"least held-out R² of an affine stand-in, at block '{least}' ({len(table)} measured)"
    return Measure(
        name, worst[0], "estimated", worst[1], note, {"blocks": table, "refused": refused}
    )


def _judge(
    network: Any, module: nn.Module, stand_in: AffineBlock, shapes: Shapes, x: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Squared errors of the stand-in and squared deviations from the mean for held-out rows,
    ``(b,)`` each.

    And the share of the variance of each number of the block's output, or of each channel.
    """
    made, outs = [], []
    for batch in parts(x, BATCH):
        with watching({"block": module}) as seen:
            network(batch)
        inside, out, _ = seen["block"][0]
        with torch.no_grad():
            made.append(shapes.targets(stand_in(inside)))
        outs.append(shapes.targets(out))
    found, wanted = torch.cat(made), torch.cat(outs)
    apart, deviations = (found - wanted).double(), wanted.double() - wanted.double().mean(0)
    rows = tuple(t.reshape(len(x), -1).square().sum(1) for t in (apart, deviations))
    return rows[0], rows[1], r2_each(found, wanted)
