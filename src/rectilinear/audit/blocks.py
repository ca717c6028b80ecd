"""The blocks of a network, and what it costs to replace each by one affine map."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rectilinear.audit.affine_block import AffineBlock, BlockMoments, Shapes
from rectilinear.audit.intervals import ratio
from rectilinear.audit.measure import Measure
from rectilinear.errors import StructureError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rectilinear.audit.subject import Subject

ROWS, BATCH = 2048, 256
MOST = 64  # blocks that are measured
BUDGET = 1e10  # products that go into the fit of one block
AFFINE = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.Identity, nn.Flatten, nn.Unflatten, nn.PixelShuffle),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.ZeroPad2d, nn.Upsample, nn.Unfold),
)


def block_names(model: nn.Module) -> list[str]:
    """The blocks that a network is made of, by name: what is in its containers, in their order.

    Sequences, lists and dictionaries of modules are opened, and so is a module that holds a list, such as
    ``nn.TransformerEncoder``; everything else is one block.

    Example:
        >>> block_names(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Linear(2, 1))))
        ['0', '1.0', '1.1']
    """
    names = []

    def visit(module: nn.Module, prefix: str) -> None:
        for name, child in module.named_children():
            path = f"{prefix}{name}"
            opened = isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict) or any(
                isinstance(part, nn.ModuleList) for part in child.children()
            )
            visit(child, f"{path}.") if opened else names.append(path)

    visit(model, "")
    return names


def is_affine(module: nn.Module) -> bool:
    """Whether a module of torch is affine in evaluation mode.

    Example:
        >>> is_affine(nn.BatchNorm1d(3)), is_affine(nn.ReLU())
        (True, False)
    """
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
        return module.track_running_stats
    return isinstance(module, AFFINE) or (isinstance(module, nn.LeakyReLU) and module.negative_slope == 1)


@contextmanager
def watching(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, list[tuple[Tensor, Tensor]]]]:
    """Inputs and outputs of each module at every call inside the block; the hooks are gone afterwards."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in modules}

    def hook(name: str) -> Any:
        def keep(_: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            if args and isinstance(args[0], Tensor) and isinstance(out, Tensor):
                seen[name].append((args[0].detach().clone(), out.detach().clone()))

        return keep

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def replaced(module: nn.Module, stand_in: nn.Module) -> Iterator[None]:
    """The output of ``module`` is that of ``stand_in`` inside the block."""
    handle = module.register_forward_hook(lambda _, args, __: stand_in(*args))
    try:
        yield
    finally:
        handle.remove()


def shapes_of(calls: list[tuple[Tensor, Tensor]]) -> Shapes:
    """The shapes of a block that was called once for each batch.

    Raises:
        StructureError: if it was not, or no class of affine maps takes one shape to the other.
    """
    if len(calls) != 1:
        raise StructureError(
            "a block that is not called" if not calls else f"a block that is called {len(calls)} times a pass",
            "one call with a tensor, that returns a tensor",
        )
    x, out = calls[0]
    if x.ndim < 2 or out.ndim < 2 or len(x) != len(out):
        raise StructureError(f"a block from {tuple(x.shape)} to {tuple(out.shape)}", "the batch as the first axis")
    return Shapes.between(tuple(x.shape[1:]), tuple(out.shape[1:]))


def fit_blocks(
    run: Any, modules: Mapping[str, nn.Module], batches: Iterable[Tensor], budget: float = BUDGET
) -> tuple[dict[str, BlockMoments], dict[str, str]]:
    """Streaming least squares for blocks, and the reasons for those that cannot be fitted."""
    moments: dict[str, BlockMoments] = {}
    refused: dict[str, str] = {}
    for batch in batches:
        with watching(modules) as seen:
            run(batch)
        for name, calls in seen.items():
            if name in refused:
                continue
            try:
                shapes = shapes_of(calls)
            except StructureError as error:
                refused[name] = error.got
                moments.pop(name, None)
                continue
            moments.setdefault(name, BlockMoments(shapes, budget)).add(*calls[0])
    return moments, refused


def blocks(subject: Subject, names: list[str] | None = None) -> Measure:
    """The smallest held-out R^2 of an affine stand-in, over the blocks; in the details each block.

    Fitted on one half of the sample and judged on the other: how much of the block's output it explains, how much of
    the network's output then stays, and what that does to the loss.
    """
    network, name = subject.network, "blocks"
    model = network.model
    chosen = [n for n in (names or block_names(model)) if not is_affine(model.get_submodule(n))]
    if not chosen:
        return Measure.missing(name, "no module that is not affine by itself" if block_names(model) else "one module")
    modules = {n: model.get_submodule(n) for n in chosen[:MOST]}
    x = subject.columns(ROWS)
    if len(x) < 4:
        return Measure.missing(name, f"{len(x)} rows")
    half = len(x) // 2
    labels = subject.data.sample_labels
    train, test = x[:half], x[half:]
    moments, refused = fit_blocks(network, modules, train.split(BATCH))
    table: list[dict[str, Any]] = []
    worst: tuple[float, tuple[float, float] | None] | None = None
    base = network(test)
    for block, gathered in moments.items():
        stand_in = gathered.solve(network.like)
        score = gathered.score()
        left, total = _judge(network, modules[block], stand_in, gathered.shapes, test)
        missed, interval = ratio(left, total, subject.seed)
        with replaced(modules[block], stand_in):
            out = network(test)
        row = {
            "name": block,
            "module": type(modules[block]).__name__,
            "form": gathered.shapes.form,
            "r2": 1 - missed,
            "linearity_score": score.r2,
            "procrustes": score.procrustes,
            "update_r2": score.update_r2,
            "output_r2": 1
            - float((out - base).square().sum() / (base - base.mean(0)).square().sum().clamp_min(1e-300)),
        }
        if subject.task is not None and labels is not None:
            y = labels[: len(x)][half:]
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
    return Measure(name, worst[0], "estimated", worst[1], note, {"blocks": table, "refused": refused})


def _judge(network: Any, module: nn.Module, stand_in: AffineBlock, shapes: Shapes, x: Tensor) -> tuple[Tensor, Tensor]:
    """Squared errors of the stand-in and squared deviations from the mean for held-out rows, ``(b,)`` each."""
    left, outs = [], []
    for batch in x.split(BATCH):
        with watching({"block": module}) as seen:
            network(batch)
        inside, out = seen["block"][0]
        with torch.no_grad():
            left.append((stand_in(inside) - out).double().square().flatten(1).sum(1))
        targets = shapes.targets(out).double()
        outs.append(targets.reshape(len(out), -1, targets.shape[1]))
    outputs = torch.cat(outs)
    return torch.cat(left), (outputs - outputs.mean((0, 1))).square().sum((1, 2))
