"""Save and share: a module that remembers how it was built is written as safetensors and JSON, and
built again.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import pkgutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Self

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from rectilinear.config import atomic_write, write_json
from rectilinear.errors import CheckpointError, MissingDependencyError, RectilinearError
from rectilinear.modules import drop_second_names, second_paths

CONFIG, WEIGHTS, FORMAT = "config.json", "model.safetensors", 1
_HEADER = "rectilinear"
_REGISTRY: dict[str, type[Configured]] = {}
_FORMER = {  # names in files that earlier versions saved: of classes, or of the folders of many
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
}


class Configured(nn.Module):
    """A module that remembers the arguments it was built from, so that it can be saved, shared and
    built again.

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
        self.__dict__["_built_from"] = (
            cls,
            _detached(bound.args),
            _detached(bound.kwargs),
        )  # lets the old tensors go
        return self

    def _built_as(self, **arguments: Any) -> None:
        """Describe the module by these arguments instead of those it was called with."""
        self.__dict__["_built_from"] = (
            type(self),
            (),
            {k: _detached(value) for k, value in arguments.items()},
        )

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """Each module under its first name: ``torch.func.functional_call`` asks for all, and
        mistakes two for two.
        """
        return super().named_modules(memo if remove_duplicate else set(), prefix)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As that of any module, with the tensors of a module that is used at several places under
        its first name.
        """
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

    def save_pretrained(self, folder: Path | str) -> None:
        """See :func:`save_pretrained`."""
        save_pretrained(self, folder)

    @classmethod
    def from_pretrained(cls, source: Path | str, revision: str | None = None) -> Self:
        """See :func:`from_pretrained`; the module must be of this class."""
        module = from_pretrained(source, revision)
        if not isinstance(module, cls):
            raise CheckpointError(
                f"a {type(module).__name__} in {source}",
                f"a {cls.__name__}",
                "Load it as what it is.",
            )
        return module

    def push_to_hub(self, repo_id: str, *, private: bool = False) -> str:
        """Upload to the Hugging Face hub (needs ``rectilinear[hub]``) and return the address."""
        api = _hub().HfApi()
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            api.create_repo(repo_id, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder))


def save_pretrained(module: Configured, folder: Path | str) -> None:
    """Write ``config.json`` (how to build the module) and ``model.safetensors`` (its state) into
    ``folder``.

    A network that is used twice is written once, and is one object again after loading. The
    configuration carries the checksums of both files.

    A save that is cut short leaves the old model or the new one: the weights carry a copy of their
    configuration, which
    stands in for a ``config.json`` of other weights. Several threads or processes may save to one
    folder: one of their models is there in the end, whole.

    Raises:
        CheckpointError: if a part of the module cannot be described: not a ``Configured`` module,
            or replaced since; or if the module has other tensors than its constructor makes
            (parametrizations, weight norm, pruning).
        DiskError: if the folder cannot be written.
    """
    folder = Path(folder)
    config, tensors = _Writer(module).describe()
    _check_readable(module, config, tensors)
    text = json.dumps(config, sort_keys=True)
    header = f"{tensors_digest(tensors, text.encode())} {text}"
    config["weights_sha256"] = write_safetensors(folder / WEIGHTS, tensors, {_HEADER: header})
    write_json(folder / CONFIG, config | {"config_sha256": _digest(config)})


def write_safetensors(
    path: Path | str, tensors: Mapping[str, Tensor], metadata: dict[str, str]
) -> str:
    """Write contiguous tensors on the CPU to ``path``, the whole file or none of it; return its
    SHA-256.

    Raises:
        DiskError: if the disk is full or cannot be written; the old file stays.
    """
    with atomic_write(path) as tmp:
        try:
            safetensors.torch.save_file(dict(tensors), tmp, metadata=metadata)
        except safetensors.SafetensorError as error:
            raise OSError(str(error)) from error
        return _sha256(tmp)


def from_pretrained(source: Path | str, revision: str | None = None) -> Configured:
    """Build the module saved in a folder, or in a repository of the Hugging Face hub
    (``"owner/name"``).

    The module is on the CPU and in evaluation mode. Only classes that are already known are built,
    from their own
    constructors: nothing is unpickled and no code of the source is run. Classes of your own must be
    imported before.

    Raises:
        CheckpointError: if files are missing, truncated, changed, or name an unknown class.
        MissingDependencyError: if there is no such folder and huggingface_hub is not installed.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _download(str(source), revision)
    config, tensors = _read(folder)
    try:
        with torch.random.fork_rng(
            devices=[]
        ):  # constructors draw initial weights, which are then replaced
            module = _build(
                config["modules"],
                {name: _parameter(t, name, config) for name, t in tensors.items()},
            )
        _load_state(module, tensors, set(config["frozen"]))
    except CheckpointError:
        raise
    except (
        RectilinearError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RuntimeError,
    ) as error:
        raise CheckpointError(
            f"'{error}' while building {source}", "a checkpoint of this library", _FRESH
        ) from error
    return module.eval()


