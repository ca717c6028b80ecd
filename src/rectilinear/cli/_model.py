"""What a user brings: a model in a Python file, its weights, and arrays."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rectilinear.cli._parse import UsageError
from rectilinear.errors import CheckpointError, DataError

if TYPE_CHECKING:
    from torch import Tensor, nn

# What a file and a function of a user may raise, as one line.
MISTAKES = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError),
    *(RuntimeError, SyntaxError, TypeError, ValueError),
)


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
    sys.path.insert(0, str(path.resolve().parent))  # as if the file were run, so that it can import its neighbours
    try:
        spec.loader.exec_module(module)
        model = getattr(module, factory)()
    except MISTAKES as error:
        raise UsageError(f"{words} fails: {type(error).__name__}: {error}. --debug shows where.") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    if not isinstance(model, nn.Module):
        raise UsageError(f"{words} makes a {type(model).__name__} and not a torch.nn.Module.")
    return model


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
        raise CheckpointError(f"{path}, which cannot be read: {error}", "a .safetensors file") from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"weights that do not fit the model: {reason}", "those of this model") from error


def load_array(path: Path, name: str) -> Tensor:
    """An array as a tensor, read from the disk as it is used.

    Raises:
        DataError: if it cannot be read, or holds no real numbers.
    """
    import numpy as np
    import torch

    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{name} {path}, which cannot be read: {error}", "an array .npy of numbers") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        kind = array.dtype if isinstance(array, np.ndarray) else "several arrays"
        raise DataError(f"{name} {path} of {kind}", "one array .npy of real numbers", "Save it with numpy.save.")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.from_numpy(np.asarray(array, order="C"))
