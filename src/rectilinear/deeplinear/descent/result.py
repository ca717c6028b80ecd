"""Training runs of a batch of networks: measures at checkpoints, as a frame and a figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rectilinear.errors import ConfigError, MissingDependencyError
from rectilinear.notebook import short_repr

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Descent:
    """The training of ``runs`` networks, as :func:`~rectilinear.deeplinear.descend` returns it.

    Attributes:
        steps: ``(K,)``, the checkpoints, from 0 to the last step.
        maps: ``(runs, K, m, d)``, the end-to-end maps.
        measures: by name, ``(runs, K, ...)``.
        layers: at the end, each with the runs in front.
        lr: ``(runs,)``, the step sizes.
        diverged: ``(runs,)``, whether the loss is no number at the end.
    """

    steps: np.ndarray
    maps: np.ndarray
    measures: dict[str, np.ndarray]
    layers: tuple[np.ndarray, ...]
    lr: np.ndarray
    diverged: np.ndarray

    __repr__ = short_repr

    @property
    def loss(self) -> np.ndarray:
        """The loss ``(runs, K)``.

        Raises:
            ConfigError: if it was not among the measures.
        """
        return self.measure("loss")

    def measure(self, name: str) -> np.ndarray:
        """A measure ``(runs, K, ...)`` by name.

        Raises:
            ConfigError: for one that was not taken.
        """
        if name not in self.measures:
            raise ConfigError(
                f"no measure {name!r}", f"one of {', '.join(self.measures)}", "Add it to measures."
            )
        return self.measures[name]

    def nearest(self, references: dict[str, np.ndarray]) -> list[tuple[str, float]]:
        """The nearest of several maps to each run's final map, and its relative distance.

        Args:
            references: maps ``(m, d)`` or ``(runs, m, d)`` by name, such as
                :func:`~rectilinear.deeplinear.references` gives.

        Example:
            >>> from rectilinear.deeplinear import completion, descend, factorised
            >>> task = completion(np.eye(1), np.ones((1, 1)))
            >>> run = descend(task, factorised(np.eye(1), [1]), lr=0.1, steps=1)
            >>> run.nearest({"one": np.eye(1), "two": 2 * np.eye(1)})
            [('one', 0.0)]
        """
        end = self.maps[:, -1]
        names = list(references)
        apart = np.stack([
            np.linalg.norm(end - ref, axis=(-2, -1))
            / np.maximum(np.linalg.norm(ref, axis=(-2, -1)), np.finfo(float).tiny)
            for ref in references.values()
        ])  # fmt: skip
        best = apart.argmin(0)
        return [(names[i], float(apart[i, run])) for run, i in enumerate(best)]

    def tidy(self) -> dict[str, np.ndarray]:
        """Columns with one row for each checkpoint of each run; ``name_1, name_2, ...`` of many."""
        runs, marks = self.maps.shape[:2]
        columns = {
            "run": np.repeat(np.arange(runs), marks),
            "step": np.tile(self.steps, runs),
            "lr": np.repeat(self.lr, marks),
        }
        for name, values in self.measures.items():
            flat = values.reshape(runs * marks, -1)
            if values.ndim == 2:
                columns[name] = flat[:, 0]
            else:
                for index in np.ndindex(values.shape[2:]):
                    words = "_".join(str(i + 1) for i in index)
                    at = int(np.ravel_multi_index(index, values.shape[2:]))
                    columns[f"{name}_{words}"] = flat[:, at]
        return columns

    def to_frame(self) -> pandas.DataFrame:
        """The data frame of :meth:`tidy`.

        Raises:
            MissingDependencyError: without pandas.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingDependencyError.of("a data frame", "pandas", extra="tables") from error
        return pandas.DataFrame(self.tidy())

    def figure(self, run: int = 0) -> Figure:
        """The figure of one run: loss, modes, sharpness beside ``2 / lr``, alignment and balance.

        Args:
            run: its index. Panels without a measure are left out.
        """
        from rectilinear.deeplinear.descent.figure import figure

        taken = {name: values[run] for name, values in self.measures.items()}
        return figure(self.steps, taken, float(self.lr[run]))
