"""Training and forecasting on the command line: a system, a file, and invalid input."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rectilinear import cli, plots
from rectilinear.errors import ForecastWarning

Ask = Callable[..., dict[str, Any]]
SMALL = (
    *(
        "--set",
        "fit.fourier=60",
        "--set",
        "fit.rank=12",
        "--set",
        "fit.horizon=30",
        "--set",
        "fit.width=8",
    ),
    *("--set", "training.steps=5", "--set", "training.batch_size=32"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("swing")
    size = ("--set", "count=40", "--set", "steps=60", "--set", "fit.backward=20")
    assert cli.main(["train", "koopman", *SMALL, *size, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def wave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wave") / "wave.csv"
    t = 0.5 * np.arange(200)
    rows = [f"{s},{np.sin(s)},{np.cos(s)}" for s in t]
    path.write_text("\n".join(["time,a,b", *rows]))
    return path


@pytest.mark.whole
def test_forecast_of_a_system(run: Path, ask: Ask, tmp_path: Path) -> None:
    answer = ask("forecast", run, "--steps", 30, "--out", tmp_path)
    assert np.load(answer["array"]).shape == (100, 31, 2)
    assert Image.open(answer["image"]).width > 500
    assert json.loads((tmp_path / "forecast.json").read_text())["errors"] == answer["errors"]
    assert {row["step"] for row in answer["errors"]} == {1, 10, 30}
    assert answer["errors"][-1]["error"] < 0.5
    reencoded = ask("forecast", run, "--steps", 30, "--reencode", 10, "--out", tmp_path / "again")
    assert reencoded["errors"][-1]["error"] != answer["errors"][-1]["error"]


def test_backward(run: Path, ask: Ask, tmp_path: Path) -> None:
    answer = ask("forecast", run, "--steps", 20, "--backward", "--out", tmp_path)
    assert answer["errors"][-1]["step"] == -20
    assert answer["errors"][-1]["error"] < 0.5


def test_a_series_of_the_user(wave: Path, ask: Ask, tmp_path: Path) -> None:
    words = ("--set", f"system={wave}", "--set", "fit.delays=2")
    out = tmp_path / "run"
    assert ask("train", "koopman", *SMALL, *words, "--out", out)["dim"] > 4
    answer = ask("forecast", out, "--steps", 40)
    ahead = 0.5 * np.arange(199, 240)
    assert (
        np.abs(np.load(answer["array"])[0] - np.stack([np.sin(ahead), np.cos(ahead)], 1)).max()
        < 0.01
    )
    start = tmp_path / "start.npy"
    np.save(start, np.stack([np.sin([1.0, 1.5]), np.cos([1.0, 1.5])], 1))
    answer = ask("forecast", out, "--steps", 4, "--from", start, "--out", tmp_path)
    assert np.abs(np.load(answer["array"])[0, 4] - [np.sin(3.5), np.cos(3.5)]).max() < 0.01
    assert "errors" not in answer


@pytest.mark.whole
def test_a_fit_without_a_network_is_no_training(wave: Path, ask: Ask, tmp_path: Path) -> None:
    words = ("--set", f"system={wave}", "--set", "fit.fourier=20", "--set", "fit.horizon=20")
    ask("train", "koopman", *words, "--out", tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()
    assert json.loads((tmp_path / "run" / "fit.json").read_text())["windows"] > 100
    ask("train", "koopman", *words, "--out", tmp_path / "run")
    assert cli.main([*map(str, ("train", "koopman", "--out", tmp_path / "run"))]) == 2


@pytest.mark.whole
def test_the_same_command_goes_on_and_ends_alike(run: Path, ask: Ask, tmp_path: Path) -> None:
    size = ("--set", "count=40", "--set", "steps=60", "--set", "fit.backward=20")
    before = np.load(ask("forecast", run, "--steps", 20, "--out", tmp_path)["array"])
    ask("train", "koopman", *SMALL, *size, "--out", run)
    after = np.load(ask("forecast", run, "--steps", 20, "--out", tmp_path)["array"])
    assert np.abs(after - before).max() < 1e-5, "least squares, solved again from the same weights"


def test_mistakes(run: Path, wave: Path, tmp_path: Path, ask_error: Callable[..., str]) -> None:
    assert "one of linear, pendulum" in ask_error(
        "train", "koopman", "--set", "system=chair", "--out", tmp_path / "a"
    )
    gap = tmp_path / "gap.csv"
    gap.write_text("\n".join(f"{k},{'' if 17 <= k < 23 else k % 5}" for k in range(99)))
    words = ["train", "koopman", *SMALL, "--set", f"system={gap}", "--out", tmp_path / "b"]
    with pytest.warns(ForecastWarning, match="longer gaps part the series into 2 pieces"):
        assert cli.main([*map(str, words)]) == 0
    short = tmp_path / "short.csv"
    short.write_text("1\n2\n3\n")
    assert "Lower horizon" in ask_error(
        "train", "koopman", *SMALL, "--set", f"system={short}", "--out", tmp_path / "c"
    )
    assert "2, as the run has" in ask_error("forecast", run, "--from", short)
    assert "no run" in ask_error("forecast", tmp_path)


@pytest.mark.parametrize(
    ("of_a_run", "words", "message"),
    [
        (False, ["--backward"], "--backward needs the folder of a run; "),
        (False, ["--reencode", "2"], "--reencode needs the folder of a run; "),
        (False, ["--from", "x.csv"], "--from needs the folder of a run; "),
        (True, ["--kind", "linear"], "--kind needs a table; "),
        (True, ["--level", "0.5"], "--level needs a table; "),
        (True, ["--run-column", "site"], "--run-column needs a table; "),
    ],
)
def test_options_without_effect_are_refused(
    of_a_run: bool,
    words: list[str],
    message: str,
    tmp_path: Path,
    wave: Path,
    ask_error: Callable[..., str],
) -> None:
    assert message in ask_error("forecast", tmp_path if of_a_run else wave, *words)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Days with a gap of two rows, decimal commas, and a column of text."""
    days = np.datetime64("2024-01-01") + np.arange(150)
    rows = [
        f"{day};{f'{np.sin(0.4 * k):.9f}'.replace('.', ',')};{2 * np.cos(0.4 * k):.9f};ok"
        for k, day in enumerate(days)
        if k not in (60, 61)
    ]
    path = tmp_path / "river.csv"
    path.write_text("\n".join(["date;height;flow;note", *rows]))
    return path


