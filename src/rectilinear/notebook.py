"""Views of results: a line of text, and small pieces of HTML for notebooks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from typing import Any

MAX_BARS = 64
MAX_ITEMS, MAX_CHARACTERS = 6, 120
"""Items of a collection, and characters of any other value, that a short text has."""
_BAR, _HEIGHT = 6, 56  # pixels


def short_repr(result: Any) -> str:
    """The class and its fields as text, of tensors and arrays type and shape alone.

    For ``__repr__`` of dataclasses and named tuples: their own text has all numbers.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> @dataclass
        ... class Fit:
        ...     name: str
        ...     weights: torch.Tensor
        ...     __repr__ = short_repr
        >>> Fit("a", torch.zeros(9, 2))
        Fit(name='a', weights=float32 (9, 2))
    """
    names = getattr(result, "_fields", None) or [f.name for f in fields(result)]
    shown = (f"{name}={_short(getattr(result, name))}" for name in names)
    return f"{type(result).__name__}({', '.join(shown)})"


def _short(value: Any) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        kind = str(value.dtype).removeprefix("torch.")
        return f"{kind} {tuple(value.shape)}" if value.ndim else f"{value.item():.6g}"
    if isinstance(value, Mapping):
        return f"{{{_some([f'{key!r}: {_short(part)}' for key, part in value.items()])}}}"
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        parts = _some([_short(part) for part in value])
        return f"[{parts}]" if isinstance(value, list) else f"({parts})"
    if hasattr(value, "extra_repr"):  # a module, without its parts
        return f"{type(value).__name__}({value.extra_repr()})"
    text = repr(value)
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}..."


def _some(parts: list[str]) -> str:
    more = f", ... of {len(parts)}" if len(parts) > MAX_ITEMS else ""
    return ", ".join(parts[:MAX_ITEMS]) + more


def facts(title: str, values: Mapping[str, object], *more: str) -> str:
    """A title, names beside values, and further markup below; every string is escaped.

    Example:
        >>> facts("<f>", {"rank": 3})
        '<div><b>&lt;f&gt;</b><table><tr><td>rank</td><td>3</td></tr></table></div>'
    """
    rows = [(name, value) for name, value in values.items() if value not in (None, "", ())]
    return f"<div><b>{escape(title)}</b>{_rows(rows)}{''.join(more)}</div>"


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A title and a table with a head.

    Example:
        >>> table("t", ["a"], [[1.23456]])
        '<div><b>t</b><table><tr><th>a</th></tr><tr><td>1.235</td></tr></table></div>'
    """
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<div><b>{escape(title)}</b>{_rows(rows, f'<tr>{cells}</tr>')}</div>"


def bars(values: Sequence[float], label: str) -> str:
    """The first values, not negative, as bars in a drawing as wide as they are many.

    Example:
        >>> bars([2.0, 1.0], "two").count("<rect")
        2
    """
    shown = [v if math.isfinite(v) else 0.0 for v in values[:MAX_BARS]]
    top, width = max([*shown, 0.0]) or 1.0, _BAR * max(1, len(shown))
    rects = "".join(
        f'<rect x="{_BAR * i}" y="{_HEIGHT * (1 - v / top):.1f}" width="{_BAR - 1}" '
        f'height="{_HEIGHT * v / top:.1f}" fill="currentColor" opacity="0.6"/>'
        for i, v in enumerate(shown)
    )
    return (
        f'<svg role="img" aria-label="{escape(label)}" width="{width}" height="{_HEIGHT}" '
        f'viewBox="0 0 {width} {_HEIGHT}">{rects}</svg>'
    )


def singular_values(title: str, s: Sequence[float]) -> str:
    """Largest and smallest singular value, and the first as bars."""
    if not s:
        return facts(title, {"singular values": "none"})
    named = {
        "singular values": f"{len(s):,}, from {s[0]:.4g} to {s[-1]:.4g}",
        "condition": f"{s[0] / s[-1]:.4g}" if s[-1] > 0 else "infinite",
    }
    shown = f"the first {MAX_BARS}" if len(s) > MAX_BARS else "all"
    return facts(title, named, bars(s, f"singular values, {shown}, in descending order"))


def _rows(rows: Sequence[Sequence[object]], head: str = "") -> str:
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(_text(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table>{head}{body}</table>"


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
