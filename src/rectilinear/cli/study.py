"""``rectilinear study``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from rectilinear.cli._options import Common, UsageError


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Train linear nets of many depths beside least squares, and say when depth hurts; the same
    command goes on.
    """

    data: tyro.conf.Positional[str]
    """paper for the published protocol, or a CSV or Parquet file."""
    target: str | None = None
    """Column of the file that is predicted."""
    drop: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = field(default=())
    """A column to leave out, as often as needed."""
    out: Path | None = None
    """Folder of the study; runs/study-NAME by default."""
    depths: str = "1..10"
    """Layers: 1..10, or 1,2,5."""
    widths: str = "1"
    """Units of the hidden layers, likewise."""
    starts: tuple[
        Literal["uniform", "torch", "normal", "orthogonal", "identity", "balanced", "zero_last"],
        ...,
    ] = ()
    """Starting weights, one or more; uniform for the paper, torch for a table, by default."""
    optimizers: tuple[Literal["gd", "momentum", "adam"], ...] = ("gd",)
    """One or more."""
    lr: str | None = None
    """Step size; tune chooses it on trials that are not reported. 1e-3 for the paper, tune for a
    table, by default.
    """
    relu: int | None = None
    """Add ReLU nets of this width, with and without bias, at each depth above 1; they are slow."""
    ridge: float | None = None
    """Add ridge regression with this penalty."""
    trials: int = 100
    """Trials at each level of noise; of a table, splits."""
    steps: int = 10_000
    """Steps of each net."""
    noise: tuple[float, ...] = (0.05, 0.15, 0.3, 0.5)
    """Levels of noise of the protocol."""
    noise_kind: Literal["mean", "constant", "ratio"] = "mean"
    """What a level multiplies: the mean of the target, as published, or one, or the spread of the
    clean target.
    """
    inputs: int = 1
    """Inputs of the protocol."""
    condition: float = 1.0
    """Condition number of their covariance."""
    rows: int = 1000
    """Training rows of the protocol."""
    folds: int = 5
    """Parts of each split of a table."""
    tol: float | None = None
    """Training error above least squares that counts as arrived: 5e-5, and 1e-3 of the variance of
    a table's target.
    """
    n_jobs: int = 1
    """Worker processes; -1 for one a core."""
    backend: Literal["loky", "dask", "ray"] = "loky"
    """What spreads the work."""
    dask_address: str | None = None
    """Address of a Dask scheduler, for --backend dask."""

    def folders(self) -> tuple[Path, ...]:
        return (self.out or Path("runs") / f"study-{Path(self.data).stem}",)


def run(arguments: Arguments) -> dict[str, Any]:
    """Study, and say where the report lies."""
    from dataclasses import replace

    from rich.progress import Progress

    from rectilinear.config import nan_to_null
    from rectilinear.deeplinear.study import DepthStudy, Model, Synthetic, Table, deep_linear
    from rectilinear.files import locked
    from rectilinear.training.log import Display

    table = None
    if arguments.data != "paper":
        if arguments.target is None:
            raise UsageError(
                f"--target is missing: the column of {arguments.data} that is to be predicted."
            )
        table = Table.read(arguments.data, arguments.target, arguments.drop)
    word = arguments.lr or ("1e-3" if table is None else "tune")
    lr = None if word == "tune" else _step(word)
    depths = _integers("depths", arguments.depths)
    models = deep_linear(
        depths,
        widths=_integers("widths", arguments.widths),
        starts=arguments.starts or (("uniform",) if table is None else ("torch",)),
        optimizers=arguments.optimizers,
        lr=lr,
    )
    if arguments.ridge is not None:
        models += (Model("ridge", penalty=arguments.ridge),)
    if arguments.relu is not None:
        nets = deep_linear([d for d in depths if d > 1], widths=[arguments.relu], starts=["torch"],
                           optimizers=arguments.optimizers, lr=lr)[1:]  # fmt: skip
        models += tuple(
            replace(net, kind="relu", bias=bias) for bias in (True, False) for net in nets
        )
    study = DepthStudy(
        models,
        Synthetic(
            arguments.noise,
            arguments.noise_kind,
            arguments.inputs,
            arguments.rows,
            condition=arguments.condition,
        ),
        trials=arguments.trials,
        steps=arguments.steps,
        tol=arguments.tol or (5e-5 if table is None else 1e-3),
        folds=arguments.folds,
        seed=arguments.seed,
    )
    (out,) = arguments.folders()
    with locked(out), Progress(console=Display()) as display:
        task = display.add_task("studying")
        result = study.run(
            table,
            out=out,
            n_jobs=arguments.n_jobs,
            backend=arguments.backend,
            address=arguments.dask_address,
            progress=lambda done, total: display.update(task, completed=done, total=total),
        )
        files = result.write(out)
    cells = [{name: cell[name] for name in SHOWN} for cell in result.summary()]
    return {**files, "cells": nan_to_null(cells)}


SHOWN = ("noise", "model", "success", "steps", "distance_median", "test_error_median")


def _integers(name: str, text: str) -> list[int]:
    """``1..10`` or ``1,2,5``."""
    first, dots, last = text.partition("..")
    try:
        numbers = (
            list(range(int(first), int(last) + 1))
            if dots
            else [int(word) for word in text.split(",")]
        )
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1 or len(set(numbers)) < len(numbers):
        raise UsageError(
            f"'--{name} {text}' is not of the form 1..10 or 1,2,5, with numbers of at least 1."
        )
    return numbers


def _step(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise UsageError(f"'--lr {word}' is neither a number nor tune.") from None
