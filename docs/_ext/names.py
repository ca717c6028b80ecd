"""The directive ``names``: a table of the names that a page lists by hand, then their entries.

    ```{names} rectilinear.operators
    Dense
    Diagonal
    ```

With ``:at: MODULE`` the names are re-exports: only the table, linked to the entries of that module.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx


class Names(SphinxDirective):
    """One row and one entry a name, in the order in which they stand."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"at": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """The nodes of the table and of the entries."""
        module, home = self.arguments[0], self.options.get("at", self.arguments[0])
        names = [line.strip() for line in self.content if line.strip()]
        lines = table(module, home, names)
        if "at" not in self.options:
            lines += [line for name in names for line in entry(module, name)]
        return self.parse_text_to_nodes("\n".join(["````{eval-rst}", *lines, "````"]))


def table(module: str, home: str, names: list[str]) -> list[str]:
    """One row a name: a link to its entry, and the first sentence of its docstring."""
    lines = [".. list-table::", "   :class: names", "   :widths: auto", ""]
    for name in names:
        lines += [f"   * - :py:obj:`{name} <{home}.{name}>`", f"     - {summary(module, name)}"]
    return [*lines, ""]


def entry(module: str, name: str) -> list[str]:
    """The autodoc directive for a class, a function or a constant."""
    value = getattr(import_module(module), name)
    full = f"{module}.{name}"
    if inspect.isclass(value):
        return [f".. autoclass:: {full}", "   :members:", ""]
    if callable(value):
        return [f".. autofunction:: {full}", ""]
    return [
        f".. py:data:: {full}",
        f"   :type: {type(value).__name__}",
        "",
        f"   ``{shown(value)}``",
        "",
    ]


def summary(module: str, name: str) -> str:
    """The first paragraph of the docstring; for a constant what it holds."""
    value = getattr(import_module(module), name)
    if not callable(value) and not inspect.ismodule(value):
        return f"``{shown(value)}``"
    from docstrings import readable

    first = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")
    return readable([first])[0]


def shown(value: Any) -> str:
    """A constant as text: of a dictionary the keys."""
    return (
        ", ".join(map(str, value))
        if isinstance(value, dict | tuple | list | frozenset)
        else repr(value)
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("names", Names)
    return {"parallel_read_safe": True}
