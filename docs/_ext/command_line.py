"""The directive ``command-line``: every command and its options, read from ``rectilinear.cli``."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from rectilinear.cli import COMMANDS, command
from rectilinear.cli._options import documented

if TYPE_CHECKING:
    from sphinx.application import Sphinx

COMMON = ("seed", "json", "debug")


def reference() -> str:
    """Markdown with one section a command: call, purpose, and a table of its options."""
    return "\n\n".join(map(section, COMMANDS))


def section(name: str) -> str:
    """Title, call, first line of the help, and a table of options."""
    arguments, _ = command(name)
    meanings, types = documented(arguments), typing.get_type_hints(arguments)
    fields = [f for f in dataclasses.fields(arguments) if f.name not in COMMON]
    words = [f.name for f in fields if positional(arguments, f.name)]
    rows = []
    for field in fields:
        option = field.name.upper() if field.name in words else flag(arguments, field.name)
        cells = values(types[field.name]), default(field), cell(meanings[field.name])
        rows.append(f"| `{option}` | {' | '.join(cells)} |")
    call = " ".join(["rectilinear", name, *map(str.upper, words)])
    options = "\n".join(["| option | value | default | meaning |", "|---|---|---|---|", *rows])
    intro = " ".join(inspect.cleandoc(arguments.__doc__).split("\n\n")[0].split())
    return f"## {name}\n\n```\n{call} [OPTIONS]\n```\n\n{intro}\n\n{options}"


def positional(arguments: type, name: str) -> bool:
    """True for a positional argument."""
    hint = typing.get_type_hints(arguments, include_extras=True)[name]
    return any("Positional" in repr(mark) for mark in getattr(hint, "__metadata__", ()))


def flag(arguments: type, name: str) -> str:
    """The option as it is typed, ``--from`` for a field that may not have that name."""
    hint = typing.get_type_hints(arguments, include_extras=True)[name]
    names = (getattr(mark, "name", None) for mark in getattr(hint, "__metadata__", ()))
    return "--" + next(filter(None, names), name).replace("_", "-")


def values(hint: Any) -> str:
    """The values that an option takes: choices, or their type."""
    kinds = [
        kind for kind in typing.get_args(hint) if kind is not type(None) and kind is not Ellipsis
    ]
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(hint))
    if kinds:
        return " or ".join(dict.fromkeys(map(values, kinds)))
    plain = {str: "text", int: "integer", float: "number", bool: "flag", Path: "path"}
    return plain.get(hint, getattr(hint, "__name__", str(hint)))


def default(field: dataclasses.Field[Any]) -> str:
    """The default as text; empty for a flag and for a required argument."""
    value = field.default if field.default is not dataclasses.MISSING else None
    if type(value).__name__ == "_MISSING_TYPE" or value in (None, False, ()):
        return ""
    return f"`{' '.join(map(str, value)) if isinstance(value, tuple) else value}`"


def cell(text: str) -> str:
    """Text for a cell of a Markdown table; options and ``KIND=SEVERITY`` as code."""
    line = " ".join(text.split()).replace("|", "\\|")
    return re.sub(r"(?<![\w`])(--[a-z][\w-]*|[A-Z]+=[A-Z]+)", r"`\1`", line)


class CommandLine(SphinxDirective):
    """The sections, as a part of the page."""

    def run(self) -> list[nodes.Node]:
        """The nodes of all sections."""
        parsed = self.parse_text_to_nodes(reference(), allow_section_headings=True)
        for part in parsed:
            for table in part.findall(nodes.table):
                table["classes"].append("options")
        return parsed


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
