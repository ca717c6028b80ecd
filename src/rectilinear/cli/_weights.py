"""Weights from files: .safetensors, and those of torch.save, read without running code of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rectilinear.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

PICKLED = (".pth", ".pt", ".bin")  # files of torch.save
WRAPPED = ("module.", "_orig_mod.", "model.", "net.")  # of DDP, torch.compile, Lightning
NESTED = ("state_dict", "model_state_dict", "model")  # keys under which checkpoints hold weights


def load_weights(model: nn.Module, path: Path) -> None:
    """Load all weights of a model from a .safetensors file, or from one of ``torch.save``.

    The latter is read without running code of it. Names may all begin as those of a model that was
    trained in DistributedDataParallel, torch.compile or a module of Lightning.
    """
    weights = _unwrapped(_pickled(path) if path.suffix in PICKLED else _safetensors(path), model)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"weights that do not fit the model: {reason}",
            "those of this model",
            "Pass weights of the model that NAME returns, or correct NAME.",
        ) from error


def _unwrapped(weights: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The weights under the model's own names, if all names have one of :data:`WRAPPED` before."""
    own = model.state_dict().keys()
    short = weights
    while short and not short.keys() & own:
        prefix = next((w for w in WRAPPED if all(name.startswith(w) for name in short)), None)
        if prefix is None:
            return weights
        short = {name.removeprefix(prefix): value for name, value in short.items()}
    return short


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}, which cannot be read: {error}",
            "a .safetensors or .pth file",
            "Write it with torch.save(model.state_dict(), path).",
        ) from error


def _pickled(path: Path) -> dict[str, Tensor]:
    from pickle import UnpicklingError

    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, UnpicklingError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "Weights only" in first:  # torch advises to run the file
            first = "it holds objects beside tensors, such as a whole model"
        raise CheckpointError(
            f"{path}, which cannot be read as weights: {first[:120]}",
            "tensors that torch.save wrote, and nothing that has to be run",
            "Save model.state_dict(), or use .safetensors.",
        ) from error
    for name in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not all(
        isinstance(v, torch.Tensor) for v in found.values()
    ):
        raise CheckpointError(
            f"{path} of a {type(found).__name__}",
            "a state_dict of tensors",
            "Save model.state_dict() in its place.",
        )
    return dict(found)
