"""Tables that gave a wrong forecast without a word: names, dates in digits, thousands."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rectilinear.errors import DataError, ShapeError
from rectilinear.koopman import Forecaster
from rectilinear.koopman.series_file import read_series_file

T = np.arange(120.0)
FRAME = pd.DataFrame(
    {"a": np.sin(0.3 * T), "b": 100 + 5 * np.cos(0.3 * T)},
    index=pd.date_range("2020-01-20", periods=120, freq="D"),
)


def write(folder: Path, text: str) -> Path:
    path = folder / "a.csv"
    path.write_text(text)
    return path


def test_columns_in_another_order_and_other_steps_are_refused() -> None:
    model = Forecaster("linear", horizon=5, lags=4).fit(FRAME)
    swapped = FRAME[["b", "a"]]
    with pytest.raises(ShapeError, match="b, a"):
        model.score(swapped)
    with pytest.raises(ShapeError, match="b, a"):
        model.forecast(2, history=swapped)
    with pytest.raises(ShapeError, match="b, a"):
        Forecaster("linear", horizon=5, lags=4).fit(FRAME[:80], validation=swapped[80:])
    hourly = FRAME.set_axis(pd.date_range("2020-01-20", periods=120, freq="h"))
    with pytest.raises(DataError, match="steps"):
        model.forecast(2, history=hourly)
    assert np.allclose(model.forecast(2, history=FRAME.to_numpy()).mean, model.forecast(2).mean)


@pytest.mark.parametrize("style", ["%Y%m%d", "%Y%m"])
def test_dates_in_digits_are_dates(tmp_path: Path, style: str) -> None:
    days = pd.date_range("2020-01-01", periods=40, freq="D" if "d" in style else "MS")
    path = write(tmp_path, "date,x\n" + "".join(f"{d:{style}},1\n" for d in days))
    found = read_series_file(path)
    assert found.times is not None
    assert (found.times[0] == days.to_numpy()).all()


@pytest.mark.parametrize("style", ["%Y-%m-%d", "%j"])
def test_a_first_column_without_a_name_is_the_index(tmp_path: Path, style: str) -> None:
    path = write(tmp_path, ",x\n" + "".join(f"{d:{style}},1\n" for d in FRAME.index[:60]))
    found = read_series_file(path)
    assert found.names == ("x",)
    assert found.times is not None


def test_a_separator_at_the_end_of_lines_adds_no_column(tmp_path: Path) -> None:
    assert read_series_file(write(tmp_path, "time;x;\n1;3;\n2;4;\n")).names == ("x",)


@pytest.mark.parametrize(
    "text",
    ["time,x,x\n1,2,3\n2,3,4\n", 'time,x\n1,"1,234"\n2,"999"\n', "time;x\n"],
)
def test_names_twice_thousands_and_no_rows_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError):
        read_series_file(write(tmp_path, text))


def test_a_file_that_is_empty_or_no_text_is_one_error(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    with pytest.raises(DataError, match="empty"):
        read_series_file(path, separator=";")
    path.write_bytes("time;h\u00f6he\n1;2\n".encode("latin1"))
    with pytest.raises(DataError, match="UTF-8"):
        read_series_file(path, separator=";")


def test_controls_in_another_order_are_refused() -> None:
    rng = np.random.default_rng(0)
    inputs = pd.DataFrame(rng.normal(size=(120, 2)), index=FRAME.index, columns=["u", "v"])
    model = Forecaster("linear", horizon=5, lags=4).fit(FRAME[:100], controls=inputs[:100])
    with pytest.raises(ShapeError, match="v, u"):
        model.forecast(5, controls=inputs[100:105][["v", "u"]])
    with pytest.raises(DataError, match="index"):
        Forecaster("linear", horizon=5, lags=4).fit(FRAME[:100], controls=inputs[:100][::-1])
    assert model.forecast(5, controls=inputs[100:105]).mean.shape == (5, 2)
