"""The command line: commands, their exit codes and error lines.

A command, such as ``sample``, is a dataclass ``Sample``, whose docstring and fields are its help,
and a function ``sample(arguments)``, which returns the JSON object to print. Large packages are
imported inside that function: ``--help`` stays instant.
"""

from __future__ import annotations

import json
import os
import select
import sys
import traceback
import warnings
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rectilinear import __version__
from rectilinear.cli._options import Common, UsageError, parse
from rectilinear.cli._show import show
from rectilinear.config import nan_to_null
from rectilinear.errors import RectilinearError
from rectilinear.files import locked, writable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TextIO


COMMANDS = {
    "demo": "report",
    "train": "train",
    "explore": "explore",
    "sample": "sample",
    "invert": "sample",
    "interpolate": "sample",
    "data": "train",
    "report": "report",
    "reproduce": "report",
    "study": "study",
    "audit": "audit",
    "predict": "audit",
    "project": "project",
    "stylize": "stylize",
    "addstyle": "addstyle",
    "forecast": "forecast",
}
"""The commands in the order of the help, and the module of each."""
FORMER_OPTIONS = {("project", "--damage"): "--corrupt", ("study", "--starts"): "--inits"}
"""Options of earlier versions by command, and their present names."""

OURS = Path(__file__).resolve().parents[1]
MAX_MESSAGE_CHARACTERS = 1000

FAILED_CLAIM, MISTAKE, FAULT, INTERRUPTED, PIPE_CLOSED = 1, 2, 3, 130, 141
NO_MEMORY = (
    "allocate memory",
    "out of memory",
    "Storage size calculation overflowed",
    "array is too big",
    "Maximum allowed dimension exceeded",
    "Unable to allocate",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code.

    0 success; 1 a claim of ``reproduce`` failed; 2 an error that the user can correct: arguments,
    data, files, memory, the code of a model; 3 a fault of rectilinear; 130 stopped by Ctrl-C; 141
    the reader of the output has closed it. An error is one line on standard error, after the
    traceback with ``--debug``.

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


def command(name: str) -> tuple[type[Common], Callable[[Any], dict[str, Any]]]:
    """The options of a command, such as ``Sample``, and its function, such as ``sample``."""
    module = import_module(f"rectilinear.cli.{COMMANDS[name]}")
    return getattr(module, name.capitalize()), getattr(module, name)


class _Asked:
    """The facts about a command that its error line needs."""

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
    options, run = command(words[0])
    arguments = parse(options, words[0], words[1:])
    if arguments is None:
        return None
    asked.user_files = arguments.code()
    process = os.getpid()
    with ExitStack() as stack:
        stack.enter_context(_warnings_on_a_line())
        stack.enter_context(writable(arguments.folders()))
        for folder in arguments.locks():
            stack.enter_context(locked(folder))
        if arguments.code():
            stack.enter_context(_no_silent_end())
        if arguments.json:
            stack.enter_context(_standard_error_only())
        result: dict[str, Any] = run(arguments)
    if os.getpid() != process:  # a child that the user's code forked and let run on
        os._exit(MISTAKE)
    return result


@contextmanager
def _warnings_on_a_line() -> Iterator[None]:
    """Inside the block, a warning is one line of its text alone, without a line of source."""
    usual = warnings.formatwarning

    def on_a_line(message: Warning | str, *_: object, **__: object) -> str:
        return f"rectilinear: warning: {' '.join(str(message).split())}\n"

    warnings.formatwarning = on_a_line
    try:
        yield
    finally:
        warnings.formatwarning = usual


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
        options, _ = command(name)
        lines.append(f"  {name:<13}{(options.__doc__ or '').splitlines()[0]}")
    return "\n".join([*lines, "", "rectilinear COMMAND --help lists the options of one command."])


def ending(error: BaseException, user_files: Sequence[Path] = ()) -> tuple[int, str]:
    """The exit code that ``error`` ends the program with, and what is said of it.

    2 for what the user can correct: arguments or data, a file, a disk, too little memory, code of
    ``user_files`` that fails; 130 for Ctrl-C; 3 for a fault of rectilinear.

    Example:
        >>> ending(UsageError("'sing' is no command."))
        (2, "'sing' is no command.")
        >>> ending(ZeroDivisionError("division by zero"))[0]
        3
    """
    text = " ".join(str(error).split())
    named = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "stopped; the same command resumes a run."
    if isinstance(error, RectilinearError | UsageError):
        return MISTAKE, _cut(text)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | ValueError) and any(sign in text for sign in NO_MEMORY)
    ):
        return MISTAKE, _cut(f"not enough memory for what was asked: {named}")
    if (place := _place_in(error, user_files)) is not None:
        return MISTAKE, _cut(f"{place} fails: {named}. --debug shows the traceback.")
    if isinstance(error, SystemExit):
        return (
            MISTAKE,
            (
                f"sys.exit({error.code!r}) was called before the command was done; --debug shows "
                "where."
            ),
        )
    if isinstance(error, OSError):
        return MISTAKE, _cut(f"the system refuses: {named}")
    return FAULT, _cut(
        f"a fault of rectilinear: {named}. Please report it, with what --debug shows."
    )


def say(message: str, error: BaseException | None = None) -> None:
    """Write one line to standard error, after the traceback of ``error`` where one is given."""
    try:
        if error is not None:
            traceback.print_exception(error)
        print(f"rectilinear: {message}", file=sys.stderr, flush=True)
    except (OSError, ValueError):  # nobody reads it, or it is closed
        pass


def nobody_reads(stream: TextIO) -> bool:
    """True if ``stream`` is a pipe whose reader has closed it."""
    try:
        watch = select.poll()
        watch.register(stream.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLNVAL) for _, event in watch.poll(0))
    except (AttributeError, OSError, ValueError):  # no such call, or no file
        return False


def _place_in(error: BaseException, user_files: Sequence[Path]) -> str | None:
    """File and line of the last call of the user's code that led to ``error``."""
    folders = {path.resolve().parent for path in user_files}
    files = {path.resolve() for path in user_files}
    place = None
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.resolve() in files or (
            path.is_file() and path.resolve().parent in folders and not _is_ours(path)
        ):
            place = f"{path.name}, line {frame.lineno},"
    return place


def _is_ours(path: Path) -> bool:
    return path.resolve().is_relative_to(OURS) or "site-packages" in path.parts


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else f"{text[:MAX_MESSAGE_CHARACTERS]} ..."
