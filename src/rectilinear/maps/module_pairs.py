"""Pairs of modules of which only the second reads the first's output, from the graph or a run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rectilinear.maps.affine_block import AffineBlock
from rectilinear.maps.fuse_rules import ERRORS, RowsOnly, does_nothing
from rectilinear.maps.map_forms import Diagonal
from rectilinear.networks.places import held_twice

VALUE_READS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "allclose"}


@dataclass(frozen=True)
class Neighbours:
    """Pairs of names of which only the second reads the first's output, and the graph.

    Attributes:
        pairs: the names.
        graph: a text of the model's whole graph, or None where torch.fx cannot follow it.
        constants: the tensors in the graph that were computed while it was traced.
        reason: why there is no graph.
    """

    pairs: tuple[tuple[str, str], ...]
    graph: str | None = None
    constants: tuple[Tensor, ...] = ()
    reason: str = ""

    def agrees(self, other: Neighbours) -> bool:
        """True if the graphs are the same, with the same constants."""
        same = self.graph == other.graph and len(self.constants) == len(other.constants)
        return same and all(
            a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
            for a, b in zip(self.constants, other.constants, strict=True)
        )


class _Tracer(fx.Tracer):
    """A tracer that keeps torch.fx's leaves, all batch normalisations, and modules named."""

    def __init__(self, whole: frozenset[str]) -> None:
        super().__init__()
        self._whole = whole

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        kept = (
            isinstance(m, _BatchNorm | RowsOnly | AffineBlock | Diagonal)
            or module_qualified_name in self._whole
        )
        return kept or super().is_leaf_module(m, module_qualified_name)


def from_graph(model: nn.Module, whole: frozenset[str] = frozenset()) -> Neighbours:
    """The pairs in the model's graph, which holds every operation for any input.

    Args:
        model: the model in evaluation mode.
        whole: names of modules that are not looked into.

    Example:
        >>> from_graph(nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.ReLU())).pairs
        (('0', '2'),)
    """
    held = {id(part): set(vars(part)) for part in model.modules()}
    try:
        graph = _Tracer(whole).trace(model)
    except ERRORS as error:  # control flow by values, and other things that torch.fx cannot follow
        first = str(error).strip().splitlines()
        return Neighbours((), reason=first[0][:120] if first else type(error).__name__)
    finally:
        constants = _taken_back(model, held)
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    several = held_twice(model, least=2)

    def usable(node: Any) -> bool:
        return (
            isinstance(node, fx.Node)
            and node.op == "call_module"
            and calls[str(node.target)] == 1
            and len(node.args) == 1
            and not node.kwargs
            and str(node.target) not in read | several
        )

    pairs = []
    for node in graph.nodes:
        if not usable(node) or does_nothing(model.get_submodule(str(node.target))):
            continue
        source = node.args[0]
        while (
            usable(source)
            and len(source.users) == 1
            and does_nothing(model.get_submodule(str(source.target)))
        ):
            source = source.args[0]
        if usable(source) and len(source.users) == 1:
            pairs.append((str(source.target), str(node.target)))
    return Neighbours(tuple(pairs), str(graph), constants)


def _taken_back(model: nn.Module, held: dict[int, set[str]]) -> tuple[Tensor, ...]:
    """The constants that a trace left in the model, by name, removed from it."""
    found = []
    for part in model.modules():
        for name in sorted(set(vars(part)) - held[id(part)]):
            if isinstance(value := vars(part)[name], Tensor):
                found.append(value)
            delattr(part, name)
    return tuple(found)


class _Readers(TorchDispatchMode):
    """A record of which module call reads which storage, by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.readers: dict[int, set[str]] = defaultdict(set)
        self.reads_values = False
        self._alive: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        current = self.calls[-1] if self.calls else ""
        for t in tree_leaves((args, kwargs)):
            if isinstance(t, Tensor):
                self.readers[t.untyped_storage()._cdata].add(current)
                self._alive.append(t)
        self.reads_values |= func.overloadpacket.__name__ in VALUE_READS
        out = func(*args, **(kwargs or {}))
        self._alive += [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        return out


@dataclass
class _Seen:
    x: Tensor
    out: Tensor


def from_run(model: nn.Module, run: Callable[[nn.Module], Any]) -> Neighbours:
    """The pairs in one run of the model, valid for inputs with the same control flow.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.ReLU()).eval()
        >>> from_run(model, lambda model: model(torch.ones(3, 2))).pairs
        (('0', '2'),)
    """
    with _Readers() as readers, _recorded(model, readers) as seen, torch.no_grad():
        run(model)
    if readers.reads_values:
        return Neighbours((), reason="its path depends on the values of tensors")
    several = held_twice(model, least=2)
    once = {
        name: c[0]
        for name, c in seen.items()
        if len(c) == 1 and c[0] is not None and name not in several
    }

    def private(tensor: Tensor, readers_allowed: set[str]) -> bool:
        return readers.readers[tensor.untyped_storage()._cdata] <= readers_allowed

    def owned(name: str) -> bool:
        own = model.get_submodule(name).parameters(recurse=False)
        return all(private(p, {name}) for p in own)

    makers = {
        id(call.out): name
        for name, call in once.items()
        if not does_nothing(model.get_submodule(name))
    }
    nothing = {name for name in once if does_nothing(model.get_submodule(name))}
    pairs = []
    for name, call in once.items():
        first = makers.get(id(call.x))
        if first is None or name in nothing or first == name:
            continue
        if private(once[first].out, {first, name, *nothing}) and owned(first) and owned(name):
            pairs.append((first, name))
    return Neighbours(tuple(pairs))


@contextmanager
def _recorded(model: nn.Module, readers: _Readers) -> Iterator[dict[str, list[_Seen | None]]]:
    """The calls of leaf modules and batch normalisations; None for other than one tensor."""
    seen: dict[str, list[Any]] = defaultdict(list)
    handles = []
    for name, module in model.named_modules():
        if next(module.children(), None) is not None and not isinstance(module, _BatchNorm):
            continue

        def before(*_: Any, name: str = name) -> None:
            readers.calls.append(name)

        def after(_: nn.Module, args: Any, kwargs: Any, out: Any, name: str = name) -> None:
            readers.calls.pop()
            plain = (
                len(args) == 1
                and not kwargs
                and isinstance(args[0], Tensor)
                and isinstance(out, Tensor)
            )
            seen[name].append(_Seen(args[0], out) if plain else None)

        handles.append(module.register_forward_pre_hook(before, with_kwargs=True, prepend=True))
        handles.append(module.register_forward_hook(after, with_kwargs=True))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
