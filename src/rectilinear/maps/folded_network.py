"""Networks without a span of blocks, whose map is folded into the block before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rectilinear.errors import RectilinearError, StructureError
from rectilinear.maps.blocks import r2_each, worst_of
from rectilinear.maps.data_split import Portions
from rectilinear.maps.fold_fit import Folded, fit_fold, gather
from rectilinear.maps.fold_target import Neighbour, neighbour_of, set_weight
from rectilinear.maps.network_costs import MAX_NUMBERS, first_of, r2
from rectilinear.maps.spans import Span, without
from rectilinear.networks.forward_pass import Output, call, forward
from rectilinear.networks.network import copied
from rectilinear.networks.places import inner
from rectilinear.networks.token_vectors import vectors

AGREE = 3e-2  # times the root of machine precision: equal but for rounding
CHECKED = 4  # samples that the smaller network is checked on


@dataclass(frozen=True, eq=False)
class FoldedNetwork:
    """A network without a span of blocks.

    Attributes:
        model: the smaller network.
        neighbour: the layer that took the map in.
        folded: its new weight.
        r2: the share of the variance of the stream behind the span that the smaller network
            explains, on held-out samples.
        worst_r2: the least share of one channel.
        stock: whether the class and the configuration of the network alone, with the weights, make
            the same network; None for a network without a configuration.
    """

    model: nn.Module
    neighbour: Neighbour
    folded: Folded
    r2: float
    worst_r2: float
    stock: bool | None


def fold_into(
    model: nn.Module,
    portions: Portions,
    span: Span,
    output: Output = None,
    advance: Callable[[str], None] = lambda _: None,
) -> FoldedNetwork:
    """A copy of the model without a span of blocks, whose map is folded into the layer before it.

    Raises:
        StructureError: if no layer can take it in, the stream changes its shape, something reads
            more of the blocks than what flows through them, or the class of the model does not make
            the smaller one from its configuration.
    """
    advance(f"{span}: values")
    head = first_of(portions.of("fit"))
    neighbour = neighbour_of(model, head, span, output)
    fitting, judging = (
        gather(model, portions.of(portion), span, neighbour, output)
        for portion in ("fit", "choose")
    )
    advance(f"{span}: fits")
    folded = fit_fold(model, neighbour, fitting, judging)
    advance(f"{span}: the smaller network")
    small = copied(model)
    set_weight(inner(small).get_submodule(neighbour.layer), folded.matrix, folded.constant)
    whole = copied(small)
    without(small, span)
    head = first_of(portions.of("test")).take(slice(CHECKED))
    _check(whole, small, head, span, output)
    advance(f"{span}: test")
    quality = _judge(model, whole, portions, span, neighbour, output)
    return FoldedNetwork(small, neighbour, folded, *quality, is_stock(small, head, output))


def is_stock(model: nn.Module, batch: Any, output: Output = None) -> bool | None:
    """True if the class of a network rebuilds it from its configuration and weights.

    ``save_pretrained`` and ``from_pretrained`` rely on this. None for a network whose class does
    not take its configuration.
    """
    part = configured(model)
    if part is None:
        return None
    try:
        again = type(part)(part.config).to(next(part.parameters())).eval()
        again.load_state_dict(part.state_dict())
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StructureError(
            f"a configuration of {type(part).__name__} that does not make the smaller network: "
            f"{first[:160]}",
            "one that holds the number of blocks",
            "Pass fold=False.",
        ) from error
    with torch.no_grad():
        wanted = call(model, batch, output)
        found = call(_with(model, part, again), batch, output)
    if not _same(found, wanted):
        raise StructureError(
            f"a {type(part).__name__} that is another function when it is made again with one "
            "block "
            "less, such as one that scales by the index of a block",
            "blocks that do not depend on their number",
            "Take out two at once where blocks alternate, as in Swin, or pass fold=False.",
        )
    return True


def configured(model: nn.Module) -> nn.Module | None:
    """The largest part of a network that can be saved with its configuration; None without one.

    Example:
        >>> configured(nn.Linear(2, 2)) is None
        True
    """
    for part in inner(model).modules():
        if hasattr(part, "config") and hasattr(part, "save_pretrained"):
            return part
    return None


def _with(model: nn.Module, part: nn.Module, other: nn.Module) -> nn.Module:
    """The network with ``part`` exchanged."""
    if inner(model) is part:
        return other
    changed = copied(model)
    names = [name for name, found in inner(model).named_modules() if found is part]
    parent, _, last = names[0].rpartition(".")
    inner(changed).get_submodule(parent)._modules[last] = other
    return changed


def _check(whole: nn.Module, small: nn.Module, head: Any, span: Span, output: Output) -> None:
    """Raise unless removing the blocks equals bypassing them."""
    box: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        box.append(value.detach().clone())
        return value

    around = {f"{span.names[0]}@input": keep, f"{span.names[-1]}@output": lambda _: box[0]}
    wanted = forward(whole, head, (), around, output=output).out
    try:
        found = call(small, head, output)
    except RectilinearError as error:
        raise StructureError(
            f"a network that fails without the blocks {span}: {error}",
            "blocks that are called one after the other and nothing else",
            "Pass fold=False.",
        ) from error
    if not _same(found.detach(), wanted):
        raise StructureError(
            f"a network that reads more of the blocks {span} than what flows through them",
            "blocks that are called one after the other and nothing else",
            "Choose another span.",
        )


def _same(found: Tensor, wanted: Tensor) -> bool:
    eps = torch.finfo(wanted.dtype).eps
    allowed = max(AGREE * eps**0.5, 8 * eps) * float(wanted.abs().max())
    return found.shape == wanted.shape and float((found - wanted).abs().max()) <= allowed


def _judge(
    old: nn.Module,
    whole: nn.Module,
    portions: Portions,
    span: Span,
    neighbour: Neighbour,
    output: Output,
) -> tuple[float, float]:
    """The share of the stream's variance explained after the span: of all, of the worst channel."""
    last, before = f"{span.names[-1]}@output", f"{span.before}@output"
    found: list[Tensor] = []
    wanted: list[Tensor] = []
    for batch in portions.of("test"):
        for model, place, rows in ((whole, before, found), (old, last, wanted)):
            value = forward(model, batch, [place], output=output).at[place]
            rows.append(vectors(value, batch.mask, neighbour.layout).rows)
        if sum(rows.numel() for rows in wanted) > MAX_NUMBERS:
            break
    a, b = torch.cat(found), torch.cat(wanted)
    return r2(a, b), worst_of(r2_each(a, b))[1]
