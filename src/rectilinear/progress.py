"""Progress of long computations on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from threading import Event, Thread
from time import monotonic
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

LINE_SECONDS = 30.0  # between two lines where there is no terminal

T = TypeVar("T")


class Progress:
    """The display of how far a computation is, on standard error, while its block runs.

    On a terminal it is a bar. Elsewhere, such as in a pipe or a log file, it is a line every half
    minute, with the time and the step that runs; a computation that ends earlier writes none.

    Args:
        what: the computation.
        total: its size, in any unit.
        shown: False for no display.
        stays: keep the last state: the bar, or a last line however short the computation.

    Example:
        >>> with Progress("audit", total=2, shown=False) as display:
        ...     display.advance("layers")
        ...     display.advance("certificate")
    """

    def __init__(self, what: str, total: float, *, shown: bool = True, stays: bool = False) -> None:
        self._what, self._total, self._shown, self._stays = what, total, shown, stays
        self._done, self._pending, self._text = 0.0, 0.0, ""
        self._bar: Bar | None = None
        self._ended, self._said = Event(), False
        self._thread: Thread | None = None

    def __enter__(self) -> Self:
        if not self._shown:
            return self
        self._started, console = monotonic(), _Console()
        notebook = console.is_jupyter and find_spec("ipywidgets") is not None
        if notebook or (console.is_terminal and not console.is_dumb_terminal):
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=console,
                refresh_per_second=2,
                transient=not self._stays,
            )
            self._task = self._bar.add_task(self._what, total=self._total)
            self._bar.start()
        else:
            self._thread = Thread(target=self._lines, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            if kind is None and (self._said or self._stays):
                self._say("done")

    def update(self, done: float, text: str = "") -> None:
        """Show that so much of the total is done, and what is going on."""
        self._done, self._pending, self._text = done, 0.0, text
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=text or self._what)

    def advance(self, text: str, size: float = 1.0) -> None:
        """Show that the next step begins, of this size, and that the one before it is done."""
        self.update(self._done + self._pending, text)
        self._pending = size

    def of(self, items: Sequence[T]) -> Iterator[T]:
        """The items, each a step of size one."""
        for i, item in enumerate(items):
            self.advance(f"{i + 1} of {len(items)}")
            yield item

    def _lines(self) -> None:
        while not self._ended.wait(LINE_SECONDS):
            share = min(self._done / self._total, 1.0) if self._total > 0 else 0.0
            self._said = True
            self._say(f"{100 * share:.0f} %")

    def _say(self, state: str) -> None:
        minutes, seconds = divmod(round(monotonic() - self._started), 60)
        time = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
        line = f"rectilinear: {self._what}: {state} after {time}"
        with suppress(OSError, ValueError):  # nobody reads it, or it is closed
            sys.stderr.write(line + (f", {self._text}" if self._text else "") + "\n")
            sys.stderr.flush()


class _Console(Console):
    """Standard error; silent once its reader has closed it."""

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def on_broken_pipe(self) -> None:
        self.quiet = True
