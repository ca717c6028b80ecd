from html.parser import HTMLParser

import numpy as np
import pytest

from rectilinear import plots
from rectilinear.plots import page as parts

VOID = {"meta", "img", "path", "use"}


class Reader(HTMLParser):
    """Checks that elements close in order, and keeps attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


NASTY = """<script>alert("&")</script>'"""


@pytest.fixture(scope="module")
def document() -> str:
    image = parts.embedded_image(plots.grid(np.zeros((4, 1, 3, 3)), 2), NASTY, scale=2)
    blocks = (
        parts.captioned(parts.beside({NASTY: image, "b": image}), NASTY, NASTY),
        parts.rows({NASTY: image}),
        parts.chart(plots.spectrum({NASTY: [3.0, 1.0]}), NASTY),
        parts.table([NASTY, "value"], [[NASTY, 1e-9], ["b", 2]]),
        parts.folded(NASTY, NASTY),
    )
    section = parts.Section(NASTY, NASTY, blocks)
    return parts.page(NASTY, NASTY, NASTY, [parts.Fact(NASTY, NASTY)], [section], NASTY)


def test_page_is_well_formed_and_escapes(document: str) -> None:
    reader = read(document)
    assert "<script" not in document
    assert reader.text.count(NASTY) >= 10


def test_page_fetches_nothing(document: str) -> None:
    for tag, name, value in read(document).attributes:
        if name in ("src", "href", "xlink:href", "srcset", "data"):
            assert value.startswith(("data:", "#")), (tag, name, value)
    assert "@import" not in document
    assert "url(http" not in document
    assert not [tag for tag, *_ in read(document).attributes if tag in ("script", "link", "iframe")]


def test_every_image_is_described(document: str) -> None:
    attributes = read(document).attributes
    assert sum(tag == "img" for tag, name, _ in attributes if name == "alt") == 3
    assert [value for tag, name, value in attributes if (tag, name) == ("svg", "aria-label")] == [
        NASTY
    ]


def test_colours_of_charts_are_in_the_style_sheet(document: str) -> None:
    for role in plots.charts.ROLES:
        assert document.count(f"--{role}: #") == 2, "light and dark"


def test_numbers() -> None:
    assert parts.number(0.000123456) == "0.0001235"
    assert parts.number(1.5e-13) == "1.5 × 10⁻¹³"
    assert parts.number(2.0e20) == "2 × 10²⁰"
    assert parts.number(0.0) == "0"


def test_a_chapter_has_a_heading_and_a_link_to_it() -> None:
    sections = [
        parts.Section("One", "", (), chapter="Measure & <predict>"),
        parts.Section("Two", "", ()),
    ]
    document = parts.page("k", "t", "l", [], sections, "f")
    assert '<nav><a href="#measure-predict">Measure &amp; &lt;predict&gt;</a></nav>' in document
    assert document.count('id="measure-predict"') == document.count('class="chapter"') == 1
    assert "<nav>" not in parts.page("k", "t", "l", [], sections[1:], "f")
