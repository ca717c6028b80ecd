"""Linearity in parts: affine maps in place of single blocks, and Jacobians at several points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rectilinear.analysis.measure import Measure, Subject, ratio
from rectilinear.maps.affine_block import Shapes
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
from rectilinear.maps.held_out_r2 import too_few
from rectilinear.maps.local_map import LocalMap, differentiating
from rectilinear.maps.map_forms import RIDGES, module_of
from rectilinear.networks.data import repeated
from rectilinear.networks.network import Network, is_scripted, parts
from rectilinear.networks.places import named_parts
from rectilinear.numerics import Fit
from rectilinear.operators import to_dense
from rectilinear.random import stream

BLOCK_ROWS = 2048  # rows on which blocks are fitted and judged, one half each
MAX_BLOCKS = 64  # blocks that are measured
JACOBIAN_POINTS = 64  # points at which Jacobians are compared
LARGE = 4096  # numbers of an input above which Jacobians are compared at fewer points
LARGE_POINTS = 16
DIRECTIONS = 8  # random directions that stand for more outputs
SPECTRUM_POINTS, SPECTRUM_VALUES = (
    3,
    8,
)  # points of which singular values are reported, and how many


def block_replacement(subject: Subject) -> Measure:
    """The smallest held-out R² of an affine map in place of a block; details for every block.

    Fitted on one half of the sample, tested on the other: the share of the block's output that the
    map explains, the share of the network's output that remains, and the effect on the loss.
    """
    network, name, names = subject.network, "blocks", subject.settings.blocks
    model = network.model
    chosen = check_names(model, names) if names else block_names(model)
    modules = dict(named_parts(model))
    chosen = [n for n in chosen if not is_affine(modules[n])][:MAX_BLOCKS]
    if not chosen:
        if is_scripted(model):
            return Measure.missing(name, "a ScriptModule, whose parts cannot be watched")
        return Measure.missing(
            name, "no module that is not affine by itself" if block_names(model) else "one module"
        )
    modules = {n: modules[n] for n in chosen}
    x = subject.columns(BLOCK_ROWS)
    half = len(x) // 2
    labels = subject.column_labels(BLOCK_ROWS)
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
        ridge = gathered.fit.ridge_by_gcv(RIDGES)
        affine = gathered.fitted("affine", ridge=ridge)
        stand_in = module_of(affine, gathered.shapes, network.like)
        score = gathered.score()
        judged, out = _judge(network, modules[block], stand_in, gathered.shapes, test)
        left, total, each = judged
        missed, interval = ratio(left, total, subject.seed)
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
        row |= rows_of_fit(gathered.fit, 1 - missed)
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
    note = f"least held-out R² of an affine map in its place, at block '{least}' of {len(table)}"
    note += few_rows_note(table)
    return Measure(
        name, worst[0], "estimated", worst[1], note, {"blocks": table, "refused": refused}
    )


def rows_of_fit(fit: Fit, r2: float) -> dict[str, Any]:
    """The number of vectors that a block's map was fitted to, and whether these are too few."""
    return {"rows": fit.n, "few_rows": too_few(fit.n, len(fit.s), r2, fit.r2)}


def few_rows_note(table: Sequence[Mapping[str, Any]]) -> str:
    """The end of a note on blocks with too few rows; empty without one.

    Example:
        >>> few_rows_note([{"name": "0", "few_rows": True}, {"name": "1", "few_rows": False}])
        '; too few rows to tell at 0'
    """
    few = [row["name"] for row in table if row["few_rows"]]
    return f"; too few rows to tell at {', '.join(few)}" if few else ""


