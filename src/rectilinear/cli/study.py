"""``rectilinear study``: linear networks of many depths against least squares."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from rectilinear.cli._options import Common, UsageError


@dataclass(frozen=True, kw_only=True)
class Study(Common):
    """Train linear networks of many depths beside least squares; write report.html and trials.

    The report says at which depths the networks are worse. The same command resumes a study.
    """

    data: tyro.conf.Positional[str]
    """CSV or Parquet file, or paper for the synthetic data of the published protocol."""
    target: str | None = None
    """Column of the file to predict; required with a file."""
    drop: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = field(default=())
    """Column of the file to leave out; repeatable; none by default."""
    missing: Literal["error", "drop", "mean"] = "error"
    """Treatment of empty cells of the file: an error, their rows dropped, or the mean of the column
    over each training set.
    """
    out: Path | None = None
    """Folder of the study; by default runs/study-NAME, with the name of the data."""
    depths: str = "1..10"
    """Numbers of layers, as a range 1..10 or a list 1,2,5."""
    widths: str = "1"
    """Numbers of units in the hidden layers, as a range 1..4 or a list 1,2,8."""
    inits: tuple[
        Literal["uniform", "torch", "normal", "orthogonal", "identity", "balanced", "zero_last"],
        ...,
    ] = ()
    """Initialisations of the weights, one or more; by default uniform for paper, else torch."""
    optimizers: tuple[Literal["gd", "momentum", "adam"], ...] = ("gd",)
    """Optimisers, one or more."""
    lr: str | None = None
    """Learning rate, or tune to choose it on trials that are not reported; by default 1e-3 for
    paper, tune for a file.
    """
    relu: int | None = None
    """Width of ReLU networks, with and without bias, added at each depth above 1 (slow); none by
    default.
    """
    ridge: float | None = None
    """L2 penalty of a ridge regression that is added; none by default."""
    trials: int = 100
    """Number of trials at each noise level, or of splits of a file."""
    steps: int = 10_000
    """Largest number of optimiser steps of each network."""
    noise: tuple[float, ...] = (0.05, 0.15, 0.3, 0.5)
    """Noise levels of the synthetic data, in the unit of --noise-kind."""
    noise_kind: Literal["mean", "constant", "ratio"] = "mean"
    """Unit of the noise levels: the mean of the target (as published), 1 (constant), or the
    standard deviation of the noise-free target (ratio).
    """
    inputs: int = 1
    """Number of inputs of the synthetic data."""
    condition: float = 1.0
    """Condition number of the input covariance of the synthetic data."""
    rows: int = 1000
    """Number of training rows of the synthetic data."""
    folds: int = 5
    """Number of cross-validation folds of each split of a file."""
    tol: float | None = None
    """Largest excess of the training error over least squares at which a trial counts as converged;
    by default 5e-5 for paper, 1e-3 of the target's variance for a file.
    """
    n_jobs: int = 1
    """Number of worker processes; -1 is one for each CPU core."""
    backend: Literal["loky", "dask", "ray"] = "loky"
    """Backend of the workers: processes of this machine (loky), or a cluster (dask, ray)."""
    dask_address: str | None = None
    """Address of the Dask scheduler; by default --backend dask starts one here."""

    def folders(self) -> tuple[Path, ...]:
        return (self.out or Path("runs") / f"study-{Path(self.data).stem}",)


def study(arguments: Study) -> dict[str, Any]:
    """The paths of the written files, the verdict, and the main numbers of every cell."""
    from dataclasses import replace

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
    from rectilinear.progress import Progress

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
    with locked(out), Progress("study", 1.0, stays=True) as display:
        result = study.run(
            table,
            out=out,
            n_jobs=arguments.n_jobs,
            backend=arguments.backend,
            address=arguments.dask_address,
            progress=lambda done, total: display.update(done / total, f"{done} of {total} parts"),
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
