"""``rectilinear report``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from rectilinear.cli._parse import Common


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Evaluate a run and write report.html and metrics.json."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    out: Path | None = None
    """Folder for the two files; that of the run by default."""
    data_dir: Path | None = None
    """Where data sets lie; $RECTILINEAR_DATA, then ./data, by default."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Evaluate and write."""
    from rectilinear import recipes, report

    run = recipes.open_run(arguments.run)
    train, test = (run.load(split, arguments.data_dir) for split in ("train", "test"))
    return report.write_report(
        run.flow, train, test, run.path, out=arguments.out, sigma=run.recipe.noise, seed=arguments.seed
    )