def test_a_table_with_dates_and_gaps(
    table: Path, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles, save = [], plots.save

    def noted(figure: Any, path: Path) -> None:
        titles.extend(axes.get_title() for axes in figure.axes)
        save(figure, path)

    monkeypatch.setattr(plots, "save", noted)
    options = ("--columns", "height", "flow", "--kind", "autoregression", "--lags", 4)
    with pytest.warns(ForecastWarning, match="4 missing values"):
        answer = ask("forecast", table, "--steps", 10, *options, "--out", tmp_path / "out")
    lines = (tmp_path / "out" / "forecast.csv").read_text().splitlines()
    assert lines[0].split(",")[:4] == ["time", "height", "height lower", "height upper"]
    assert [line.split(",")[0] for line in lines[1:3]] == ["2024-05-30", "2024-05-31"]
    found = np.array([line.split(",")[1::3] for line in lines[1:]], dtype=float)
    ahead = 0.4 * np.arange(150, 160)
    assert np.abs(found - np.stack([np.sin(ahead), 2 * np.cos(ahead)], 1)).max() < 0.05
    assert answer["model"] == "autoregression"
    assert answer["times"] == "first 2024-01-01, last 2024-05-29"
    assert titles == ["height", "flow"]
    assert Image.open(answer["image"]).width > 500


def test_rows_without_times_are_said_to_be_taken_in_order(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["x", *(str(np.sin(0.3 * k)) for k in range(60))]))
    options = ("--kind", "linear", "--lags", 4, "--out", tmp_path / "out")
    assert "rows are taken in their order" in ask("forecast", path, "--steps", 5, *options)["times"]


