"""Models, protocols and tables of a study, and the errors for invalid ones."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectilinear.deeplinear import DepthStudy, Model, Synthetic, Table, deep_linear
from rectilinear.deeplinear.statistics import SufficientStatistics
from rectilinear.deeplinear.study.design import split_table
from rectilinear.errors import (
    ConfigError,
    DataError,
    MissingDependencyError,
    NonFiniteError,
    ShapeError,
)


def test_names_tell_models_apart() -> None:
    models = deep_linear(
        [1, 2], widths=[1, 2], inits=["uniform", "zero_last"], optimizers=["gd", "adam"]
    )
    models += (
        deep_linear([2], lr=None)[1:]
        + deep_linear([2], lr=0.1)[1:]
        + (Model("ridge"), Model("ridge", penalty=2.0))
    )
    models += tuple(
        Model("relu", depth=2, width=4, init="torch", bias=bias) for bias in (True, False)
    )
    assert len({model.name for model in models}) == len(models)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "forest"},
        {"depth": 0},
        {"width": 0},
        {"init": "cold"},
        {"optimizer": "sgd"},
        {"lr": 0.0},
        {"penalty": -1.0},
    ],
)
def test_models_that_are_none(change: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        Model(**{"kind": "deep_linear", **change})


@pytest.mark.parametrize(
    "change",
    [
        {"models": ()},
        {"models": (Model(), Model())},
        {"trials": 1},
        {"steps": 0},
        {"tol": 0.0},
        {"folds": 1},
        {"block": 0},
    ],
)
def test_studies_that_are_none(change: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        DepthStudy(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"noise": ()},
        {"noise": (-0.1,)},
        {"noise_kind": "loud"},
        {"inputs": 0},
        {"rows": 1},
        {"condition": 0.5},
    ],
)
def test_protocols_that_are_none(change: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        Synthetic(**change)


@pytest.mark.parametrize("kind", ["mean", "constant", "ratio"])
def test_noise_of_a_protocol(kind: str) -> None:
    """The residual of least squares on many rows has the standard deviation that was asked for."""
    protocol = Synthetic(noise=(0.1, 0.4), noise_kind=kind, rows=20_000)
    batch = protocol.draw(np.random.SeedSequence(0), range(5))
    fit = batch.train.least_squares()
    scale = {"mean": fit.intercept[:, 0], "constant": np.ones(10), "ratio": fit.coef[:, 0, 0]}[kind]
    np.testing.assert_allclose(
        np.sqrt(fit.loss), batch.noise * np.abs(scale), rtol=0.05, atol=1e-3
    )  # 20,000 draws
    assert batch.noise.tolist() == [0.1] * 5 + [0.4] * 5
    assert batch.trial.tolist() == list(range(5)) * 2


def test_inputs_of_a_protocol_are_as_ill_conditioned_as_asked() -> None:
    batch = Synthetic(inputs=4, condition=100.0, rows=50_000).draw(
        np.random.SeedSequence(0), range(1)
    )
    assert np.linalg.cond(batch.train.cxx[0]) == pytest.approx(100, rel=0.1)  # 50,000 draws
    assert np.trace(batch.train.cxx[0]) == pytest.approx(4, rel=0.05)


def test_rows_of_a_protocol_are_those_of_its_statistics() -> None:
    batch = Synthetic(inputs=2, rows=30, test_rows=10).draw(
        np.random.SeedSequence(0), range(2), rows=True
    )
    assert batch.rows is not None
    X, y, inside, outside = batch.rows
    for statistics, weight in ((batch.train, inside), (batch.test, outside)):
        again = SufficientStatistics.from_data(X, y, weight)
        np.testing.assert_allclose(again.sxy, statistics.sxy, atol=1e-13)
        np.testing.assert_allclose(again.syy, statistics.syy, atol=1e-13)


@given(st.integers(2, 6), st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_folds_are_standardised_by_their_training_sets(folds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = Table.from_arrays(
        rng.normal(size=(40, 3)) * [1, 100, 0.01] + [5, 0, 1], rng.normal(size=40) + 7
    )
    source = split_table(table, folds, np.random.SeedSequence(seed), range(folds), rows=True)
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(40)
    for i, part in enumerate(np.array_split(order, folds)):
        rest = np.setdiff1d(order, part)
        centre, spread = table.X[rest].mean(0), table.X[rest].std(0)
        middle, scale = table.y[rest].mean(), table.y[rest].std()
        for statistics, rows in ((source.train, rest), (source.test, part)):
            by_hand = SufficientStatistics.from_data(
                (table.X[rows] - centre) / spread, (table.y[rows] - middle) / scale
            )
            np.testing.assert_allclose(statistics[i].sxx, by_hand.sxx, atol=1e-10)
            np.testing.assert_allclose(statistics[i].sxy, by_hand.sxy, atol=1e-10)
            assert statistics[i].n == len(rows)
    assert source.rows is not None
    X, y, inside, outside = source.rows
    np.testing.assert_allclose(
        SufficientStatistics.from_data(X, y, inside).sxy, source.train.sxy, atol=1e-10
    )
    np.testing.assert_array_equal(inside + outside, 1)


def test_a_column_that_is_constant_in_a_fold_becomes_zero() -> None:
    rng = np.random.default_rng(0)
    rare = np.full(20, 0.3)
    rare[0] = 0.5
    table = Table.from_arrays(np.column_stack([rng.normal(size=20), rare]), rng.normal(size=20))
    source = split_table(table, 4, np.random.SeedSequence(0), range(4), rows=False)
    still = np.isclose(source.train.cxx[:, 1, 1], 0)
    assert still.sum() == 1, "the fold that tests on the rare row"
    assert np.isfinite(source.test.factor).all()
    assert source.test.mean_x[still, 1] == 0


CSV = "age,height,group,price\n1,2.5,a,10\n2,3.5,b,20\n3,4.0,a,25\n4,1.0,b,30\n5,6.0,a,60\n"


def test_reading_a_file(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("\ufeff" + CSV, encoding="utf-8")
    table = Table.read(path, "price", drop=["group"])
    assert table.names == ("age", "height")
    assert table.X[:, 1].tolist() == [2.5, 3.5, 4.0, 1.0, 6.0]
    assert table.y.tolist() == [10, 20, 25, 30, 60]
    assert table.fingerprint() == Table.read(path, "price", drop=["group"]).fingerprint()
    assert table.fingerprint() != Table.read(path, "height", drop=["group"]).fingerprint()


def test_parquet_is_the_same_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow, parquet = (
        pytest.importorskip(name, reason="pyarrow is not installed")
        for name in ("pyarrow", "pyarrow.parquet")
    )
    columns = {"x": [1.0, 2.0, None, 4.0], "k": [1, 2, 3, 5], "y": [1.0, 0.0, 2.0, 3.0]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    assert Table.read(tmp_path / "a.parquet", "y", drop=["x"]).X[:, 0].tolist() == [1, 2, 3, 5]
    with pytest.raises(NonFiniteError, match="1 in x"):
        Table.read(tmp_path / "a.parquet", "y")
    (tmp_path / "b.parquet").write_text("no")
    with pytest.raises(DataError, match="cannot be read"):
        Table.read(tmp_path / "b.parquet", "y")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingDependencyError, match="pyarrow"):
        Table.read(tmp_path / "a.parquet", "y")


def test_data_frames_keep_their_names() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"a": [1, 2, 3, 4], "b": [1.0, 0.0, 1.0, 0.5]})
    table = Table.from_arrays(frame, pandas.Series([1.0, 2.0, 3.0, 5.0], name="target"))
    assert (table.names, table.target) == (("a", "b"), "target")
    with pytest.raises(DataError, match="text such as 'u' in column 'c'"):
        Table.from_arrays(frame.assign(c=["u", "v", "w", "x"]), [1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize(
    ("text", "target", "error", "said"),
    [
        (CSV, "cost", ConfigError, "no column 'cost'"),
        (CSV.replace("2.5", ""), "age", NonFiniteError, "1 in height"),
        (CSV.replace("2.5", "NA"), "age", NonFiniteError, "1 in height"),
        (CSV.replace("2.5", "inf"), "age", NonFiniteError, "1 in height"),
        ("x,y\n1,2\n", "y", ShapeError, "1 row;"),
        ("x,y\n1,2\n1,3\n1,4\n1,5\n", "y", ShapeError, "1 constant column"),
        ("x,y\n1,2\n2,2\n3,2\n4,2\n", "y", DataError, "2 everywhere"),
        ("x,y\n1,2\n2\n", "y", DataError, "1 values in line 3"),
        ("x;y\n1;2\n2;a\n3;b\n4;b\n", "y", DataError, "text such as 'a' in column 'y'"),
        ("x;y\n1;2\na;2.5\n3;1\n4;4\n", "y", DataError, "text such as 'a' in column 'x'"),
        ("x;y\n1,000;2\n2,500;3\n3;1\n4;4\n", "y", DataError, "text such as '1,000' in column 'x'"),
        (
            "x;y\n2024-01-02;2\n2024-01-03;1\n2024-01-02;4\n2024-01-03;3\n",
            "y",
            DataError,
            "text such as '2024-01-02'",
        ),
        ("x,x\n1,2\n", "x", DataError, "same name"),
        ("", "y", DataError, "empty"),
    ],
)
def test_files_that_cannot_be_studied(
    tmp_path: Path, text: str, target: str, error: type, said: str
) -> None:
    path = tmp_path / "data.csv"
    path.write_text(text)
    with pytest.raises(error, match=said):
        Table.read(path, target, drop=["group"] if error is NonFiniteError else [])


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        Table.read(tmp_path / "none.csv", "y")
    (tmp_path / "a.xlsx").write_text("")
    with pytest.raises(DataError, match=r"ends in \.csv"):
        Table.read(tmp_path / "a.xlsx", "y")
    with pytest.raises(ShapeError, match="X of shape"):
        Table.from_arrays([1.0, 2.0], [1.0, 2.0])
