"""Modules that save themselves: constructor arguments as JSON, state as safetensors, built again.

A :class:`Configured` module remembers the call of its constructor. Saving describes it as a list of
such calls, each of which may refer to earlier ones, and a dictionary of tensors; loading makes the
calls again. Only known classes are built, and nothing is unpickled.
"""

from __future__ import annotations

import inspect
import math
import pkgutil
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch
from torch import Tensor, nn

from rectilinear.errors import CheckpointError, RectilinearError
from rectilinear.modules import NamedOnce
from rectilinear.tensor_files import (
    CONFIG,
    FORMAT,
    FRESH,
    download_model,
    hub,
    read_model,
    write_model,
)

_REGISTRY: dict[str, type[Configured]] = {}
_FORMER = {
    **{
        f"rectilinear.operators.{name}": f"rectilinear.flow.{name}"
        for name in (
            "ChebyshevVelocity",
            "ConstantVelocity",
            "LowRankEndpoint",
            "ScalarPlusLowRankVelocity",
            "SolvedVelocity",
            "SpectralVelocity",
        )
    },
    "rectilinear.idempotent": "rectilinear.projector",
    "rectilinear.koopman.Features.looks": "strides",
}
"""Present names of classes, whole packages and arguments in files of earlier versions."""
_GONE = {
    "rectilinear.style.StyleTransfer.g_in": (
        "a model of styles of square tiles, of an earlier version",
        "one of whole images: a network and an affine map a style",
        "Train it again: rectilinear train style; or load rl.load('styles').",
    )
}
"""Arguments that a class no longer takes: what such a file holds, what is read now, what to do."""
_AGAIN = {"rectilinear.projector.BlindRestorer": "Fit it again with fit_blind."}
"""What to do about a file of another version, where it is not to save or download it again."""
_BUILD_ERRORS = (
    *(RectilinearError, LookupError, TypeError),
    *(ValueError, AttributeError, RuntimeError),
)
_TAKE_OFF = (
    "Take off what was put on since it was built (parametrize.remove_parametrizations, "
    "prune.remove, remove_weight_norm), or keep the state dict and build the module in code."
)


