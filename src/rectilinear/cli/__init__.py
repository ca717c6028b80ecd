"""The command line: one file a command.

A command is a module with ``Arguments``, a dataclass whose docstring and fields are its help, and ``run(arguments)``,
which returns the JSON object to print. Modules import what is heavy inside ``run``: ``--help`` stays instant.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rectilinear import __version__
from rectilinear.cli._parse import UsageError, parse
from rectilinear.cli._show import show
from rectilinear.errors import RectilinearError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = (
    "demo",
    "train",
    "sample",
    "invert",
    "interpolate",
    "data",
    "report",
    "reproduce",
    "study",
    "audit",
    "predict",
    "project",
    "stylize",
    "forecast",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: 0 when it succeeds, 1 when a claim fails, 2 for a mistake of the user, in one line.

    Example:
        >>> main(["sing"])
        2
    """
    words = list(sys.argv[1:] if argv is None else argv)
    as_json, debug = "--json" in words, "--debug" in words
    try:
        if not words or words[0] in ("-h", "--help"):
            print(_overview())
            return 0
        if words[0] == "--version":
            print(f"rectilinear {__version__}")
            return 0
        if words[0] not in COMMANDS:
            raise UsageError(f"'{words[0]}' is no command; one of: {', '.join(COMMANDS)}.")
        command = import_module(f"rectilinear.cli.{words[0]}")
        arguments = parse(command.Arguments, words[0], words[1:])
        if arguments is None:
            return 0
        if not as_json:
            result = command.run(arguments)
            show(result)
        else:
            with redirect_stdout(sys.stderr):
                result = command.run(arguments)
            print(json.dumps(result, allow_nan=False))
    except (RectilinearError, UsageError) as error:
        if debug:
            raise
        message = " ".join(str(error).split())
        if as_json:
            print(json.dumps({"error": {"type": type(error).__name__, "message": message}}))
        print(f"rectilinear: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rectilinear: stopped; a run goes on where it was with the same command.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe has gone: nothing is left to say, and Python must not try to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0 if _holds(result) else 1


def _holds(result: dict[str, Any]) -> bool:
    return all(claim["ok"] for claim in result.get("claims", []))


def _overview() -> str:
    lines = ["usage: rectilinear COMMAND ...", "", "Linear algebra for neural networks.", ""]
    for name in COMMANDS:
        arguments = import_module(f"rectilinear.cli.{name}").Arguments
        lines.append(f"  {name:<13}{arguments.__doc__.splitlines()[0]}")
    return "\n".join([*lines, "", "rectilinear COMMAND --help lists the options of one command."])
