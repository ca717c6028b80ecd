"""The recipe ``koopman``: a Koopman model of a simulated system or of a series from a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rectilinear import datasets
from rectilinear.errors import ConfigError
from rectilinear.koopman import FitConfig, MultiStep, as_series, fit
from rectilinear.koopman.closed_form import solve_features
from rectilinear.koopman.tables import Pieces, series_at_times, series_on_grid
from rectilinear.recipes.base import Fitted, Labels, Recipe, Stage
from rectilinear.training import TrainConfig

_IDLE = ("data", "size", "rank")  # fields of other recipes
_SIMULATED = ("noise", "count", "steps", "jitter")  # of simulated systems alone
_OF_A_FILE = ("time", "run_column", "columns", "separator")
_INSTEAD = {
    "data": "Set system to the file.",
    "rank": "Set fit.rank.",
    "size": "Leave it out.",
    **dict.fromkeys(_SIMULATED, "It is one of simulated systems."),
    **dict.fromkeys(_OF_A_FILE, "It is one of files."),
}


@dataclass(frozen=True)
class KoopmanRecipe(Recipe):
    """A Koopman model ``x(t) = pi g^-1(A^t g(x, 0))`` fitted in closed form.

    Modes come from the series, features of the state and of where it leads to by least squares.
    With ``fit.width`` a network learns further features by gradients, through powers of the
    operator, and least squares on all of them follows; that is seldom worth its minutes.

    Attributes:
        system: Name of a simulated system, or a .csv or .npy file with a series.
        noise: Standard deviation of the noise on simulated observations.
        count: Simulated trajectories.
        steps: Steps of each.
        jitter: Irregular sampling of simulated trajectories, as a part of the step.
        dt: Time of a step; of a simulated system the usual one, of a file that of its column of
            numbers, or 1 where it has dates or no times, by default.
        time: Column of dates or times of a file; by default one with a name such as time or date.
        run_column: Column of a file that names the series of each row; none by default.
        columns: Columns of a file to model; all others by default.
        separator: Separator of the cells of a file; by default the one that fits.
        fit: What model to fit.
        times: Times drawn for each batch.
        training: How to train the network of features, where there is one.
    """

    system: str = "pendulum"
    count: int = 1000
    steps: int = 150
    jitter: float = 0.0
    dt: float | None = None
    time: str | None = None
    run_column: str | None = None
    columns: tuple[str, ...] = ()
    separator: str | None = None
    fit: FitConfig = field(default_factory=FitConfig)
    times: int = 16
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=3000,
            max_seconds=240.0,
            batch_size=256,
            lr=3e-3,
            warmup=50,
            schedule="cosine",
            ema=None,
        )
    )

    def load(self, data_dir: Path | None = None) -> Tensor:
        """The series ``(count, T, d + 1)``, times in the last column, NaN after the ends."""
        self._check_fields()
        if self.system in datasets.synthetic.SYSTEMS:
            states, times = datasets.simulate_system(
                self.system,
                self.count,
                self.steps,
                self.dt,
                noise=self.noise,
                jitter=self.jitter,
                seed=self.training.seed,
            )
            return torch.cat([states, times[..., None]], dim=-1)
        if not Path(self.system).suffix:
            raise ConfigError(
                f"the system '{self.system}'",
                f"one of {', '.join(datasets.synthetic.SYSTEMS)}, or a .csv or .npy file",
            )
        series = self.read(self.file(data_dir))[1].series
        rows = [
            torch.cat([x, t[:, None]], 1) for x, t in zip(series.states, series.times, strict=True)
        ]
        return pad_sequence(rows, batch_first=True, padding_value=torch.nan)

    def read(self, path: Path) -> tuple[datasets.SeriesFile, Pieces]:
        """The series of a file, as it has them, and at the times of the model, without gaps."""
        found = datasets.read_series(
            path,
            time=self.time,
            run=self.run_column,
            columns=self.columns,
            separator=self.separator,
        )
        irregular = self.fit.delays == 1 and not any(np.isnan(x).any() for x in found.values)
        if irregular and (found.times is None or found.times[0].dtype.kind == "f"):
            return found, series_at_times(found.values, found.times, self.dt)
        return found, series_on_grid(found.values, found.times, self.dt)

    def _check_fields(self) -> None:
        simulated = self.system in datasets.synthetic.SYSTEMS
        idle = _IDLE + (_OF_A_FILE if simulated else _SIMULATED)
        usual = {f.name: f.default for f in fields(self)}
        for name in idle:
            if getattr(self, name) != usual[name]:
                raise ConfigError(
                    f"{name} = {getattr(self, name)!r}, which has no effect on '{self.system}'",
                    (
                        "fields that have one: "
                        f"{', '.join(other for other in usual if other not in idle)}"
                    ),
                    _INSTEAD[name],
                )
        if self.fit.seed not in (0, self.training.seed):
            raise ConfigError(
                f"fit.seed = {self.fit.seed}",
                f"{self.training.seed}, the seed of the training",
                "Leave fit.seed out: training.seed is the seed of the fit, too.",
            )

    def located(self, data_dir: Path | None = None) -> Self:
        """The recipe with the absolute path of its file, where it has one."""
        file = self.system not in datasets.synthetic.SYSTEMS
        return replace(self, system=str(self.file(data_dir).absolute())) if file else self

    def file(self, data_dir: Path | None = None) -> Path:
        """The file with the series, as it stands or under the folder of data sets."""
        path = Path(self.system).expanduser()
        return path if path.is_file() else datasets.data_root(data_dir) / path

    def stages(self, data: Tensor, labels: Labels | None = None) -> Iterator[Stage | Fitted]:  # noqa: ARG002
        rows = [series[~series[:, -1].isnan()] for series in data]
        series = as_series([x[:, :-1] for x in rows], [x[:, -1] for x in rows], self.dt)
        model, found = fit(series, replace(self.fit, seed=self.training.seed))
        if not self.fit.width:  # all is solved: nothing is left for gradients
            yield Fitted(model, {"windows": len(found), "dim": model.lift.dim})
            return
        training = replace(self.training, batch_size=min(self.training.batch_size, len(found)))
        yield Stage(MultiStep(model, self.times, training.lr), found.packed(), training, model)
        solve_features(model.cpu(), found)