class Configured(NamedOnce):
    """A module that can be saved, shared and built again, from the arguments it was built with.

    Subclassing is all there is to do. Arguments may be numbers, strings, ``None``, dtypes, tensors,
    other ``Configured`` modules, and tuples, lists or dictionaries of these.

    Example:
        >>> class Shift(Configured):
        ...     def __init__(self, size: int) -> None:
        ...         super().__init__()
        ...         self.by = nn.Parameter(torch.randn(size))
        >>> with TemporaryDirectory() as folder:
        ...     shift = Shift(3)
        ...     shift.save_pretrained(folder)
        ...     torch.equal(Shift.from_pretrained(folder).by, shift.by)
        True
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _REGISTRY[_class_name(cls)] = cls

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        self.__dict__["_built_from"] = (cls, _detached(args), _detached(kwargs))
        return self

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        super()._apply(*args, **kwargs)
        cls, bound = self.__dict__["_built_from"][0], _arguments(self)
        arguments = _detached(bound.args), _detached(bound.kwargs)
        self.__dict__["_built_from"] = (cls, *arguments)  # lets the old tensors go
        return self

    def _built_as(self, **arguments: Any) -> None:
        """Describe the module by these arguments instead of those it was called with."""
        self.__dict__["_built_from"] = (type(self), (), _detached(arguments))

    def save_pretrained(self, folder: Path | str) -> None:
        """Save the module into ``folder``; see :func:`save_pretrained`."""
        save_pretrained(self, folder)

    @classmethod
    def from_pretrained(cls, source: Path | str, revision: str | None = None) -> Self:
        """The module at ``source`` and ``revision``, of this class; see :func:`from_pretrained`."""
        module = from_pretrained(source, revision)
        if not isinstance(module, cls):
            raise CheckpointError(
                f"a {type(module).__name__} in {source}",
                f"a {cls.__name__}",
                "Load it by its own class, or with rl.load.",
            )
        return module

    def push_to_hub(self, repo_id: str, *, private: bool = False) -> str:
        """Upload to ``repo_id`` on the Hugging Face hub, and return the address.

        A new repository is public unless ``private``. Needs the extra ``hub``.
        """
        api = hub().HfApi()
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            api.create_repo(repo_id, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder))


def save_pretrained(module: Configured, folder: Path | str) -> None:
    """Write ``config.json`` (constructor calls) and ``model.safetensors`` (state) into ``folder``.

    A network that is used twice is written once, and is one object again after loading. The
    configuration carries the checksums of both files. A save that is cut short leaves the old model
    or the new one. Several threads or processes may save to one folder: one of their models is
    there in the end, whole.

    Args:
        module: the module to save.
        folder: where to; made if missing.

    Raises:
        CheckpointError: if a part of the module cannot be described: not a ``Configured`` module,
            or replaced since; or if the module has other tensors than its constructor makes
            (parametrizations, weight norm, pruning).
        DiskError: if the folder cannot be written.
    """
    folder = Path(folder)
    config, tensors = _Writer(module).describe()
    _check_readable(module, config, tensors)
    write_model(folder, config, tensors)


def from_pretrained(source: Path | str, revision: str | None = None) -> Configured:
    """The module saved in a folder, or in a repository ``"owner/name"`` of the Hugging Face hub.

    The module is on the CPU and in evaluation mode. Only classes that are already known are built,
    by their own constructors: nothing is unpickled and no code of the source is run. Classes of
    your own must be imported before.

    Args:
        source: a folder that :func:`save_pretrained` wrote, or the name of a repository.
        revision: branch, tag or commit of the repository; its main branch if None.

    Raises:
        CheckpointError: if files are missing, truncated, changed, or name an unknown class.
        MissingDependencyError: if there is no such folder and huggingface_hub is not installed.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = download_model(str(source), revision)
    config, tensors = read_model(folder)
    fix = FRESH
    try:
        fix = _AGAIN.get(config["modules"][-1]["class"], FRESH)
        given = {name: _parameter(t, name, config) for name, t in tensors.items()}
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn, and then replaced
            module = _build(config["modules"], given)
        _load_state(module, tensors, set(config["frozen"]), fix)
    except CheckpointError:
        raise
    except _BUILD_ERRORS as error:
        raise CheckpointError(
            f"'{error}' while building {source}", "a checkpoint of this library", fix
        ) from error
    return module.eval()


def is_saved(folder: Path) -> bool:
    """True if ``folder`` holds a complete result of :func:`save_pretrained`."""
    return (folder / CONFIG).exists()


class _Writer:
    """The description of a module: constructor calls that refer to earlier ones, and tensors."""

    def __init__(self, root: Configured) -> None:
        self.root, self.calls, self.index, self.extra = root, [], {}, {}  # type: ignore[var-annotated] # see describe
        self.paths = {id(m): f"{path}." if path else "" for path, m in root.named_modules()}
        self.state = _unique_state(root)
        self.names = {id(t): name for name, t in self.state.items()}

    def describe(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        self.module(self.root, "the module")
        parameters = {n: t for n, t in self.state.items() if isinstance(t, nn.Parameter)}
        config = {
            "format": FORMAT,
            "modules": self.calls,
            "parameters": list(parameters),
            "frozen": [name for name, t in parameters.items() if not t.requires_grad],
        }
        return config, {name: _copy(t, name) for name, t in (self.state | self.extra).items()}

    def module(self, module: nn.Module, where: str) -> dict[str, Any]:
        if id(module) not in self.index:
            if not isinstance(module, Configured):
                raise _unsaveable(
                    f"a {type(module).__name__} as {where}",
                    "Subclass rectilinear.Configured to save it.",
                )
            if id(module) not in self.paths:
                raise _unsaveable(
                    f"{where}, replaced since it was built",
                    "Build the module again from its parts.",
                )
            cls, arguments = module.__dict__["_built_from"][0], _arguments(module).arguments
            described = {
                name: self.value(value, f"{name} of {cls.__name__}")
                for name, value in arguments.items()
            }
            self.calls.append({"class": _class_name(cls), "arguments": described})
            self.index[id(module)] = len(self.calls) - 1
        return {"module": self.index[id(module)]}

    def value(self, value: Any, where: str) -> Any:
        if isinstance(value, nn.Module):
            return self.module(value, where)
        if isinstance(value, Tensor):
            name = self.names.get(id(value))
            if name is None:
                name = f"constructor:{len(self.extra)}"
                self.extra[name] = value
            return {"tensor": name}
        if isinstance(value, tuple | list):
            return [self.value(item, where) for item in value]
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"dict": {key: self.value(item, where) for key, item in value.items()}}
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        if (
            value is None
            or isinstance(value, bool | int | str)
            or (isinstance(value, float) and math.isfinite(value))
        ):
            return value
        raise _unsaveable(
            f"{where} = {value!r}", "Keep the state dict instead, and build the module in code."
        )


