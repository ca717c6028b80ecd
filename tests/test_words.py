"""One word per idea, the field's word: old words, old names and private dialect stay out."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("src", "docs", "examples", "benchmarks", "tests")
TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md")
SUFFIXES = {".py", ".pyi", ".md", ".css"}
# Their words are data: measured tables as they were written, files of the first version, this list.
NOT_READ = ("docs/_build", "benchmarks/results", "tests/data", "tests/test_words.py")

# pattern (case is ignored unless it has capitals), the word for it, and the paths that may keep it
WORDS: dict[str, tuple[str, tuple[str, ...]]] = {
    r"\bstrangers?\b": ("user", ("src/", "tests/", "docs/")),
    r"\bharm": ("corrupt", ("src/", "tests/", "docs/", "benchmarks/_proj", "examples/proj")),
    r"padded anew": ("re-encoded", ("src/",)),
}


@cache
def texts() -> dict[str, str]:
    """The text of every file that is read, by its path from the root."""
    paths = [ROOT / name for name in TOP]
    for folder in FOLDERS:
        paths += [path for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    named = {path.relative_to(ROOT).as_posix(): path for path in sorted(paths)}
    return {
        name: path.read_text(encoding="utf-8")
        for name, path in named.items()
        if not name.startswith(NOT_READ)
    }


def places(pattern: str, allowed: tuple[str, ...] = ()) -> list[str]:
    """PATH:LINE of every match outside the allowed paths."""
    flags = 0 if re.search(r"(?<!\\)[A-Z]", pattern) else re.IGNORECASE
    compiled = re.compile(pattern, flags | re.MULTILINE)
    return [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}"
        for name, text in texts().items()
        if not name.startswith(allowed or ("\0",))
        for match in compiled.finditer(text)
    ]


@pytest.mark.parametrize("pattern", WORDS)
def test_old_words_are_gone(pattern: str) -> None:
    instead, allowed = WORDS[pattern]
    found = places(pattern, allowed)
    assert not found, f"{pattern!r}: write {instead!r} in {', '.join(found)}"


def test_first_lines_are_noun_phrases() -> None:
    asking = ("what ", "how ", "whether ", "why ", "which ", "who ")
    found = []
    for name, text in texts().items():
        if name.endswith(".py") and name.startswith(FIRST_LINES):
            doc = ast.get_docstring(ast.parse(text)) or ""
            if doc.lower().startswith(asking):
                found.append(f"{name}: {doc.splitlines()[0]}")
    assert not found, "a first line is a noun phrase that one would grep for:\n" + "\n".join(found)


FIRST_LINES = ("examples", "benchmarks", "tests", "docs")
