"""The recipe ``koopman``: a Koopman model of a simulated system or of a series from a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from rectilinear import datasets
from rectilinear.errors import ConfigError
from rectilinear.koopman import FitConfig, MultiStep, as_series, fit
from rectilinear.koopman.closed_form import solve_features
from rectilinear.recipes.base import Fitted, Labels, Recipe, Stage
from rectilinear.training import TrainConfig

_IDLE = ("data", "size", "rank")  # fields of other recipes, and those of simulated systems only
_SIMULATED = ("noise", "count", "steps", "jitter")
_INSTEAD = {"data": "Set system to the file.", "rank": "Set fit.rank.", "size": "Leave it out."}


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
        dt: Time of a step; of a simulated system the usual one, of a file that of its column "time"
            or 1, by default.
        fit: What model to fit.
        times: Times drawn for each batch.
        training: How to train the network of features, where there is one.
    """

    system: str = "pendulum"
    count: int = 1000
    steps: int = 150
    jitter: float = 0.0
    dt: float | None = None
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
        """The series ``(count, T, d + 1)``, their times in the last column."""
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
        else:
            if not Path(self.system).suffix:
                raise ConfigError(
                    f"the system '{self.system}'",
                    f"one of {', '.join(datasets.synthetic.SYSTEMS)}, or a .csv or .npy file",
                )
            states, times = datasets.read_series(self.file(data_dir), self.dt)
        return torch.cat([states, times[..., None]], dim=-1)

    def _check_fields(self) -> None:
        idle = _IDLE if self.system in datasets.synthetic.SYSTEMS else _IDLE + _SIMULATED
        usual = {f.name: f.default for f in fields(self)}
        for name in idle:
            if getattr(self, name) != usual[name]:
                raise ConfigError(
                    f"{name} = {getattr(self, name)!r}, which has no effect on '{self.system}'",
                    (
                        "fields that have one: "
                        f"{', '.join(other for other in usual if other not in idle)}"
                    ),
                    _INSTEAD.get(name, "It is one of simulated systems."),
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
        series = as_series(data[..., :-1], data[..., -1], self.dt)
        model, found = fit(series, replace(self.fit, seed=self.training.seed))
        if not self.fit.width:  # all is solved: nothing is left for gradients
            yield Fitted(model, {"windows": len(found), "dim": model.lift.dim})
            return
        training = replace(self.training, batch_size=min(self.training.batch_size, len(found)))
        yield Stage(MultiStep(model, self.times, training.lr), found.packed(), training, model)
        solve_features(model.cpu(), found)
