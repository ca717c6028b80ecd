"""Spans, consecutive blocks of one list of a network: named, listed, and removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from rectilinear.errors import ConfigError, StructureError
from rectilinear.networks.forward_pass import flowing_argument
from rectilinear.networks.places import find, inner, named_parts

LISTS = (nn.ModuleList, nn.Sequential)
LENGTHS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "depth")


@dataclass(frozen=True)
class Span:
    """Blocks ``start`` to ``stop - 1`` of a list of ``length`` blocks, as in a Python slice.

    Attributes:
        container: the name of the list.
        start: the first of its blocks that is in the span.
        stop: the first behind it that is not.
        length: how many blocks the list has.
    """

    container: str
    start: int
    stop: int
    length: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        end = self.name(self.stop) if self.stop < self.length else ""
        return f"{self.name(self.start)}:{end}"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its blocks."""
        return tuple(map(self.name, range(self.start, self.stop)))

    @property
    def before(self) -> str | None:
        """The name of the block before it; None for the first of the list."""
        return self.name(self.start - 1) if self.start else None

    def name(self, i: int) -> str:
        """The name of block ``i`` of the list."""
        return f"{self.container}.{i}" if self.container else str(i)


def span_of(model: nn.Module, text: str) -> Span:
    """The span with this name: ``"layer.2:layer.5"`` is blocks 2, 3 and 4, as in a Python slice.

    Either end may be left out, and the list's name at the second end. A name without a colon is a
    span of one block.

    Example:
        >>> net = nn.Sequential(*[nn.Linear(2, 2) for _ in range(6)])
        >>> span_of(net, "2:5").names, span_of(net, "4:").names
        (('2', '3', '4'), ('4', '5'))
    """
    first, colon, last = text.partition(":")
    if not first and not last:
        raise ConfigError(f"blocks = {text!r}", "two names and a colon, such as 'layer.2:layer.5'")
    if not first:
        container, _ = _listed(model, last)
        start = 0
    else:
        container, start = _listed(model, first)
    length = len(_list(model, container))
    if not colon:
        return Span(container, start, start + 1, length)
    stop = length if not last else _stop(model, container, last, length)
    if not start < stop:
        raise ConfigError(
            f"blocks = {text!r}, an empty span",
            "a second block behind the first: it is not in the span, as in a slice of Python",
        )
    return Span(container, start, stop, length)


def spans_within(model: nn.Module, container: str | None = None) -> Iterator[Span]:
    """All spans of the list named, or of the lists of blocks (:func:`main_lists`).

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        >>> [str(span) for span in spans_within(net)]
        ['0:1', '0:', '1:']
    """
    for name in main_lists(model) if container is None else [find(model, container).name]:
        length = len(_list(model, name))
        for start in range(length):
            for stop in range(start + 1, length + 1):
                yield Span(name, start, stop, length)


def main_list(model: nn.Module) -> str:
    """The name of the list of blocks with the most parameters outside of other lists.

    Example:
        >>> main_list(nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 1, 8), 3))
        'layers'
    """
    outer = _block_lists(model)
    return max(outer, key=lambda name: outer[name])


def main_lists(model: nn.Module) -> list[str]:
    """The names of the lists of blocks: those of all stages of a Swin or ConvNeXt, else one.

    Example:
        >>> stages = [nn.Sequential(*[nn.Linear(2, 2) for _ in range(n)]) for n in (2, 3)]
        >>> main_lists(nn.Sequential(*stages))
        ['0', '1']
    """
    main, outer = main_list(model), _block_lists(model)
    for name, part in named_parts(model):
        inside = f"{name}." if name else ""
        holds = main != name and main.startswith(inside)
        if holds and isinstance(part, LISTS) and _is_of_stages(part):
            return [found for found in outer if found.startswith(inside)]
    return [main]


def _block_lists(model: nn.Module) -> dict[str, int]:
    """The lists of blocks that are in no other such list, by name, and their parameters."""
    found = {
        name: part for name, part in named_parts(model) if isinstance(part, LISTS) and len(part) > 1
    }
    found = {n: part for n, part in found.items() if not _is_of_stages(part)} or found
    outer = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in found.items()
        if not any(
            other != name and name.startswith(f"{other}." if other else "") for other in found
        )
    }
    if not outer:
        raise StructureError(
            f"a {type(model).__name__} without a list of blocks",
            "a ModuleList or Sequential of at least two",
            "Name the blocks.",
        )
    return outer


def _is_of_stages(part: nn.ModuleList | nn.Sequential) -> bool:
    """True if most entries of a list are lists of equal blocks, as in a Swin or a ConvNeXt."""

    def is_stage(stage: nn.Module) -> bool:
        lists = [p for p in (stage, *stage.children()) if isinstance(p, LISTS)]
        return any(len(p) > 1 and len({type(block) for block in p}) == 1 for p in lists)

    return 2 * sum(map(is_stage, part)) > len(part)


