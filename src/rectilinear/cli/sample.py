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
    import torch

    from rectilinear import flow, recipes
    from rectilinear.cli._options import write_images
    from rectilinear.errors import ConfigError
    from rectilinear.random import generator
    from rectilinear.report import check_rank, finishes, standard_noise

    run = recipes.open_run(arguments.run)
    if not 0 < arguments.scale < float("inf"):
        raise ConfigError(
            f"--scale {arguments.scale}", "a positive number", "1 draws from the model itself."
        )
    rank = arguments.rank or run.recipe.rank
    check_rank(run.flow.velocity.dim, rank)
    noise = arguments.scale * standard_noise(run.flow, arguments.count, generator(arguments.seed))
    start = perf_counter()
    with torch.no_grad():
        f = flow.collapse(run.flow, arguments.steps, arguments.method)
        images = (
            flow.sample(run.flow, noise, arguments.steps, arguments.method)
            if arguments.one_by_one
            else f(noise)
        )
        *_, finish = finishes(f, run.recipe.noise, rank).values()
        images = finish(images)
    seconds = perf_counter() - start
    files = write_images(arguments.out or arguments.run, "samples", images[:, None], columns=8)
    return {**files, "count": arguments.count, "seconds": seconds}
