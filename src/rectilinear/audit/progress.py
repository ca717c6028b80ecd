"""Progress of long work, on standard error."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def progress_of(shown: bool, total: int) -> Iterator[Callable[[str], None]]:
    """A function that tells what is done next; it draws a bar where standard error is a terminal.

    Example:
        >>> with progress_of(False, total=2) as advance: advance("one")
    """
    if not shown or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task("", total=total)
        started = False

        def advance(text: str) -> None:
            nonlocal started
            display.update(task, description=text, advance=1 if started else 0)
            started = True

        yield advance
