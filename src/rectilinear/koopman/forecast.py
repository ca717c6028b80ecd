"""Results of a forecaster: the forecast with its interval, and the comparison of candidates."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from numpy.typing import NDArray

from rectilinear.errors import MissingDependencyError
from rectilinear.notebook import short_repr
from rectilinear.plots import canvas
from rectilinear.plots.charts import ROLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
MOST_DRAWN = 8
"""Largest number of series in one figure."""


@dataclass(frozen=True, eq=False)
class Forecast:
    """A forecast and its interval, each ``(steps, d)``, or ``(count, steps, d)`` of several series.

    Attributes:
        mean: the forecast.
        lower: the lower end of the interval; NaN beyond the horizon of the fit, where the errors
            were not measured.
        upper: its upper end.
        level: share of held-out observations that lay inside.
        index: the stamps of the rows.
        names: of the columns.
        known: the rows that the forecast follows, and their stamps, to draw; a list of several.
        runs: the names of several series.
    """

    mean: Array
    lower: Array
    upper: Array
    level: float
    index: Any
    names: tuple[str, ...]
    known: Any = None
    runs: tuple[str, ...] | None = None

    __repr__ = short_repr

    def to_frame(self) -> Any:
        """A pandas data frame ``(steps, 3 d)``: each column with its lower and upper end.

        Raises:
            MissingDependencyError: without pandas.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingDependencyError.of("to_frame", "pandas", extra="tables") from error
        if self.mean.ndim == 3:
            parts = [self._of(i).to_frame() for i in range(len(self.mean))]
            return pd.concat(parts, keys=range(len(parts)), names=["series"])
        columns = {}
        for j, name in enumerate(self.names):
            columns[name] = self.mean[:, j]
            columns[f"{name} lower"] = self.lower[:, j]
            columns[f"{name} upper"] = self.upper[:, j]
        return pd.DataFrame(columns, index=self.index)

    def plot(self, columns: int = 3) -> Figure:
        """The figure of up to so many columns, after the observed rows; of up to eight series."""
        several = self.mean.ndim == 3
        shown = [self._of(i) for i in range(min(len(self.mean), MOST_DRAWN))] if several else [self]
        count = min(columns, len(self.names))
        figure, all_axes = canvas(columns=count, rows=len(shown), height=2.4 * len(shown))
        for i, one in enumerate(shown):
            for j, name in enumerate(one.names[:count]):
                axes = all_axes[count * i + j]
                _draw(axes, one, j)
                axes.set(title=f"{one.runs[0]}, {name}" if one.runs else name)
        all_axes[0].legend(frameon=False, handlelength=1.2, fontsize=8)
        return figure

    def _of(self, i: int) -> Forecast:
        index = self.index[i] if isinstance(self.index, list) else self.index
        known = self.known[i] if isinstance(self.known, list) else None
        name = (self.runs[i] if self.runs else f"series {i}",)
        mean, lower, upper = self.mean[i], self.lower[i], self.upper[i]
        return Forecast(mean, lower, upper, self.level, index, self.names, known, name)

    def _repr_html_(self) -> str:
        """The first rows with their intervals, of the first series and columns."""
        from rectilinear.notebook import table

        one = self if self.mean.ndim == 2 else self._of(0)
        steps, d = one.mean.shape
        rows = [
            [str(stamp)]
            + [
                f"{one.mean[k, j]:.4g} ({one.lower[k, j]:.4g} to {one.upper[k, j]:.4g})"
                for j in range(min(d, 6))
            ]
            for k, stamp in zip(range(min(steps, 10)), one.index, strict=False)
        ]
        said = f"Forecast of {steps} rows, {self.level:.0%} intervals"
        if one is not self:
            said += f", {one.runs[0] if one.runs else ''}, the first of {len(self.mean)} series"
        if d > 6 or steps > 10:
            said += f"; the first {len(rows)} rows of {min(d, 6)} of {d} columns"
        return table(said, ["", *one.names[:6]], rows)


def _draw(axes: Axes, found: Forecast, j: int) -> None:
    if found.known is not None:
        rows = _drawn(found.known[0]), found.known[1][:, j]
        axes.plot(*rows, color=ROLES["muted"], label="observed")
    ahead = _drawn(found.index)
    axes.fill_between(
        ahead,
        found.lower[:, j],
        found.upper[:, j],
        color=ROLES["first"],
        alpha=0.2,
        linewidth=0,
        label=f"{found.level:.0%} interval",
    )
    axes.plot(ahead, found.mean[:, j], color=ROLES["first"], label="forecast", linewidth=1.3)
    if np.asarray(ahead).dtype.kind == "M":
        few = AutoDateLocator(minticks=3, maxticks=5)
        axes.xaxis.set_major_locator(few)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(few))


