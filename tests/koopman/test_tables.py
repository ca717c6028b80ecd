"""Dates, gaps and names of series: grids found, gaps filled or parted, stamps of forecasts."""

import numpy as np
import pandas as pd
import pytest

from rectilinear.errors import ConfigError, DataError, ForecastWarning, ShapeError
from rectilinear.koopman import Forecaster
from rectilinear.koopman.tables import read_tables
from rectilinear.koopman.time_grid import read_clock

WAVE = np.sin(0.5 * np.arange(200))


def hours_of_business() -> pd.DatetimeIndex:
    index = pd.date_range("2001-01-01", periods=1200, freq="h")
    return index[(index.hour >= 9) & (index.hour < 17) & (index.day_of_week < 5)]


@pytest.mark.parametrize(
    "index",
    [
        pd.date_range("2001-01-31", periods=60, freq="ME"),
        pd.date_range("2001-01-01", periods=60, freq="MS"),
        pd.date_range("2001-02-15", periods=60, freq="QS"),
        pd.date_range("2001-01-01", periods=60, freq="YS"),
        pd.date_range("2001-01-01", periods=60, freq="B"),
        pd.date_range("2001-01-01", periods=60, freq="15min"),
        pd.date_range("2001-03-20", periods=60, freq="D", tz="Europe/Berlin"),
        pd.date_range("2001-03-25", periods=60, freq="h", tz="Europe/Berlin"),
        pd.period_range("1990Q1", periods=60, freq="Q"),
        pd.period_range("1990-01", periods=60, freq="M"),
        pd.Index(0.25 * np.arange(60)),
        hours_of_business()[:60],
    ],
    ids=lambda index: f"{type(index).__name__} {index[0]} {index[1]}",
)
def test_forecasts_carry_the_stamps_that_come_next(index: pd.Index) -> None:
    whole = pd.DataFrame({"a": WAVE[: len(index)], "b": 2 * WAVE[: len(index)]}, index=index)
    model = Forecaster("autoregression", horizon=5, lags=3).fit(whole[:-5])
    frame = model.forecast(5).to_frame()
    assert list(frame.index) == list(index[-5:])
    assert list(frame.columns)[::3] == ["a", "b"]
    assert np.abs(frame["b"] - whole["b"][-5:]).max() < 1e-6


def test_a_series_keeps_its_name() -> None:
    found = Forecaster("linear", horizon=3, lags=3).fit(pd.Series(WAVE, name="gdp")).forecast(2)
    assert list(found.to_frame().columns) == ["gdp", "gdp lower", "gdp upper"]
    assert list(found.index) == [200, 201]


def test_short_gaps_are_filled_and_long_ones_part_the_series() -> None:
    index = pd.date_range("2001-01-01", periods=200, freq="D")
    kept = np.r_[0:60, 63:100, 120:200]
    x = pd.DataFrame({"a": WAVE[kept]}, index=index[kept])
    with pytest.warns(ForecastWarning, match="3 missing values.*2 pieces"):
        model = Forecaster("linear", horizon=4, lags=4).fit(x)
    assert [len(p.x) for p in model._fitted_pieces] == [100, 80]
    gap = WAVE.copy()
    gap[50] = np.nan
    with pytest.warns(ForecastWarning, match="1 missing values"):
        Forecaster("linear", horizon=4, lags=4).fit(gap)


def test_a_business_day_that_is_missing_is_a_gap_and_weekends_are_none() -> None:
    index = pd.date_range("2001-01-01", periods=100, freq="B").delete(40)
    (table,) = read_tables(pd.DataFrame({"a": WAVE[:99]}, index=index))
    assert len(table.values) == 100
    assert np.flatnonzero(np.isnan(table.values[:, 0].numpy())).tolist() == [40]


def test_jittered_stamps_count_as_equal_steps() -> None:
    rng = np.random.default_rng(0)
    index = pd.date_range("2001-01-01", periods=300, freq="15min")
    moved = index + pd.to_timedelta(rng.uniform(-60, 60, 300), unit="s")
    with pytest.warns(ForecastWarning, match="count as equal"):
        (table,) = read_tables(pd.DataFrame({"a": np.arange(300.0)}, index=moved))
    assert table.values[:, 0].tolist() == list(range(300))


def test_a_history_must_end_without_a_gap() -> None:
    model = Forecaster("linear", horizon=4, lags=4).fit(WAVE)
    with pytest.raises(DataError, match="last 2 rows are missing"):
        model.forecast(2, history=np.r_[WAVE[:20], np.nan, np.nan])
    with pytest.raises(DataError, match="3 rows after the last gap"):
        model.forecast(2, history=WAVE[:3])


@pytest.mark.parametrize(
    ("stamps", "match"),
    [
        (["2001-01-02", "2001-01-01", "2001-01-03"], "do not increase"),
        (["2001-01-01", "2001-01-01", "2001-01-03"], "--run-column"),
        (["2001-01-01", "NaT", "2001-01-03"], "missing"),
        (["2001-01-01T00:00", "2001-01-01T01:00", "2001-01-01T07:23", "2001-01-01T07:40"], "grid"),
    ],
)
def test_stamps_that_cannot_be_used(stamps: list[str], match: str) -> None:
    with pytest.raises(DataError, match=match):
        read_clock(np.array(stamps, dtype="datetime64[ns]"))


def test_arguments_that_contradict() -> None:
    with pytest.raises(ConfigError, match="beside times"):
        read_tables(WAVE, np.arange(200.0), dt=2.0)
    with pytest.raises(ShapeError, match="200 rows"):
        read_tables(WAVE, np.arange(199.0))
    with pytest.raises(ShapeError, match="different columns"):
        read_tables([pd.DataFrame({"a": WAVE}), pd.DataFrame({"b": WAVE})])