def test_runs_of_a_table(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "lab.csv"
    rows = [f"{run},{k},{np.sin(0.3 * k + i)}" for i, run in enumerate("abc") for k in range(60)]
    path.write_text("\n".join(["run,time,x", *rows]))
    options = ("--run-column", "run", "--kind", "linear", "--lags", 4, "--out", tmp_path / "out")
    ask("forecast", path, "--steps", 5, *options)
    lines = (tmp_path / "out" / "forecast.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1::5]] == ["a", "b", "c"]
    last = lines[-1].split(",")
    assert float(last[1]) == 64
    assert float(last[2]) == pytest.approx(np.sin(0.3 * 64 + 2), abs=1e-6)


def test_modes_are_shown_only_where_the_check_gives_them_a_meaning(
    ask: Ask, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    bent = [0.3]
    for _ in range(299):  # the logistic map, whose steps are certainly not linear
        bent.append(4 * bent[-1] * (1 - bent[-1]))
    hidden = np.sin(0.3 * np.arange(90.0)) + np.random.default_rng(0).normal(size=90)
    cases = {
        "closed and linear": (np.sin(0.3 * np.arange(200.0)) + 1e-4 * rng.normal(size=200), True),
        "say nothing": (rng.normal(size=200), False),
        "not linear": (np.array(bent), False),
        "not certain": (hidden, True),
    }
    for i, (said, (x, shown)) in enumerate(cases.items()):
        path = tmp_path / f"{i}.csv"
        path.write_text("\n".join(["x", *map(str, x)]))
        lags = 2 if said == "not linear" else 6
        kind = ("--kind", "finite" if lags == 2 else "autoregression", "--lags", lags)
        answer = ask("forecast", path, "--steps", 3, *kind, "--out", tmp_path / "out")
        assert said in answer["spectrum"]
        assert ("modes" in answer) == shown


def _written(text: str, ask: Ask, folder: Path, *options: str) -> list[list[str]]:
    """The cells of the forecast of a table, of three steps by a linear map of four lags."""
    (folder / "in.csv").write_text(text)
    out = ("--steps", 3, "--kind", "linear", "--lags", 4, "--out", folder / "out")
    ask("forecast", folder / "in.csv", *out, *options)
    return list(csv.reader((folder / "out" / "forecast.csv").read_text().splitlines()))


def test_names_with_commas_and_quotes_are_one_cell(ask: Ask, tmp_path: Path) -> None:
    cities = ('"Washington, DC"', '"Rome ""IT"""')
    rows = [f"{city},{k},{np.sin(0.3 * k)}" for city in cities for k in range(60)]
    lines = _written(
        "\n".join(['city,time,"x, in ""cm"""', *rows]), ask, tmp_path, "--run-column", "city"
    )
    assert lines[0] == ["run", "time", *(f'x, in "cm"{end}' for end in ("", " lower", " upper"))]
    assert [line[:2] for line in lines[3:5]] == [["Washington, DC", "62.0"], ['Rome "IT"', "60.0"]]
    assert {len(line) for line in lines} == {5}


@pytest.mark.parametrize(
    ("first", "step", "expected"),
    [
        ("2024-01-01T23:00", 3_600_000, ["2024-01-04T11:00:00", "2024-01-04T12:00:00"]),
        ("2024-01-01T12:00", 3_600_000, ["2024-01-04T00:00:00", "2024-01-04T01:00:00"]),
        ("2024-01-01", 250, ["2024-01-01T00:00:15.000", "2024-01-01T00:00:15.250"]),
        ("2024-01-01", 86_400_000, ["2024-03-01", "2024-03-02"]),
    ],
)
def test_stamps_of_a_table_are_of_one_form_and_whole(
    first: str, step: int, expected: list[str], ask: Ask, tmp_path: Path
) -> None:
    """Each has a time of day, midnight too, or none; fractions of seconds are kept."""
    times = np.datetime64(first, "ms") + step * np.arange(60)
    rows = [f"{time},{np.sin(0.3 * k)}" for k, time in enumerate(times)]
    lines = _written("\n".join(["time,x", *rows]), ask, tmp_path)
    assert [line[0] for line in lines[1:3]] == expected


def test_mistakes_in_a_table(table: Path, tmp_path: Path, ask_error: Callable[..., str]) -> None:
    assert "'ok' in column 'note', line 2" in ask_error("forecast", table, "--steps", 5)
    assert "one of date, height" in ask_error("forecast", table, "--time", "when")
    assert "no file" in ask_error("forecast", tmp_path / "none.csv")