def _build(calls: list[dict[str, Any]], tensors: dict[str, Tensor]) -> Configured:
    built: list[Configured] = []

    def value(node: Any) -> Any:
        if isinstance(node, list):
            return tuple(value(item) for item in node)
        if not isinstance(node, dict):
            return node
        ((kind, content),) = node.items()
        if kind == "module":
            return built[range(len(built))[content]]
        if kind == "tensor":
            return tensors[content]
        if kind == "dict":
            return {key: value(item) for key, item in content.items()}
        if kind == "dtype" and isinstance(dtype := getattr(torch, content), torch.dtype):
            return dtype
        raise CheckpointError(f"a value of kind '{kind}'", "module, tensor, dict or dtype", FRESH)

    for call in calls:
        cls = _find(call["class"])
        bound = inspect.signature(cls).bind_partial()
        call["arguments"] = {
            _FORMER.get(f"{call['class']}.{k}", k): item for k, item in call["arguments"].items()
        }
        if unknown := sorted(set(call["arguments"]) - set(bound.signature.parameters)):
            if gone := [_GONE[k] for k in (f"{call['class']}.{n}" for n in unknown) if k in _GONE]:
                raise CheckpointError(*gone[0])
            raise CheckpointError(
                f"{', '.join(unknown)} for {call['class']}", "arguments it takes", FRESH
            )
        bound.arguments = {
            k: value(call["arguments"][k])
            for k in bound.signature.parameters
            if k in call["arguments"]
        }
        built.append(cls(*bound.args, **bound.kwargs))
    return built[-1]


def _parameter(tensor: Tensor, name: str, config: dict[str, Any]) -> Tensor:
    """The tensor for a constructor: a Parameter again where it was one, as modules may share it."""
    if name not in config["parameters"]:
        return tensor
    return nn.Parameter(tensor, requires_grad=name not in config["frozen"])


def _load_state(module: nn.Module, tensors: dict[str, Tensor], frozen: set[str], fix: str) -> None:
    state = _unique_state(module)
    _check_fits(state, tensors, fix)
    for name, current in state.items():
        current.data = tensors[name].to(current.device)  # which also sets the dtype
        if isinstance(current, nn.Parameter):
            current.requires_grad_(name not in frozen)
    module.load_state_dict(module.state_dict())  # for modules that act on loading


def _check_fits(state: dict[str, Tensor], tensors: dict[str, Tensor], fix: str) -> None:
    saved = {name for name in tensors if not name.startswith("constructor:")}
    if odd := sorted(saved ^ set(state)):
        raise CheckpointError(
            f"{len(odd)} tensors that do not match, first '{odd[0]}'", "those of the module", fix
        )
    for name, current in state.items():
        if current.shape != tensors[name].shape:
            raise CheckpointError(
                f"'{name}' of shape {tuple(tensors[name].shape)}",
                f"shape {tuple(current.shape)}",
                fix,
            )


