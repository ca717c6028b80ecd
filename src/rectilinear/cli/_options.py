"""Inputs and results of commands: options, models, arrays, image files."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import io
import os
import sys
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from textwrap import dedent, shorten
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import tyro

from rectilinear.errors import DataError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn


MAX_QUOTED = 300  # characters of an error message of another library


class UsageError(Exception):
    """A command line that is not valid."""


@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every command."""

    seed: int = 0
    """Seed of all random numbers."""
    json: bool = False
    """Result as one JSON object, which is all that standard output then has."""
    debug: bool = False
    """Traceback of an error, before its line."""

    def folders(self) -> tuple[Path, ...]:
        """Folders that the command writes into, tried before it computes."""
        out, run = getattr(self, "out", None), getattr(self, "run", None)
        if out is not None:
            return (out,)
        return (run,) if run is not None and run.is_dir() else ()

    def locks(self) -> tuple[Path, ...]:
        """The folders that are locked while the command runs: those with results of a run."""
        return self.folders() if hasattr(self, "run") else ()

    def code(self) -> tuple[Path, ...]:
        """Files of the user's own code that the command runs."""
        return ()


T = TypeVar("T")


def parse(cls: type[T], command: str, words: Sequence[str]) -> T | None:
    """The words as an instance of ``cls``; None when they asked for help, which is then printed."""
    if any(not word or (word.startswith("--") and word.endswith("=")) for word in words):
        raise UsageError(
            "An empty word: an option without its value, or a shell variable that is not set."
        )
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            arguments = tyro.cli(
                cls,
                prog=f"rectilinear {command}",
                args=list(words),
                config=(
                    tyro.conf.FlagCreatePairsOff,
                    tyro.conf.OmitArgPrefixes,
                    tyro.conf.DisallowNone,
                ),
                registry=_registry(),
            )
    except SystemExit as stop:
        if not stop.code:
            return None
        raise UsageError(
            f"{_first_message(said.getvalue())}. See rectilinear {command} --help."
        ) from None
    _check_numbers(arguments)
    return arguments


def _registry() -> tyro.constructors.ConstructorRegistry:
    """Rules by which the help of an option is its docstring, with a default that is a value.

    Where the default is None, or nothing, the docstring says what happens without the option.
    """
    registry = tyro.constructors.ConstructorRegistry()

    @registry.struct_rule
    def options(info: tyro.constructors.StructTypeInfo) -> Any:
        if not is_dataclass(info.type):
            return None
        hints, texts = get_type_hints(info.type, include_extras=True), documented(info.type)
        specs = []
        for option in fields(info.type):
            conf: dict[str, Any] = {"help": " ".join(texts.get(option.name, "").split())}
            hint: Any = hints[option.name]
            if "Positional" in str(hint):
                conf["metavar"] = option.name.upper()
            if any(option.default is nothing for nothing in (None, False, ())):
                conf["help_behavior_hint"] = ""
            kind: Any = Annotated[hint, tyro.conf.arg(**conf)]
            default = tyro.MISSING if option.default is MISSING else option.default
            specs.append(tyro.constructors.StructFieldSpec(option.name, kind, default))
        return tyro.constructors.StructConstructorSpec(info.type, tuple(specs))

    return registry


def documented(options: type) -> dict[str, str]:
    """The docstrings of the fields of a dataclass and of its base classes, by name."""
    found: dict[str, str] = {}
    for cls in reversed(options.__mro__[:-1]):
        (node,) = ast.parse(dedent(inspect.getsource(cls))).body
        assert isinstance(node, ast.ClassDef)
        for field, text in pairwise(node.body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
            ):
                found[field.target.id] = ast.literal_eval(text.value)
    return found


def _check_numbers(arguments: Any) -> None:
    """Raise unless integers are positive; some may be 0, and ``n_jobs`` -1: one job a core."""
    for name, value in vars(arguments).items():
        least = {"seed": 0, "samples": 0, "remove": 0, "n_jobs": -1}.get(name, 1)
        if type(value) is int and not least <= value < 2**63:
            raise UsageError(
                f"--{name.replace('_', '-')} {value} is out of range: it is at least {least}."
            )


def _first_message(boxed: str) -> str:
    r"""The first paragraph of tyro's framed message, as one line.

    Example:
        >>> box = "╭─ Invalid ─╮\n│ invalid    │\n│ choice 'a' │\n│ ────── │\n│ For help   │\n╰──╯"
        >>> _first_message(box)
        "invalid choice 'a'"
    """
    words: list[str] = []
    for line in boxed.splitlines():
        if line.startswith(("╭", "╰")):
            continue
        text = line.strip("│ ")
        if words and text and not text.strip("─"):
            break
        words += text.split()
    return " ".join(words).rstrip(".")


