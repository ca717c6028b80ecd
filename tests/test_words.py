"""One word per idea, the field's word: old words, old names and private dialect stay out."""

import ast
import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec
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
    r"\blaws?\b|_law\b": ("distribution", ("src/rectilinear/scalars.py",)),
    r"\bdamag(e|es|ed|ing)\b": (
        "corruption",
        (
            "src/rectilinear/cli/",
            "src/rectilinear/datasets/",
            "src/rectilinear/recipes/",
            "src/rectilinear/tensor_files.py",
            "src/rectilinear/training/",
            "tests/cli/",
        ),
    ),
    r"\bharm(s|ed|ful)?\b": ("corrupt", ()),
    r"\bpictures?\b": ("image", ()),
    r"\bfloors\b|\brl\.floor\b": (
        "lower bound, loss_floor",
        ("src/rectilinear/analysis/", "src/rectilinear/report/"),
    ),
    r"\bstrange(r|rs|st)?\b": ("anomalous, foreign", ()),
    r"\btold\b": (
        "observed, known",
        ("src/rectilinear/analysis/", "src/rectilinear/maps/", "src/rectilinear/networks/"),
    ),
    r"\blooks? ahead\b|\blooks=": ("lookahead_features", ()),
    r"there_and_back|\bthere and back\b": ("round trip", ()),
    r"chapman_kolmogorov(?!_error)": ("chapman_kolmogorov_error, semigroup_error", ()),
    r"\bequality\b(?=[(\"`])|flow\.equality": ("collapse_error", ()),
    r"\brl\.idempotent\b|rectilinear\.idempotent\b": (
        "projector",
        ("src/rectilinear/serialization.py",),
    ),
    r"\b(rl|rectilinear)\.dynamics\b|\btrain dynamics\b": ("learning, koopman", ()),
    r"any_covariance|growing_start|unmirrored|two_blocks\b": (
        "names of rectilinear.learning",
        ("src/rectilinear/analysis/", "tests/learning/", "tests/papers/"),
    ),
    r"\bDraw\(|\bJump\(": ("Batch, EndpointStep", ("src/rectilinear/datasets/",)),
    r"\bdecibels\b": ("psnr", ()),
    r"\banew\b": ("again", ()),
    r"\b(random|uniform|gaussian|aligned|uneven|growing|paired|orthogonal) starts?\b": (
        "initialisation",
        ("src/rectilinear/analysis/",),
    ),
    r"words? that (is|are) no ": ("unknown name", ()),
    r"\bforet(old|ell)": ("predicted", ("src/rectilinear/report/audit.py",)),
    r"\b(mends?|mended|mending)\b": ("correct, fix", ()),
    r"\bgo(es)? on where\b": ("resume", ()),
    r"\ba image\b": ("an image", ()),
    r"\bat hand\b": ("available, in memory", ()),
    r"whose seconds": ("clock of max_seconds", ()),
    r"fixed spans": ("time-independent column space", ()),
    r"^(MANY|MOST|ENOUGH|SHOWN|LUCKY|SAME|FEW|PLENTY|ALIKE|SURE)\b(?= *[:=])": (
        "a noun with a unit, such as MAX_MATRIX_ENTRIES",
        ("src/rectilinear/papers/",),
    ),
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


def former_names() -> list[str]:
    """Dotted names of the first column of the renames table in CHANGELOG.md that no longer exist."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    table = text.split("| before | now |", 1)[1].split("\n\n", 1)[0]
    before = " ".join(row.split("|")[1] for row in table.splitlines() if row.count("|") > 2)
    names = re.findall(r"`((?:\w+\.)+\w+)", before)
    return [name for name in names if not (exists(name) or name.endswith((".json", ".md")))]


def exists(name: str) -> bool:
    """True for a name of the package or of one of its modules."""
    module, _, attribute = name.removeprefix("rl.").rpartition(".")
    full = f"rectilinear.{module}".rstrip(".")
    try:
        return hasattr(import_module(full), attribute) or bool(find_spec(f"{full}.{attribute}"))
    except ImportError:
        return False


def test_former_names_stand_in_the_changelog_alone() -> None:
    names = former_names()
    assert names, "the renames table of CHANGELOG.md"
    found = places(rf"(?<![\w.])(?:{'|'.join(map(re.escape, sorted(names, key=len)))})\b")
    assert not found, (
        f"former names in {', '.join(found)}: the table in CHANGELOG.md has the new ones"
    )


def test_first_lines_are_noun_phrases() -> None:
    asking = ("what ", "how ", "whether ", "why ", "which ", "who ")
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    found = []
    for name, text in texts().items():
        if not name.endswith(".py"):
            continue
        module = ast.parse(text)
        for node in ast.walk(module) if name.startswith("src") else [module]:
            doc = ast.get_docstring(node) or "" if isinstance(node, documented) else ""
            if doc.lower().startswith(asking):
                found.append(f"{name}: {doc.splitlines()[0]}")
    assert not found, "a first line is a noun phrase that one would grep for:\n" + "\n".join(found)


EMPTY = re.compile(
    r"((Correct|Check|Fix|Change) [^ ]+( [^ ]+)?|Choose (one|another|one of these))[.]"
)


def remedies() -> list[tuple[str, str]]:
    """The place and the text of every remedy that an error is raised with."""
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(call, "func", None), "id", "")
            if not isinstance(call, ast.Call) or not name.endswith("Error"):
                continue
            fixes = [*call.args[2:3], *(k.value for k in call.keywords if k.arg == "fix")]
            for fix in fixes:
                parts = fix.values if isinstance(fix, ast.JoinedStr) else [fix]
                text = "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts
                )
                found.append((f"{path.relative_to(ROOT)}:{call.lineno}", text))
    return found


def test_a_remedy_says_more_than_what_is_expected() -> None:
    """The remedy of an error is a step to take; where there is none to name, it is left out."""
    assert len(remedies()) > 500
    assert not [f"{place}: {text}" for place, text in remedies() if EMPTY.fullmatch(text)]
    assert EMPTY.fullmatch("Correct this value.")
    assert EMPTY.fullmatch("Choose one of these.")
    assert not EMPTY.fullmatch("Lower horizon, or pass longer series.")
