"""The command line: one file a command.

A command is a module with ``Arguments``, a dataclass whose docstring and fields are its help, and
``run(arguments)``,
which returns the JSON object to print. Modules import what is heavy inside ``run``: ``--help``
stays instant.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from rectilinear import __version__
from rectilinear.cli._exit import (
    FAILED_CLAIM,
    FAULT,
    INTERRUPTED,
    MISTAKE,
    PIPE_CLOSED,
    ending,
    nobody_reads,
    say,
)
from rectilinear.cli._options import UsageError, parse, show
from rectilinear.config import nan_to_null
from rectilinear.files import locked, writable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import TextIO


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

FORMER_OPTIONS = {("project", "--damage"): "--corrupt", ("study", "--starts"): "--inits"}
"""Options of earlier versions by command, and their present names."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code.

    0 done; 1 a claim of ``reproduce`` does not hold; 2 what the user can mend: words, data, files,
    memory, the code of a model; 3 a fault of rectilinear; 130 stopped by Ctrl-C; 141 nobody reads
    what it says any more. Whatever goes wrong is one line on standard error, after the traceback
    with ``--debug``.

    Example:
        >>> main(["sing"])
        2
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        for stream in (sys.stdout, sys.stderr):  # a path that is no UTF-8 can be shown nevertheless
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # those of a process are text files
    output, as_json, asked = sys.stdout, "--json" in words, _Asked()
    try:
        result = _run(words, asked)
        if as_json and result is not None:
            print(json.dumps(nan_to_null(result), allow_nan=False), file=output)
        elif result is not None:
            show(result)
        output.flush()
    except BrokenPipeError as error:
        return _pipe_closed(output, error)
    except BaseException as error:  # noqa: BLE001 - the last net: whatever it is ends in one line
        code, message = ending(error, asked.user_files)
        say(message, error if "--debug" in words else None)
        if as_json and code != INTERRUPTED:
            print(
                json.dumps({"error": {"type": type(error).__name__, "message": message}}),
                file=output,
            )
        return code
    return 0 if _holds(result or {}) else FAILED_CLAIM


class _Asked:
    """What is known of the command when it fails."""

    user_files: tuple[Path, ...] = ()


def _run(words: Sequence[str], asked: _Asked) -> dict[str, Any] | None:
    """The result of the command; None where help or the version were asked for, and shown."""
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return None
    if words[0] == "--version":
        print(f"rectilinear {__version__}")
        return None
    if words[0] not in COMMANDS:
        raise UsageError(f"'{words[0]}' is no command; one of: {', '.join(COMMANDS)}.")
    for word in words[1:]:
        if new := FORMER_OPTIONS.get((words[0], word.partition("=")[0])):
            raise UsageError(f"'{word.partition('=')[0]}' is now called {new}.")
    command = import_module(f"rectilinear.cli.{words[0]}")
    arguments = parse(command.Arguments, words[0], words[1:])
    if arguments is None:
        return None
    asked.user_files = arguments.code()
    process = os.getpid()
    with ExitStack() as stack:
        stack.enter_context(writable(arguments.folders()))
        for folder in arguments.locks():
            stack.enter_context(locked(folder))
        if arguments.code():
            stack.enter_context(_no_silent_end())
        if arguments.json:
            stack.enter_context(_standard_error_only())
        result: dict[str, Any] = command.run(arguments)
    if os.getpid() != process:  # a child that the user's code forked and let run on
        os._exit(MISTAKE)
    return result


@contextmanager
def _no_silent_end() -> Iterator[None]:
    """Inside the block, ``os._exit`` of the user's code is ``sys.exit``, and never exit code 0."""
    ending, process = os._exit, os.getpid()

    def refuse(status: int) -> NoReturn:
        if os.getpid() != process:  # a child that ends as children do
            ending(status)
        raise SystemExit(status)

    os._exit = refuse
    try:
        yield
    finally:
        os._exit = ending


@contextmanager
def _standard_error_only() -> Iterator[None]:
    """Inside the block, what Python, libraries and other programs print goes to standard error."""
    try:
        number, kept = sys.stdout.fileno(), os.dup(sys.stdout.fileno())
        sys.stdout.flush()
        os.dup2(sys.stderr.fileno(), number)
    except (OSError, ValueError):  # a stream that is no file, as in a notebook
        with redirect_stdout(sys.stderr):
            yield
        return
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, number)
        os.close(kept)


def _pipe_closed(output: TextIO, error: BrokenPipeError) -> int:
    """The exit code where a reader has gone: 0 if it had only the answer left to read."""
    if not nobody_reads(output) and not nobody_reads(
        sys.stderr
    ):  # another pipe, such as that of a worker
        say(f"a fault of rectilinear: {error!r}. Please report it.")
        return FAULT
    code = PIPE_CLOSED if nobody_reads(sys.stderr) else 0
    with suppress(OSError, ValueError):  # Python must not try to flush when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
    return code


def _holds(result: dict[str, Any]) -> bool:
    return all(claim["ok"] for claim in result.get("claims", []))


def _overview() -> str:
    lines = ["usage: rectilinear COMMAND ...", "", "Linear algebra for neural networks.", ""]
    for name in COMMANDS:
        arguments = import_module(f"rectilinear.cli.{name}").Arguments
        lines.append(f"  {name:<13}{arguments.__doc__.splitlines()[0]}")
    return "\n".join([*lines, "", "rectilinear COMMAND --help lists the options of one command."])
