"""Tables as they come: categories, empty cells, decimal commas; and what is said of them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from rectilinear.deeplinear import DepthStudy, Model, Table
from rectilinear.deeplinear.study.design import split_table
from rectilinear.errors import ConfigError, DataError, NonFiniteError


def test_categories_are_encoded_as_by_scikit_learn() -> None:
    kind = np.random.default_rng(0).choice(["red", "green", "blue"], 30)
    table = Table.from_columns({"kind": kind, "x": np.arange(30.0), "y": np.arange(30.0) % 7}, "y")
    theirs = OneHotEncoder(drop="first", sparse_output=False).fit(kind[:, None])
    assert (table.names, table.encoded) == (("kind=green", "kind=red", "x"), ("kind",))
    np.testing.assert_array_equal(table.X[:, :2], theirs.transform(kind[:, None]))


def test_categories_of_pandas_may_be_numbers() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"zone": pandas.Categorical([3, 1, 2, 3]), "x": [1.0, 2.0, 4.0, 8.0]})
    table = Table.from_arrays(frame, [1.0, 2.0, 3.0, 5.0])
    assert table.names == ("zone=2", "zone=3", "x")
    assert table.X[:, 1].tolist() == [1, 0, 0, 1]


def test_empty_cells_leave_out_rows_or_are_an_error() -> None:
    columns = {
        "x": [1.0, None, 3.0, 4.0, 5.0, 6.0],
        "kind": ["a", "a", "", "b", "b", "a"],
        "y": [1.0, 2.0, 3.0, 4.0, None, 2.0],
    }
    with pytest.raises(NonFiniteError, match="1 in x, 1 in kind=b, 1 in y"):
        Table.from_columns(columns, "y")
    table = Table.from_columns(columns, "y", missing="mean")
    assert (len(table.y), table.dropped, table.names) == (5, 1, ("x", "kind=b", "kind=missing"))
    columns = {name: column * 2 for name, column in columns.items()}
    assert len(Table.from_columns(columns, "y", missing="drop").y) == 6
    with pytest.raises(ConfigError, match="missing"):
        Table.from_columns(columns, "y", missing="median")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no value at all in x"):
        Table.from_columns({"x": [None] * 4, "y": [1.0, 2.0, 3.0, 4.0]}, "y", missing="drop")


def test_means_are_those_of_the_training_set_of_each_fold() -> None:
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(40, 3)), rng.normal(size=40)
    X[rng.random(X.shape) < 0.2] = np.nan
    table = Table.from_arrays(X, y, missing="mean")
    found = split_table(table, 4, np.random.SeedSequence(5), range(4), rows=True)
    order = np.random.default_rng(np.random.SeedSequence(5)).permutation(40)
    ours = found.train.least_squares()
    for i, test in enumerate(np.array_split(order, 4)):
        train = np.setdiff1d(order, test)
        model = make_pipeline(SimpleImputer(), StandardScaler(), LinearRegression())
        model.fit(X[train], y[train])
        error = np.square(model.predict(X[test]) - y[test]).mean() / y[train].var()
        assert found.test.mean_square_error(ours.coef, ours.intercept)[i] == pytest.approx(error)
        assert found.rows is not None
        rows = found.rows[0][i][test]
        np.testing.assert_allclose(rows, model[:-1].transform(X[test]), atol=1e-12)


def test_decimal_commas(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x;y\n1,5;2\n2,25;3\n3;1\n4;4\n")
    assert Table.read(path, "y").X[:, 0].tolist() == [1.5, 2.25, 3, 4]
    path.write_text("x;z;y\n1.234;0.5;12,5\n2.345;0.25;3\n3.456;0.125;1\n4.567;1.5;4\n")
    read = Table.read(path, "y")
    assert read.X.T.tolist() == [[1234, 2345, 3456, 4567], [0.5, 0.25, 0.125, 1.5]]


def test_row_numbers_are_no_input(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "rownames,year,x,y\n" + "".join(f"{i},{1989 + i},{i % 3},{i % 4}\n" for i in range(1, 9))
    )
    with pytest.raises(DataError, match=r"row numbers in column 'rownames'.*--drop"):
        Table.read(path, "y")
    assert Table.read(path, "y", drop=["rownames"]).names == ("year", "x")


def test_what_spreadsheets_and_pandas_add_is_no_input(tmp_path: Path) -> None:
    """A nameless index, a nameless empty column, rows of empty cells, typographic minus signs."""
    path = tmp_path / "a.csv"
    for lead in ("", "ann", "0"):
        index = {"": "", "ann": "a{},", "0": "{},"}[lead]
        rows = "".join(index.format(i) + f"\u2212{i}.5,{i % 3},\n" for i in range(8))
        path.write_text(("," if lead else "") + "x,y,\n" + rows + ",,,\n"[not lead :])
        if lead:
            path.write_text(path.read_text().replace(",\n", "\n"))
        read = Table.read(path, "y")
        assert read.names == ("x",)
        assert read.X[:, 0].tolist() == [-i - 0.5 for i in range(8)]
    path.write_text(",x,y\n" + "".join(f"{i % 5},{i},{i % 3}\n" for i in range(8)))
    with pytest.raises(DataError, match="without a name"):
        Table.read(path, "y")


def test_question_marks_are_empty_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "".join(f"{'?' if i == 3 else i},{i % 3}\n" for i in range(8)))
    with pytest.raises(NonFiniteError, match="1 in x"):
        Table.read(path, "y")
    assert Table.read(path, "y", missing="drop").dropped == 1


def test_all_columns_that_are_no_input_are_one_error() -> None:
    names = [f"n{i}" for i in range(8)]
    columns = {"who": names, "first day": ["2024-01-01"] * 8, "x": range(8), "y": [1, 2] * 4}
    with pytest.raises(DataError, match=r"--drop who --drop 'first day', or in Python drop="):
        Table.from_columns(columns, "y")
    ids = {"PassengerId": range(1, 9), "x": [3, 1] * 4, "y": [1, 2] * 4}
    with pytest.raises(DataError, match="row numbers in column 'PassengerId'"):
        Table.from_columns(ids, "y")


def test_a_target_of_text_says_how_to_write_it() -> None:
    with pytest.raises(DataError, match=r"the target; expected.*0 for no and 1 for yes"):
        Table.from_columns({"x": range(4), "y": ["yes", "no"] * 2}, "y")
    with pytest.raises(DataError, match="0 and 1 for one of them"):
        Table.from_columns({"x": range(6), "y": ["a", "b", "c"] * 2}, "y")


def test_a_copy_of_the_target_is_no_input() -> None:
    columns = {"alive": ["yes", "no"] * 4, "x": range(8), "survived": [1, 0] * 4}
    with pytest.raises(DataError, match=r"itself in column 'alive';.*--drop alive"):
        Table.from_columns(columns, "survived")
    assert Table.from_columns(columns, "survived", drop=["alive"]).names == ("x",)


def test_the_page_says_what_became_of_the_columns() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 24))
    x[:3] = np.nan
    table = Table.from_columns(
        {"x": x, "kind": ["a", "b"] * 12, "same": np.ones(24), "y": y}, "y", missing="mean"
    )
    about = DepthStudy((Model("least_squares"),), trials=5).run(table).about
    for said in ("Constant and left out: same.", "0 and 1: kind.", "training set: 3."):
        assert said in about


def test_workers_of_linear_networks_need_no_torch() -> None:
    code = (
        "import sys, rectilinear.deeplinear.study.measure, rectilinear.deeplinear.study.workers;"
        "print([m for m in ('torch', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


PLAIN = """
from rectilinear.deeplinear.study.workers import map_chunks
print(sorted(map_chunks(abs, {0: -3, 1: 4}, n_jobs=2, backend="dask")))
"""


@pytest.mark.slow
def test_dask_from_a_script_without_a_guard(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="dask[distributed] is not installed")
    script = tmp_path / "plain.py"
    script.write_text(PLAIN)
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=True
    )
    assert run.stdout.strip() == "[(0, 3), (1, 4)]"
