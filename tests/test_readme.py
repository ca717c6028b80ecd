"""The README's code runs, and its commands and links exist."""

import random
import re
import tomllib
from pathlib import Path

import pytest

from rectilinear import cli

ROOT = Path(__file__).resolve().parents[1]
NAME = "sentence-transformers/all-MiniLM-L6-v2"
README = (ROOT / "README.md").read_text(encoding="utf-8")
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
PAGES = [ROOT / name for name in TOP] + [
    page for page in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in page.parts
]


@pytest.mark.whole
def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        if NAME in block:
            makers = pytest.importorskip("makers_hf")
            makers.write_bert(tmp_path / "model")
            texts = [
                " ".join(random.Random(k).choices(makers.WORDS, k=3 + k % 5)) for k in range(120)
            ]
            (tmp_path / "sentences.txt").write_text("\n".join(texts))
            block = block.replace(NAME, "model")
        exec(compile(block, "README.md", "exec"), {})


def test_the_commands_exist() -> None:
    named = re.findall(
        r"\brectilinear ([a-z]+)", re.sub(r"```python.*?```", "", README, flags=re.DOTALL)
    )
    assert {name for name in named if name not in cli.COMMANDS} == set()


def test_the_extras_that_are_named_exist() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    for page in [*PAGES, *sorted((ROOT / "src").rglob("*.py"))]:
        for name in re.findall(r"\brectilinear\[([a-z]+)\]", page.read_text(encoding="utf-8")):
            assert name in declared, f"{page.name}: rectilinear[{name}]"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), (
                f"{page.name}: make {target}"
            )


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        prose = re.sub(
            r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL
        )
        for link in re.findall(r"\]\(([^)#]+)", prose):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"
