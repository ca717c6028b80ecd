"""What a study found: a tidy table of trials, a line for each cell, tests between models, files."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rectilinear.config import nan_to_null, write_json
from rectilinear.deeplinear import inference
from rectilinear.deeplinear.diagnosis import STATES
from rectilinear.deeplinear.ensemble import log_grid
from rectilinear.errors import MissingDependencyError
from rectilinear.files import atomic_write, write_text

if TYPE_CHECKING:
    import pandas

    from rectilinear.deeplinear.study.depth_study import DepthStudy
    from rectilinear.deeplinear.study.measure import Columns
    from rectilinear.deeplinear.study.models import Model
    from rectilinear.deeplinear.study.table import Table


_TIE = 1e-9  # of the error: what a converged net and least squares differ by is rounding and the last few steps


@dataclass(frozen=True, eq=False)
class StudyResult:
    """Every trial of every model of a study.

    Attributes:
        study: what was asked.
        models: its models in their places, with the steps that were chosen.
        columns: tidy columns, one row for each trial of each model at each level of noise:
            ``model`` (its place among the models), ``trial``, ``noise`` and the measures of
            :func:`~rectilinear.deeplinear.study.measure.measure`.
        curves: ``(rows, checkpoints)``, ``D`` against steps.
        about: what the data were, in words.
        overlap: ``n_test / n_train`` where trials are folds of one table, whose training sets
            overlap; else None.
    """

    study: DepthStudy
    models: tuple[Model, ...]
    columns: Columns
    curves: np.ndarray
    about: str
    overlap: float | None = None

    @classmethod
    def of(
        cls, study: DepthStudy, models: tuple[Model, ...], columns: Columns, table: Table | None
    ) -> StudyResult:
        """From the columns of all chunks."""
        columns = dict(columns)
        curves = columns.pop("curve")
        if table is None:
            d = study.data
            about = (
                f"Synthetic data: {d.inputs} input{'s'[: d.inputs > 1]}, {d.rows:,} training rows."
            )
        else:
            about = f"{len(table.y):,} rows, {len(table.names)} inputs, target {table.target}."
            about += (
                f" Constant and left out: {', '.join(table.constant)}." if table.constant else ""
            )
        return cls(
            study, models, columns, curves, about, None if table is None else 1 / (study.folds - 1)
        )

    @property
    def checkpoints(self) -> np.ndarray:
        """The steps of the curves."""
        return log_grid(self.study.steps, self.study.checkpoints)

    @property
    def names(self) -> list[str]:
        """Of the models, as they were asked for."""
        return [model.name for model in self.study.models]

    @property
    def levels(self) -> list[float]:
        """Of noise, ascending; one NaN for a table."""
        return np.unique(self.columns["noise"]).tolist()

    def cell(self, model: int | str, noise: float | None = None) -> Columns:
        """The columns of one model, by place or name, at one level of noise or all, with its
        ``curve``; by trial.
        """
        place = model if isinstance(model, int) else self.names.index(model)
        here = self.columns["model"] == place
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
        the tolerance, with
        its interval: infinite where fewer than half arrived within the budget. Then medians, and
        how many trials came to each state.
        """
        return [self._line(m, noise) for noise in self.levels for m in range(len(self.models))]

    def _line(self, m: int, noise: float) -> dict[str, Any]:
        model, cell = self.models[m], self.cell(m, noise)
        n = len(cell["trial"])
        success = inference.wilson(int(cell["success"].sum()), n)
        steps = inference.Estimate(np.nan, np.nan, np.nan)
        if model.trained:
            steps = inference.kaplan_meier(cell["steps"], cell["reached"]).median
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
            **{state: int(np.sum(cell["state"] == state)) for state in STATES},
        }

    def comparisons(self) -> list[dict[str, Any]]:
        """Each model against least squares in test error, and against the shallowest of its family
        in steps.

        Trials are paired. ``test_p`` is Wilcoxon's signed-rank test on the differences of test
        error, ``steps_p`` the log-rank test for pairs; where trials are folds of one table both are
        the corrected resampled t test. They are adjusted by Holm's method over the models at one
        level of noise. The first model stands in where there is no least squares.
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
                    known, inference.holm([found[i][name] for i in known]), strict=True
                ):
                    found[i][name] = p
            lines += [{"noise": noise, **line} for line in found]
        return lines

    def _compare(self, m: int, cells: list[Columns], base: int) -> dict[str, Any]:
        asked, cell = self.study.models, cells[m]
        family = [i for i, other in enumerate(asked) if other.family == asked[m].family]
        shallow = min(family, key=lambda i: self.models[i].depth)
        differences = cell["test_error"] - cells[base]["test_error"]
        differences[np.abs(differences) < _TIE * cells[base]["test_error"]] = 0.0
        steps_p = np.nan
        if shallow != m:
            pair = [(c["steps"], c["reached"]) for c in (cell, cells[shallow])]
            steps_p = inference.paired_logrank(*pair[0], *pair[1], overlap=self.overlap or 0.0)
        return {
            "model": self.names[m],
            "against": self.names[base],
            "test_difference": float(np.median(differences)),
            "test_p": self._test(differences),
            "steps_against": self.names[shallow] if shallow != m else "",
            "steps_p": steps_p,
        }

    def _test(self, differences: np.ndarray) -> float:
        if self.overlap is None:
            return inference.wilcoxon(
                np.minimum(differences, np.finfo(float).max)
            )  # ranks: a diverged net is last
        return (
            inference.corrected_t(differences, self.overlap)
            if np.isfinite(differences).all()
            else np.nan
        )

    def tidy(self) -> Columns:
        """The columns with the settings of each row's model in place of its number."""
        models = self.columns["model"]
        fields = ("kind", "depth", "width", "start", "optimizer", "lr", "bias")
        of_model = {
            name: np.asarray([_setting(model, name) for model in self.models])[models]
            for name in fields
        }
        measures = {name: column for name, column in self.columns.items() if name != "model"}
        return {"model": np.asarray(self.names)[models], **of_model, **measures}

    def to_frame(self) -> pandas.DataFrame:
        """A data frame of :meth:`tidy`.

        Raises:
            MissingDependencyError: without pandas.
        """
        try:
            import pandas
        except ImportError as error:
            raise _missing("a data frame", "pandas") from error
        return pandas.DataFrame(self.tidy())

    def to_parquet(self, path: Path | str) -> None:
        """Write :meth:`tidy` as Parquet.

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
        """Write :meth:`tidy` as CSV, numbers with all their digits.

        Raises:
            DiskError: if the disk is full or cannot be written.
        """
        columns = self.tidy()
        with atomic_write(path) as tmp, tmp.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))

    def to_html(self, path: Path | str) -> None:
        """Write the report: one page, nothing fetched.

        Raises:
            DiskError: if the disk is full or cannot be written.
        """
        from rectilinear.deeplinear.study.page import study_page

        write_text(path, study_page(self))

    def write(self, folder: Path | str) -> dict[str, str]:
        """Write the trials (Parquet with pyarrow, else CSV), the summary and the report; return
        their paths.

        Raises:
            DiskError: if the disk is full or cannot be written.
        """
        folder = Path(folder)
        trials = folder / "trials.parquet"
        try:
            self.to_parquet(trials)
        except MissingDependencyError:
            trials = trials.with_suffix(".csv")
            self.to_csv(trials)
        summary, report = folder / "summary.json", folder / "report.html"
        write_json(
            summary,
            {
                "summary": nan_to_null(self.summary()),
                "comparisons": nan_to_null(self.comparisons()),
            },
        )
        self.to_html(report)
        return {"trials": str(trials), "summary": str(summary), "report": str(report)}


def _setting(model: Model, name: str) -> Any:
    value = getattr(model, name)
    if not model.trained and name in ("depth", "width", "start", "optimizer", "lr"):
        return {"depth": 0, "width": 0, "lr": np.nan}.get(name, "")
    return value


def _median(values: np.ndarray) -> float:
    return float(np.nanmedian(values)) if not np.isnan(values).all() else np.nan


def _missing(what: str, package: str) -> MissingDependencyError:
    return MissingDependencyError.of(what, package, extra="tables")