def is_saved(folder: Path) -> bool:
    """Whether :func:`save_pretrained` came to its end in ``folder``, once at least."""
    return (folder / CONFIG).exists()


_FRESH = "Save or download it again, and check that the versions match."


class _Writer:
    """Describes a module as constructor calls, each referring to earlier ones, and a dictionary of
    tensors.
    """

    def __init__(self, root: Configured) -> None:
        self.root, self.calls, self.index, self.extra = root, [], {}, {}  # type: ignore[var-annotated] # see describe
        self.paths = {id(m): f"{path}." if path else "" for path, m in root.named_modules()}
        self.state = _unique_state(root)
        self.names = {id(t): name for name, t in self.state.items()}

    def describe(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        self.module(self.root, "the module")
        config = {
            "format": FORMAT,
            "modules": self.calls,
            "parameters": [n for n, t in self.state.items() if isinstance(t, nn.Parameter)],
            "frozen": [
                n
                for n, t in self.state.items()
                if isinstance(t, nn.Parameter) and not t.requires_grad
            ],
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
                    f"{where}, replaced since it was built", "Build the module anew from its parts."
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
        raise CheckpointError(f"a value of kind '{kind}'", "module, tensor, dict or dtype", _FRESH)

    for call in calls:
        cls = _find(call["class"])
        bound = inspect.signature(cls).bind_partial()
        if unknown := sorted(set(call["arguments"]) - set(bound.signature.parameters)):
            raise CheckpointError(
                f"{', '.join(unknown)} for {call['class']}", "arguments it takes", _FRESH
            )
        bound.arguments = {
            k: value(call["arguments"][k])
            for k in bound.signature.parameters
            if k in call["arguments"]
        }
        built.append(cls(*bound.args, **bound.kwargs))
    return built[-1]


def _parameter(tensor: Tensor, name: str, config: dict[str, Any]) -> Tensor:
    """The tensor for a constructor; as a Parameter where it was one, so that modules that shared it
    share it again.
    """
    return (
        nn.Parameter(tensor, requires_grad=name not in config["frozen"])
        if name in config["parameters"]
        else tensor
    )


def _load_state(module: nn.Module, tensors: dict[str, Tensor], frozen: set[str]) -> None:
    state = _unique_state(module)
    _check_fits(state, tensors, _FRESH)
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
    """Build the module from its description, as :func:`from_pretrained` will: what does not fit is
    refused now.
    """
    given = {
        name: _parameter(tensors[name].clone(), name, config)
        for name in _tensor_names(config["modules"])
    }
    fix = (
        "Take off what was put on since it was built (parametrize.remove_parametrizations, prune.remove, "
        "remove_weight_norm), or keep the state dict and build the module in code."
    )
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            built = _build(config["modules"], given)
        _check_fits(_unique_state(built), tensors, fix)
    except CheckpointError as error:
        raise CheckpointError(
            error.got, f"{error.expected} as a {type(module).__name__} is built", fix
        ) from error
    except Exception as error:
        raise CheckpointError(
            f"'{error}' while building the {type(module).__name__} from its own description",
            "a module that its constructor builds again",
            fix,
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


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and the tensors, both as they were written."""
    path = folder / WEIGHTS
    while True:
        config = _parsed(_bytes(folder / CONFIG), folder / CONFIG)
        if not path.is_file():
            raise CheckpointError(
                f"no {path.name} in {folder}", "a folder written by save_pretrained", _FRESH
            )
        before = path.stat()
        try:
            sha, (tensors, header) = _sha256(path), _tensors(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise CheckpointError(f"'{error}' in {path}", "a safetensors file", _FRESH) from error
        after = path.stat()
        if (before.st_ino, before.st_mtime_ns) == (
            after.st_ino,
            after.st_mtime_ns,
        ):  # nobody saved in between
            break
    if sha == config.get("weights_sha256"):
        return config, tensors
    digest, _, text = (header or "").partition(" ")
    if digest != tensors_digest(tensors, text.encode()):
        raise _changed(path)
    return _of_this_format(json.loads(text), path), tensors


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(
            f"no {path.name} in {path.parent}", "a folder written by save_pretrained", _FRESH
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"an unreadable {path}", "the JSON of save_pretrained", _FRESH
        ) from error


def _parsed(text: bytes, path: Path) -> dict[str, Any]:
    try:
        config = json.loads(text)
        digest = config.pop("config_sha256")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"an unreadable {path}", "the JSON of save_pretrained", _FRESH
        ) from error
    _of_this_format(config, path)
    if digest != _digest(config):
        raise _changed(path)
    return config


def _of_this_format(config: dict[str, Any], path: Path) -> dict[str, Any]:
    if config.get("format") != FORMAT:
        raise CheckpointError(
            f"format {config.get('format')} in {path}", f"format {FORMAT}", "Update rectilinear."
        )
    return config


def _tensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """The tensors of the file, and the configuration that it carries, if it does."""
    with safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        return tensors, (file.metadata() or {}).get(_HEADER)


def _changed(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} with another checksum than when saved", "the file as it was written", _FRESH
    )


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
    """``rectilinear.folder.Class``, so that files may move inside a folder; elsewhere the full
    name.
    """
    parts = cls.__module__.split(".")
    return ".".join([*(parts[:2] if parts[0] == "rectilinear" else parts), cls.__qualname__])


def _arguments(module: Configured) -> inspect.BoundArguments:
    """The constructor's arguments by name, each as the module has it now."""
    cls, args, kwargs = module.__dict__["_built_from"]
    bound = inspect.signature(cls).bind(*args, **kwargs)
    bound.arguments |= {
        name: _current(module, name, value) for name, value in bound.arguments.items()
    }
    return bound


def _current(module: nn.Module, name: str, given: Any) -> Any:
    """The argument as the module has it now, where it keeps it under its name: trained, moved or
    exchanged since.
    """
    kept = getattr(module, name, None)
    if isinstance(given, tuple) and isinstance(kept, nn.ModuleList):
        return tuple(kept)
    return (
        kept
        if any(isinstance(given, kind) and isinstance(kept, kind) for kind in (nn.Module, Tensor))
        else given
    )


def _copy(tensor: Tensor, name: str) -> Tensor:
    if tensor.dtype == torch.complex128:
        raise _unsaveable(
            f"'{name}' of dtype complex128, which safetensors has not",
            "Keep real and imaginary parts.",
        )
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _detached(value: Any) -> Any:
    """The argument as it will be kept: containers copied, tensors cut from the graph that made
    them.
    """
    if isinstance(value, tuple | list):
        return tuple(map(_detached, value))
    if isinstance(value, dict):
        return {key: _detached(item) for key, item in value.items()}
    return (
        value.detach()
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
        else value
    )


def _download(source: str, revision: str | None) -> Path:
    if len(parts := source.split("/")) != 2 or not all(parts) or parts[0].startswith((".", "~")):
        raise CheckpointError(
            f"no folder '{source}'", "a saved folder, or owner/name on the hub", "Check the path."
        )
    hub = _hub(f"no folder '{source}', and to look online")
    try:
        return Path(
            hub.snapshot_download(source, revision=revision, allow_patterns=[CONFIG, WEIGHTS])
        )
    except (OSError, ValueError) as error:  # the base classes of all that huggingface_hub raises
        raise CheckpointError(
            got=f"no folder '{source}', and on the hub '{error}'",
            expected="a saved folder, or owner/name on the hub",
        ) from error


def _hub(use: str = "the hub") -> ModuleType:
    try:
        return import_module("huggingface_hub")
    except ImportError as error:
        raise MissingDependencyError.of(use, "huggingface_hub", extra="hub") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def tensors_digest(tensors: Mapping[str, Tensor], first: bytes = b"") -> str:
    """The SHA-256 of ``first`` and of names, dtypes, shapes and bytes of contiguous tensors on the
    CPU.
    """
    digest = hashlib.sha256(first)
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _unsaveable(got: str, fix: str) -> CheckpointError:
    return CheckpointError(got, "parts that a configuration can describe", fix)