def _check_readable(module: Configured, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Raise CheckpointError unless the description builds a module with these tensors."""
    given = {
        name: _parameter(tensors[name].clone(), name, config)
        for name in _tensor_names(config["modules"])
    }
    kind = type(module).__name__
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            built = _build(config["modules"], given)
        _check_fits(_unique_state(built), tensors, _TAKE_OFF)
    except CheckpointError as error:
        expected = f"{error.expected} as a {kind} is built"
        raise CheckpointError(error.got, expected, _TAKE_OFF) from error
    except Exception as error:
        raise CheckpointError(
            f"'{error}' while building the {kind} from its own description",
            "a module that its constructor builds again",
            _TAKE_OFF,
        ) from error


def _tensor_names(node: Any) -> set[str]:
    if isinstance(node, dict) and set(node) == {"tensor"} and isinstance(node["tensor"], str):
        return {node["tensor"]}
    items = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return set().union(*map(_tensor_names, items))


def _unique_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict, each tensor under its first name only."""
    unique: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        unique.setdefault(id(tensor), (name, tensor))
    return dict(unique.values())


def _find(name: str) -> type[Configured]:
    name = _FORMER.get(name, name)
    parent, _, leaf = name.rpartition(".")
    name = f"{_FORMER.get(parent, parent)}.{leaf}" if parent else leaf
    package, _, rest = name.partition(".")
    folder = rest.split(".")[0]
    if name not in _REGISTRY and package == "rectilinear" and folder and not folder.startswith("_"):
        with suppress(ImportError):
            found = import_module(f"rectilinear.{folder}")
            for module in pkgutil.walk_packages(
                getattr(found, "__path__", ()), f"{found.__name__}."
            ):
                with suppress(ImportError):  # a file that needs an extra which is not installed
                    import_module(module.name)
    if name not in _REGISTRY:
        raise CheckpointError(
            f"the class '{name}'",
            "a class of rectilinear, or one imported before",
            "Import it first.",
        )
    return _REGISTRY[name]


def _class_name(cls: type) -> str:
    """``rectilinear.folder.Class``, so that files may move in a folder; elsewhere the full name."""
    parts = cls.__module__.split(".")
    return ".".join([*(parts[:2] if parts[0] == "rectilinear" else parts), cls.__qualname__])


def _arguments(module: Configured) -> inspect.BoundArguments:
    """The constructor's arguments by name, each as the module has it now."""
    cls, args, kwargs = module.__dict__["_built_from"]
    bound = inspect.signature(cls).bind(*args, **kwargs)
    now = {name: _current(module, name, value) for name, value in bound.arguments.items()}
    bound.arguments |= now
    return bound


def _current(module: nn.Module, name: str, given: Any) -> Any:
    """The argument as the module now has it under its name: trained, moved or exchanged since."""
    kept = getattr(module, name, None)
    if isinstance(given, tuple) and isinstance(kept, nn.ModuleList):
        return tuple(kept)
    same_kind = any(isinstance(given, k) and isinstance(kept, k) for k in (nn.Module, Tensor))
    return kept if same_kind else given


def _copy(tensor: Tensor, name: str) -> Tensor:
    if tensor.dtype == torch.complex128:
        raise _unsaveable(
            f"'{name}' of dtype complex128, which safetensors has not",
            "Keep real and imaginary parts.",
        )
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _detached(value: Any) -> Any:
    """The argument as it will be kept: containers copied, tensors cut from their graph."""
    if isinstance(value, tuple | list):
        return tuple(map(_detached, value))
    if isinstance(value, dict):
        return {key: _detached(item) for key, item in value.items()}
    is_plain = isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
    return value.detach() if is_plain else value


def _unsaveable(got: str, fix: str) -> CheckpointError:
    return CheckpointError(got, "parts that a configuration can describe", fix)
