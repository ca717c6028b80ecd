"""``rectilinear sample``."""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import tyro

from rectilinear.cli._options import Common


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Draw samples from a run, with all steps folded into one."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    count: int = 64
    """Number of samples."""
    steps: int = 100
    """Number of steps that are folded into one."""
    method: Literal["euler", "midpoint", "rk4", "magnus2", "magnus4"] = "rk4"
    """Integrator of the steps."""
    one_by_one: bool = False
    """Take the steps one by one instead of folded: the same samples up to rounding, slowly."""
    rank: int | None = None
    """Rank of the operator, at most the dimension of the model; that of the recipe by default."""
    scale: float = 1.0
    """Standard deviation of the noise; above 1 samples vary more and are less typical."""
    out: Path | None = None
    """Folder for samples.png and samples.npy; that of the run by default."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Write the samples as image and array."""
    from rectilinear import recipes
    from rectilinear.cli._options import write_images

    generator = recipes.open_run(arguments.run).flow
    start = perf_counter()
    images = generator.sample(
        arguments.count,
        arguments.seed,
        steps=arguments.steps,
        method=arguments.method,
        rank=arguments.rank,
        scale=arguments.scale,
        stepwise=arguments.one_by_one,
    )
    seconds = perf_counter() - start
    files = write_images(arguments.out or arguments.run, "samples", images[:, None], columns=8)
    return {**files, "count": arguments.count, "seconds": seconds}
