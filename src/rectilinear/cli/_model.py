"""Readers of what a user brings: a model in a Python file, its weights, and arrays."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rectilinear.cli._options import UsageError
from rectilinear.errors import CheckpointError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn


FLOATS = (2, 4, 8)
"""Bytes of the floating-point numbers that torch has."""


def load_model(words: str) -> nn.Module:
    """The model that ``FILE.py:NAME`` makes: ``NAME`` is called without arguments.

    Raises:
        UsageError: for words of another form, and for what the file or the function raises.
    """
    from torch import nn

    name, colon, factory = words.rpartition(":")
    path = Path(name)
    if not colon or path.suffix != ".py" or not factory.isidentifier():
        raise UsageError(f"'{words}' is not of the form FILE.py:NAME.")
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    spec = importlib.util.spec_from_file_location(f"_rectilinear_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    with _as_if_run(path):
        try:
            spec.loader.exec_module(module)
            model = getattr(module, factory)()
        except (Exception, SystemExit) as error:  # whatever their code raises is theirs
            raise UsageError(
                f"{words} fails: {type(error).__name__}: {error}. --debug shows where."
            ) from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"{words} makes a {type(model).__name__} and not a torch.nn.Module.")
    return model


@contextmanager
def _as_if_run(path: Path) -> Iterator[None]:
    """Inside the block a file can import its neighbours; folder and process are restored after."""
    folder, here, process = str(path.resolve().parent), Path.cwd(), os.getpid()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if os.getpid() != process:  # a child that the file forked: the audit is its parent's
            os._exit(1)
        os.chdir(here)
        with suppress(ValueError):
            sys.path.remove(folder)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load weights from a safetensors file, all of them.

    Raises:
        CheckpointError: if they cannot be read or do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}, which cannot be read: {error}", "a .safetensors file"
        ) from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"weights that do not fit the model: {reason}", "those of this model"
        ) from error


def load_array(path: Path, name: str) -> Tensor:
    """An array as a tensor: mapped from the disk where torch has its dtype, else converted.

    Raises:
        DataError: if it cannot be read, or holds no real numbers.
    """
    import numpy as np
    import torch

    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError, OverflowError) as error:
        raise DataError(
            f"{name} {path}, which cannot be read: {error}", "an array .npy of numbers"
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        kind = array.dtype if isinstance(array, np.ndarray) else "several arrays"
        raise DataError(
            f"{name} {path} of {kind}", "one array .npy of real numbers", "Save it with numpy.save."
        )
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "u" and size > 1:
        array = array.astype(
            np.int64 if size < 8 or not array.size or array.max() < 2**63 else np.float64
        )
    elif kind == "f" and size not in FLOATS:
        array = array.astype(np.float64)
    array = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    return torch.from_numpy(array)
