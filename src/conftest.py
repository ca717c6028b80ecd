"""Doctests of a file by itself see the classes of its package.

Of a module that is not imported yet, pytest runs the file beside the module that its package then
imports: of each of its classes there are two, and neither is an instance of the other.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent


def pytest_collect_file(file_path: Path, parent: Any) -> None:
    """Import the module of a file by its name, before its doctests are collected."""
    if file_path.suffix == ".py" and parent.config.option.doctestmodules:
        parts = file_path.relative_to(SOURCE).with_suffix("").parts
        if parts[0] == "rectilinear" and parts[-1] not in ("__main__", "conftest"):
            import_module(".".join(parts).removesuffix(".__init__"))
