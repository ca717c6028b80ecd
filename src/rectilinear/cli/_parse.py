"""From words to a dataclass: options every command has, and one line for each mistake."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import tyro

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class UsageError(Exception):
    """Words that are no command."""


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every command takes; ``out`` is of each."""

    seed: int = 0
    """Seed of every random number."""
    json: bool = False
    """Print one JSON object on standard output and nothing else there."""
    debug: bool = False
    """Show the traceback of an error."""

    def folders(self) -> tuple[Path, ...]:
        """Folders that the command writes into, tried before it computes."""
        out, run = getattr(self, "out", None), getattr(self, "run", None)
        if out is not None:
            return (out,)
        return (run,) if run is not None and run.is_dir() else ()

    def locks(self) -> tuple[Path, ...]:
        """Of these folders, those that nobody else may write meanwhile: where the results of a run go."""
        return self.folders() if hasattr(self, "run") else ()

    def code(self) -> tuple[Path, ...]:
        """Files of the user's own code that the command runs."""
        return ()


T = TypeVar("T")


def parse(cls: type[T], command: str, words: Sequence[str]) -> T | None:
    """The words as an instance of ``cls``; None when they asked for help, which is then printed.

    Raises:
        UsageError: for words that do not fit, in one line.
    """
    if any(not word or (word.startswith("--") and word.endswith("=")) for word in words):
        raise UsageError("An empty word: an option without its value, or a variable of the shell that is not set.")
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            arguments = tyro.cli(
                cls,
                prog=f"rectilinear {command}",
                args=list(words),
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
            )
    except SystemExit as stop:
        if not stop.code:
            return None
        raise UsageError(f"{_first_message(said.getvalue())}. See rectilinear {command} --help.") from None
    _check_numbers(arguments)
    return arguments


def _check_numbers(arguments: Any) -> None:
    """Whole numbers of commands count something: they are positive, but for the seed, and -1 for a job a core."""
    for name, value in vars(arguments).items():
        least = {"seed": 0, "n_jobs": -1}.get(name, 1)
        if type(value) is int and not least <= value < 2**63:
            raise UsageError(f"--{name.replace('_', '-')} {value} is out of range: it is at least {least}.")


def _first_message(boxed: str) -> str:
    r"""The first paragraph of tyro's framed message, as one line.

    Example:
        >>> _first_message("╭─ Invalid ─╮\n│ invalid    │\n│ choice 'a' │\n│ ────── │\n│ For help   │\n╰──╯")
        "invalid choice 'a'"
    """
    words: list[str] = []
    for line in boxed.splitlines():
        if line.startswith(("╭", "╰")):
            continue
        text = line.strip("│ ")
        if words and text and not text.strip("─"):
            break
        words += text.split()
    return " ".join(words).rstrip(".")
