"""``rectilinear audit``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from rectilinear.cli._parse import Common, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Measure how linear a network is on data, and say why."""

    model: tyro.conf.Positional[str]
    """FILE.py:NAME, a function without arguments in a Python file that makes the model. The file is run."""
    data: Path
    """Rows of data, an array .npy of floating point; it may be larger than memory."""
    labels: Path | None = None
    """Their labels, an array .npy: classes, signs or numbers."""
    checkpoint: Path | None = None
    """Weights of the model, .safetensors."""
    loss: Literal["square", "logistic", "hinge", "cross_entropy"] | None = None
    """The loss; that which fits the labels by default."""
    lr: float | None = None
    """With --steps: predict how these weights learn, at this learning rate."""
    steps: int | None = None
    """Steps of that prediction."""
    threshold: float = 0.99
    """Share of the variance that one affine map must explain for "effectively linear"."""
    html: Path | None = None
    """Write a page with plots to this file."""
    out: Path | None = None
    """Folder for audit.html and audit.json; nothing is written by default."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Load, audit, write."""
    import torch

    import rectilinear as rl
    from rectilinear._seed import seed_all

    seed_all(arguments.seed)
    model = _model(arguments.model)
    if arguments.checkpoint is not None:
        _load(model, arguments.checkpoint)
    x = _array(arguments.data, "data")
    if not x.is_floating_point():
        x = x.to(torch.get_default_dtype())
    y = None if arguments.labels is None else _array(arguments.labels, "labels")
    found = rl.audit(
        model,
        x,
        y,
        loss=arguments.loss,
        lr=arguments.lr,
        steps=arguments.steps,
        threshold=arguments.threshold,
        seed=arguments.seed,
    )
    files = {}
    if arguments.html is not None:
        found.to_html(arguments.html)
        files["html"] = str(arguments.html)
    if arguments.out is not None:
        found.to_html(arguments.out / "audit.html")
        found.to_json(arguments.out / "audit.json")
        files |= {"page": str(arguments.out / "audit.html"), "numbers": str(arguments.out / "audit.json")}
    if arguments.json:
        return found.to_json() | files
    print(found)
    return files


def _model(words: str) -> "nn.Module":
    """The model that ``FILE.py:NAME`` makes."""
    import importlib.util
    import sys

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
    except _MISTAKES as error:
        raise UsageError(f"{words} fails: {type(error).__name__}: {error}. --debug shows where.") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    if not isinstance(model, nn.Module):
        raise UsageError(f"{words} makes a {type(model).__name__} and not a torch.nn.Module.")
    return model


# What a file and a function of a user may raise, as one line.
_MISTAKES = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError),
    *(RuntimeError, SyntaxError, TypeError, ValueError),
)


def _load(model: "nn.Module", path: Path) -> None:
    """Weights from a safetensors file, all of them."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from rectilinear.errors import CheckpointError

    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}, which cannot be read: {error}", "a .safetensors file") from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"weights that do not fit the model: {reason}", "those of this model") from error


def _array(path: Path, name: str) -> "Tensor":
    """An array as a tensor, read from the disk as it is used."""
    import numpy as np
    import torch

    from rectilinear.errors import DataError

    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{name} {path}, which is no readable array", "an array .npy of numbers") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        kind = array.dtype if isinstance(array, np.ndarray) else "several arrays"
        raise DataError(f"{name} {path} of {kind}", "one array .npy of real numbers", "Save it with numpy.save.")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.from_numpy(np.asarray(array, order="C"))
