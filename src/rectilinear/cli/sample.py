"""``rectilinear sample``."""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import tyro

from rectilinear.cli._options import Common


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Draw samples from a run, in one step."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    count: int = 64
    """How many."""
    steps: int = 100
    """Steps that are folded into the one."""
    method: Literal["euler", "midpoint", "rk4", "magnus2", "magnus4"] = "rk4"
    """Their integrator."""
    one_by_one: bool = False
    """Take the steps one by one instead of the one that they fold into: the same samples, slowly.
    """
    rank: int | None = None
    """Cut the operator to this rank, at most the dimension of the model; that of the recipe by
    default.
    """
    scale: float = 1.0
    """Standard deviation of the noise: above 1 the samples vary more (recall) and are less typical
    (precision).
    """
    out: Path | None = None
    """Folder for samples.png and samples.npy; that of the run by default."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Draw, and write picture and array."""
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
