"""The floor of the data against the loss of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import torch

from rectilinear.audit.floors import floor
from rectilinear.audit.measure import Measure

if TYPE_CHECKING:
    from rectilinear.audit.subject import Subject

NAME = "floor"
LOSSES = ("square", "logistic", "hinge")
PROGRAMME = 2_000_000  # numbers in the linear programme of the hinge loss
LARGEST = 2**27  # numbers of data that are copied in float64: 1 GB


def floor_and_loss(subject: Subject) -> Measure:
    """The loss that no network of the kind, of any width, can beat on the data; in the details the loss of this one.

    Two layers without bias have the floor of depth 2, others without bias that of any depth.
    """
    task, data, nodes = subject.task, subject.data, subject.structure.nodes
    if task is None or data.labels is None:
        return Measure.missing(NAME, "no labels were given")
    if task.loss not in LOSSES:
        return Measure.missing(NAME, f"known for the losses {', '.join(LOSSES)}, not for {task.loss}")
    if data.rows is None:
        return Measure.missing(NAME, "the data are read in batches and not held together")
    if data.rows.numel() > LARGEST:
        return Measure.missing(NAME, "the data are too many to be held in float64")
    if task.loss == "hinge" and data.rows.numel() > PROGRAMME:
        return Measure.missing(NAME, "the data are too many for a linear programme")
    if not nodes or not (subject.homogeneous or subject.has_linear_odd_part):
        return Measure.missing(NAME, "floors are for nets without biases; with them, any points can be fitted")
    depth: Literal[2, "any"] = 2 if subject.has_linear_odd_part else "any"
    loss = cast('Literal["square", "logistic", "hinge"]', task.loss)
    found = floor(data.rows, data.labels, loss, depth, homogeneous=subject.homogeneous)
    losses = [task.losses(p.f, p.y) for p in subject.passes() if p.y is not None]
    achieved = float(torch.cat(losses).double().mean())
    details = {
        "achieved": achieved,
        "depth": depth,
        "loss": task.loss,
        "rays_in_conflict": found.conflicts,
        "lines_with_both_sides": found.lines,
    }
    exact = found.attained - found.value <= 1e-12 * (1 + found.value)
    note = f"least mean {task.loss} loss of {'two-layer' if depth == 2 else 'any'} bias-free nets; here {achieved:.4g}"
    interval = None if exact else (found.value, found.attained)
    return Measure(NAME, found.value, "exact" if exact else "certified", interval, note, details)
