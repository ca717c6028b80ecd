"""Tensors in safetensors files: checksums, atomic writes, model folders, and the Hugging Face hub.

A *tensor file* holds named tensors, JSON values and a SHA-256 over both. A *model folder* holds
``config.json``, which describes a module, and ``model.safetensors``, its state; each carries the
checksum of the other. A file is whole or absent, and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from rectilinear.config import write_json
from rectilinear.errors import CheckpointError, DtypeError, MissingDependencyError
from rectilinear.files import atomic_write

CONFIG, WEIGHTS, FORMAT = "config.json", "model.safetensors", 1
HEADER = "rectilinear"  # the key of the metadata in a safetensors file
FRESH = "Save or download it again, and check that the versions match."


def save_tensors(
    path: Path | str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any] | None = None
) -> None:
    """Write tensors and JSON values to one safetensors file, atomically and with a checksum.

    Any dtype, device and memory layout. Names that share one tensor share it in the file and again
    when loaded.

    Args:
        path: the file.
        tensors: tensors by name.
        meta: JSON values to keep beside them, none by default.

    Raises:
        DiskError: if the disk is full or cannot be written; the old file stays.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "weights.safetensors"
        >>> save_tensors(path, {"w": torch.eye(2)}, {"step": 3})
        >>> load_tensors(path)
        ({'w': tensor([[1., 0.],
                [0., 1.]])}, {'step': 3})
    """
    plain: dict[str, Tensor] = {}
    header: dict[str, Any] = {"meta": dict(meta or {}), "same_as": {}, "complex": []}
    owners: dict[Any, str] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise DtypeError(
                f"{name} of type {type(tensor).__name__}",
                "a torch.Tensor",
                "Convert with torch.as_tensor.",
            )
        flags = (tensor.dtype, tensor.is_conj(), tensor.is_neg())
        key = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), flags)
        if tensor.numel() and key in owners:
            header["same_as"][name] = owners[key]
            continue
        owners[key] = name
        if tensor.is_complex():
            header["complex"].append(name)
        plain[name] = _real_on_cpu(tensor)
    header["sha256"] = _file_digest(plain, header)
    _write_safetensors(Path(path), plain, json.dumps(header))


def load_tensors(
    path: Path | str, device: torch.device | str = "cpu"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and JSON values that :func:`save_tensors` wrote, checked by checksum."""
    path = Path(path)
    try:
        plain, text = _read_safetensors(path)
        header = json.loads(text)  # type: ignore[arg-type] # None raises TypeError
        intact = header.pop("sha256") == _file_digest(plain, header)
    except FileNotFoundError as error:
        raise CheckpointError(f"no file {path}", "a saved file") from error
    except (
        safetensors.SafetensorError,
        OSError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        RecursionError,
    ) as error:
        raise CheckpointError(
            got=f"{path}, which cannot be read ({type(error).__name__}: {error})",
            expected="a safetensors file written by rectilinear",
            fix="It is truncated, damaged or of another origin: delete it and write it again.",
        ) from error
    if not intact:
        raise CheckpointError(
            got=f"{path} with contents that do not match its checksum",
            expected="the file as it was written",
            fix="It was damaged or changed: delete it and write it again.",
        )
    tensors = {
        name: (torch.view_as_complex(x) if name in header["complex"] else x).to(device)
        for name, x in plain.items()
    }
    shared = {name: tensors[owner] for name, owner in header["same_as"].items()}
    return tensors | shared, header["meta"]