def without(model: nn.Module, span: Span) -> None:
    """Remove the blocks of a span from their list, and update its length and the indices of blocks.

    A model knows its depth by integers equal to it in its configuration and modules
    (``num_hidden_layers``, ``num_layers``), by lists of that length in the configuration
    (``layer_types``), and by the index of each block in its parts (``layer_idx``).

    Example:
        >>> net = nn.Sequential(*[nn.Linear(2, 2) for _ in range(4)])
        >>> without(net, span_of(net, "1:3"))
        >>> len(net)
        2
    """
    parent = _list(model, span.container)
    holders = _holders_of_length(inner(model), span.container, span.length)
    kept = [block for i, block in enumerate(parent) if not span.start <= i < span.stop]
    for i in reversed(range(span.start, span.stop)):
        del parent[i]
    for i, block in enumerate(kept):
        old = i if i < span.start else i + len(span)
        for part in block.modules():
            if vars(part).get("layer_idx") == old:
                part.layer_idx = i  # type: ignore[assignment] # torch types attributes as tensors
    kept_indices = [i for i in range(span.length) if not span.start <= i < span.stop]
    _set_length(holders, span.container, span.length, kept_indices)


class Through(nn.Module):
    """A module in place of a block that returns its input in the form of the block's output.

    Args:
        function: what is done to it; nothing by default.
        parts: how many parts the block's output has; None for a tensor. The others are None.

    Example:
        >>> out = Through(parts=2)(hidden_states=nn.Linear(1, 3).weight)
        >>> out[0].shape, out[1]
        (torch.Size([3, 1]), None)
    """

    def __init__(self, function: nn.Module | None = None, parts: int | None = None) -> None:
        super().__init__()
        self.map = nn.Identity() if function is None else function
        self.parts = parts

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The function of the first tensor among the arguments."""
        where = flowing_argument("a block", args, kwargs)
        out = self.map(kwargs[where] if isinstance(where, str) else args[where])
        return out if self.parts is None else (out, *[None] * (self.parts - 1))

    def extra_repr(self) -> str:
        return "" if self.parts is None else f"parts={self.parts}"


def take_facts(stand_in: nn.Module, block: nn.Module) -> None:
    """Copy numbers and strings that a network may read from ``block``, as ``attention_type``.

    Example:
        >>> block, other = nn.Linear(2, 2), nn.Identity()
        >>> block.attention_type = "full"
        >>> take_facts(other, block)
        >>> other.attention_type
        'full'
    """
    for name, value in vars(block).items():
        plain = isinstance(value, bool | int | float | str | None) and name[:1] != "_"
        if plain and not hasattr(stand_in, name):
            setattr(stand_in, name, value)


def _list(model: nn.Module, container: str) -> nn.ModuleList | nn.Sequential:
    part = inner(model).get_submodule(find(model, container).name) if container else inner(model)
    assert isinstance(part, LISTS)
    return part


def _listed(model: nn.Module, name: str) -> tuple[str, int]:
    """The list that holds a block, and its index."""
    full = find(model, name).name
    container, _, key = full.rpartition(".")
    parent = dict(named_parts(model)).get(container)
    if not isinstance(parent, LISTS) or not key.isdigit():
        raise ConfigError(
            f"{name!r}, which is no block of a list",
            "blocks of one ModuleList or Sequential",
            f"There is {main_list(model)}.",
        )
    return container, int(key)


def _stop(model: nn.Module, container: str, last: str, length: int) -> int:
    """The end of a span whose second name is ``last``."""
    key = last.rpartition(".")[2]
    prefix = last.rpartition(".")[0]
    same = not prefix or container == prefix or container.endswith(f".{prefix}")
    if key.isdigit() and int(key) == length and same:
        return length  # the name behind the last block
    if key == last and last.isdigit() and int(last) < length:
        return int(last)
    other, stop = _listed(model, last)
    if other != container:
        raise ConfigError(
            f"blocks of {container!r} and of {other!r}",
            "blocks of one list",
            f"End the span with a block of {container!r}, or write a span for each list.",
        )
    return stop


def _holders_of_length(model: nn.Module, container: str, length: int) -> list[Any]:
    """The modules that a list is in, and their configurations, which hold its length; each once."""
    steps = container.split(".") if container else []
    around = [model.get_submodule(".".join(steps[:i])) for i in range(len(steps) + 1)]
    parts = [part for part in around if not isinstance(part, nn.ModuleList | nn.Sequential)]
    configs = [getattr(part, "config", None) for part in parts]
    found = {id(h): h for h in (*parts, *configs) if hasattr(h, "__dict__")}
    kept = (h for h in found.values() if _names_of_length(h, length) or hasattr(h, "depths"))
    return list(kept)


def _set_length(holders: Sequence[Any], container: str, length: int, kept: Sequence[int]) -> None:
    """Write the new length wherever the old one stood; of lists as long, keep these entries.

    Of stages, such as those of a Swin transformer, the configuration lists the ``depths``.
    """
    stage = next((int(step) for step in reversed(container.split(".")) if step.isdigit()), 0)
    for holder in holders:
        depths = vars(holder).get("depths")
        if isinstance(depths, list | tuple) and stage < len(depths) and depths[stage] == length:
            changed = [*depths[:stage], len(kept), *depths[stage + 1 :]]
            holder.depths = type(depths)(changed)
            continue
        for name in _names_of_length(holder, length):
            setattr(holder, name, len(kept))
        if isinstance(holder, nn.Module):
            continue
        for name, value in list(vars(holder).items()):
            if name.endswith("layer_types") and isinstance(value, list) and len(value) == length:
                setattr(holder, name, [value[i] for i in kept])


def _names_of_length(holder: Any, length: int) -> list[str]:
    """The names under which a module or configuration holds this length."""
    known = vars(holder)
    aliases = getattr(type(holder), "attribute_map", {})
    names = {aliases.get(name, name) for name in LENGTHS}
    return sorted(n for n in names if n in known and type(known[n]) is int and known[n] == length)
