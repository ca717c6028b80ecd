"""The directive ``reproduction``: image, claim, command and state of a figure of a paper.

    ```{reproduction} zhang2025_biasfree fig1
    ```

The claim is the docstring of the figure's file, the state a row of the table in the README of its
folder, and the image ``docs/papers/PAPER-FIGURE.png`` if there is one.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parents[1]
PAPERS = DOCS.parent / "src" / "rectilinear" / "papers"


def reproduction(paper: str, figure: str) -> str:
    """Markdown of one figure."""
    text = (
        ast.get_docstring(ast.parse((PAPERS / paper / f"{figure}.py").read_text(encoding="utf-8")))
        or ""
    )
    shows = "\n\n".join(map(joined, text.split("\n\n")[1:])).replace("``", "`")
    shows = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", shows)
    image = DOCS / "papers" / f"{paper}-{figure}.png"
    small, full = state(paper, figure)
    lines = [f"![{figure}](/papers/{image.name})\n"] if image.exists() else []
    return "\n".join(
        [
            *lines,
            f"{shows}\n",
            f"```\nrectilinear reproduce {paper} {figure} --preset full\n```\n",
            f"State: `--preset small`, in every test run: {small}. `--preset full`: {full}.",
        ]
    )


def joined(paragraph: str) -> str:
    """A paragraph on one line, so that no line of it begins like an item of a list."""
    return paragraph if paragraph.startswith("* ") else " ".join(paragraph.split())


def state(paper: str, figure: str) -> tuple[str, str]:
    """The last two cells of the figure's row in the README of the paper."""
    readme = (PAPERS / paper / "README.md").read_text(encoding="utf-8")
    row = re.search(rf"^\|.*[` ]{figure}`.*\|$", readme, flags=re.MULTILINE)
    if row is None:
        raise ValueError(f"{PAPERS / paper / 'README.md'} has no row for {figure}")
    cells = [cell.strip() for cell in row[0].strip("|").split("|")]
    return cells[-2], cells[-1]


class Reproduction(SphinxDirective):
    """One figure, as a part of the page."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Its nodes."""
        paper, figure = self.arguments
        self.env.note_dependency(str(PAPERS / paper / f"{figure}.py"))
        return self.parse_text_to_nodes(reproduction(paper, figure))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("reproduction", Reproduction)
    return {"parallel_read_safe": True}
