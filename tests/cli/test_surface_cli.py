"""The commands and their options, held by tests/cli/options.txt.

After a change that is meant, run ``python tests/cli/test_surface_cli.py`` and say it in
CHANGELOG.md.
"""

from dataclasses import fields
from pathlib import Path

from rectilinear.cli import COMMANDS, command

SNAPSHOT = Path(__file__).with_name("options.txt")


def options() -> str:
    """One line an option: command, name, default."""
    lines = []
    for name in COMMANDS:
        for field in fields(command(name)[0]):
            required = type(field.default).__name__ == "_MISSING_TYPE"
            lines.append(f"{name} {field.name}" + ("" if required else f" = {field.default}"))
    return "\n".join(lines) + "\n"


def test_commands_and_options() -> None:
    assert options() == SNAPSHOT.read_text(encoding="utf-8"), (
        "the command line changed: see the head of this file"
    )


if __name__ == "__main__":
    SNAPSHOT.write_text(options(), encoding="utf-8")
