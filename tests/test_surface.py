"""The public names, held by tests/surface.txt, and what importing the package costs.

After a change that is meant, run ``python tests/test_surface.py`` and say it in CHANGELOG.md.
"""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

import rectilinear as rl

SNAPSHOT = Path(__file__).with_name("surface.txt")


def surface() -> str:
    """One line a public name: those of the package, and those of its modules that say what is
    public.
    """
    names = [f"rectilinear.{name}" for name in rl.__all__]
    for folder in rl.__all__:
        if isinstance(module := getattr(rl, folder), ModuleType):
            names += [f"{module.__name__}.{name}" for name in getattr(module, "__all__", ())]
    return "\n".join(sorted(names)) + "\n"


def test_public_names() -> None:
    assert surface() == SNAPSHOT.read_text(encoding="utf-8"), (
        "public names changed: see the head of this file"
    )


def test_every_name_loads() -> None:
    for line in surface().split():
        module, _, name = line.rpartition(".")
        assert getattr(import_module(module), name) is not None
    assert set(rl.__all__) - {"__version__"} <= set(dir(rl))
    with pytest.raises(AttributeError, match="No rectilinear attribute nothing"):
        rl.nothing  # noqa: B018 - the access is the test


def test_the_types_of_the_verbs_name_the_same_arguments() -> None:
    body = ast.parse(Path(rl.__file__).with_name("verbs.pyi").read_text(encoding="utf-8")).body
    verbs = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    assert {*verbs, "project", "backproject"} == set(import_module("rectilinear.verbs").__all__)
    for name, node in verbs.items():
        declared = [argument.arg for argument in node.args.args]
        assert list(inspect.signature(getattr(rl, name)).parameters) == declared, name


def test_verbs_are_functions_and_not_their_modules() -> None:
    for name in rl.__all__:
        value = getattr(rl, name)
        assert callable(value) or isinstance(value, ModuleType | str), name
    assert inspect.isfunction(rl.audit)
    assert next(iter(inspect.signature(rl.audit).parameters)) == "model"


def test_version() -> None:
    assert rl.__version__ == version("rectilinear")


@pytest.mark.whole
def test_import_needs_no_torch() -> None:
    code = (
        "import sys, rectilinear as rl; rl.__version__; dir(rl); import rectilinear.errors, "
        "rectilinear.config;"
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'matplotlib', 'safetensors'} & "
        "set(sys.modules);assert not heavy, heavy;rl.InducedSpace; assert 'torch' in sys.modules; "
        "assert 'matplotlib' not in sys.modules;"
        "import rectilinear.recipes, rectilinear.analysis.audit;"  # what most commands import
        "slow = {'sklearn', 'pandas', 'scipy.stats', 'numba'} & set(sys.modules); "
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


if __name__ == "__main__":
    SNAPSHOT.write_text(surface(), encoding="utf-8")
