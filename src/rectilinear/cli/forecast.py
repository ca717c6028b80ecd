"""``rectilinear forecast``: forecasts of tables, and of runs of the recipe koopman."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from rectilinear.cli._options import Common, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear.koopman import Koopman
    from rectilinear.koopman.series import Series
    from rectilinear.recipes import Run

    Known = dict[str, tuple[Any, Any]]

OF_A_RUN = ("backward", "reencode", "start")
OF_A_TABLE = (
    *("kind", "lags", "level", "minimum", "maximum"),
    *("time", "run_column", "columns", "separator"),
)
"""Options that need a run or a table."""
MAX_SIMULATED_STEPS = 2000
"""Longer forecasts are not compared with a simulation of the system."""


@dataclass(frozen=True, kw_only=True)
class Forecast(Common):
    """Forecast a table, or the series or system of a run; write forecast.csv and forecast.png."""

    run: tyro.conf.Positional[Path]
    """Table of series, .csv or .npy, or the folder of a run of the recipe koopman."""
    steps: int = 100
    """Number of rows to forecast."""
    kind: str = "auto"
    """Model of a table: linear, autoregression, finite, features, koopman, or auto, the best of
    them on held-out rows."""
    lags: int | None = None
    """Number of past rows in the state of a table's model; by default the best on held-out rows."""
    level: float = 0.9
    """Share of observations that the prediction intervals hold, between 0 and 1."""
    minimum: float | None = None
    """Least value that columns of a table can have; forecasts are cut off there. None by
    default."""
    maximum: float | None = None
    """Largest value that columns of a table can have; none by default."""
    time: str | None = None
    """Column of dates or times of a table; by default one with a name such as time or date."""
    run_column: str | None = None
    """Column that names the series of each row of a table; by default all rows are one series."""
    columns: tuple[str, ...] = ()
    """Columns of a table to forecast; all others by default."""
    separator: str | None = None
    """Separator of the cells of a table; by default the comma, semicolon, tab or bar that fits."""
    backward: bool = False
    """Forecast into the past; needs a run."""
    reencode: int | None = None
    """Steps between re-encodings of the state of a run's model; by default none, one linear map
    for all steps."""
    start: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Series to continue with a run's model, .npy or .csv; by default the series of the run, or
    held-out initial states of its simulated system."""
    out: Path | None = None
    """Folder for forecast.png, forecast.npy, forecast.json and, of a table, forecast.csv; by
    default the run's folder, or runs/NAME-forecast of a table NAME.csv."""

    def folders(self) -> tuple[Path, ...]:
        if self.out is None and self.run.is_file():
            return (Path("runs") / f"{self.run.stem}-forecast",)
        return () if self.out is None else (self.out,)


def forecast(arguments: Forecast) -> dict[str, Any]:
    """The forecast with its errors against the observed series and the dominant modes."""
    if arguments.run.is_file() or arguments.run.suffix.lower() in (".csv", ".npy", ".tsv"):
        from rectilinear.cli._series import forecast_file

        _refuse(arguments, OF_A_RUN, "the folder of a run", "a table")
        return forecast_file(arguments)
    _refuse(arguments, OF_A_TABLE, "a table", "the folder of a run")
    import numpy as np
    import torch

    from rectilinear import koopman, plots, recipes
    from rectilinear.config import write_json
    from rectilinear.files import atomic_write
    from rectilinear.report.koopman import forecast_figure

    run = recipes.open_run(arguments.run)
    model = run.of(koopman.Koopman)
    sign = -1 if arguments.backward else 1
    states, truth, known, names, series = _starts(
        run, model, arguments.start, sign * arguments.steps
    )
    times = sign * model.dt * torch.arange(arguments.steps + 1, dtype=torch.float64)
    forecast = model.forecast(states, times, arguments.reencode)
    out = arguments.out or arguments.run
    result: dict[str, Any] = {
        "steps": sign * arguments.steps,
        "dt": model.dt,
        "count": len(forecast),
    }
    if truth is not None:
        scale = model.lift.scale[: model.dim]
        error = ((forecast - truth) / scale).square().mean((0, 2)).sqrt()
        still = ((states[:, None, : model.dim] - truth) / scale).square().mean((0, 2)).sqrt()
        marks = [k for k in (1, 10, 50, 100, 200) if k < arguments.steps] + [arguments.steps]
        result["errors"] = [
            {"step": sign * k, "error": float(error[k]), "persistence": float(still[k])}
            for k in marks
        ]
    if series is not None:
        once = koopman.one_step_error(model, series)
        result["one_step"] = [
            {"column": i + 1, "error": ours, "persistence": none}
            for i, (ours, none) in enumerate(
                zip(once.model.tolist(), once.persistence.tolist(), strict=True)
            )
        ]
    result["modes"] = koopman.modes(model, states).table(5)
    plots.save(
        forecast_figure((times.numpy(), forecast[0].numpy()), names, known), out / "forecast.png"
    )
    with atomic_write(out / "forecast.npy") as tmp:
        np.save(tmp, forecast.numpy(), allow_pickle=False)
    write_json(out / "forecast.json", result)
    files = {"image": str(out / "forecast.png"), "array": str(out / "forecast.npy")}
    return {**files, **result}


