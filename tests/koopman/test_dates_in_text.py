"""Dates as tables write them: notations, columns found by content, and row numbers left out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rectilinear.datasets import read_series as read_series_file
from rectilinear.datasets.dates import read_dates
from rectilinear.errors import DataError, ForecastWarning
from rectilinear.koopman import Forecaster


def write(folder: Path, text: str) -> Path:
    path = folder / "a.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("1981 Q3", "1981-07-01"),
        ("1981-q3", "1981-07-01"),
        ("1991 W06", "1991-02-04"),
        ("Jan 5 2000", "2000-01-05"),
        ("5 January 2000", "2000-01-05"),
        ("2000 Jan", "2000-01-01"),
        ("sept. 2000", "2000-09-01"),
        ("31.12.1999", "1999-12-31"),
        ("1.2.1999 7:05", "1999-02-01T07:05"),
        ("1999/2/1", "1999-02-01"),
        ("2013-01-01T14:00:00Z", "2013-01-01T14:00"),
        ("2024-10-27 02:00+02:00", "2024-10-27T00:00"),
        ("2024-10-27 02:00:00.5-0530", "2024-10-27T07:30:00.5"),
    ],
)
def test_a_date(text: str, date: str) -> None:
    assert read_dates([text])[0] == np.datetime64(date)


@pytest.mark.parametrize("text", ["2024 Q5", "1991 W60", "30.2.2024", "Marble 3 2024", "ma 2024"])
def test_no_date(text: str) -> None:
    with pytest.raises(DataError, match=text):
        read_dates([text])


def test_a_number_above_twelve_says_which_is_the_day() -> None:
    american = read_dates(["1/2/2024", "1/31/2024"])
    assert american.astype("datetime64[D]").astype(str).tolist() == ["2024-01-02", "2024-01-31"]
    european = read_dates(["1/2/2024", "31/1/2024"])
    assert european.astype("datetime64[D]").astype(str).tolist() == ["2024-02-01", "2024-01-31"]
    for unclear in (["1/2/2024", "1/3/2024"], ["13/1/2024", "1/13/2024"]):
        with pytest.raises(DataError, match="change places"):
            read_dates(unclear)


def test_an_hour_twice_is_told_apart_by_its_offset() -> None:
    hours = pd.date_range("2024-10-26", periods=60, freq="h", tz="Europe/Berlin")
    step = np.diff(read_dates([str(hour) for hour in hours]))
    assert set(step.astype("timedelta64[h]").astype(int).tolist()) == {1}
    plain = [str(hour)[:16] for hour in hours]
    with pytest.raises(DataError, match="daylight saving"):
        Forecaster("linear", horizon=2, lags=2).fit(np.arange(60.0) ** 0.5, times=plain)


def test_a_column_of_dates_by_any_name(tmp_path: Path) -> None:
    rows = "".join(f"EWR,2013-01-01T{h:02d}:00:00Z,{h**2}\n" for h in range(6))
    found = read_series_file(write(tmp_path, "origin,time_hour,temp\n" + rows), run="origin")
    assert found.names == ("temp",)
    assert found.times is not None
    assert found.times[0][-1] == np.datetime64("2013-01-01T05")
    found = read_series_file(write(tmp_path, "Quarter,x\n1970 Q1,3\n1970 Q2,4\n1970 Q3,2\n"))
    assert (found.names, found.times is None) == (("x",), False)


def test_columns_that_number_the_rows_are_no_series(tmp_path: Path) -> None:
    text = "rownames,x,age\n" + "".join(f"{i},{i * i % 7},{i % 3}\n" for i in range(1, 13))
    with pytest.warns(ForecastWarning, match="column 'rownames' numbers the rows"):
        assert read_series_file(write(tmp_path, text)).names == ("x", "age")
    assert read_series_file(tmp_path / "a.csv", columns=["rownames"]).names == ("rownames",)
    with pytest.warns(ForecastWarning, match="age"):
        runs = read_series_file(
            write(tmp_path, "who,x,age\na,3,1\na,4,2\na,1,3\nb,2,1\nb,2,2\n"), run="who"
        )
    assert runs.names == ("x",)
    assert read_series_file(write(tmp_path, "x\n1\n2\n3\n")).names == ("x",)
