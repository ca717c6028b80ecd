"""Exit codes and error lines of commands that do not succeed."""

from __future__ import annotations

import select
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import rectilinear
from rectilinear.cli._options import UsageError
from rectilinear.errors import RectilinearError

if TYPE_CHECKING:
    from collections.abc import Sequence


OURS = Path(rectilinear.__file__).resolve().parent
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


def ending(error: BaseException, user_files: Sequence[Path] = ()) -> tuple[int, str]:
    """The exit code that ``error`` ends the program with, and what is said of it.

    2 for what the user can mend: a mistake in the words or the data, a file, a disk, too little
    memory, code of ``user_files`` that fails; 130 for Ctrl-C; 3 for a fault of rectilinear.

    Example:
        >>> ending(UsageError("'sing' is no command."))
        (2, "'sing' is no command.")
        >>> ending(ZeroDivisionError("division by zero"))[0]
        3
    """
    text = " ".join(str(error).split())
    named = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "stopped; a run goes on where it was with the same command."
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
    """Whether ``stream`` is a pipe whose reader has gone."""
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