def _judge(
    network: Network, module: nn.Module, stand_in: nn.Module, shapes: Shapes, x: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """The residuals of the affine map on held-out rows, and the output with it in place.

    Residuals are squared errors and squared deviations from the mean, ``(b,)`` each, and the share
    of variance of each entry, or channel, of the block's output.
    """
    made, outs, after = [], [], []
    for batch in parts(x, BATCH):
        with watching({"block": module}) as seen, replaced(module, stand_in):
            after.append(network(batch))
        inside, out, _ = seen["block"][0]
        with torch.no_grad():
            made.append(shapes.targets(stand_in(inside)))
        outs.append(shapes.targets(out))
    found, wanted = torch.cat(made), torch.cat(outs)
    apart, deviations = (found - wanted).double(), wanted.double() - wanted.double().mean(0)
    rows = tuple(t.reshape(len(x), -1).square().sum(1) for t in (apart, deviations))
    return (rows[0], rows[1], r2_each(found, wanted)), torch.cat(after)


def jacobian_likeness(subject: Subject) -> Measure:
    """The similarity of Jacobians at several points, ``|<J>|^2 / <|J|^2>``, unbiased.

    One for an affine map. In the details: singular values at some points, and the error of ``f(x) =
    A_x x``.
    """
    network = subject.network
    large = network.in_dim > LARGE
    x = subject.columns(LARGE_POINTS if large else JACOBIAN_POINTS)
    if len(x) < 2:
        return Measure.missing("local", "one point")
    outputs = network.out_dim
    eye = (
        torch.eye(outputs, dtype=network.like.dtype)
        if outputs <= DIRECTIONS
        else torch.randn(
            DIRECTIONS, outputs, generator=stream(subject.seed, "directions"), dtype=torch.float64
        ).to(network.like.dtype)
    )
    directions = eye.to(network.like.device)
    try:
        slopes = torch.stack(_slopes(network, x, directions), 1).double()
    except (RuntimeError, NotImplementedError, TypeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return Measure.missing("local", f"the model cannot be differentiated: {first[:80]}")
    flat = slopes.flatten(1)
    if not bool(torch.isfinite(flat).all()):
        return Measure.missing("local", "derivatives that are not finite at some points")
    own, total = flat.square().sum(1), flat.sum(0)
    if not float(own.sum()):
        return Measure.missing("local", "the Jacobian vanishes on the data")
    others = (flat @ total - own) / (len(x) - 1)
    value, interval = ratio(others, own, subject.seed)
    f = network(x).double() @ directions.double().mT
    through = (slopes * x.flatten(1).double()[:, None]).sum(2)
    identity = float((f - through).norm() / f.norm().clamp_min(1e-300))
    spectra, vectors = ([], {}) if large else _spectra(subject, x)
    details = {"error_of_f_equals_Ax": identity, "singular_values": spectra}
    note = "similarity of the Jacobians at different points; one for an affine map"
    if large:
        note += f" ({len(x)} points; singular values: rl.local_map(model, x).svd(k))"
    return Measure("local", value, "estimated", interval, note, details, vectors)


def _slopes(network: Network, x: Tensor, directions: Tensor) -> list[Tensor]:
    """``J(x_i)^T u`` for every direction, ``(b, D)`` each, from one forward pass."""
    points = network.rows(x).detach().clone().requires_grad_()
    with differentiating(network.model):
        out = network.raw(points)
        if not out.requires_grad:
            return [torch.zeros_like(points).flatten(1) for _ in directions]
        found = [
            torch.autograd.grad(
                out, points, u.to(out).expand_as(out), retain_graph=True, allow_unused=True
            )[0]
            for u in directions
        ]
    return [torch.zeros_like(points).flatten(1) if s is None else s.flatten(1) for s in found]


def _spectra(subject: Subject, x: Tensor) -> tuple[list[list[float]], dict[str, Tensor]]:
    """Leading singular values and right singular vectors at the first points."""
    values, vectors = [], {}
    k = min(SPECTRUM_VALUES, subject.network.in_dim, subject.network.out_dim)
    for i, point in enumerate(x[:SPECTRUM_POINTS]):
        _, s, v = LocalMap(subject.network.model, point).svd(k)
        values.append(s.tolist())
        vectors[f"right singular vectors at point {i}"] = to_dense(v).mT
    return values, vectors
