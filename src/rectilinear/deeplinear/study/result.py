"""Result of a depth study: tidy table of trials, summary of every cell, tests between models."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rectilinear.deeplinear import statistical_tests
from rectilinear.deeplinear.study.design import ENDS, Model
from rectilinear.deeplinear.study.measure import Columns
from rectilinear.errors import MissingDependencyError
from rectilinear.files import atomic_write
from rectilinear.notebook import short_repr, table

if TYPE_CHECKING:
    import pandas

# Relative: a converged network and least squares differ by rounding and the last few steps.
TIED_ERRORS = 1e-9


@dataclass(frozen=True, eq=False)
class StudyResult:
    """Every trial of every model of a depth study.

    :func:`~rectilinear.deeplinear.study.page.write_study` writes it as a page and files.

    Attributes:
        asked: the models as they were given, with ``lr=None`` where the step size was open.
        models: the models with the step sizes that were used.
        steps: the budget of each network.
        tol: the training error above least squares at which a trial converged.
        checkpoints: ``(checkpoints,)``, the steps of the curves.
        columns: tidy columns, one row for each trial of each model at each level of noise:
            ``model`` (its index among the models), ``trial``, ``noise`` and the measures of
            :func:`~rectilinear.deeplinear.study.measure.measure`.
        curves: ``(rows, checkpoints)``, ``D`` against steps.
        about: a sentence about the data.
        settings: the fields of the study, as JSON.
        overlap: ``n_test / n_train`` where trials are folds of one table, whose training sets
            overlap; else None.
    """

    asked: tuple[Model, ...]
    models: tuple[Model, ...]
    steps: int
    tol: float
    checkpoints: np.ndarray
    columns: Columns
    curves: np.ndarray
    about: str
    settings: dict[str, Any]
    overlap: float | None = None

    __repr__ = short_repr

    @property
    def names(self) -> list[str]:
        """The names of the models; one whose step size was open is called ``tuned``."""
        return [model.name for model in self.asked]

    @property
    def levels(self) -> list[float]:
        """The levels of noise, ascending; one NaN for a table."""
        return np.unique(self.columns["noise"]).tolist()

    def cell(self, model: int | str, noise: float | None = None) -> Columns:
        """The columns of one model with its ``curve``, sorted by level of noise and trial.

        Args:
            model: its name or index.
            noise: one level of noise; all by default.
        """
        index = model if isinstance(model, int) else self.names.index(model)
        here = self.columns["model"] == index
        if noise is not None and not np.isnan(noise):
            here &= self.columns["noise"] == noise
        rows = np.flatnonzero(here)
        rows = rows[np.lexsort((self.columns["trial"][rows], self.columns["noise"][rows]))]
        return {
            **{name: column[rows] for name, column in self.columns.items()},
            "curve": self.curves[rows],
        }

    def summary(self) -> list[dict[str, Any]]:
        """One line for each model at each level of noise.

        ``success`` has Wilson's interval. ``steps`` is Kaplan and Meier's median of the steps to
        the tolerance, with its interval: infinite where fewer than half converged within the
        budget. Medians and the number of trials in each state follow.
        """
        return [self._line(m, noise) for noise in self.levels for m in range(len(self.models))]

    def _repr_html_(self) -> str:
        """The view in a notebook: success, steps and test error of every model."""
        lines = self.summary()
        several = len(self.levels) > 1
        head = [
            *(["noise"] if several else []),
            "model",
            "trials",
            "success",
            "steps",
            "test error",
        ]
        rows = [
            [
                *([line["noise"]] if several else []),
                line["model"],
                line["trials"],
                f"{line['success']:.0%} [{line['success_low']:.0%}, {line['success_high']:.0%}]",
                "–" if np.isnan(line["steps"]) else f"{line['steps']:.4g}",
                line["test_error_median"],
            ]
            for line in lines
        ]
        return table(f"Depth study: {self.about}", head, rows)

    def _line(self, m: int, noise: float) -> dict[str, Any]:
        model, cell = self.models[m], self.cell(m, noise)
        n = len(cell["trial"])
        success = statistical_tests.wilson(int(cell["success"].sum()), n)
        steps = statistical_tests.Estimate(np.nan, np.nan, np.nan)
        if model.trained:
            steps = statistical_tests.kaplan_meier(cell["steps"], cell["reached"]).median
        return {
            "noise": noise,
            "model": self.names[m],
            "depth": model.depth if model.trained else 0,
            "lr": model.lr if model.trained else np.nan,
            "trials": n,
            "test_error": float(np.mean(cell["test_error"])),
            "test_error_median": float(np.median(cell["test_error"])),
            "gap_median": float(np.median(cell["gap"])),
            "distance_mean": float(np.mean(cell["distance"])),
            "distance_median": float(np.median(cell["distance"])),
            "success": success.value,
            "success_low": success.low,
            "success_high": success.high,
            "steps": steps.value,
            "steps_low": steps.low,
            "steps_high": steps.high,
            **{name: _median(cell[name]) for name in ("predicted", "stable_lr", "curvature")},
            **{state: int(np.sum(cell["state"] == state)) for state in ENDS},
        }

    def comparisons(self) -> list[dict[str, Any]]:
        """Tests of each model against least squares, and against the shallowest of its family.

        The first compares test errors, the second steps to the tolerance. Trials are paired.
        ``test_p`` is Wilcoxon's signed-rank test on the differences of test error, ``steps_p`` the
        log-rank test for pairs; where trials are folds of one table, both are the corrected
        resampled t test. They are adjusted by Holm's method over the models at one level of noise.
        Without least squares among the models the first one takes its place.
        """
        kinds = [model.kind for model in self.models]
        base = kinds.index("least_squares") if "least_squares" in kinds else 0
        lines = []
        for noise in self.levels:
            cells = [self.cell(m, noise) for m in range(len(self.models))]
            found = [
                self._compare(m, cells, base)
                for m, model in enumerate(self.models)
                if m != base and model.trained
            ]
            for name in ("test_p", "steps_p"):
                known = [i for i, line in enumerate(found) if np.isfinite(line[name])]
                for i, p in zip(
                    known, statistical_tests.holm([found[i][name] for i in known]), strict=True
                ):
                    found[i][name] = p
            lines += [{"noise": noise, **line} for line in found]
        return lines

    def _compare(self, m: int, cells: list[Columns], base: int) -> dict[str, Any]:
        asked, cell = self.asked, cells[m]
        family = [i for i, other in enumerate(asked) if other.family == asked[m].family]
        shallow = min(family, key=lambda i: self.models[i].depth)
        differences = cell["test_error"] - cells[base]["test_error"]
        differences[np.abs(differences) < TIED_ERRORS * cells[base]["test_error"]] = 0.0
        steps_p = np.nan
        if shallow != m:
            pair = [(c["steps"], c["reached"]) for c in (cell, cells[shallow])]
            steps_p = statistical_tests.paired_logrank(
                *pair[0], *pair[1], overlap=self.overlap or 0.0
            )
        return {
            "model": self.names[m],
            "against": self.names[base],
            "test_difference": float(np.median(differences)),
            "test_p": self._test(differences),
            "steps_against": self.names[shallow] if shallow != m else "",
            "steps_p": steps_p,
        }

    def _test(self, differences: np.ndarray) -> float:
        """The p value of paired differences of test error; NaN for folds on which one diverged."""
        if self.overlap is None:
            # It compares ranks: a diverged network is last.
            return statistical_tests.wilcoxon(np.minimum(differences, np.finfo(float).max))
        if not np.isfinite(differences).all():
            return np.nan
        return statistical_tests.corrected_t(differences, self.overlap)

    def tidy(self) -> Columns:
        """The columns, with the settings of each row's model in place of its index."""
        models = self.columns["model"]
        fields = ("kind", "depth", "width", "init", "optimizer", "lr", "bias")
        of_model = {
            name: np.asarray([_setting(model, name) for model in self.models])[models]
            for name in fields
        }
        measures = {name: column for name, column in self.columns.items() if name != "model"}
        return {"model": np.asarray(self.names)[models], **of_model, **measures}

    def to_frame(self) -> pandas.DataFrame:
        """The data frame of :meth:`tidy`.

        Raises:
            MissingDependencyError: without pandas.
        """
        try:
            import pandas
        except ImportError as error:
            raise _missing("a data frame", "pandas") from error
        return pandas.DataFrame(self.tidy())

    def to_parquet(self, path: Path | str) -> None:
        """Write :meth:`tidy` to ``path`` as Parquet.

        Raises:
            MissingDependencyError: without pyarrow.
            DiskError: if the disk is full or cannot be written.
        """
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise _missing("Parquet", "pyarrow") from error
        with atomic_write(path) as tmp:
            pyarrow.parquet.write_table(pyarrow.table(self.tidy()), tmp)

    def to_csv(self, path: Path | str) -> None:
        """Write :meth:`tidy` to ``path`` as CSV, numbers with all their digits.

        Raises:
            DiskError: if the disk is full or cannot be written.
        """
        columns = self.tidy()
        with atomic_write(path) as tmp, tmp.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))


def _setting(model: Model, name: str) -> Any:
    value = getattr(model, name)
    if not model.trained and name in ("depth", "width", "init", "optimizer", "lr"):
        return {"depth": 0, "width": 0, "lr": np.nan}.get(name, "")
    return value


def _median(values: np.ndarray) -> float:
    return float(np.nanmedian(values)) if not np.isnan(values).all() else np.nan


def _missing(what: str, package: str) -> MissingDependencyError:
    return MissingDependencyError.of(what, package, extra="tables")
