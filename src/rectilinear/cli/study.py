"""Command ``rectilinear study``: linear networks of many depths against least squares."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from rectilinear.cli._options import Common, UsageError


@dataclass(frozen=True, kw_only=True)
class Study(Common):
    """Train linear networks of many depths beside least squares, and report when depth hurts.

    The same command resumes an earlier one.
    """

    data: tyro.conf.Positional[str]
    """Data: paper for the published protocol, or a CSV or Parquet file."""
    target: str | None = None
    """Column of the file that is predicted."""
    drop: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = field(default=())
    """Column of the file to leave out; may be given several times."""
    missing: Literal["error", "drop", "mean"] = "error"
    """Treatment of empty cells of the file: an error, rows left out, or the mean of the column over
    each training set.
    """
    out: Path | None = None
    """Folder of the study; runs/study-NAME by default."""
    depths: str = "1..10"
    """Numbers of layers: 1..10, or 1,2,5."""
    widths: str = "1"
    """Units of the hidden layers: 1..4, or 1,2,8."""
    inits: tuple[
        Literal["uniform", "torch", "normal", "orthogonal", "identity", "balanced", "zero_last"],
        ...,
    ] = ()
    """Initialisations of the weights, one or more; by default uniform for the paper and torch for a
    table.
    """
    optimizers: tuple[Literal["gd", "momentum", "adam"], ...] = ("gd",)
    """Optimisers, one or more."""
    lr: str | None = None
    """Step size, or tune to choose it on trials that are not reported; by default 1e-3 for the
    paper and tune for a table.
    """
    relu: int | None = None
    """Width of added ReLU networks, with and without bias, at each depth above 1; they are slow."""
    ridge: float | None = None
    """Penalty of an added ridge regression."""
    trials: int = 100
    """Number of trials at each level of noise, or of splits of a table."""
    steps: int = 10_000
    """Budget of each network in steps."""
    noise: tuple[float, ...] = (0.05, 0.15, 0.3, 0.5)
    """Levels of noise of the protocol."""
    noise_kind: Literal["mean", "constant", "ratio"] = "mean"
    """Unit of the levels: the mean of the target, as published; 1; or the standard deviation of the
    noise-free target.
    """
    inputs: int = 1
    """Number of inputs of the protocol."""
    condition: float = 1.0
    """Condition number of the covariance of the inputs."""
    rows: int = 1000
    """Training rows of the protocol."""
    folds: int = 5
    """Parts of each split of a table."""
    tol: float | None = None
    """Training error above least squares at which a trial converged; by default 5e-5 for the paper
    and 1e-3 of the variance of the target for a table.
    """
    n_jobs: int = 1
    """Number of worker processes; -1 for one a core."""
    backend: Literal["loky", "dask", "ray"] = "loky"
    """Backend of the workers: processes on this machine, or a cluster."""
    dask_address: str | None = None
    """Address of a Dask scheduler, for --backend dask."""

    def folders(self) -> tuple[Path, ...]:
        return (self.out or Path("runs") / f"study-{Path(self.data).stem}",)


def study(arguments: Study) -> dict[str, Any]:
    """The paths of the written files, and the most important numbers of every cell."""
    from dataclasses import replace

    from rich.progress import Progress

    from rectilinear.config import nan_to_null
    from rectilinear.deeplinear import (
        DepthStudy,
        Model,
        Synthetic,
        Table,
        deep_linear,
        verdict,
        write_study,
    )
    from rectilinear.files import locked
    from rectilinear.training.log import Display

    table = None
    if arguments.data != "paper":
        if arguments.target is None:
            raise UsageError(
                f"--target is missing: the column of {arguments.data} that is predicted."
            )
        table = Table.read(
            arguments.data, arguments.target, arguments.drop, missing=arguments.missing
        )
    word = arguments.lr or ("1e-3" if table is None else "tune")
    lr = None if word == "tune" else _step(word)
    depths = _integers("depths", arguments.depths)
    models = deep_linear(
        depths,
        widths=_integers("widths", arguments.widths),
        inits=arguments.inits or (("uniform",) if table is None else ("torch",)),
        optimizers=arguments.optimizers,
        lr=lr,
    )
    if arguments.ridge is not None:
        models += (Model("ridge", penalty=arguments.ridge),)
    if arguments.relu is not None:
        networks = deep_linear(
            [depth for depth in depths if depth > 1],
            widths=[arguments.relu],
            inits=["torch"],
            optimizers=arguments.optimizers,
            lr=lr,
        )[1:]
        models += tuple(
            replace(net, kind="relu", bias=bias) for bias in (True, False) for net in networks
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
        files = write_study(result, out)
    cells = [{name: cell[name] for name in PRINTED_COLUMNS} for cell in result.summary()]
    return {**files, "verdict": verdict(result), "cells": nan_to_null(cells)}


PRINTED_COLUMNS = ("noise", "model", "success", "steps", "distance_median", "test_error_median")


def _integers(name: str, text: str) -> list[int]:
    """The numbers of ``1..10`` or ``1,2,5``."""
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
