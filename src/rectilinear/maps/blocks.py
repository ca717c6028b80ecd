"""The blocks of a network: their names, their recorded calls, and modules in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from rectilinear.errors import ConfigError, DtypeError, StructureError
from rectilinear.maps.affine_block import Shapes
from rectilinear.maps.map_forms import MapMoments
from rectilinear.networks.forward_pass import exchanged, flowing_argument, pick
from rectilinear.networks.network import Network, parts
from rectilinear.networks.places import block_names as block_names
from rectilinear.networks.places import find, named_parts
from rectilinear.networks.token_vectors import layout_of

BATCH = 256
BUDGET = 1e10  # products that go into the fit of one block
AFFINE = (
    *(
        nn.Linear,
        nn.Conv1d,
        nn.Conv2d,
        nn.Conv3d,
        nn.ConvTranspose1d,
        nn.ConvTranspose2d,
        nn.ConvTranspose3d,
    ),
    *(
        nn.BatchNorm1d,
        nn.BatchNorm2d,
        nn.BatchNorm3d,
        nn.Identity,
        nn.Flatten,
        nn.Unflatten,
        nn.PixelShuffle,
    ),
    *(
        nn.Dropout,
        nn.Dropout1d,
        nn.Dropout2d,
        nn.Dropout3d,
        nn.AlphaDropout,
        nn.AvgPool1d,
        nn.AvgPool2d,
        nn.AvgPool3d,
    ),
    *(
        nn.AdaptiveAvgPool1d,
        nn.AdaptiveAvgPool2d,
        nn.AdaptiveAvgPool3d,
        nn.ZeroPad2d,
        nn.Upsample,
        nn.Unfold,
    ),
)


def is_affine(module: nn.Module) -> bool:
    """True if a torch module is affine in evaluation mode.

    False for subclasses, and for modules with foreign hooks or a replaced ``forward``.

    Example:
        >>> is_affine(nn.BatchNorm1d(3)), is_affine(nn.ReLU())
        (True, False)
    """
    kind = type(module).__bases__[0] if is_parametrized(module) else type(module)
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    if "forward" in vars(module):
        return False
    if any(not type(hook).__module__.startswith("torch.nn.utils.") for hook in hooks):
        return False
    if (
        isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
        and not module.track_running_stats
    ):
        return False
    return kind in AFFINE or (
        isinstance(module, nn.LeakyReLU) and kind is nn.LeakyReLU and module.negative_slope == 1
    )


class Call(NamedTuple):
    """One call of a module: input before it ran, output, and whether the input was changed."""

    x: Tensor
    out: Tensor
    changed: bool


@contextmanager
def watching(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, list[Call]]]:
    """The recorded calls of each module inside the ``with`` block.

    Recorded are calls with a floating-point tensor (positional or keyword) that return one, alone
    or in a tuple. Inputs are read before the module and its hooks run, outputs after them.
    """
    seen: dict[str, list[Call]] = {name: [] for name in modules}
    begun: dict[str, list[Tensor | None]] = {name: [] for name in modules}

    def before(name: str) -> Any:
        def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = _flowing_in(name, args, kwargs)
            begun[name].append(None if x is None else x.detach().clone())

        return keep

    def after(name: str) -> Any:
        def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            x, now, made = begun[name].pop(), _flowing_in(name, args, kwargs), _flowing_out(out)
            if x is not None and now is not None and made is not None:
                seen[name].append(Call(x, made.detach().clone(), not torch.equal(x, now)))

        return keep

    handles = [
        module.register_forward_pre_hook(before(name), prepend=True, with_kwargs=True)
        for name, module in modules.items()
    ]
    handles += [
        module.register_forward_hook(after(name), with_kwargs=True)
        for name, module in modules.items()
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _flowing_in(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    try:
        where = flowing_argument(name, args, kwargs)
    except DtypeError:
        return None
    return kwargs[where] if isinstance(where, str) else args[where]


def _flowing_out(out: Any) -> Tensor | None:
    try:
        return pick(out)
    except DtypeError:
        return None


@contextmanager
def replaced(module: nn.Module, stand_in: Callable[..., Tensor] | None) -> Iterator[None]:
    """A context in which ``stand_in`` gives the output of ``module``.

    It gets a copy of the module's first floating-point tensor, and its result replaces the tensor
    in the output. Without a replacement the output stays, and in-place changes of the module are
    to a copy.
    """
    begun: list[Tensor | None] = []

    def copied(value: Any) -> Any:
        return value.clone() if isinstance(value, Tensor) else value

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        begun.append(_flowing_in("", args, kwargs))
        return tuple(map(copied, args)), {name: copied(value) for name, value in kwargs.items()}

    def after(_: nn.Module, __: tuple[Any, ...], ___: dict[str, Any], out: Any) -> Any:
        x, made = begun.pop(), _flowing_out(out)
        if stand_in is None or x is None or made is None:
            return out
        return exchanged(out, made, stand_in(x))

    handles = [
        module.register_forward_pre_hook(before, prepend=True, with_kwargs=True),
        module.register_forward_hook(after, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def r2_each(found: Tensor, wanted: Tensor) -> Tensor:
    """The share of each column's variance in ``wanted`` ``(n, O)`` that ``found`` explains.

    ``(O,)``, NaN for a column that is constant up to rounding.

    Example:
        >>> wanted = torch.tensor([[0.0, 0.0, 5.0], [1e6, 1.0, 5.0]])
        >>> r2_each(wanted * torch.tensor([1.0, 0.5, 1.0]), wanted).tolist()
        [1.0, 0.5, nan]
    """
    eps = torch.finfo(wanted.dtype).eps
    rounding = eps if torch.finfo(wanted.dtype).bits <= 16 else 10 * eps  # sums are in float32
    found, wanted = found.double(), wanted.double()
    left, total = (found - wanted).square().sum(0), (wanted - wanted.mean(0)).square().sum(0)
    varies = total > rounding**2 * wanted.square().sum(0)
    return torch.where(varies, 1 - left / total, torch.nan)


def worst_of(r2: Tensor) -> tuple[int, float]:
    """The output with the smallest share explained, and the share; 0 and 1 if all are constant."""
    worst = int(r2.nan_to_num(torch.inf).argmin())
    return worst, 1.0 if bool(r2[worst].isnan()) else float(r2[worst])


def check_alone(run: Callable[[], Tensor], module: nn.Module) -> None:
    """Raise if another part of the network reads what the module changes in place."""
    with torch.no_grad():
        with watching({"": module}) as seen:
            plain = run().clone()
        if not any(call.changed for call in seen[""]):
            return
        with replaced(module, None):
            alone = run()
    if not torch.allclose(alone, plain, rtol=1e-4, atol=1e-4 * float(alone.abs().max())):
        raise StructureError(
            "a block that changes its input in place, where something beside it reads it",
            "a block whose output alone matters",
            "Build it without inplace=True.",
        )


def shapes_of(calls: list[Call], *modules: nn.Module) -> Shapes:
    """The shapes of a block that is called once for each batch."""
    if len(calls) != 1:
        raise StructureError(
            f"a block that is called {len(calls)} times a pass"
            if calls
            else "a block that is not called with a tensor, or does not return one",
            "one call with a tensor, that returns a tensor",
            "Choose another block, such as the one that holds it.",
        )
    x, out, _ = calls[0]
    if x.ndim < 1 or out.ndim < 1 or len(x) != len(out):
        raise StructureError(
            f"a block from {tuple(x.shape)} to {tuple(out.shape)}",
            "the batch as the first axis",
            "Build it with batch_first=True, or choose the block that holds it.",
        )
    layout = layout_of(x, *modules) if x.ndim > 1 else None
    return Shapes.between(tuple(x.shape[1:]), tuple(out.shape[1:]), layout)


def check_names(model: nn.Module, names: str | Sequence[str]) -> list[str]:
    """The full names of submodules, each once; names may be shortened to a unique ending."""
    asked = [names] if isinstance(names, str) else list(names)
    known = dict(named_parts(model))
    first = {id(module): name for name, module in reversed(known.items())}
    found = []
    for name in asked:
        try:
            found.append(first[id(find(model, name).module)] if name else "")
        except ConfigError:
            found.append("")
    if unknown := [name for name, place in zip(asked, found, strict=True) if not place]:
        raise ConfigError(
            f"no block named {', '.join(map(repr, unknown))}",
            f"names such as {', '.join(block_names(model)[:8])}",
            "Take names of model.named_modules().",
        )
    return list(dict.fromkeys(found))


def fit_blocks(
    network: Network, modules: Mapping[str, nn.Module], x: Tensor
) -> tuple[dict[str, MapMoments], dict[str, str]]:
    """Least-squares fits of blocks, and the reasons for the blocks that cannot be fitted."""
    moments: dict[str, MapMoments] = {}
    refused: dict[str, str] = {}
    for batch in parts(x, BATCH):
        with watching(modules) as seen:
            network(batch)
        for name, calls in seen.items():
            if name in refused:
                continue
            try:
                shapes = shapes_of(calls, modules[name], network.model)
                if calls[0].changed and name not in moments:
                    check_alone(lambda rows=batch: network(rows), modules[name])  # type: ignore[misc]
            except StructureError as error:
                refused[name] = error.got
                moments.pop(name, None)
                continue
            moments.setdefault(name, MapMoments(shapes, BUDGET)).add(calls[0].x, calls[0].out)
    return moments, refused
