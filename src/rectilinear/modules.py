"""Shared submodules, registered under one name each; and regions of their own precision.

PyTorch counts a parameter by the path to its module. Where one module is registered twice,
``torch.func.functional_call`` changes it for good and safetensors refuses its state dict; so a
second name is a reference here, not a registration. State dicts of earlier versions, which have
both names, still load.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar, cast, overload

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class SameAs(Generic[M]):
    """A submodule that is the one under another name, unless it is given one of its own.

    Assign ``None`` or that same module for the first; a second module is registered as usual.

    Example:
        >>> class Pair(nn.Module):
        ...     second = SameAs[nn.Module]("first")
        ...     def __init__(self, first, second=None):
        ...         super().__init__()
        ...         self.first, self.second = first, other(first, second)
        >>> pair = Pair(nn.Linear(1, 1))
        >>> pair.second is pair.first, [name for name, _ in pair.named_children()]
        (True, ['first'])
    """

    def __init__(self, first: str) -> None:
        self.first = first

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, module: None, owner: type) -> SameAs[M]: ...

    @overload
    def __get__(self, module: nn.Module, owner: type) -> M: ...

    def __get__(self, module: nn.Module | None, owner: type) -> SameAs[M] | M:
        if module is None:
            return self
        own = module._modules.get(self.name)
        return cast("M", getattr(module, self.first) if own is None else own)

    def __set__(self, module: nn.Module, value: M | None) -> None:
        """Only reached for None: modules register themselves."""
        assert value is None, "torch registers modules before a descriptor sees them"


def other(first: M, second: M | None) -> M | None:
    """``second`` where it is another module, else None: what to assign to a :class:`SameAs`."""
    return None if second is first else second


class Repeated(nn.ModuleList):
    """A list of modules in which some come again, each registered at its first place only.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> layers = Repeated([layer, nn.Tanh(), layer])
        >>> len(layers), layers[2] is layer, [name for name, _ in layers.named_children()]
        (3, True, ['0', '1'])
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__()
        modules = list(modules)
        seen: dict[int, int] = {}
        self.places = [seen.setdefault(id(module), i) for i, module in enumerate(modules)]
        for i in sorted(set(self.places)):
            self.add_module(str(i), modules[i])

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[nn.Module]:
        return (self._modules[str(i)] for i in self.places)

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self))})"

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        drop_second_names(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class NamedOnce(nn.Module):
    """A module whose parameters and state dict have each shared submodule under its first name."""

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """Each module once, under its first name.

        ``torch.func.functional_call`` asks for duplicates, and would take one module for two.
        """
        return super().named_modules(memo if remove_duplicate else set(), prefix)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The state dict; a module that is used at several places has its first name only."""
        state = super().state_dict(*args, **kwargs)
        prefix = args[1] if len(args) > 1 else kwargs.get("prefix", "")
        for second, _ in second_paths(self):
            for name in [name for name in state if name.startswith(f"{prefix}{second}.")]:
                del state[name]
        return state

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        drop_second_names(self, state_dict, prefix)
        for second, first in second_paths(self):
            for name in [name for name in state_dict if name.startswith(f"{prefix}{first}.")]:
                rest = name.removeprefix(f"{prefix}{first}.")
                state_dict.setdefault(f"{prefix}{second}.{rest}", state_dict[name])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def module_list(modules: Iterable[nn.Module]) -> nn.ModuleList:
    """A ``ModuleList`` that registers each module once."""
    modules = list(modules)
    distinct = len(set(map(id, modules))) == len(modules)
    return nn.ModuleList(modules) if distinct else Repeated(modules)


def drop_second_names(module: nn.Module, state: dict[str, Any], prefix: str) -> None:
    """Remove from a state dict of an earlier version what it holds again under a second name.

    Entries that differ from those under the first name stay: they are of another module.
    """
    for second, first in _second_names(module):
        for key in [key for key in state if key.startswith(f"{prefix}{second}.")]:
            twin = state.get(f"{prefix}{first}.{key.removeprefix(f'{prefix}{second}.')}")
            if (
                isinstance(twin, Tensor)
                and isinstance(state[key], Tensor)
                and _equal(twin, state[key])
            ):
                del state[key]


def second_paths(module: nn.Module) -> Iterator[tuple[str, str]]:
    """The paths at which a submodule comes again, at any depth, each with its first path.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> list(second_paths(nn.Sequential(layer, nn.Sequential(nn.Tanh(), layer))))
        [('1.1', '0')]
    """
    first: dict[int, str] = {}

    def walk(parent: nn.Module, prefix: str) -> Iterator[tuple[str, str]]:
        for name, child in parent._modules.items():
            if child is None:
                continue
            path = f"{prefix}{name}"
            if (known := first.setdefault(id(child), path)) != path:
                yield path, known
            else:
                yield from walk(child, f"{path}.")

    return walk(module, "")


def _second_names(module: nn.Module) -> Iterator[tuple[str, str]]:
    if isinstance(module, Repeated):
        yield from ((str(i), str(place)) for i, place in enumerate(module.places) if i != place)
    for cls in type(module).__mro__:
        for name, value in vars(cls).items():
            if isinstance(value, SameAs) and module._modules.get(name) is None:
                yield name, value.first


def _equal(a: Tensor, b: Tensor) -> bool:
    return a is b or (
        a.shape == b.shape and a.dtype == b.dtype and (a.is_meta or torch.equal(a, b))
    )


def precision_of(x: Tensor, *, bf16: bool = False) -> AbstractContextManager[object]:
    """A region without autocast on the device of ``x``; with autocast to bfloat16 if ``bf16``.

    Devices without autocast, such as "meta", have one precision only.

    Example:
        >>> with torch.autocast("cpu"), precision_of(torch.ones(2)):
        ...     (torch.ones(2, 2) @ torch.ones(2)).dtype
        torch.float32
    """
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind):
        return nullcontext()
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=bf16)


def autocasts(x: Tensor) -> bool:
    """True if autocast is on for the device of ``x``.

    Example:
        >>> autocasts(torch.ones(2))
        False
    """
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
