"""Tables that gave a wrong forecast without a word: names, dates in digits, thousands."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from rectilinear.datasets import read_series as read_series_file
from rectilinear.deeplinear import Table as DepthTable
from rectilinear.errors import ConfigError, DataError, DataWarning, ForecastWarning, ShapeError
from rectilinear.koopman import Features, Forecaster, Koopman, KoopmanRegressor, Lift, Spectrum
from rectilinear.koopman.realization import Modes

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
    [
        "time,x,x\n1,2,3\n2,3,4\n",
        'time,x\n1,"1,234"\n2,"999"\n',
        "time;x\n1;1,234\n2;999\n",
        "time;x\n",
    ],
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


def test_rows_times_and_delays_that_do_not_fit_say_what_to_write() -> None:
    gap = FRAME[80:].copy()
    gap.iloc[3, 0] = np.nan
    model = Forecaster("linear", horizon=5, lags=4)
    with pytest.raises(ShapeError, match=r"without gaps.*validation\.interpolate\(\)"):
        model.fit(FRAME[:80], validation=gap)
    model.fit(FRAME[:80], validation=gap.interpolate())
    values = FRAME.to_numpy()
    with pytest.raises(ShapeError, match=r"119 times for 120 rows of series 0.*pass dt"):
        model.fit(values, times=T[1:])
    model.fit(values, dt=1.0)
    with pytest.raises(ShapeError, match=r"\[times\] \* 2"):
        model.fit([values, values], times=T)
    model.fit([values, values], times=[T] * 2)
    with pytest.raises(ShapeError, match=r"x\.reshape\(len\(x\), -1\)"):
        model.fit([values.reshape(120, 2, 1)])
    lift = Lift(Features(2, torch.eye(2), fourier=8), torch.zeros(2), torch.ones(2))
    turn = Spectrum(torch.zeros(3).double(), torch.ones(1).double())
    with pytest.raises(ConfigError, match="Use delays=1, or another divisor of 2"):
        Koopman(lift, turn, delays=3)


def test_controls_in_another_order_are_refused() -> None:
    rng = np.random.default_rng(0)
    inputs = pd.DataFrame(rng.normal(size=(120, 2)), index=FRAME.index, columns=["u", "v"])
    model = Forecaster("linear", horizon=5, lags=4).fit(FRAME[:100], controls=inputs[:100])
    with pytest.raises(ShapeError, match="v, u"):
        model.forecast(5, controls=inputs[100:105][["v", "u"]])
    with pytest.raises(DataError, match="index"):
        Forecaster("linear", horizon=5, lags=4).fit(FRAME[:100], controls=inputs[:100][::-1])
    assert model.forecast(5, controls=inputs[100:105]).mean.shape == (5, 2)


def test_points_stand_between_thousands_beside_decimal_commas(tmp_path: Path) -> None:
    path = write(tmp_path, "time;x;y\n1;1.234;12,5\n2;-1.234.567,5;3\n3;;4\n")
    (found,) = read_series_file(path).values
    assert np.nan_to_num(found, nan=-1).tolist() == [[1234, 12.5], [-1234567.5, 3], [-1, 4]]
    with pytest.raises(DataError, match=r"'12,5' in column 'x', line 3.*one way"):
        read_series_file(write(tmp_path, "time;x\n1;1.5\n2;12,5\n"))
    (mixed,) = read_series_file(write(tmp_path, "time;x;y\n1;1.234;12,5\n2;2.5;3\n")).values
    assert mixed.tolist() == [[1.234, 12.5], [2.5, 3]]
    (part,) = read_series_file(write(tmp_path, "time;x;y\n1;0.500;12,5\n2;0.750;3\n")).values
    assert part.tolist() == [[0.5, 12.5], [0.75, 3]]
    (quoted,) = read_series_file(write(tmp_path, 'time,x\n1,"1,5"\n2,"2,25"\n')).values
    assert quoted.tolist() == [[1.5], [2.25]]
    (plain,) = read_series_file(write(tmp_path, "time;x\n1;1.234\n2;2.5\n")).values
    assert plain.tolist() == [[1.234], [2.5]]


@pytest.mark.parametrize(
    ("head", "cells", "second"),
    [
        ("year,quarter", ["1999,3", "1999,4", "2000,1"], "1999-10-01"),
        ("year,quarter", ["1959.0,1.0", "1959.0,2.0", "1959.0,3.0"], "1959-04-01"),
        ("Year,Month", ["1999,11", "1999,12", "2000,1"], "1999-12-01"),
        ("year,month,day", ["1999,12,30", "1999,12,31", "2000,1,1"], "1999-12-31"),
    ],
)
def test_a_year_and_its_part_are_the_date(
    tmp_path: Path, head: str, cells: list[str], second: str
) -> None:
    path = write(tmp_path, f"{head},x\n" + "".join(f"{c},{i}\n" for i, c in enumerate(cells)))
    found = read_series_file(path)
    assert found.names == ("x",)
    assert str(found.times[0][1])[:10] == second
    wrong = write(tmp_path, f"{head},x\n" + cells[0].replace(cells[0].split(",")[1], "13") + ",1\n")
    with pytest.raises(DataError, match=r"number of a|13"):
        read_series_file(wrong)


def test_bars_part_cells(tmp_path: Path) -> None:
    found = read_series_file(write(tmp_path, "time|x|y\n1|1,5|2\n2|3|4\n"))
    assert found.names == ("x", "y")
    assert found.values[0].tolist() == [[1.5, 2], [3, 4]]


def test_stamps_after_jittered_ones_are_round() -> None:
    rng = np.random.default_rng(3)
    index = pd.date_range("2001-01-01", periods=120, freq="15min")
    moved = index + pd.to_timedelta(rng.uniform(-60, 60, 120), unit="s")
    with pytest.warns(UserWarning, match="count as equal"):
        model = Forecaster("linear", horizon=5, lags=4).fit(FRAME.set_axis(moved))
    assert list(model.forecast(2).index) == list(index[-1] + pd.to_timedelta([15, 30], unit="min"))


def test_the_figure_of_several_series_draws_each() -> None:
    runs = [FRAME[["a"]], FRAME[["a"]] + 1, FRAME[["a"]] - 1]
    found = Forecaster("linear", horizon=5, lags=4).fit(runs).forecast(5)
    figure = found.plot()
    assert [axes.get_title() for axes in figure.axes] == [f"series {i}, a" for i in range(3)]
    for axes, part, run in zip(figure.axes, found.mean, runs, strict=True):
        assert np.allclose(axes.lines[-1].get_ydata(), part[:, 0])
        assert np.allclose(axes.lines[0].get_ydata(), run["a"][-60:])


def test_a_model_with_inputs_has_a_score() -> None:
    rng = np.random.default_rng(0)
    u, x = rng.normal(size=(300, 1)), np.zeros(300)
    for k in range(299):
        x[k + 1] = 0.8 * x[k] + u[k, 0]
    model = Forecaster("autoregression", horizon=5, lags=1).fit(x[:200], controls=u[:200])
    assert model.score(x[200:], controls=u[200:]) > 1 - 1e-9
    assert np.abs(model.errors(x[200:], 3, controls=u[200:])).max() < 1e-9
    with pytest.raises(ConfigError, match="Pass controls"):
        model.score(x[200:])
    with pytest.raises(ConfigError, match="Leave them out"):
        Forecaster("linear", horizon=5, lags=2).fit(x).score(x, controls=u)


def test_growth_that_stable_clips_is_said() -> None:
    x = 1.03 ** np.arange(80.0)
    with pytest.warns(ForecastWarning, match=r"grows by 3\.00% a step, .*stable=False"):
        KoopmanRegressor(rank=2, horizon=20, fourier=0).fit(x)
    kept = KoopmanRegressor(rank=2, horizon=20, fourier=0, stable=False).fit(x)
    assert abs(kept.eigenvalues_[0]) == pytest.approx(1.03, abs=1e-3)


def test_a_notebook_shows_a_forecast_with_escaped_names() -> None:
    frame = FRAME.rename(columns={"a": "<b>"})
    shown = Forecaster("linear", horizon=5, lags=4).fit(frame).forecast(5)._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b>&" not in shown.replace("<b>Forecast", "")
    assert shown.count("<tr>") == 6
    assert "2020-05-19" in shown
    several = Forecaster("linear", horizon=5, lags=4).fit([frame, frame]).forecast(5)
    assert "the first of 2 series" in several._repr_html_()


def test_months_and_days_without_a_year_are_counted(tmp_path: Path) -> None:
    """Of 2023 and 2024, the second of 366 days; a gap stays a gap."""
    days = pd.date_range("2023-02-26", "2024-03-02")
    days = days.delete([100, 101])
    text = "Month,Day,x\n" + "".join(f"{d.month},{d.day},1\n" for d in days)
    with pytest.warns(ForecastWarning, match="columns 'Month', 'Day' without a year: days"):
        found = read_series_file(write(tmp_path, text))
    assert found.names == ("x",)
    assert found.times is not None
    assert found.times[0].tolist() == (days - days[0]).days.tolist()
    months = "month,x\n" + "".join(f"{k % 12 + 1},1\n" for k in range(5, 40))
    with pytest.warns(ForecastWarning, match="months are counted"):
        found = read_series_file(write(tmp_path, months))
    assert found.times is not None
    assert found.times[0].tolist() == list(range(35))


def counts(rows: int = 300) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.poisson(1.5 + 1.4 * np.sin(0.3 * np.arange(rows))).astype(float)


def test_intervals_of_counts_below_zero_are_said_and_cut_off() -> None:
    model = Forecaster("linear", horizon=6, lags=12).fit(counts())
    with pytest.warns(ForecastWarning, match=r"column 1 reach below zero.*minimum=0"):
        found = model.forecast(6)
    assert found.lower.min() < 0
    bounded = Forecaster("linear", horizon=6, lags=12, minimum=0, maximum=5).fit(
        np.minimum(counts(), 5)
    )
    cut = bounded.forecast(6)
    assert cut.lower.min() == 0
    assert cut.upper.max() <= 5
    assert bounded.simulate(np.zeros((1, 12, 1)), 6).min() >= 0
    model.minimum = 0
    np.testing.assert_allclose(model.forecast(6).upper, found.upper)
    with pytest.raises(DataError, match=r"values from 0 to \d+ in column 1"):
        Forecaster("linear", horizon=6, minimum=1).fit(counts())
    with pytest.raises(ConfigError, match="a smaller minimum"):
        Forecaster("linear", horizon=6, minimum=1, maximum=0).fit(counts())


def test_series_that_were_negative_are_not_bounded(recwarn: pytest.WarningsRecorder) -> None:
    Forecaster("linear", horizon=6, lags=12).fit(counts() - 1).forecast(6)
    assert not [w for w in recwarn if "below zero" in str(w.message)]


def test_irregular_steps_are_named_in_hours() -> None:
    hours = np.cumsum(np.tile([1, 1, 5, 2, 23], 24))
    stamps = np.datetime64("2020-01-01", "ns") + hours * np.timedelta64(1, "h")
    with pytest.raises(DataError, match="steps from 1 h to 23 h"):
        Forecaster("linear", horizon=5, lags=4).fit(FRAME.set_axis(pd.DatetimeIndex(stamps)))


def test_codes_for_missing_values_are_named_and_no_others() -> None:
    coded = FRAME.copy()
    coded.iloc[[5, 9], 1] = -999.0
    with pytest.warns(DataWarning, match=r"'b' is -999 in 2 of 120 rows and else from 95.* to 105"):
        Forecaster("linear", horizon=5, lags=4).fit(coded)
    columns = {"x": T, "y": np.sin(T), "z": np.cos(2 * T)}
    columns["z"][7] = 9999.0
    with pytest.warns(DataWarning, match=r"'z' is 9999 in 1 of 120 rows and else from -"):
        DepthTable.from_columns(columns, "y")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        near = {"x": np.linspace(-999.0, 999.0, 120), "y": np.sin(T), "flag": 99.0 * (T % 2)}
        DepthTable.from_columns(near, "y")
        Forecaster("linear", horizon=5, lags=4).fit(np.where(T == 3, -999.0, 20 * T - 900))


def test_modes_have_no_periods_and_time_scales_of_rounding() -> None:
    eigenvalues = torch.tensor([1 + 1e-15j, 1 - 1e-14, 0.5j, 0.9], dtype=torch.complex128)
    exponents = eigenvalues.log()
    scales = 1 / (-exponents.real).clamp(min=0)
    found = Modes(
        eigenvalues,
        exponents,
        2 * np.pi / exponents.imag.abs(),
        scales,
        torch.ones(4),
        torch.ones(4),
    ).table()
    assert [row["period"] for row in found] == [None, None, pytest.approx(4), None]
    assert [row["angle"] for row in found] == [0, 0, pytest.approx(np.pi / 2), 0]
    expected = [None, None, pytest.approx(1 / np.log(2)), pytest.approx(-1 / np.log(0.9))]
    assert [row["time_scale"] for row in found] == expected


@pytest.mark.parametrize("name", ["", "state"])
def test_a_row_of_totals_is_no_row_of_a_study(name, tmp_path) -> None:
    lines = [f"{name},x,y", *(f"s{i},{i},{i * i % 7}" for i in range(20))]
    path = write(tmp_path, "\n".join(lines))
    drop = [name] * bool(name)
    assert len(DepthTable.read(path, "y", drop=drop).y) == 20
    path.write_text("\n".join([*lines, "Total,190,60"]))
    with pytest.raises(DataError, match=r"a row of totals or means \('Total'\), line 22 of a.csv"):
        DepthTable.read(path, "y", drop=drop)
    many = [f"{'Total' if i % 2 else 'Part'},{i},{i * i % 7}" for i in range(20)]
    path.write_text("\n".join(["kind,x,y", *many]))
    assert DepthTable.read(path, "y").names == ("kind=Total", "x")


def test_columns_are_named_once_in_messages(tmp_path: Path) -> None:
    """Columns of a table without names are called "column 1": no message says "column column 1"."""
    path = tmp_path / "a.csv"
    rows = [(k, k + 7, f"{np.sin(k):.4f}") for k in range(30)]
    path.write_text("\n".join(",".join(map(str, row)) for row in rows))
    with pytest.warns(ForecastWarning, match="^columns 1, 2 number the rows and are left out; --"):
        assert read_series_file(path).names == ("column 3",)
    path.write_text("\n".join(f"{k},{x}" for k, _, x in rows))
    with pytest.warns(ForecastWarning, match="^column 1 numbers the rows and is left out; --col"):
        read_series_file(path)
    with pytest.raises(DataError, match="Got column 1 in two roles"):
        read_series_file(path, time="column 1", columns=["column 1"])
    path.write_text("1,2\n2,x\n3,4\n")
    with pytest.raises(DataError, match="Got 'x' in column 2, line 2"):
        read_series_file(path, columns=["column 2"])