def _drawn(index: Any) -> Any:
    """Stamps that matplotlib draws: periods by the instant they begin."""
    if hasattr(index, "to_timestamp"):
        index = index.to_timestamp()
    return index.to_numpy() if hasattr(index, "to_numpy") else index


def geometric_mean(errors: Array) -> float:
    """The geometric mean of errors over the steps; none counts as less than 1e-10."""
    return exp(float(np.log(np.maximum(errors, 1e-10)).mean()))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Root mean square errors of every candidate on held-out rows, forecast from every origin.

    In standard deviations of each column, over all columns and origins. These are the last rows,
    which all kinds have in common; linear kinds are chosen by earlier folds, too, and others only
    where they are better for certain.

    Attributes:
        errors: of each kind of model at each step, ``{kind: (horizon,)}``, and of "persistence",
            which is no change, and "mean", on the last rows.
        folds: the same on all held-out folds, of linear kinds, "persistence" and "mean"; empty
            where the last rows are the only fold.
        settings: what each model is made of, in words.
        chosen: the kind that is used.
        origins: how many forecasts each error is the mean of.
        better: pairs of a linear kind and another, persistence or the mean, that is certainly
            worse by Student's t.
    """

    errors: dict[str, Array]
    settings: dict[str, str]
    chosen: str
    origins: int
    folds: dict[str, Array] = field(default_factory=dict)
    better: frozenset[tuple[str, str]] = frozenset()

    __repr__ = short_repr

    def average(self, kind: str) -> float:
        """The geometric mean over the steps of the error of a ``kind``, which is compared."""
        return geometric_mean(self.errors[kind])

    @property
    def reason(self) -> str:
        """The reason why the least error on these rows did not decide; empty where it did."""
        models = [kind for kind in self.settings if kind in self.errors]
        least = min(models, key=self.average, default=self.chosen)
        if least == self.chosen:
            return ""
        said = f"{least} has less error on these last rows; {self.chosen} was chosen because "
        if {least, self.chosen} <= set(self.folds):
            ours, theirs = (geometric_mean(self.folds[kind]) for kind in (self.chosen, least))
            return f"{said}it has less over all held-out folds ({ours:.3g}, {least} {theirs:.3g})"
        if least in self.folds:
            return f"{said}linear models are compared over all held-out folds"
        return f"{said}the difference is small or not certain"

    def table(self) -> list[dict[str, Any]]:
        """A row for each model, the best first: errors at some steps and over all."""
        horizon = len(next(iter(self.errors.values())))
        marks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500) if k < horizon] + [horizon]
        rows = [
            {
                "model": kind,
                "chosen": kind == self.chosen,
                "average": self.average(kind),
                **{f"step {k}": float(found[k - 1]) for k in marks},
                "settings": self.settings.get(kind, ""),
            }
            for kind, found in self.errors.items()
        ]
        return sorted(rows, key=lambda row: row["average"])

    def __str__(self) -> str:
        rows = self.table()
        marks = [k for k in rows[0] if k.startswith("step") or k == "average"]
        lines = [f"{'model':16}" + "".join(f"{k:>11}" for k in marks)]
        for row in rows:
            name = row["model"] + (" *" if row["chosen"] else "")
            lines.append(f"{name:16}" + "".join(f"{row[k]:11.3g}" for k in marks))
        return "\n".join([*lines, *filter(None, [self.reason])])


@dataclass(frozen=True)
class Check:
    """A judgement, in words and numbers, of whether the eigenvalues describe the system.

    Attributes:
        text: the answer.
        closed: whether the linear model forecasts over many steps as well as one fitted to each,
            and certainly better than no change and the mean.
        linear: held-out error of the linear model of one step, applied again and again (geometric
            mean over the steps, in standard deviations); infinite where none can be fitted.
        direct: of a linear map fitted to each number of steps.
        chosen: of the model that is used.
        persistence: of no change.
        rows: the held-out rows that all these errors are of: those that the model was chosen on.
        uncertain: whether these rows leave open that the eigenvalues are those of the series.
    """

    text: str
    closed: bool
    linear: float
    direct: float
    chosen: float
    persistence: float
    rows: str = ""
    uncertain: bool = False

    def __str__(self) -> str:
        return self.text