def _refuse(arguments: Forecast, options: tuple[str, ...], needed: str, given: str) -> None:
    """Raise for an option that would have no effect."""
    for name in options:
        if getattr(arguments, name) != getattr(Forecast, name):
            option = {"start": "from"}.get(name, name).replace("_", "-")
            raise UsageError(f"--{option} needs {needed}; {arguments.run} is {given}.")


def _starts(
    run: "Run", model: "Koopman", path: Path | None, steps: int
) -> "tuple[Tensor, Tensor | None, Known, tuple[str, ...], Series | None]":
    """Initial states, true continuation, curves to draw, column names, and the series of a file."""
    import torch

    from rectilinear import datasets, koopman
    from rectilinear.errors import ShapeError
    from rectilinear.recipes.koopman import KoopmanRecipe

    recipe = run.recipe
    assert isinstance(recipe, KoopmanRecipe), "the recipe of a run with a Koopman model"
    delays, length = model.delays, abs(steps)
    if path is None and recipe.system in datasets.synthetic.SYSTEMS:
        names, seed = datasets.synthetic.SYSTEMS[recipe.system].columns, recipe.training.seed + 1000
        compared = length <= MAX_SIMULATED_STEPS
        count, total = (100, length + delays - 1) if compared else (1, delays)
        known = datasets.simulate_system(recipe.system, count, total, recipe.dt, seed=seed).states
        windows = koopman.embed(known, delays)
        if not compared:
            return windows[:, 0], None, {}, names, None
        start, truth = (
            (windows[:, 0], known[:, delays - 1 :])
            if steps > 0
            else (windows[:, -1], known.flip(1))
        )
        truth = truth[:, : length + 1]
        clock = torch.arange(length + 1).double().numpy() * model.dt * (1 if steps > 0 else -1)
        return start, truth, {"system": (clock, truth[0].numpy())}, names, None
    file, pieces = recipe.read(path or recipe.file())
    checked = pieces.series
    if checked.dim != model.dim:
        raise ShapeError(f"a series of {checked.dim} columns", f"{model.dim}, as the run has")
    given = checked if any(len(x) > delays for x in checked.states) else None
    at = pieces.ends(delays, first=steps < 0)
    ends = [x[-delays:] if steps > 0 else x[:delays] for x in (checked.states[i] for i in at)]
    x, t = checked.states[at[0]], checked.times[at[0]]
    part, now = (
        (slice(-2 * length, None), t[-1])
        if steps > 0
        else (slice(0, 2 * length), t[delays - 1 : delays])
    )
    observed = {"observed": ((t[part] - now).numpy(), x[part].numpy())}
    return (
        torch.stack([koopman.embed(x, delays)[0] for x in ends]),
        None,
        observed,
        file.names,
        given,
    )
