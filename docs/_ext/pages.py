"""Links to files outside docs/, such as CHANGELOG.md, led to the pages that include them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

SHORT = 18  # characters
WIDE_COLUMNS = 8

# From any page, however deep, to a page by its path from docs/.
HOMES = (
    (r"(?:\.\./)+benchmarks/results/([\w-]+)\.md", r"/results/\1.md"),
    (r"(?:(?:\.\./)+|)src/rectilinear/papers/(\w+)/README\.md", r"/papers/\1.md"),
    (r"(?:\.\./)+CHANGELOG\.md", r"/changelog.md"),
    (r"(?:\.\./)+CONTRIBUTING\.md", r"/contributing.md"),
    (r"(?:\.\./)+SECURITY\.md", r"/security.md"),
)


def lead(text: str) -> str:
    """The Markdown text with links to such files led to their pages.

    Example:
        >>> lead("[table](../benchmarks/results/svd.md)")
        '[table](/results/svd.md)'
    """
    for pattern, page in HOMES:
        text = re.sub(rf"\]\({pattern}", rf"]({page}", text)
    return text


def process(app: Sphinx, name: str, source: list[str]) -> None:
    """Rewrite the links of one page; drop the empty line that ends an example for doctest."""
    source[0] = lead(source[0]).replace("\n\n```\n", "\n```\n")


def mark(app: Sphinx, doctree: nodes.document) -> None:
    """Mark short code, numbers and wide tables for the style sheet; call Variables Attributes."""
    for literal in doctree.findall(nodes.literal):
        if len(literal.astext()) <= SHORT:
            literal["classes"].append("short")
    for cell in doctree.findall(nodes.entry):
        if len(cell.astext()) <= SHORT // 2:
            cell["classes"].append("short")  # numbers such as 1e-05
    for group in doctree.findall(nodes.tgroup):
        if group["cols"] >= WIDE_COLUMNS:
            group.parent["classes"].append("wide")
    for name in doctree.findall(nodes.field_name):
        if name.astext() == "Variables":
            name.children = [nodes.Text("Attributes")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect both."""
    app.connect("source-read", process)
    app.connect("doctree-read", mark)
    return {"parallel_read_safe": True}
