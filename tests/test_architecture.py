"""The shape of the source: layers strictly downward, no circles, files of a readable length."""

import ast
import importlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

SOURCE = Path(__file__).resolve().parents[1] / "src" / "rectilinear"
FILES = sorted(SOURCE.rglob("*.py"))
LONGEST = 500

LAYERS = (
    {
        *("errors", "config", "scalars", "numerics", "checks", "random", "modules", "notebook"),
        *("tensor_files", "serialization", "files", "progress"),
    },
    {"operators", "invertible", "metrics", "datasets", "training", "plots", "networks"},
    {"induced_space", "learning", "deeplinear", "maps"},
    {"linearizer", "analysis"},
    {"flow", "projector", "style", "koopman", "testing", "verbs"},
    {"explorer", "recipes", "report"},
    {"papers"},
    {"cli"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# The lowest layer is one: config raises errors, shapes use tolerances. Above it, parts of a layer
# do not import each other.
FOUNDATION = LAYERS[0]


@cache
def imported(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """The imports of ``path``, wherever in the file."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def imports(path: Path) -> set[str]:
    """The parts of the package that ``path`` imports, wherever in the file."""
    found = set()
    for node in imported(path):
        names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{name}" for name in names]
        found |= {name.split(".")[1] for name in names if name.startswith("rectilinear.")}
    return found


def upward(path: Path) -> set[str]:
    """The parts of its own layer or above that ``path`` imports."""
    part = path.relative_to(SOURCE).with_suffix("").parts[0]
    if part in ("__init__", "__main__"):
        return set()
    assert part in LEVEL, f"{part} has no layer: give it one here and in CONTRIBUTING.md"
    return {
        other
        for other in imports(path) - {part}
        if other in LEVEL and LEVEL[other] >= LEVEL[part] and not {part, other} <= FOUNDATION
    }


def test_imports_only_downward() -> None:
    found = {str(path.relative_to(SOURCE)): upward(path) for path in FILES}
    assert not any(found.values()), {name: parts for name, parts in found.items() if parts}


def dotted(path: Path) -> str:
    """``operators.base`` for ``operators/base.py``, ``operators`` for its ``__init__.py``."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def test_no_files_import_each_other() -> None:
    paths = {dotted(path): path for path in FILES}
    graph: dict[str, set[str]] = {}
    for name, path in paths.items():
        graph[name] = set()
        for node in imported(path):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rectilinear"):
                module = str(node.module).removeprefix("rectilinear").removeprefix(".")
                names = {f"{module}.{alias.name}".removeprefix(".") for alias in node.names}
                graph[name] |= {n if n in paths else module for n in names} & set(paths)
        graph[name] -= {name}

    def reached(start: str) -> set[str]:
        seen, waiting = set[str](), [start]
        while waiting:
            new = graph[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    circular = {name for name in graph if name in reached(name)}
    assert not circular, f"{sorted(circular)} import each other"


def test_files_are_short() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {path: count for path, count in lines.items() if count > LONGEST}


def test_every_public_folder_is_in_a_layer() -> None:
    parts = {
        path.name.removesuffix(".pyi").removesuffix(".py")
        for path in SOURCE.iterdir()
        if not path.name.startswith("__")
    }
    assert parts - {"py.typed"} <= set(LEVEL)


def test_the_layers_are_those_that_contributors_read() -> None:
    page = (SOURCE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for level, names in enumerate(LAYERS, start=1):
        assert f"\n{level} {'  '.join(sorted(names, key=page.index))}\n" in page, (
            f"layer {level} of CONTRIBUTING.md"
        )


@pytest.mark.parametrize("folder", ["benchmarks", "examples"])
def test_names_that_scripts_import_exist(folder):
    """Benchmarks run rarely: a name that was changed is found here."""
    missing = []
    for path in sorted((SOURCE.parents[1] / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(
                "rectilinear"
            ):
                continue
            module = importlib.import_module(node.module)
            names = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            missing += [f"{path.name}: {n}" for n in names if not find_spec(f"{node.module}.{n}")]
    assert not missing


def test_names_of_torch_exist() -> None:
    """Lines that run on a GPU only are not run here: their names are looked up."""
    missing = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = ast.unparse(node).split(".") if isinstance(node, ast.Attribute) else []
            if names and names[0] == "torch" and all(name.isidentifier() for name in names):
                found: object = torch
                for name in names[1:]:
                    found = getattr(found, name, None)
                missing += [f"{path.name}: {'.'.join(names)}"] if found is None else []
    assert not missing
