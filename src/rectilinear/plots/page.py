"""One self-contained HTML page: pieces that turn values into markup, and the page that holds them.

Every string that reaches the page goes through :func:`html.escape`; images are embedded, nothing
is fetched.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rectilinear.plots.charts import png, svg

NUMBER = re.compile(r"[-−]?\d[\d.,]*(e[-+]?\d+)?( ?%)?( \[[^\]]*\]| to [-−]?\d[\d.,e+-]*)?")


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


@dataclass(frozen=True)
class Fact:
    """One number of the head of the page, and the sentence that says what it is."""

    value: str
    meaning: str


@dataclass(frozen=True)
class Section:
    """A numbered part of the page: what it shows in a sentence, and the figures that show it.

    With a ``chapter`` it begins one: a heading above it, and a link to that at the top of the page.
    """

    title: str
    text: str
    blocks: tuple[Html, ...]
    chapter: str = ""


def embedded_image(pixels: NDArray[np.uint8], description: str, scale: int = 1) -> Html:
    """An embedded image; ``description`` is read aloud where it cannot be seen."""
    data = base64.b64encode(png(pixels, scale)).decode()
    return Html(f'<img src="data:image/png;base64,{data}" alt="{escape(description)}">')


def chart(figure: Figure, description: str) -> Html:
    """A chart as inline SVG, in the colours of the reader's theme."""
    return Html(
        svg(figure).replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)
    )


def beside(images: Mapping[str, Html]) -> Html:
    """Named images next to each other, in equal widths."""
    cells = (
        f'<div><p class="label">{escape(name)}</p>{markup}</div>' for name, markup in images.items()
    )
    return Html(f'<div class="beside">{"".join(cells)}</div>')


def rows(images: Mapping[str, Html]) -> Html:
    """Named images under each other, the names at their left."""
    cells = (f'<p class="label">{escape(name)}</p>{markup}' for name, markup in images.items())
    return Html(f'<div class="rows">{"".join(cells)}</div>')


def table(head: Sequence[str], lines: Sequence[Sequence[str | float]]) -> Html:
    """A table; numbers are set flush right with four significant digits and are not broken."""

    def cells(values: Sequence[str | float], tag: str) -> str:
        kinds = (' class="number"' if is_number else "" for is_number in flush)
        return "".join(
            f"<{tag}{kind}>{escape(number(value))}</{tag}>"
            for value, kind in zip(values, kinds, strict=True)
        )

    flush = [any(_is_number(line[i]) for line in lines) for i in range(len(head))]
    body = "".join(f"<tr>{cells(line, 'td')}</tr>" for line in lines)
    return Html(
        f'<div class="scroll"><table><thead><tr>{cells(head, "th")}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _is_number(value: str | float) -> bool:
    """True for a number, also as text: with digits grouped, a unit, an interval."""
    return isinstance(value, float | int) or bool(NUMBER.fullmatch(value))


def captioned(block: Html, name: str, caption: str) -> Html:
    """A figure with its name and the sentence that says what it shows."""
    return Html(
        f"<figure>{block}<figcaption><b>{escape(name)}</b> {escape(caption)}</figcaption></figure>"
    )


def folded(summary: str, text: str) -> Html:
    """Text that opens on a click."""
    return Html(f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>")


def number(value: str | float) -> str:
    """A number for a reader: four significant digits, ten to a power where that is shorter.

    Example:
        >>> number(-3.14159), number(2.5e-7), number(1797), number("text")
        ('−3.142', '2.5 × 10⁻⁷', '1797', 'text')
    """
    if isinstance(value, str | int):
        return str(value)
    text = f"{value:.4g}"
    if "e" not in text:
        return text.replace("-", "−")
    mantissa, exponent = f"{value:.2g}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa.replace('-', '−')} × 10{raised}"


def page(
    kicker: str,
    title: str,
    lede: str,
    facts: Sequence[Fact],
    sections: Sequence[Section],
    foot: str,
    links: Mapping[str, str] | None = None,
) -> str:
    """The whole document; ``links`` are names of other files beside it, and what each is called.

    Example:
        >>> "&lt;b&gt;" in page("k", "<b>", "l", [], [], "f")
        True
    """
    style = files("rectilinear.plots").joinpath("page.css").read_text(encoding="utf-8")
    head = "".join(
        f'<div class="fact"><b>{escape(fact.value)}</b><span>{escape(fact.meaning)}</span></div>'
        for fact in facts
    )
    chapters = [section.chapter for section in sections if section.chapter]
    places = {name: f"#{_anchor(name)}" for name in chapters} | dict(links or {})
    anchors = "".join(f'<a href="{escape(to)}">{escape(name)}</a>' for name, to in places.items())
    body = "".join(
        f"{_heading(section.chapter)}<section><h2><i>{i}</i>{escape(section.title)}</h2>"
        f"<div><p>{escape(section.text)}</p>"
        f"{''.join(section.blocks)}</div></section>"
        for i, section in enumerate(sections, start=1)
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{style}</style></head><body><main>"
        f'<header><div class="rail">{escape(kicker)}</div>'
        f"<h1>{escape(title)}</h1><p>{escape(lede)}</p>"
        f"{f'<nav>{anchors}</nav>' if anchors else ''}</header>"
        f'<div class="facts">{head}</div>{body}<footer>{escape(foot)}</footer>'
        "</main></body></html>\n"
    )


def _heading(chapter: str) -> str:
    return f'<h1 class="chapter" id="{_anchor(chapter)}">{escape(chapter)}</h1>' if chapter else ""


def _anchor(chapter: str) -> str:
    """The name of a chapter in a link.

    Example:
        >>> _anchor("Measure & predict")
        'measure-predict'
    """
    return "-".join("".join(c if c.isalnum() else " " for c in chapter.lower()).split())
