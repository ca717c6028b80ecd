"""The series of a file, as `rectilinear forecast` and the recipe koopman read them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rectilinear import cli
from rectilinear.datasets import read_series
from rectilinear.errors import DataError, ForecastWarning
from rectilinear.koopman.tables import read_tables, series_at_times, without_gaps
from rectilinear.recipes.koopman import KoopmanRecipe
from rectilinear.recipes.run import recipe_named

ROWS = 40
X = [f"{np.sin(0.3 * k):.6f}" for k in range(ROWS)]
DAYS = [str(np.datetime64("2023-12-20") + k) for k in range(ROWS)]


def table(head: str, *columns: list[str], between: str = ",") -> str:
    lines = [between.join(cells) for cells in zip(*columns, strict=True)]
    return "\n".join([head, *lines]) + "\n"


TABLES = {
    "numbers alone": ("a.csv", "\n".join(X)),
    "no suffix of a table": ("a.txt", table("x", X)),
    "years": ("a.csv", table("YEAR,x", [str(1700 + k) for k in range(ROWS)], X)),
    "dates in digits": ("a.csv", table("date,x", [d.replace("-", "") for d in DAYS], X)),
    "weekly dates": ("a.tsv", table("when\tx", DAYS, X, between="\t")),
    "month and day": (
        "a.csv",
        table("month,day,x", [d[5:7] for d in DAYS], [d[8:] for d in DAYS], X),
    ),
    "quarters": (
        "a.csv",
        table("date,x", [f"{1990 + k // 4} Q{k % 4 + 1}" for k in range(ROWS)], X),
    ),
    "decimal commas": (
        "a.csv",
        table("t;x", list(map(str, range(ROWS))), [x.replace(".", ",") for x in X], between=";"),
    ),
    "row numbers": ("a.csv", table(",rownames,x", *2 * [list(map(str, range(1, 1 + ROWS)))], X)),
    "a gap": ("a.csv", table("date,x", DAYS[:9] + DAYS[12:], [*X[:5], "", *X[6:9], *X[12:]])),
    "signs of missing numbers": ("a.csv", table("x,y", [*X[:3], "?", "#N/A", "<NA>", *X[6:]], X)),
    "an array": ("a.npy", np.sin(0.3 * np.arange(2 * ROWS)).reshape(2, ROWS)[..., None]),
}


def write(folder: Path, name: str, content: str | np.ndarray) -> Path:
    path = folder / name
    if isinstance(content, str):
        path.write_text(content)
    else:
        np.save(path, content)
    return path


@pytest.mark.filterwarnings("ignore::rectilinear.errors.ForecastWarning")
@pytest.mark.parametrize("delays", [1, 3])
@pytest.mark.parametrize("case", TABLES)
def test_both_commands_read_the_same_series(case: str, delays: int, tmp_path: Path) -> None:
    path = write(tmp_path, *TABLES[case])
    recipe = recipe_named("koopman", {"system": str(path), "fit.delays": delays})
    assert isinstance(recipe, KoopmanRecipe)
    rows = recipe.load().numpy()
    file = read_series(path)
    tables = read_tables(file.values, file.times)
    assert len(rows) == len(tables)
    for ours, grid in zip(rows, tables, strict=True):
        ((first, whole),), _ = without_gaps(grid.values)
        assert first == 0
        np.testing.assert_array_equal(ours[:, :-1], whole)
        steps = np.diff(ours[:, -1])
        assert np.allclose(steps, steps[0])


def test_series_of_unequal_lengths_end_in_nan_that_is_not_fitted(tmp_path: Path) -> None:
    names = ["a"] * 15 + ["b"] * 25
    days = DAYS[:15] + DAYS[:25]
    path = write(tmp_path, "a.csv", table("site,date,x", names, days, X))
    changes = {"system": str(path), "run_column": "site", "fit.horizon": 4, "fit.fourier": 0}
    recipe = recipe_named("koopman", changes)
    rows = recipe.load()
    assert rows.shape == (2, 25, 2)
    assert rows[0].isnan().any(1).sum() == 10
    (fitted,) = recipe.stages(rows)
    assert fitted.record["windows"] == 15 + 25 - 2 * 4  # type: ignore[union-attr]


LONG = [k for k in range(ROWS) if not (9 <= k < 15 or k in (20, 21))]  # six rows missing, and two
TIMES = {
    "dates": table("date,x", [DAYS[k] for k in LONG], [X[k] for k in LONG]),
    "numbers": table("t,x", [str(0.5 * k) for k in LONG], [X[k] for k in LONG]),
    "cells": table("x,y", [X[k] if k in LONG else "" for k in range(ROWS)], X),
}


@pytest.mark.parametrize("delays", [1, 3])
@pytest.mark.parametrize("kind", TIMES)
def test_a_gap_of_more_than_five_rows_parts_a_series_in_both_commands(
    kind: str, delays: int, tmp_path: Path
) -> None:
    path = write(tmp_path, "a.csv", TIMES[kind])
    recipe = recipe_named("koopman", {"system": str(path), "fit.delays": delays})
    assert isinstance(recipe, KoopmanRecipe)
    with pytest.warns(ForecastWarning, match="longer gaps part the series into 2 pieces") as said:
        rows = recipe.load()
    assert len(said) == 1
    (grid,) = read_tables(read_series(path).values, read_series(path).times)
    pieces, _ = without_gaps(grid.values)
    assert [(first, len(x)) for first, x in pieces] == [(0, 9), (15, 25)]
    irregular = kind == "numbers" and delays == 1  # its own times need no filled rows
    for ours, (first, whole) in zip(rows, pieces, strict=True):
        ours = ours[~ours.isnan().any(1)].numpy()
        own = [k - first for k in LONG if first <= k < first + len(whole)] if irregular else ...
        np.testing.assert_array_equal(ours[:, :-1], whole[own])
        if irregular:
            np.testing.assert_allclose(np.diff(ours[:, -1]), 0.5 * np.diff(own))


def test_a_gap_of_five_rows_parts_nothing_at_irregular_times() -> None:
    times = np.r_[0:9, 14:30].astype(float)
    assert len(series_at_times([times], [times]).runs) == 1
    times[9:] += 1
    with pytest.warns(ForecastWarning, match="3 pieces"):
        found = series_at_times([times, times + 0.5], [times, np.arange(25.0)])
    assert found.runs == (0, 0, 1)
    assert found.ends(9) == [1, 2]
    assert found.ends(9, first=True) == [0, 2]
    with pytest.raises(DataError, match="Got 9 rows before the first gap; expected 10"):
        found.ends(10, first=True)


def test_no_series_and_times_of_other_series_are_errors() -> None:
    with pytest.raises(DataError, match="Got 0 series and times of 0; expected one or more"):
        series_at_times([], [])
    with pytest.raises(DataError, match="Got 1 series and times of 0"):
        series_at_times([np.arange(5.0)], [])


@pytest.mark.filterwarnings("ignore::rectilinear.errors.ForecastWarning")
def test_a_run_goes_on_from_the_end_of_its_last_piece(
    tmp_path: Path, ask_error: Callable[..., str]
) -> None:
    decay = np.r_[0.9 ** np.arange(60.0), np.full(8, np.nan), 0.9 ** np.arange(40.0)]
    path = write(tmp_path, "a.csv", "\n".join(["x", *(f"{v:.15g}" for v in decay)]))
    settings = ("fit.rank=1", "fit.fourier=0", "fit.horizon=5")
    words = [word for change in (f"system={path}", *settings) for word in ("--set", change)]
    assert cli.main(["train", "koopman", *words, "--out", str(tmp_path / "run")]) == 0
    for name, steps, start in (("on", "3", decay[-1]), ("back", "-3", decay[0])):
        out = tmp_path / name
        given = ("--steps", steps.lstrip("-"), *(["--backward"] if name == "back" else []))
        assert cli.main(["forecast", str(tmp_path / "run"), *given, "--out", str(out)]) == 0
        found = np.load(out / "forecast.npy")[:, :, 0]
        assert found.shape == (1, 4)  # one run: pieces before the last are its past
        np.testing.assert_allclose(found[0], start * 0.9 ** (np.arange(4) * np.sign(int(steps))), rtol=1e-6)  # fmt: skip
    days = table("t,x", list(map(str, range(len(decay) + 2))), [*map(str, decay), "", ""])
    late = write(tmp_path, "b.csv", days)
    said = ask_error("forecast", tmp_path / "run", "--from", late, "--steps", "3")
    assert "Got a series whose last 2 rows are missing; expected 1 row without a gap" in said


WRONG = {
    "text": ("a.csv", table("date,x,note", DAYS, X, ["dry"] * ROWS)),
    "thousands": ("a.csv", 'time,x\n1,"1,234"\n2,"999"\n'),
    "two clocks": ("a.csv", "t,time,a\n0,0,1\n1,1,2\n"),
    "a name twice": ("a.csv", "time,x,x\n1,2,3\n2,3,4\n"),
    "uneven": ("a.csv", "a,b\n1,2\n3\n"),
    "names alone": ("a.csv", "time;x\n"),
    "empty": ("a.csv", ""),
    "day and month": ("a.csv", table("date,x", ["1/2/2024"] * ROWS, X)),
    "complex": ("a.npy", np.arange(6) * 1j),
    "days and years": ("a.csv", table("date,x", [DAYS[0], "1999", *DAYS[2:]], X)),
    "days twice": ("a.csv", table("date,x", [DAYS[0], *DAYS[:-1]], X)),
}


@pytest.mark.parametrize("case", WRONG)
def test_both_commands_refuse_a_file_in_the_same_words(
    case: str, tmp_path: Path, ask_error: Callable[..., str]
) -> None:
    path = write(tmp_path, *WRONG[case])
    one = ask_error("forecast", path, "--out", tmp_path / "out")
    other = ask_error("train", "koopman", "--set", f"system={path}", "--out", tmp_path / "run")
    assert one == other
    assert one.startswith("rectilinear: Got ")


def test_a_photo_is_said_to_be_an_image(tmp_path: Path, ask_error: Callable[..., str]) -> None:
    path = tmp_path / "photo.png"
    Image.new("RGB", (64, 48), (10, 200, 30)).save(path)
    train = ("train", "koopman", "--set", f"system={path}", "--out", tmp_path / "run")
    for words in (("forecast", path), train):
        said = ask_error(*words)
        assert "photo.png, which is an image" in said
        assert "UTF-8" not in said


def test_options_of_files_have_no_effect_on_systems(
    tmp_path: Path, ask_error: Callable[..., str]
) -> None:
    words = ("train", "koopman", "--set", "time=date", "--out", tmp_path / "run")
    assert "time = 'date', which has no effect on 'pendulum'" in ask_error(*words)


def test_a_single_column_is_to_be_written_as_a_list(
    tmp_path: Path, ask_error: Callable[..., str]
) -> None:
    words = ("train", "koopman", "--set", "columns=x", "--out", tmp_path / "run")
    assert 'Write a list: ["x"].' in ask_error(*words)


def test_columns_without_a_year_are_said_once(tmp_path: Path) -> None:
    months = [f"{k % 12 + 1}" for k in range(ROWS // 2)] * 2
    path = write(tmp_path, "a.csv", table("site,month,x", ["a"] * 20 + ["b"] * 20, months, X))
    with pytest.warns(ForecastWarning, match="months are counted") as said:
        read_series(path, run="site")
    assert len(said) == 1
