"""The documentation names every public name, every command with its options, every figure and every
table.
"""

import re
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from rectilinear.cli import COMMANDS
from rectilinear.cli import command as options_of
from rectilinear.cli.report import figures

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"```\{names\} (\S+)\n(.*?)```", re.DOTALL)


def api_names() -> list[str]:
    """Every name that a page of docs/api lists, and every module that has one."""
    found = []
    for page in sorted((DOCS / "api").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        found += re.findall(r"```\{py:module\} (\S+)", text)
        for module, block in BLOCK.findall(text):
            found += [
                f"{module}.{name}"
                for name in block.split("\n")
                if name and not name.startswith(":")
            ]
    return found


def test_every_public_name_is_on_an_api_page_and_no_other() -> None:
    names = api_names()
    twice = {name for name in names if names.count(name) > 1}
    assert twice <= {"rectilinear.analysis"}, "on two pages"  # that one is a package and a verb
    public = set((ROOT / "tests" / "surface.txt").read_text(encoding="utf-8").split())
    shown = {
        name
        for name in names
        if not name.startswith(("rectilinear.errors.", "rectilinear.testing."))
    }
    nested = {name for name in shown if name.startswith("rectilinear.flow.objectives.")} | {
        "rectilinear"
    }
    missing, unknown = public - shown, shown - public - nested
    assert not missing, f"add to a page of docs/api: {sorted(missing)}"
    assert not unknown, f"no public name, remove from docs/api: {sorted(unknown)}"


@pytest.mark.parametrize(
    "module", ["rectilinear.errors", "rectilinear.testing", "rectilinear.flow.objectives"]
)
def test_modules_below_the_surface_are_complete(module: str) -> None:
    loaded = import_module(module)
    public = getattr(loaded, "__all__", None) or [
        name
        for name, value in vars(loaded).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
    ]
    assert {f"{module}.{name}" for name in public} == {
        n for n in api_names() if n.startswith(f"{module}.")
    }


def test_every_reexport_is_the_name_that_it_leads_to() -> None:
    for page in (DOCS / "api").glob("*.md"):
        for module, block in BLOCK.findall(page.read_text(encoding="utf-8")):
            names = block.split()
            if names[0] != ":at:":
                continue
            home = import_module(names[1])
            for name in names[2:]:
                assert getattr(import_module(module), name) is not None
                assert f"{names[1]}.{name}" in api_names(), f"{home.__name__}.{name} has no entry"


def test_every_page_is_in_the_navigation() -> None:
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
    pages = {page for page in pages if not page.startswith("_")}
    listed = {"index"}
    for path in DOCS.rglob("*.md"):
        folder = path.parent.relative_to(DOCS)
        for block in re.findall(
            r"```\{toctree\}\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL
        ):
            listed |= {
                (folder / line).as_posix()
                for line in block.split("\n")
                if line and not line.startswith(":")
            }
    assert pages == listed


def test_every_figure_and_every_table_has_its_page() -> None:
    for paper, names in figures().items():
        page = (DOCS / "papers" / f"{paper}.md").read_text(encoding="utf-8")
        assert sorted(re.findall(r"\{reproduction\} \w+ (\w+)", page)) == names
    tables = {path.name for path in (ROOT / "benchmarks" / "results").glob("*.md")}
    pages = {path.name for path in (DOCS / "results").glob("*.md")}
    assert pages == tables | {"index.md"}, (
        "docs/results/NAME.md includes a table; docs/results/index.md lists it"
    )


def test_the_command_line_page_has_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    sys.modules.pop("command_line", None)
    sections = dict(
        re.findall(
            r"^## (\w+)\n(.*?)(?=^## |\Z)", import_module("command_line").reference(), re.M | re.S
        )
    )
    assert list(sections) == list(COMMANDS)
    typed = {"start": "from", "label": "class"}
    for command in COMMANDS:
        for field in fields(options_of(command)[0]):
            if field.name in ("seed", "json", "debug"):
                continue  # of every command: at the top of the page
            option, word = typed.get(field.name, field.name), field.name.upper()
            option = "--" + option.replace("_", "-")
            row = re.search(
                rf"^\| `(?:{option}|{word})` \|.*\| *(\S.*?) *\|$", sections[command], re.M
            )
            assert row, f"{command} {option} has no row, or no meaning"


@pytest.mark.whole
@pytest.mark.parametrize("file", ["flow/generator.py", "projector/model.py"])
def test_doctests_of_a_file_run_by_themselves(file: str) -> None:
    words = ["-m", "pytest", "-q", "--doctest-modules", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, *words, str(ROOT / "src/rectilinear" / file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
