"""``rectilinear forecast``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from rectilinear.cli._parse import Common

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear.koopman import Koopman
    from rectilinear.recipes import Run


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Forecast a series or a system with a run, forward or backward."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    steps: int = 100
    """How many steps of the model."""
    backward: bool = False
    """Go back in time."""
    reencode: int | None = None
    """Decode and pad anew after so many steps; by default one linear map of the whole way."""
    start: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """A .npy or .csv series that ends where the forecast starts (with --backward: that begins there); held-out starts
    of a simulated system, or the series of the run, by default."""
    out: Path | None = None
    """Folder for forecast.png, forecast.npy and forecast.json; that of the run by default."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Forecast, draw, and compare with what is known."""
    import numpy as np
    import torch

    from rectilinear import koopman, plots, recipes
    from rectilinear.config import atomic_write, write_json
    from rectilinear.report.dynamics import forecast_figure

    run = recipes.open_run(arguments.run)
    model = run.of(koopman.Koopman)
    sign = -1 if arguments.backward else 1
    states, truth, names = _starts(run, model, arguments.start, sign * arguments.steps)
    times = sign * model.dt * torch.arange(arguments.steps + 1, dtype=torch.float64)
    forecast = model.forecast(states, times, arguments.reencode)
    out = arguments.out or arguments.run
    curves = {"forecast": (times.numpy(), forecast[0].numpy())}
    result: dict[str, Any] = {"steps": sign * arguments.steps, "dt": model.dt, "count": len(forecast)}
    if truth is not None:
        curves["system"] = (times.numpy(), truth[0].numpy())
        error = ((forecast - truth) / model.lift.scale[: model.dim]).square().mean((0, 2)).sqrt()
        marks = [k for k in (1, 10, 50, 100, 200) if k < arguments.steps] + [arguments.steps]
        result["errors"] = [{"step": sign * k, "error": float(error[k])} for k in marks]
    result["modes"] = koopman.modes(model, states).table(5)
    plots.save(forecast_figure(curves, names), out / "forecast.png")
    with atomic_write(out / "forecast.npy") as tmp:
        np.save(tmp, forecast.numpy(), allow_pickle=False)
    write_json(out / "forecast.json", result)
    files = {"picture": str(out / "forecast.png"), "array": str(out / "forecast.npy")}
    return {**files, **result}


def _starts(
    run: "Run", model: "Koopman", path: Path | None, steps: int
) -> "tuple[Tensor, Tensor | None, tuple[str, ...]]":
    """States to start from, what is known to follow, and the names of the coordinates."""
    import torch

    from rectilinear import datasets, koopman
    from rectilinear.errors import ShapeError
    from rectilinear.recipes.dynamics import Dynamics

    recipe = run.recipe
    assert isinstance(recipe, Dynamics), "the recipe of a run with a Koopman model"
    names = tuple(f"column {i + 1}" for i in range(model.dim))
    if path is None and recipe.system in datasets.SYSTEMS:
        length, history = abs(steps), model.delays - 1
        seed = recipe.training.seed + 1000
        known = datasets.simulate(recipe.system, 100, length + history, recipe.dt, seed=seed).states
        if steps > 0:
            states = koopman.embed(known[:, : history + 1], model.delays)[:, 0]
            return states, known[:, history:], datasets.SYSTEMS[recipe.system].columns
        states = koopman.embed(known[:, length:], model.delays)[:, 0]
        return states, known[:, history:].flip(1), datasets.SYSTEMS[recipe.system].columns
    series, times = datasets.read_series(path or recipe.file(), recipe.dt)
    if series.shape[-1] != model.dim:
        raise ShapeError(
            f"a series of {series.shape[-1]} columns", f"{model.dim}, as the run has", "Choose another file."
        )
    checked = koopman.as_series(series, times)
    ends = [x[-model.delays :] if steps > 0 else x[: model.delays] for x in checked.states]
    return torch.stack([koopman.embed(x, model.delays)[0] for x in ends]), None, names