def write_images(
    folder: Path, name: str, strips: Tensor, columns: int | None = None
) -> dict[str, str]:
    """Write ``(rows, frames, c, h, w)`` as ``name.png`` and ``name.npy``, each whole or not at all.

    Strips are one under the other, unless ``columns`` says how many images make a row.
    """
    import numpy as np

    from rectilinear import plots
    from rectilinear.files import atomic_write
    from rectilinear.plots.charts import png

    array = strips.float().cpu().numpy()
    images = array.reshape(-1, *array.shape[2:])
    with atomic_write(folder / f"{name}.png") as tmp:
        tmp.write_bytes(
            png(plots.grid(images, columns or array.shape[1]), scale=max(1, 64 // array.shape[-1]))
        )
    with atomic_write(folder / f"{name}.npy") as tmp:
        np.save(tmp, array, allow_pickle=False)
    return {"image": str(folder / f"{name}.png"), "array": str(folder / f"{name}.npy")}


def check_apart(out: Path, path: Path) -> None:
    """Raise a DataError for results that would lie in the folder of images that are read."""
    if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
        raise DataError(
            got=f"--out {out}, which is the folder of the input or in it",
            expected="another folder",
            fix="Results there would be read with the images the next time.",
        )


def named_images(path: Path, shape: tuple[int, int, int], out: Path) -> dict[str, Tensor]:
    """Images by name: of a file, or a folder and its sub-folders, scaled and cropped to ``shape``.

    Args:
        path: of the file or folder.
        shape: ``(c, h, w)``; grey for one channel.
        out: where results will lie.
    """
    from rectilinear.datasets.images import read_images
    from rectilinear.datasets.read_image import distinct_names, image_files

    files = image_files(path)
    check_apart(out, path)
    c, h, w = shape
    return dict(
        zip(distinct_names(files, path), read_images(files, (h, w), grey=c == 1), strict=True)
    )


FLOATS = (2, 4, 8)
"""Bytes of the floating-point numbers that torch has."""


def load_model(words: str) -> nn.Module:
    """The model of ``FILE.py:NAME``, a model or a function that makes it, or that of a folder.

    Raises:
        UsageError: for words of another form, and for what the file or the function raises.
        MissingDependencyError: for a folder, without transformers.
    """
    from torch import nn

    if Path(words).is_dir():
        return _pretrained("AutoModel", words)
    name, colon, factory = words.rpartition(":")
    path = Path(name)
    if not colon or path.suffix != ".py" or not factory.isidentifier():
        file = f"; for {words} write a function NAME that builds the network and loads it"
        known = (".onnx", ".pt", ".pth", ".safetensors", ".keras", ".h5", ".joblib", ".pkl")
        more = file if words.endswith(known) else ""
        raise UsageError(f"'{words}' is neither of the form FILE.py:NAME nor a folder{more}.")
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    spec = importlib.util.spec_from_file_location(f"_rectilinear_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    with _as_if_run(path):
        try:
            spec.loader.exec_module(module)
            found = getattr(module, factory)
            model = found if isinstance(found, nn.Module) else found()
        except (Exception, SystemExit) as error:  # whatever their code raises is theirs
            raise UsageError(
                f"{words} fails: {type(error).__name__}: {error}. --debug shows where."
            ) from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"{words} makes a {type(model).__name__} and not a torch.nn.Module.")
    return model


def load_texts(path: Path, folder: str) -> list[str]:
    """The texts of a file, one a line, for the model of a Hugging Face folder."""
    if not Path(folder).is_dir():
        raise UsageError(
            "--text needs the folder of a transformer with its tokenizer; else give --data."
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise UsageError(f"There is no text in {path}.")
    return texts


def load_tokenizer(folder: str) -> Any:
    """The tokenizer of a Hugging Face folder.

    Raises:
        UsageError: for a folder without one.
        MissingDependencyError: without transformers.
    """
    found = _pretrained("AutoTokenizer", folder)
    if len(found) <= len(found.all_special_tokens):  # transformers makes an empty one
        raise UsageError(f"{folder} holds no tokenizer: its vocabulary is empty.")
    return found


def _pretrained(kind: str, folder: str) -> Any:
    """A model or tokenizer from a folder, by transformers and without network."""
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError.of(
            f"the folder {folder}", "transformers", extra="hf", instead="pass FILE.py:NAME"
        ) from error
    transformers.utils.logging.disable_progress_bar()  # of the second that it takes
    try:
        return getattr(transformers, kind).from_pretrained(folder, local_files_only=True)
    except Exception as error:  # of any library that reads one of its files
        said = shorten(str(error) or type(error).__name__, MAX_QUOTED, placeholder=" ...")
        raise UsageError(f"{folder} cannot be loaded as a transformer: {said}") from error


@contextmanager
def _as_if_run(path: Path) -> Iterator[None]:
    """A context in which a file can import its neighbours; folder and process are restored."""
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


def load_array(path: Path, name: str) -> Tensor:
    """An array as a tensor: mapped from the disk where torch has its dtype, else converted."""
    import numpy as np
    import torch

    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError, OverflowError) as error:
        said = "no .npy file, or one of objects" if "pickle" in str(error) else str(error)
        raise DataError(
            f"{name} {path}, which cannot be read: {said}",
            "an array .npy of numbers",
            "Write it with numpy.save.",
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
