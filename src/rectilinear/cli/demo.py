"""``rectilinear demo``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rectilinear.cli._options import Common
from rectilinear.cli.report import report_on


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Train a generator of digits, and report on it and every other use (a few minutes)."""

    out: Path = Path("runs/demo")
    """Folder of the run; the same command resumes it."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Train, evaluate, report."""
    import torch

    from rectilinear import recipes
    from rectilinear.files import locked
    from rectilinear.report.write import CHAPTERS

    torch.set_num_threads(1)  # small matrices: more threads only wait for each other
    recipe = recipes.recipe_named("digits", {"training.seed": arguments.seed})
    with locked(arguments.out):
        run = recipes.train("digits", recipe, arguments.out)
        return report_on(run, None, None, None, arguments.seed, CHAPTERS)