def write_model(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a model folder; a write that is cut short leaves the old model or the new one.

    The weights carry a copy of the configuration, which stands in for a ``config.json`` of other
    weights.
    """
    text = json.dumps(config, sort_keys=True)
    header = f"{tensors_digest(tensors, text.encode())} {text}"
    config["weights_sha256"] = _write_safetensors(folder / WEIGHTS, tensors, header)
    write_json(folder / CONFIG, config | {"config_sha256": config_digest(config)})


def read_model(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and the tensors of a model folder, both as they were written."""
    path = folder / WEIGHTS
    while True:
        config = _parsed(_bytes(folder / CONFIG), folder / CONFIG)
        if not path.is_file():
            raise CheckpointError(
                f"no {path.name} in {folder}", "a folder written by save_pretrained", FRESH
            )
        before = path.stat()
        try:
            sha, (tensors, header) = file_sha256(path), _read_safetensors(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise CheckpointError(f"'{error}' in {path}", "a safetensors file", FRESH) from error
        after = path.stat()
        if (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns):
            break  # nobody saved in between
    if sha == config.get("weights_sha256"):
        return config, tensors
    digest, _, text = (header or "").partition(" ")
    if digest != tensors_digest(tensors, text.encode()):
        raise _changed(path)
    return _of_this_format(json.loads(text), path), tensors


def download_model(source: str, revision: str | None) -> Path:
    """The model folder of a repository ``owner/name`` of the Hugging Face hub, downloaded.

    Raises:
        CheckpointError: if ``source`` is no such name, or the hub has no such repository.
        MissingDependencyError: without huggingface_hub.
    """
    if len(parts := source.split("/")) != 2 or not all(parts) or parts[0].startswith((".", "~")):
        raise CheckpointError(f"no folder '{source}'", "a saved folder, or owner/name on the hub")
    client = hub(f"no folder '{source}', and to look online")
    try:
        return Path(
            client.snapshot_download(source, revision=revision, allow_patterns=[CONFIG, WEIGHTS])
        )
    except (OSError, ValueError) as error:  # the base classes of all that huggingface_hub raises
        raise CheckpointError(
            got=f"no folder '{source}', and on the hub '{error}'",
            expected="a saved folder, or owner/name on the hub",
            fix="Check the spelling and the connection.",
        ) from error


def hub(use: str = "the hub") -> ModuleType:
    """The package ``huggingface_hub``, or a MissingDependencyError that says what ``use`` needs."""
    try:
        return import_module("huggingface_hub")
    except ImportError as error:
        raise MissingDependencyError.of(use, "huggingface_hub", extra="hub") from error


def tensors_digest(tensors: Mapping[str, Tensor], first: bytes = b"") -> str:
    """The SHA-256 of ``first`` and of names, dtypes, shapes and bytes of tensors on the CPU."""
    digest = hashlib.sha256(first)
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def config_digest(config: dict[str, Any]) -> str:
    """The SHA-256 of JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """The SHA-256 of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_safetensors(path: Path, tensors: Mapping[str, Tensor], header: str) -> str:
    """Write contiguous tensors on the CPU, the whole file or none of it; return its SHA-256."""
    with atomic_write(path) as tmp:
        try:
            safetensors.torch.save_file(dict(tensors), tmp, metadata={HEADER: header})
        except safetensors.SafetensorError as error:
            raise OSError(str(error)) from error
        return file_sha256(tmp)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """The tensors of the file, and the header that we wrote into it, if it has one."""
    with safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        return tensors, (file.metadata() or {}).get(HEADER)


def _real_on_cpu(tensor: Tensor) -> Tensor:
    """The tensor on the CPU in memory of its own, complex numbers as pairs of real ones."""
    tensor = tensor.detach()
    tensor = (
        (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor.resolve_neg())
        .cpu()
        .contiguous()
    )
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _file_digest(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    return tensors_digest(tensors, json.dumps(header, sort_keys=True, allow_nan=False).encode())


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(
            f"no {path.name} in {path.parent}", "a folder written by save_pretrained", FRESH
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"an unreadable {path}", "the JSON of save_pretrained", FRESH
        ) from error


def _parsed(text: bytes, path: Path) -> dict[str, Any]:
    try:
        config = json.loads(text)
        digest = config.pop("config_sha256")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"an unreadable {path}", "the JSON of save_pretrained", FRESH
        ) from error
    _of_this_format(config, path)
    if digest != config_digest(config):
        raise _changed(path)
    return config


def _of_this_format(config: dict[str, Any], path: Path) -> dict[str, Any]:
    if config.get("format") != FORMAT:
        raise CheckpointError(
            f"format {config.get('format')} in {path}", f"format {FORMAT}", "Update rectilinear."
        )
    return config


def _changed(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} with another checksum than when saved", "the file as it was written", FRESH
    )
