"""The estimator that chooses among models of a series by their held-out forecasts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator

from rectilinear.checks import is_count, is_within
from rectilinear.errors import (
    ConfigError,
    DataError,
    DivergedError,
    ForecastWarning,
    NonFiniteError,
    NotInitializedError,
    ShapeError,
)
from rectilinear.koopman import selection
from rectilinear.koopman.autoregression import Piece
from rectilinear.koopman.dictionaries import as_dictionary
from rectilinear.koopman.forecast import Array, Check, Forecast
from rectilinear.koopman.forecaster_input import Intake
from rectilinear.koopman.held_out import Held, held_of, hold_after, hold_out
from rectilinear.koopman.model import FARTHEST
from rectilinear.koopman.realization import Modes
from rectilinear.koopman.series import numbers, refuse_targets, units
from rectilinear.koopman.spectra import (
    eigenvalue_intervals,
    map_modes,
    modes_figure,
    spectrum_figure,
)
from rectilinear.koopman.tables import Table, check_alike, read_tables, without_gaps
from rectilinear.progress import Progress

GROWS = 1.5
"""A model with a mode that grows by more than this over the horizon says so."""


class Forecaster(Intake, BaseEstimator):
    """Forecasts of any series: the best of several models, compared on held-out rows.

    The models, simplest first: ``"linear"``, one linear map from the last rows to the whole
    horizon; ``"autoregression"``, a linear map of one step, iterated; ``"finite"``, a linear map
    of one step in a dictionary (a finite Koopman model); ``"features"``, ridge regression on
    random features, iterated; ``"koopman"``, the model of :class:`KoopmanRegressor`.

    Args:
        kind: one of these, or ``"auto"``, which compares all of them.
        horizon: steps ahead that models are compared and fitted on; by default 100, or a fifth of
            a single series (two thirds, where there are five or more).
        lags: rows that a forecast is made from; by default the best number.
        dictionary: of the state, for ``"finite"`` and ``"features"``: a function of standardised
            states ``(b, lags d)``, newest row first, or a degree of monomials.
        level: share of observations inside the intervals.
        seed: of random features.
        minimum: of all columns; forecasts and intervals are cut off there.
        maximum: likewise.

    Attributes (after :meth:`fit`):
        kind_: the kind that was chosen.
        comparison_: the held-out errors of all, a :class:`Comparison`; ``print`` shows it.
        model_: the fitted model, in standard units.
        names_: of the columns.
        modes_: eigenvalues of a step, and shapes, of a linear model (else None).
        eigenvalues_: of ``modes_``.

    Example:
        >>> t = np.arange(300.0)
        >>> model = Forecaster(horizon=20, lags=8).fit(np.sin(0.3 * t) + 0.01 * t)
        >>> found = model.forecast(20)
        >>> bool(abs(found.mean[-1, 0] - np.sin(0.3 * 319) - 3.19) < 1e-6), model.kind_
        (True, 'linear')
    """

    def __init__(
        self,
        kind: str = "auto",
        horizon: int | None = None,
        lags: int | None = None,
        dictionary: Any = None,
        level: float = 0.9,
        seed: int = 0,
        minimum: float | None = None,
        maximum: float | None = None,
    ) -> None:
        self.kind, self.horizon, self.lags, self.dictionary = kind, horizon, lags, dictionary
        self.level, self.seed, self.minimum, self.maximum = level, seed, minimum, maximum

    def fit(
        self,
        X: Any,
        y: object = None,
        *,
        times: Any = None,
        dt: float | None = None,
        controls: Any = None,
        select: Sequence[str] | None = None,
        validation: Any = None,
        progress: bool = False,
    ) -> Self:
        """Fit ``(T,)``, ``(T, d)``, ``(count, T, d)``, a data frame or series, or a list of these.

        Gaps of up to five rows are filled by straight lines, longer ones part a series; a
        ForecastWarning says so.

        Args:
            X: the series.
            y: nothing; for the interface of scikit-learn.
            times: numbers or dates of the rows; by default the index of a data frame.
            dt: step of the rows, where there are no times.
            controls: inputs of the system ``(T, m)``, row for row; a list for several series.
            select: kinds to compare; by default those of ``kind``.
            validation: rows that follow the series, to compare models on and not to fit on; by
                default a fifth of the series (the end, or every fifth of five or more) is held out
                for the comparison, and the chosen model is fitted again on all.
            progress: show progress on standard error: a bar on a terminal, else a line now and
                then; False by default.

        Raises:
            DataError: for series too short, constant, or on no regular grid.
            ConfigError: for arguments out of range.
        """
        refuse_targets(y)
        kinds = self._kinds(select)
        self._tables = read_tables(X, times, dt)
        self.names_, self.n_features_in_ = self._tables[0].names, len(self._tables[0].names)
        raw = self._pieces(controls)
        rows = torch.cat([x for x, _ in raw])
        self._check_bounds(rows, self.names_)
        self._mean, self._scale = units(rows, constant=False)
        self._input_units(raw)
        pieces = [self._piece(x, u) for x, u in raw]
        self.horizon_, most = self._sizes(pieces)
        self._most = most
        self._later = None if validation is None else self._after(pieces, validation)
        held = self._held(pieces)
        dictionary = as_dictionary(self.dictionary)
        with Progress("forecast", len(kinds) + 2, shown=progress) as display:
            found = selection.compare(
                held, kinds, self.lags, dictionary, self.seed, display.advance
            )
            if not found or not np.isfinite(min(c.score for c in found)):
                raise DataError(
                    f"no model of {', '.join(kinds)} that can be fitted to these series",
                    "longer series, fewer lags or a shorter horizon",
                    "Lower horizon or lags.",
                )
            chosen = selection.choose(found)
            self.kind_ = chosen.kind
            self.comparison_ = selection.comparison(found, chosen, held)
            self._fitted_pieces = pieces
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore", ForecastWarning)
                display.advance(f"intervals of the model {chosen.kind}")
                self._errors = selection.residuals(chosen.model, held, self.seed)
                display.advance(f"fit of the model {chosen.kind}")
                self.model_ = (
                    held.outside(chosen.model)
                    if validation is not None
                    else selection.refit(chosen.model, pieces, self.horizon_, self.seed, held.span)
                )
        self.modes_: Modes | None = map_modes(self.model_, pieces, self._scale)
        self.eigenvalues_ = None if self.modes_ is None else self.modes_.eigenvalues
        self._warn_growth()
        return self

    def forecast(
        self,
        steps: int | None = None,
        *,
        history: Any = None,
        controls: Any = None,
        level: float | None = None,
    ) -> Forecast:
        """The rows after the fitted series, or after other ones, with intervals.

        Args:
            steps: rows ahead; the horizon by default. Beyond it intervals are NaN.
            history: series to continue instead, as in :meth:`fit`, at least ``lags`` rows long.
            controls: inputs in the forecast rows, ``(steps, m)``, where the model has inputs (of a
                ``history``: in its rows, too, ``(rows + steps, m)``).
            level: share of observations inside the interval.

        Raises:
            DataError: for a history too short, or one that ends in a gap.
            DivergedError: for a forecast that leaves the data by 1,000 standard deviations.
        """
        model = self._fitted()
        steps = self.horizon_ if steps is None else steps
        if not is_count(steps, 1):
            raise ConfigError(f"steps = {steps!r}", "an integer, 1 or more")
        tables = self._tables if history is None else read_tables(history)
        for table in tables:
            check_alike(table, self._tables[0], "a history")
        past = torch.stack([self._last_rows(table) for table in tables])
        u = self._future_inputs(tables, steps, controls, fitted=history is None)
        with torch.no_grad():
            found = model.simulate((past.flip(1) - self._mean) / self._scale, steps, u)
        far = found.abs().amax()
        if not bool(far <= FARTHEST):
            raise DivergedError(
                f"a forecast over {steps} steps that leaves the data by {float(far):.1e} standard "
                "deviations",
                f"at most {FARTHEST:g}",
                "Forecast fewer steps, or use another kind of model.",
            )
        mean = (found * self._scale + self._mean).numpy()
        low, high = self._interval(steps, level)
        self._warn_negative(mean + low, self.names_)
        mean, low, high = (self._bounded(x) for x in (mean, mean + low, mean + high))
        several = len(tables) > 1
        known = [_last(table, 3 * max(steps, 20)) for table in tables]
        return Forecast(
            mean if several else mean[0],
            low if several else low[0],
            high if several else high[0],
            self.level if level is None else level,
            [t.ahead(steps) for t in tables] if several else tables[0].ahead(steps),
            self.names_,
            known if several else known[0],
        )

    def predict(self, X: Any, steps: int = 1) -> Array:
        """The row ``steps`` after each history in ``X`` ``(b, rows, d)``, the newest row last."""
        return self.simulate(X, steps)[:, -1]

    def simulate(self, X: Any, steps: int) -> Array:
        """The ``steps`` rows ``(b, steps, d)`` after histories ``X`` ``(b, rows, d)``, newest last.

        Warns (ForecastWarning) of forecasts that leave the data by 1,000 standard deviations.

        Raises:
            ShapeError: for histories of other columns, or shorter than ``lags``.
        """
        model = self._fitted()
        x = numbers(X, "histories")
        if x.ndim == 2:
            x = x[:, None]
        lags, d = model.plan.lags, self.n_features_in_
        if x.ndim != 3 or x.shape[2] != d or x.shape[1] < lags:
            raise ShapeError(
                f"histories of shape {tuple(x.shape)}",
                f"(b, {lags} or more, {d}), newest row last",
                "Pass the last rows of each series.",
            )
        if not bool(torch.isfinite(x).all()):
            raise NonFiniteError("histories that are not finite", "numbers", "Fill the gaps.")
        self._no_inputs("simulate")
        with torch.no_grad():
            past = ((x - self._mean) / self._scale).flip(1)[:, :lags]
            found = model.simulate(past, steps)
        far = int((~(found.abs().amax((1, 2)) <= FARTHEST)).sum())
        if far:
            warnings.warn(
                f"forecasts of {far} of {len(found)} histories leave the data by more than "
                f"{FARTHEST:g} standard deviations: they have diverged",
                ForecastWarning,
                stacklevel=2,
            )
        return self._bounded((found * self._scale + self._mean).numpy())

    def errors(self, X: Any, steps: int | None = None, *, controls: Any = None) -> Array:
        """The errors of forecasts from every row of other series ``X``, ``(n, steps, d)``.

        ``controls`` are the inputs in their rows, where the model has inputs.
        """
        return self._errors_and_changes(X, steps, controls)[0]

    def score(self, X: Any, y: object = None, *, controls: Any = None) -> float:
        """1 less the mean square error over that of no change: 0 is no better, 1 is perfect.

        Over all steps of the horizon, from every row of ``X``, columns in their standard deviation.
        """
        refuse_targets(y)
        found, scale = self._errors_and_changes(X, None, controls), self._scale.numpy()
        missed, still = (float(np.square(errors / scale).mean()) for errors in found)
        return 1 - missed / still if still else float(missed == 0)

    def _errors_and_changes(self, X: Any, steps: int | None, controls: Any) -> tuple[Array, Array]:
        """The errors of the model, and of no change, each ``(n, steps, d)``."""
        model = self._fitted()
        lags, errors, changes = model.plan.lags, [], []
        tables = read_tables(X)
        for table in tables:
            check_alike(table, self._tables[0], "series")
        if (controls is None) != (self._inputs_mean is None):
            raise ConfigError(
                "no controls" if controls is None else "controls",
                "the inputs of each row" if controls is None else "none, as in the fit",
                "Pass controls." if controls is None else "Leave them out.",
            )
        inputs = self._inputs(controls, tables, 0)
        pieces = [
            self._piece(x, None if u is None else u[first : first + len(x)])
            for table, u in zip(tables, inputs, strict=True)
            for first, x in without_gaps(table.values)[0]
        ]
        longest = max((len(p.x) for p in pieces), default=0)
        steps = max(1, min(self.horizon_, longest - lags)) if steps is None else steps
        for p in pieces:
            if len(p.x) < lags + steps:
                continue
            rows = held_of([p], [p], lags, steps, most=len(p.x))
            with torch.no_grad():
                found = model.simulate(rows.past, steps, rows.u) * self._scale + self._mean
            observed = rows.future * self._scale + self._mean
            errors.append(observed.numpy() - self._bounded(found.numpy()))
            changes.append(((rows.future - rows.past[:, :1]) * self._scale).numpy())
        if not errors:
            raise DataError(
                f"series of at most {longest} rows",
                f"{lags + steps} or more: {lags} lags and {steps} steps",
                "Pass longer series, or fewer steps.",
            )
        return np.concatenate(errors), np.concatenate(changes)

    def check(self) -> Check:
        """A judgement of whether the dynamics are linear and the eigenvalues meaningful."""
        self._fitted()
        held = self._held(self._fitted_pieces)
        return selection.check_of(held, self.comparison_, self.lags)

    def plot_spectrum(self) -> Any:
        """The figure of the eigenvalues of the model, where it has modes."""
        return spectrum_figure(self._modes())

    def plot_modes(self, count: int = 4) -> Any:
        """The figure of the ``count`` strongest modes."""
        return modes_figure(self._modes(), self.names_, count)

    def eigenvalue_intervals(self, count: int = 100, level: float = 0.9) -> list[dict[str, Any]]:
        """Each eigenvalue with intervals of its radius and angle that hold the ``level``.

        From ``count`` refits on blocks of rows drawn with replacement.
        """
        self._fitted()
        return eigenvalue_intervals(
            self.model_, self._fitted_pieces, self._scale, count, level, self.seed
        )

    def _kinds(self, select: Sequence[str] | None) -> tuple[str, ...]:
        chosen = select if select is not None else self.kind
        kinds = (chosen,) if isinstance(chosen, str) else tuple(chosen)
        if kinds == ("auto",):
            return selection.KINDS
        if not kinds or not set(kinds) <= set(selection.KINDS):
            raise ConfigError(
                f"kinds of models {', '.join(map(str, kinds))}",
                f"auto, or some of {', '.join(selection.KINDS)}",
            )
        for name, least in (("horizon", 1), ("lags", 1)):
            value = getattr(self, name)
            if value is not None and not is_count(value, least):
                raise ConfigError(f"{name} = {value!r}", "an integer, 1 or more")
        self._check_level(self.level)
        return kinds

    def _held(self, pieces: list[Piece]) -> Held:
        """The rows that models are compared on: the validation rows, or some of the pieces."""
        if self._later is None:
            return hold_out(pieces, self._most, self.horizon_)
        return hold_after(pieces, self._later, self._most, self.horizon_)

    def _after(self, pieces: list[Piece], validation: Any) -> list[Piece]:
        """The last rows of the series and the rows after them."""
        tables = read_tables(validation)
        if len(tables) != 1 or len(self._tables) != 1 or self._inputs_mean is not None:
            raise ConfigError(
                "validation rows of several series, or with inputs",
                "the rows after one series",
                "Leave validation out: a part of the series is held out.",
            )
        check_alike(tables[0], self._tables[0], "validation rows")
        x = tables[0].values
        if x.shape[1] != self.n_features_in_ or bool(torch.isnan(x).any()):
            raise ShapeError(
                f"validation rows of shape {tuple(x.shape)}",
                f"(T, {self.n_features_in_}) without gaps",
                "Pass the fitted columns, with gaps filled: validation.interpolate().",
            )
        later = self._piece(x, None).x
        return [Piece(torch.cat([pieces[-1].x[-self._most :], later]))]

    def _check_level(self, level: float) -> None:
        if not is_within(level, 0.0, 1.0) or level in (0, 1):
            raise ConfigError(f"level = {level!r}", "a share between 0 and 1")

    def _no_inputs(self, name: str) -> None:
        if self._inputs_mean is not None:
            raise ConfigError(
                f"{name} of a model with inputs",
                "forecast(history=, controls=)",
                "Call model.forecast(history=..., controls=...).",
            )

    def _interval(self, steps: int, level: float | None) -> tuple[Array, Array]:
        """The distance of lower and upper ends from the forecast, ``(steps, d)``.

        The quantile of absolute held-out errors at each step that split conformal prediction takes
        of as many errors as there are stretches of rows that do not overlap.

        Reference: Lei et al., "Distribution-free predictive inference for regression" (2018).
        """
        level = self.level if level is None else level
        self._check_level(level)
        n, horizon, d = self._errors.shape
        if steps > horizon:
            warnings.warn(
                f"intervals end at step {horizon}, the horizon of the fit: errors beyond it were "
                f"not measured. Fit with horizon={steps}.",
                ForecastWarning,
                stacklevel=3,
            )
        half = np.full((steps, d), np.nan)
        for k, errors in enumerate(self._errors.abs().unbind(1)[:steps]):
            stretches = max(n / (k + 1), 1.0)  # that do not overlap
            rank = min(1.0, level * (stretches + 1) / stretches)
            half[k] = np.quantile(errors.numpy(), rank, axis=0)
        half *= self._scale.numpy()
        return -half, half

    def _warn_growth(self) -> None:
        if self.modes_ is None or not len(self.modes_.eigenvalues):
            return
        radius = float(self.modes_.eigenvalues.abs().max())
        if radius**self.horizon_ > GROWS:
            warnings.warn(
                f"a mode grows by {radius - 1:.2%} a step, {radius**self.horizon_:.3g}-fold over "
                f"the horizon of {self.horizon_} steps: beyond it forecasts grow on",
                ForecastWarning,
                stacklevel=3,
            )

    def _modes(self) -> Modes:
        self._fitted()
        if self.modes_ is None:
            raise ConfigError(
                f"a model of kind '{self.kind_}', which has no modes",
                "a linear one",
                "Fit with kind='autoregression', 'linear', 'finite' or 'koopman'.",
            )
        return self.modes_

    def _fitted(self) -> Any:
        if not hasattr(self, "model_"):
            raise NotInitializedError(
                "a Forecaster that is not fitted", "a fitted one", "Call fit(X)."
            )
        return self.model_


def _last(table: Table, rows: int) -> tuple[Any, Array]:
    """The last rows of a series, and their stamps."""
    known = table.values[-rows:]
    return table.behind(len(known)), known.numpy()
