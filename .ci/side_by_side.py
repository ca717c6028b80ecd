"""Steps that do not need each other, two at a time: style, documentation, wheel, examples, figures.

The output of a step is shown in one piece when it ends, under its name and its processor seconds.
Examples and figures (at their small size, claims checked) run in processes forked from this one,
which has imported torch for all of them. The exit code is 1 where a step failed.
"""

import ast
import json
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from rectilinear import cli, recipes, report  # loaded once
from rectilinear.cli.report import figures

ROOT = Path(__file__).resolve().parents[1]
AT_A_TIME = 2
PRELOADED = torch, recipes, report


def command(*words: str) -> Callable[[], int]:
    return lambda: os.execvp(words[0], words)


def example(path: Path) -> Callable[[], int]:
    def run() -> int:
        sys.argv[:] = [str(path)]
        runpy.run_path(str(path), run_name="__main__")
        return 0

    return run


def notebook(path: Path) -> Callable[[], int]:
    """The code cells in turn, as a notebook runs them; a last expression shows itself."""

    def run() -> int:
        names: dict[str, object] = {"__name__": "__main__"}
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] != "code":
                continue
            tree = ast.parse("".join(cell["source"]))
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, path.name, "exec"), names)  # noqa: S102 - our own examples
            if last is not None:
                value = eval(compile(ast.Expression(last.value), path.name, "eval"), names)  # noqa: S307
                if value is None:
                    continue
                shown = value._repr_html_() if hasattr(value, "_repr_html_") else repr(value)
                print(f"{type(value).__name__}: {len(shown)} characters")
        return 0

    return run


def figure(paper: str, name: str, folder: Path) -> Callable[[], int]:
    out = str(folder / paper / name)
    words = ["reproduce", paper, name, "--preset", "small", "--json", "--out", out]
    return lambda: cli.main(words)


def steps(folder: Path) -> dict[str, Callable[[], int]]:
    """By name, in their order; figures are written into the folder."""
    found = {"lint": command("make", "lint"), "docs": command("make", "docs")}
    found["wheel"] = command("bash", ".ci/wheel")
    for paper, names in figures().items():
        found |= {f"{paper} {name}": figure(paper, name, folder) for name in names}
    for path in sorted((ROOT / "examples").glob("*.py")):
        found[f"examples/{path.name}"] = example(path)
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        found[f"examples/{path.name}"] = notebook(path)
    return found


def start(run: Callable[[], int], output: Path) -> int:
    """Fork a process that runs a step, its output in a file; gives its number."""
    sys.stdout.flush()
    if child := os.fork():
        return child
    code = 1
    try:
        with output.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        code = run()
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:  # noqa: BLE001 - a forked child must never return into its parent's code
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> int:
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        failed = run_all(Path(folder))
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return int(bool(failed))


def run_all(folder: Path) -> list[str]:
    """Run the steps, two at a time; gives the names of those that failed."""
    waiting, running = list(steps(folder).items()), dict[int, tuple[str, Path, float]]()
    failed: list[str] = []
    while waiting or running:
        while waiting and len(running) < AT_A_TIME:
            name, run = waiting.pop(0)
            output = folder / str(len(waiting))
            running[start(run, output)] = name, output, time.monotonic()
        child, status, used = os.wait4(-1, 0)
        name, output, began = running.pop(child)
        seconds = f"{used.ru_utime + used.ru_stime:.0f} s, {time.monotonic() - began:.0f} s elapsed"
        print(f"\n-- {name} ({seconds}){' FAILED' * (status != 0)}")
        print(output.read_text(encoding="utf-8", errors="replace").rstrip(), flush=True)
        failed += [name] * (status != 0)
    return failed


if __name__ == "__main__":
    sys.exit(main())
