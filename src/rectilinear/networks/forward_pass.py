"""One pass of a network: its output tensor, and the values at places inside, read or replaced."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rectilinear.errors import ConfigError, DtypeError, ShapeError, StructureError
from rectilinear.networks.batches import Batch
from rectilinear.networks.places import Place, find, inner
from rectilinear.networks.token_vectors import Layout, layout_of

Output = str | int | Callable[[Any], Tensor] | None
Change = Callable[[Tensor], Tensor]
FLOWING = (  # names of the argument that a block passes on, in the order of preference
    *("hidden_states", "hidden_state", "x", "input", "inputs", "inputs_embeds"),
    *("src", "tgt", "query", "sample", "pixel_values", "input_values", "input_features"),
)
FAILURES = (
    *(RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError),
    *(AssertionError, NotImplementedError),
)


@dataclass(frozen=True, eq=False)
class Pass:
    """The result of one batch.

    Attributes:
        out: the output tensor of the model.
        at: the values at the places that were asked for, by their names as asked.
        batch: the batch.
        modules: those that the places are at, by the same names, and the whole model as "".
    """

    out: Tensor
    at: Mapping[str, Tensor]
    batch: Batch
    modules: Mapping[str, nn.Module]

    def layout(self, name: str) -> Layout:
        """The axis that holds the vectors of the value at a place."""
        return layout_of(self.at[name], self.modules[name], self.modules[""])


def forward(
    model: nn.Module,
    batch: Batch,
    places: Sequence[str | Place] = (),
    substitutes: Mapping[str, Change] | None = None,
    *,
    output: Output = None,
    live: bool = False,
) -> Pass:
    """The output of the model for a batch, and the values at places inside.

    Call it inside :func:`~rectilinear.networks.network.evaluating`. A value is that of the tensor
    that flows on: the first floating-point tensor of a tuple, mapping or dataclass, and of the
    arguments of a module the one named as a hidden state, else the first. An input is read before
    its module runs, so that operations in place change nothing of it.

    Args:
        model: any module.
        batch: its arguments.
        places: what to read, as :func:`~rectilinear.networks.places.find` takes them; ``"@output"``
            is what ``output`` picks.
        substitutes: for places, functions of the value there that give the value to go on with, of
            the same shape; tuples keep their other parts. What is read at the same place is the
            substitute.
        output: what of the model's output counts: a key or attribute such as "logits", an index, a
            function of it, or None for the first floating-point tensor.
        live: give values that the output was computed from, with gradients, to differentiate it
            by; else detached copies, computed without gradients.

    Raises:
        ConfigError: for a name that is no place, or an ``output`` that there is not.
        ShapeError: if the model fails on the batch, or a substitute has another shape.
        StructureError: if a module is not called once (and no ``#`` says which call counts).
        DtypeError: if there is no floating-point tensor at a place, or in the output.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> batch = Batch((torch.randn(5, 2),))
        >>> seen = forward(net, batch, ["1@input", "1"], {"1": torch.zeros_like})
        >>> seen.at["1@input"].shape, float(seen.at["1"].abs().max()), seen.out.shape
        (torch.Size([5, 3]), 0.0, torch.Size([5, 1]))
    """
    changes = {str(find(model, place)): change for place, change in (substitutes or {}).items()}
    asked = {str(place): find(model, place) for place in places}
    wanted = {str(place): place for place in asked.values()}
    wanted |= {name: find(model, name) for name in changes}
    seen = _Seen(wanted, changes, live)
    with seen.hooked(), torch.enable_grad() if live else torch.no_grad():
        out = pick(_called(model, batch), output)
        out = seen.visit("@output", out) if "@output" in wanted else out
    seen.check()
    at = {name: seen.values[str(place)] for name, place in asked.items()}
    modules = {name: place.module for name, place in asked.items()} | {"": inner(model)}
    return Pass(out if live else out.detach().clone(), at, batch, modules)


def call(model: nn.Module, batch: Batch, output: Output = None) -> Tensor:
    """The output tensor of the model for a batch, with gradients where they are enabled.

    Example:
        >>> call(nn.LSTM(2, 3, batch_first=True), Batch((torch.zeros(4, 5, 2),))).shape
        torch.Size([4, 5, 3])
    """
    return pick(_called(model, batch), output)


def pick(out: Any, output: Output = None) -> Tensor:
    """The tensor of a model's output that counts.

    Raises:
        ConfigError: if there is no such part.
        DtypeError: if it is no floating-point tensor, or none is among the parts.

    Example:
        >>> pick((torch.ones(2), torch.zeros(3))).shape
        torch.Size([2])
        >>> pick({"a": 1, "b": torch.ones(1)}, "b").shape
        torch.Size([1])
    """
    chosen = out
    if callable(output):
        chosen = output(out)
    elif output is not None:
        chosen = _part(out, output)
    if output is None:
        for name, value in _parts(out):
            if isinstance(value, Tensor) and value.is_floating_point() and name != "loss":
                return value
            if isinstance(value, tuple | list) and value and isinstance(value[0], Tensor):
                return pick(value)
    if isinstance(chosen, Tensor) and chosen.is_floating_point():
        return chosen
    kind = (
        f"tensor of dtype {chosen.dtype}" if isinstance(chosen, Tensor) else type(chosen).__name__
    )
    raise DtypeError(
        f"a model that returns a {kind}",
        "a floating-point tensor, or a tuple, mapping or dataclass with one",
        "Pass output=, a key such as 'logits' or a function of what the model returns.",
    )


def _parts(out: Any) -> list[tuple[Any, Any]]:
    """Names or indices of the parts of a value, and the parts."""
    if isinstance(out, PackedSequence):
        raise DtypeError(
            "a model that returns a PackedSequence",
            "a padded tensor",
            "Pass output=lambda out: torch.nn.utils.rnn.pad_packed_sequence(out, True)[0].",
        )
    if isinstance(out, Mapping):
        return list(out.items())
    if isinstance(out, tuple | list):
        return list(enumerate(out))
    if dataclasses.is_dataclass(out) and not isinstance(out, type):
        return [(f.name, getattr(out, f.name)) for f in dataclasses.fields(out)]
    return [(None, out)]


def _part(out: Any, output: str | int) -> Any:
    if isinstance(output, int):
        values = [value for _, value in _parts(out)]
        if -len(values) <= output < len(values):
            return values[output]
    elif isinstance(out, Mapping) and output in out:
        return out[output]
    elif not isinstance(out, Tensor) and getattr(out, output, None) is not None:
        return getattr(out, output)
    names = ", ".join(repr(n) for n, v in _parts(out) if n is not None and v is not None)
    raise ConfigError(
        f"output = {output!r}", f"one of {names}" if names else "None: it is a tensor"
    )


def _called(model: nn.Module, batch: Batch) -> Any:
    def fresh(value: Any) -> Any:  # models may work in place
        return value.clone() if isinstance(value, Tensor) else value

    try:
        return inner(model)(
            *map(fresh, batch.args), **{name: fresh(v) for name, v in batch.kwargs.items()}
        )
    except FAILURES as error:
        from rectilinear.errors import RectilinearError

        if isinstance(error, RectilinearError):
            raise
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ShapeError(
            f"{_described(batch)}, on which the model fails: {type(error).__name__}: {first}",
            "arguments that the model takes",
            "Reshape the data, name the arguments in a mapping, or wrap the model.",
        ) from error


def _described(batch: Batch) -> str:
    if len(batch.args) == 1 and not batch.kwargs:
        return f"a batch with rows of shape {tuple(batch.main.shape[1:])}"
    named = [*((None, a) for a in batch.args), *batch.kwargs.items()]
    return "a batch of " + ", ".join(
        f"{f'{name} ' if name else ''}{tuple(v.shape)}"
        for name, v in named
        if isinstance(v, Tensor)
    )


class _Seen:
    """Hooks that read or replace the values at places."""

    def __init__(
        self, places: Mapping[str, Place], changes: Mapping[str, Change], live: bool
    ) -> None:
        self.values: dict[str, Tensor] = {}
        self._places, self._changes, self._live = places, changes, live
        self._calls = dict.fromkeys(places, 0)

    def visit(self, name: str, value: Tensor) -> Tensor:
        """The value to go on with."""
        change = self._changes.get(name)
        if change is not None:
            new = change(value)
            if new.shape != value.shape:
                raise ShapeError(
                    f"a substitute of shape {tuple(new.shape)} at {name}", f"{tuple(value.shape)}"
                )
            value = new.to(value).clone()  # what follows may work in place
        if not self._live:
            self.values[name] = value.detach().clone()
            return value
        value = value.clone() if value.requires_grad else value.detach().clone().requires_grad_()
        self.values[name] = value
        return value.clone()  # operations in place on what goes on leave the kept value alone

    def _due(self, name: str) -> bool:
        self._calls[name] += 1
        call = self._places[name].call
        return call is None or call == self._calls[name] - 1

    def before(self, name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not self._due(name):
                return None
            where = flowing_argument(name, args, kwargs)
            value = kwargs[where] if isinstance(where, str) else args[where]
            new = self.visit(name, value)
            if new is value:
                return None
            if isinstance(where, str):
                return args, {**kwargs, where: new}
            return (*args[:where], new, *args[where + 1 :]), kwargs

        return hook

    def after(self, name: str) -> Any:
        def hook(_: nn.Module, __: tuple[Any, ...], ___: dict[str, Any], out: Any) -> Any:
            if not self._due(name):
                return None
            value = _flowing(name, out)
            new = self.visit(name, value)
            return None if new is value else exchanged(out, value, new)

        return hook

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """The hooks inside the block, and compiled parts run as they are written."""
        handles = []
        compiled = "torch._dynamo" in sys.modules
        try:
            for name, place in self._places.items():
                if not place.name and place.side == "output":
                    self._calls[name] = 1
                elif place.side == "input":
                    hook = place.module.register_forward_pre_hook
                    handles.append(hook(self.before(name), with_kwargs=True, prepend=True))
                else:
                    register = place.module.register_forward_hook
                    handles.append(register(self.after(name), with_kwargs=True))
            with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
                yield
        finally:
            for handle in handles:
                handle.remove()

    def check(self) -> None:
        """Raise for a place without one value."""
        for name, place in self._places.items():
            count = self._calls[name]
            if place.call is None and count > 1:
                raise StructureError(
                    f"{place.name!r}, called {count} times a pass",
                    "one call",
                    f"Choose one: '{place.name}#0' to '{place.name}#{count - 1}'.",
                )
            if name not in self.values:
                raise StructureError(
                    f"{place.name!r}, called {count} times a pass",
                    "one call" if place.call is None else f"more than {place.call} calls",
                    "Choose a module that the model calls.",
                )


def flowing_argument(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | str:
    """The position or name of the argument of a module that it transforms."""

    def floats(value: Any) -> bool:
        return isinstance(value, Tensor) and value.is_floating_point()

    if args and floats(args[0]):
        return 0
    named: list[int | str] = [key for key in FLOWING if floats(kwargs.get(key))]
    others: list[int | str] = [i for i, value in enumerate(args) if floats(value)]
    rest: list[int | str] = [key for key, value in kwargs.items() if floats(value)]
    found = [*named, *others, *rest]
    if not found:
        raise DtypeError(
            f"no floating-point tensor among the arguments of {name}",
            "one",
            "Choose the output of that module, or another one.",
        )
    return found[0]


def _flowing(name: str, out: Any) -> Tensor:
    try:
        return pick(out)
    except DtypeError as error:
        raise DtypeError(
            f"no floating-point tensor in the output of {name}", "one", "Choose another module."
        ) from error


def exchanged(out: Any, old: Tensor, new: Tensor) -> Any:
    """The output of a module with one tensor in the place of another, its other parts kept."""
    if out is old:
        return new
    if isinstance(out, tuple) and not hasattr(out, "_fields"):
        return tuple(exchanged(part, old, new) for part in out)
    if isinstance(out, tuple):
        return type(out)(*(exchanged(part, old, new) for part in out))
    if isinstance(out, list):
        return [exchanged(part, old, new) for part in out]
    if dataclasses.is_dataclass(out) and not isinstance(out, type):
        values = {f.name: getattr(out, f.name) for f in dataclasses.fields(out)}
        changed = {k: new for k, v in values.items() if v is old}
        return dataclasses.replace(out, **changed) if changed else out
    if isinstance(out, Mapping):
        return type(out)({k: exchanged(v, old, new) for k, v in out.items()})  # type: ignore[call-arg]
    return out


@contextmanager
def constant_parameters(model: nn.Module) -> Iterator[None]:
    """Inside the block no parameter asks for a gradient: live passes keep less in memory."""
    asking = [p for p in model.parameters() if p.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_()
