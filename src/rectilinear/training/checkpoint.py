"""Files of tensors: safetensors with a checksum and JSON, whole or absent, never unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from rectilinear._pretrained import tensors_digest, write_safetensors
from rectilinear.errors import CheckpointError, DtypeError

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKPOINT = "checkpoint.safetensors"
_HEADER = "rectilinear"


def save_tensors(path: Path | str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any] | None = None) -> None:
    """Write tensors and JSON values ``meta`` to one safetensors file, atomically and with a checksum.

    Any dtype, device and memory layout. Names that share one tensor share it in the file and again when loaded.

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
                f"{name} of type {type(tensor).__name__}", "a torch.Tensor", "Convert with torch.as_tensor."
            )
        flags = (tensor.dtype, tensor.is_conj(), tensor.is_neg())
        key = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), flags)
        if tensor.numel() and key in owners:
            header["same_as"][name] = owners[key]
            continue
        owners[key] = name
        if tensor.is_complex():
            header["complex"].append(name)
        plain[name] = _plain(tensor)
    header["sha256"] = _digest(plain, header)
    write_safetensors(path, plain, {_HEADER: json.dumps(header)})


def load_tensors(path: Path | str, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the ``meta`` that :func:`save_tensors` wrote, checked against their checksum.

    Raises:
        CheckpointError: if the file is missing, truncated, changed, or not one of ours.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            plain = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
            header = json.loads((file.metadata() or {})[_HEADER])
        intact = header.pop("sha256") == _digest(plain, header)
    except FileNotFoundError as error:
        raise CheckpointError(f"no file {path}", "a saved file", "Check the path.") from error
    except (SafetensorError, OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(
            got=f"{path}, which cannot be read ({type(error).__name__}: {error})",
            expected="a safetensors file written by rectilinear",
            fix="It is truncated, damaged or of another origin: delete it and write it anew.",
        ) from error
    if not intact:
        raise CheckpointError(
            got=f"{path} with contents that do not match its checksum",
            expected="the file as it was written",
            fix="It was damaged or changed: delete it and write it anew.",
        )
    tensors = {n: (torch.view_as_complex(x) if n in header["complex"] else x).to(device) for n, x in plain.items()}
    return tensors | {name: tensors[owner] for name, owner in header["same_as"].items()}, header["meta"]


def load_state(module: nn.Module, tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Load a state dict into ``module``, or say which names and shapes differ.

    Raises:
        CheckpointError: if ``source`` holds the state of another module; ``module`` stays as it was.
    """
    own = module.state_dict()
    placed = {id(x) for name, x in tensors.items() if name in own}  # a module that had two names once has one now
    tensors = {name: x for name, x in tensors.items() if name in own or id(x) not in placed}
    wrong = [f"no {name}" for name in own if name not in tensors]
    wrong += [f"{name} without a place" for name in tensors if name not in own]
    wrong += [
        f"{name} of shape {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    wrong += [
        f"{name} of {tensors[name].dtype} instead of {own[name].dtype}"
        for name in own
        if name in tensors and not torch.can_cast(tensors[name].dtype, own[name].dtype)  # would lose a part
    ]
    if wrong:
        raise CheckpointError(
            got=f"{source} with {', '.join(wrong[:3])}{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}",
            expected=f"the {len(own)} tensors of this {type(module).__name__}",
            fix="Build the model with the configuration that it was saved with.",
        )
    module.load_state_dict(dict(tensors))


def load_checkpoint(out: Path | str, ema: bool = True) -> dict[str, Tensor]:
    """The state dict of the objective trained in the run folder ``out``: averaged weights where they were kept.

    Raises:
        CheckpointError: if there is no checkpoint, or it is damaged.
    """
    groups = group_by_prefix(load_tensors(Path(out) / CHECKPOINT)[0])
    return groups.get("model", {}) | (groups.get("ema", {}) if ema else {})


def group_by_prefix(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """``{"a.x": 1, "a.y.z": 2}`` as ``{"a": {"x": 1, "y.z": 2}}``."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        prefix, _, rest = name.partition(".")
        groups.setdefault(prefix, {})[rest] = tensor
    return groups


def _plain(tensor: Tensor) -> Tensor:
    """The tensor on the CPU in memory of its own, real."""
    tensor = tensor.detach()
    tensor = (
        (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor.resolve_neg()).cpu().contiguous()
    )
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _digest(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    return tensors_digest(tensors, json.dumps(header, sort_keys=True, allow_nan=False).encode())
