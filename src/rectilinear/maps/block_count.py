"""The length of a list of blocks as a network knows it, and as a smaller one should."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

LENGTHS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "depth")


def holders_of_length(model: nn.Module, container: str, length: int) -> list[Any]:
    """The modules that a list is in, and their configurations, which hold its length; each once."""
    steps = container.split(".") if container else []
    around = [model.get_submodule(".".join(steps[:i])) for i in range(len(steps) + 1)]
    parts = [part for part in around if not isinstance(part, nn.ModuleList | nn.Sequential)]
    configs = [getattr(part, "config", None) for part in parts]
    found = {id(h): h for h in (*parts, *configs) if hasattr(h, "__dict__")}
    return [holder for holder in found.values() if _names_of_length(holder, length)]


def set_length(holders: Sequence[Any], length: int, kept: Sequence[int]) -> None:
    """Write the new length wherever the old one stood; of lists as long, keep these entries."""
    for holder in holders:
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
