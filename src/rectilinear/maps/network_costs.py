"""Comparison of two networks on held-out samples: outputs, loss, size, operations, time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rectilinear.errors import DtypeError, InputError
from rectilinear.maps.blocks import r2_each
from rectilinear.networks.batches import Batch
from rectilinear.networks.data import Task, task_for
from rectilinear.networks.forward_pass import Output, call, constant_parameters
from rectilinear.networks.network import check_outputs
from rectilinear.networks.places import inner
from rectilinear.networks.token_vectors import vectors

MAX_NUMBERS = 2**26  # numbers of outputs that are kept: 256 MB in float32
COUNTED = 4  # samples that operations are counted on
REPEATS = 3  # timed runs, of which the fastest counts
IGNORED = -100  # label of what has none

Score = Callable[[Tensor, Tensor], float]
Loss = str | Callable[[Tensor, Tensor], Tensor] | None


@dataclass(frozen=True, eq=False)
class Outputs:
    """Outputs of a network, one row for each sample or unpadded token, with their labels.

    Attributes:
        rows: ``(n, O)``.
        labels: ``(n, ...)``, or None.
        samples: how many samples they come from.
    """

    rows: Tensor
    labels: Tensor | None
    samples: int


def outputs(
    model: nn.Module,
    batches: Iterable[Batch],
    output: Output = None,
    run: Callable[[Batch], Tensor] | None = None,
) -> Outputs:
    """The outputs of a network on batches, up to ``MAX_NUMBERS`` values.

    Outputs ``(b, t, O)`` give a row for each unpadded token, others one for each sample. ``run``
    replaces the call of the model.

    Example:
        >>> outputs(nn.Linear(3, 2), [Batch((torch.zeros(5, 3),))]).rows.shape
        torch.Size([5, 2])
    """
    rows: list[Tensor] = []
    labels: list[Tensor] = []
    samples = numbers = 0
    for batch in batches:
        with torch.no_grad():
            out = call(model, batch, output) if run is None else run(batch)
        found, given = _rows_of(out, batch)
        check_outputs(found)
        rows.append(found if torch.finfo(found.dtype).bits > 16 else found.float())
        labels += [] if given is None else [given]
        samples, numbers = samples + len(batch), numbers + found.numel()
        if numbers > MAX_NUMBERS:
            break
    if not rows:
        raise InputError("no samples to test on", "at least one", "Pass more data.")
    return Outputs(torch.cat(rows), torch.cat(labels) if labels else None, samples)


def _rows_of(out: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """The rows of one batch of outputs, and their labels."""
    out, labels = out.detach(), batch.labels
    if out.ndim != 3:
        return out.reshape(len(batch), -1).clone(), labels
    mask = batch.mask if batch.mask is not None and batch.mask.shape == out.shape[:2] else None
    found = vectors(out, mask, "tokens")
    if labels is None:
        return found.rows.clone(), None
    if labels.shape[:2] != out.shape[:2]:
        return out.reshape(len(batch), -1).clone(), labels
    given = labels.to(out.device).flatten(0, 1)
    return found.rows.clone(), given if mask is None else given[mask.to(out.device).flatten()]


@dataclass(frozen=True, eq=False)
class Cost:
    """The difference of one network's outputs from another's on the same held-out samples.

    Attributes:
        r2: the share of the variance of the other's outputs that they explain, of all together.
        r2_each: of each output, ``(O,)``; NaN where it is constant.
        agreement: the share of rows whose largest output is the same one; None for one output.
        loss: ``(before, after)`` with labels, else None.
        accuracy: ``(before, after)`` for classes, else None.
        score: what ``score(found, wanted)`` gave, None without one.
    """

    r2: float
    r2_each: tuple[float, ...]
    agreement: float | None
    loss: tuple[float, float] | None
    accuracy: tuple[float, float] | None
    score: float | None


def cost(found: Outputs, wanted: Outputs, loss: Loss = None, score: Score | None = None) -> Cost:
    """The difference of the outputs ``found`` from the outputs ``wanted``.

    Example:
        >>> wanted = Outputs(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), None, 2)
        >>> cost(wanted, wanted).agreement
        1.0
    """
    losses = hits = None
    if wanted.labels is not None:
        task = task_for(_known(wanted.labels), wanted.rows.shape[1], loss)
        before, after = (_losses(task, f.rows, wanted.labels) for f in (wanted, found))
        losses = before[0], after[0]
        if before[1] is not None and after[1] is not None:
            hits = before[1], after[1]
    same = found.rows.argmax(1) == wanted.rows.argmax(1)
    value = None if score is None else float(score(found.rows, wanted.rows))
    return Cost(
        r2(found.rows, wanted.rows),
        tuple(r2_each(found.rows, wanted.rows).tolist()),
        float(same.double().mean()) if wanted.rows.shape[1] > 1 else None,
        losses,
        hits,
        value,
    )


def _known(labels: Tensor) -> Tensor:
    return labels if labels.is_floating_point() else labels[labels != IGNORED]


def _losses(task: Task, out: Tensor, y: Tensor) -> tuple[float, float | None]:
    known = slice(None) if y.is_floating_point() or y.ndim > 1 else y != IGNORED
    hits = task.hits(out[known], y[known])
    mean = float(task.losses(out[known], y[known]).double().mean())
    return mean, None if hits is None else float(hits.double().mean())


def r2(found: Tensor, wanted: Tensor) -> float:
    """The share of the variance of ``wanted`` over rows that is explained.

    For constant ``wanted``: 1 if it is met up to rounding, else minus infinity.
    """
    found, wanted = found.double(), wanted.double()
    left, total = (found - wanted).square().sum(), (wanted - wanted.mean(0)).square().sum()
    rounding = (1e3 * torch.finfo(torch.float32).eps) ** 2 * float(wanted.square().sum())
    if float(total) > 0:
        return 1 - float(left / total)
    return 1.0 if float(left) <= rounding else -float("inf")


def parameters_of(*modules: nn.Module) -> int:
    """The number of parameters of some modules together, each counted once.

    Example:
        >>> parameters_of(nn.Linear(2, 3))
        9
    """
    return sum(p.numel() for p in {id(p): p for m in modules for p in m.parameters()}.values())


def flops_of(
    model: nn.Module, batch: Batch, names: Iterable[str] = (), output: Output = None
) -> tuple[int, int]:
    """The floating-point operations for one sample, in all and in the modules named.

    Counted by torch: two for each multiply-add of matrix products, convolutions and attention.
    Elementwise operations are not counted.

    Example:
        >>> flops_of(nn.Linear(2, 3), Batch((torch.zeros(5, 2),)))[0]
        12
    """
    model, head = inner(model), batch.take(slice(COUNTED))
    with constant_parameters(model), FlopCounterMode(display=False) as counter, torch.no_grad():
        call(model, head, output)
    counts = counter.get_flop_counts()
    root = type(model).__name__
    inside = sum(sum(counts.get(f"{root}.{name}", {}).values()) for name in names)
    return counter.get_total_flops() // len(head), inside // len(head)


def seconds_of(models: Iterable[nn.Module], batch: Batch, output: Output = None) -> list[float]:
    """The seconds each network takes for a batch: the fastest of several alternating runs."""
    models = list(models)
    times = [float("inf")] * len(models)
    for _ in range(REPEATS):
        for i, model in enumerate(models):
            begun = perf_counter()
            with torch.no_grad():
                out = call(model, batch, output)
            if out.is_cuda:
                torch.cuda.synchronize(out.device)
            times[i] = min(times[i], perf_counter() - begun)
    return times


def first_of(batches: Iterator[Batch]) -> Batch:
    """The first batch."""
    for batch in batches:
        return batch
    raise DtypeError("no batches", "at least one", "Pass data that are not empty.")
