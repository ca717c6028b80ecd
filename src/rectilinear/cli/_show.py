"""A result for the eye: the same object that ``--json`` prints."""

from __future__ import annotations

from typing import Any


def show(result: dict[str, Any]) -> None:
    """Print names beside values, and lists of objects as tables."""
    from rich.console import Console
    from rich.table import Table

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise  # the BrokenPipeError at hand, for the one place that answers it

    console = Output(highlight=False, markup=False)
    plain = {name: value for name, value in result.items() if not _is_table(value)}
    width = max(map(len, plain), default=0) + 2
    for name, value in plain.items():
        console.print(f"{name:<{width}}{_text(value)}", soft_wrap=True)
    for name, rows in result.items():
        if _is_table(rows):
            table = Table(*rows[0], title=name, title_justify="left", box=None)
            for row in rows:
                table.add_row(*map(_text, row.values()))
            console.print(table)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return "  ".join(f"{name} {_text(item)}" for name, item in value.items())
    return str(value)
