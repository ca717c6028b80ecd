"""Places in a network: a module by its name, and its input or output."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from rectilinear.errors import ConfigError

WRAPPERS = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel")
_COMPILED = "_orig_mod"
_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_FORM = re.compile(r"(?P<name>[^@#]*)(#(?P<call>\d+))?(@(?P<side>\w+))?")


@dataclass(frozen=True)
class Place:
    """A value inside a network: the input or output of one call of one module.

    Attributes:
        name: of the module; "" is the whole model.
        module: the module.
        side: "input" or "output".
        call: which of its calls in a pass, from 0; None for a module that is called once.
    """

    name: str
    module: nn.Module
    side: Literal["input", "output"] = "output"
    call: int | None = None

    def __str__(self) -> str:
        call = "" if self.call is None else f"#{self.call}"
        return f"{self.name}{call}@{self.side}"


def inner(model: nn.Module) -> nn.Module:
    """The model inside ``torch.compile`` or ``DataParallel``, else the model itself.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> inner(nn.DataParallel(net)) is net
        True
    """
    while True:
        name = _COMPILED if hasattr(model, _COMPILED) else "module"
        wrapped = getattr(model, name, None)
        known = name == _COMPILED or type(model).__name__ in WRAPPERS
        if not known or not isinstance(wrapped, nn.Module):
            return model
        model = wrapped


def named_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The parts of the inner model by name, without prefixes of wrappers.

    Example:
        >>> [name for name, _ in named_parts(nn.DataParallel(nn.Sequential(nn.ReLU())))]
        ['', '0']
    """
    wrappers: set[str] = set()
    for name, part in inner(model).named_modules(remove_duplicate=False):
        if inner(part) is not part:
            wrappers.add(name)
            if name:
                continue
        yield _without(name, wrappers), part


def _without(name: str, wrappers: set[str]) -> str:
    """A name without the step from each wrapper to what it wraps."""
    steps, kept = name.split("."), []
    for i, step in enumerate(steps):
        if ".".join(steps[:i]) not in wrappers or not i:
            kept.append(step)
    return ".".join(kept)


def find(model: nn.Module, place: str | Place) -> Place:
    """The place with this name, such as ``"encoder.layer.3"``, the output of that module.

    ``"NAME@input"`` is its input, ``"NAME#2"`` its third call in a pass, ``"@output"`` the output
    of the model. A name may leave out what wraps the network, as in ``"encoder.layer.3"`` for
    ``"model.bert.encoder.layer.3"``, where only one module fits.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> print(find(net, "1@input"))
        1@input
    """
    if isinstance(place, Place):
        return place
    form = _FORM.fullmatch(place)
    side = form["side"] or "output" if form else ""
    if form is None or side not in ("input", "output"):
        raise ConfigError(
            f"place {place!r}", "the name of a module, NAME@input, NAME@output or NAME#2@input"
        )
    name = _full_name(model, form["name"])
    call = None if form["call"] is None else int(form["call"])
    parts = dict(named_parts(model))
    return Place(name, parts[name], "input" if side == "input" else "output", call)


def _full_name(model: nn.Module, name: str) -> str:
    names = [known for known, _ in named_parts(model)]
    if name in names:
        return name
    ends = [known for known in names if known.endswith(f".{name}")]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise ConfigError(
            f"{len(ends)} modules named {name!r}",
            f"one of {', '.join(ends[:8])}",
            "Give the full name.",
        )
    near = [n for n in names if n.rpartition(".")[2] == name.rpartition(".")[2]] or block_names(
        model
    )
    raise ConfigError(
        f"no module named {name!r}",
        f"names such as {', '.join(near[:8])}",
        "Take names of model.named_modules().",
    )


def block_names(model: nn.Module) -> list[str]:
    """The blocks that a network is made of, by name: what is in its containers, in their order.

    Sequences, lists and dictionaries of modules are opened, and so is a module that holds a list,
    such as ``nn.TransformerEncoder``, a module that leads to one, such as the encoder inside a
    classifier, and one that is all of the model, such as a wrapper's; everything else is one block.

    Example:
        >>> block_names(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Linear(2, 1))))
        ['0', '1.0', '1.1']
    """
    model = inner(model)
    names: list[str] = []
    if isinstance(model, torch.jit.ScriptModule):
        return names

    def visit(module: nn.Module, prefix: str, listed: bool) -> None:
        children = [(name, inner(child)) for name, child in module.named_children()]
        alone = sum(any(True for _ in child.parameters()) for _, child in children) == 1
        for name, child in children:
            path = f"{prefix}{name}"
            is_list = isinstance(child, _LISTS)
            if is_list or _leads_to_list(child, listed) or (alone and _is_wrapped(child, listed)):
                visit(child, f"{path}.", listed or is_list)
            else:
                names.append(path)

    visit(model, "", isinstance(model, _LISTS))
    return names


def _leads_to_list(child: nn.Module, listed: bool) -> bool:
    """True if a module holds a list of modules; outside of lists, at any depth.

    Inside of one, a list of different parts, such as attention and MLP, makes one block.
    """
    if not listed:
        return any(isinstance(part, nn.ModuleList) and len(part) > 0 for part in child.modules())
    lists = (part for part in child.children() if isinstance(part, nn.ModuleList))
    return any(len({type(part) for part in parts}) == 1 for parts in lists)


def _is_wrapped(child: nn.Module, listed: bool) -> bool:
    """True if the only part with parameters is itself a network and not a torch module."""
    while True:
        children = [inner(part) for part in child.children()]
        if listed or not children or type(child).__module__.startswith("torch.nn."):
            return False
        if len(children) > 1 or isinstance(children[0], _LISTS):
            return True
        child = children[0]


def held_twice(model: nn.Module, least: int = 0) -> set[str]:
    """Names of modules with several names, or with a parameter that another module holds, too.

    Of parameters with fewer than ``least`` axes, such as biases, nothing is asked.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> sorted(held_twice(nn.Sequential(layer, nn.ReLU(), layer)))
        ['0', '2']
    """

    def own(part: nn.Module) -> list[int]:
        held = part._parameters.values()
        return [id(p) for p in held if p is not None and p.ndim >= least]

    named = list(model.named_modules(remove_duplicate=False))
    times = Counter(id(part) for _, part in named)
    owners = Counter(key for part in model.modules() for key in own(part))
    return {
        name
        for name, part in named
        if times[id(part)] > 1 or any(owners[key] > 1 for key in own(part))
    }
