"""Tables against pandas: the same numbers, or one clear error."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectilinear.datasets import read_series
from rectilinear.deeplinear import Table
from rectilinear.deeplinear.study.design import split_table
from rectilinear.errors import ConfigError, DataError, NonFiniteError, RectilinearError

pandas = pytest.importorskip("pandas", reason="pandas is not installed")
pytest.importorskip("pyarrow", reason="pyarrow is not installed")

Y = np.array([1.0, 2.0, 4.0, 3.0, 5.0])
NUMBERS = st.floats(-1e9, 1e9).map(lambda value: float(f"{value:.6g}"))


@settings(max_examples=60, deadline=None)
@given(
    table=st.lists(
        st.tuples(NUMBERS, NUMBERS, NUMBERS),
        min_size=4,
        max_size=9,
        unique_by=(lambda r: r[0], lambda r: r[2]),
    ),
    sep=st.sampled_from([",", ";", "\t", ", ", "; "]),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
    blank=st.booleans(),
    quoted=st.booleans(),
)
def test_any_delimiter_is_the_same_table(
    table: list[tuple[float, ...]], sep: str, end: str, mark: str, blank: bool, quoted: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("table") / "a.csv"
    quote = '"' if quoted else ""
    lines = [sep.join(f"{quote}{cell}{quote}" for cell in row) for row in [("u", "v", "y"), *table]]
    path.write_bytes((mark + (end * (1 + blank)).join(lines) + end).encode())
    read = Table.read(path, "y")
    expected = pandas.read_csv(path, sep=sep.strip(" "), skipinitialspace=True)
    np.testing.assert_array_equal(read.y, expected["y"])
    np.testing.assert_array_equal(read.X, expected[list(read.names)])
    (series,) = read_series(path).values
    np.testing.assert_array_equal(series, expected.to_numpy(dtype=float))


def test_every_kind_of_column_that_is_numbers() -> None:
    frame = pandas.DataFrame(
        {
            "int8": np.array([1, 2, 3, 4, 6], dtype=np.int8),
            "Int64": pandas.array([1, 2, 3, 4, 6], dtype="Int64"),
            "Float32": pandas.array([1, 2, 3, 4, 6], dtype="Float32"),
            "boolean": pandas.array([True, False, True, True, False], dtype="boolean"),
            "bool": [True, False, True, True, False],
            "decimal": [Decimal(f"{i}.25") for i in (1, 2, 3, 4, 6)],
            "big-endian": np.array([1, 2, 3, 4, 6], dtype=">f4"),
            "half": np.array([1, 2, 3, 4, 6], dtype=np.float16),
        }
    )
    read = Table.from_arrays(frame, Y)
    assert read.names == tuple(frame.columns)
    for i, name in enumerate(frame.columns):
        np.testing.assert_array_equal(read.X[:, i], [float(value) for value in frame[name]])


def test_decimal_commas_are_numbers_where_semicolons_separate(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a;y\n1,5;2\n2,5;3\n3;4\n4;6\n")
    np.testing.assert_array_equal(Table.read(tmp_path / "a.csv", "y").X[:, 0], [1.5, 2.5, 3.0, 4.0])


def test_categories_are_indicators_of_all_values_but_the_first() -> None:
    read = Table.from_arrays(
        pandas.DataFrame(
            {"c": pandas.Categorical([10, 20, 10, 30, 20]), "t": pandas.Categorical(list("aabba"))}
        ),
        Y,
    )
    assert read.names == ("c=20", "c=30", "t=b")
    np.testing.assert_array_equal(read.X.T, [[0, 1, 0, 0, 1], [0, 0, 0, 1, 0], [0, 0, 1, 1, 0]])


@pytest.mark.parametrize("through", ["frame", "parquet"])
@pytest.mark.parametrize(
    ("column", "error", "said"),
    [
        (pandas.date_range("2024-01-01", periods=5), DataError, "dates in column 'bad'"),
        (pandas.date_range("2024-01-01", periods=5, tz="UTC"), DataError, "in column 'bad'"),
        (pandas.to_timedelta(range(5), unit="D"), DataError, "spans of time in column 'bad'"),
        (pandas.date_range("2024-01-01", periods=5).date, DataError, "dates? in column 'bad'"),
        (list("abcde"), DataError, "text such as 'a' in column 'bad'"),
        (pandas.array([1, None, 3, 4, 5], dtype="Int64"), NonFiniteError, "1 in bad"),
        (pandas.array([True, None, True, False, None], dtype="boolean"), NonFiniteError, "2 in bad"),
        ([1.0, np.nan, np.inf, 2.0, 3.0], NonFiniteError, "2 in bad"),
        ([1.0, None, 3.0, 4.0, 5.0], NonFiniteError, "1 in bad"),
        ([[1], [2], [3], [4], [5]], DataError, "in column 'bad'"),
    ],
    ids=["dates", "with zone", "timedelta", "date objects", "text", "Int64 NA", "boolean NA", "nan inf",
         "None", "lists"],
)  # fmt: skip
def test_columns_that_are_refused(
    through: str, column: object, error: type, said: str, tmp_path: Path
) -> None:
    frame = pandas.DataFrame({"x": np.arange(5.0), "bad": column})
    frame.assign(y=Y).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(error, match=said):
        Table.from_arrays(frame, Y) if through == "frame" else Table.read(
            tmp_path / "a.parquet", "y"
        )


def test_the_rows_of_pandas_are_no_input(tmp_path: Path) -> None:
    frame = pandas.DataFrame(
        {"x": [3.0, 1.0, 2.0, 5.0], "y": [1.0, 2.0, 4.0, 3.0]}, index=[9, 7, 5, 1]
    )
    frame.to_parquet(tmp_path / "a.parquet")
    assert Table.read(tmp_path / "a.parquet", "y").names == ("x",)
    frame.to_csv(tmp_path / "a.csv")
    with pytest.raises(DataError, match="index=False"):
        Table.read(tmp_path / "a.csv", "y")
    assert Table.read(tmp_path / "a.csv", "y", drop=[""]).names == ("x",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('a,y\n"1,234",2\n"2,345",3\n3,4\n4,6\n', "text such as '1,234' in column 'a'"),
        ("a,y\n1_000,2\n2_000,3\n3,4\n4,6\n", "text such as '1_000' in column 'a'"),
        ("a,y\n1 234,2\n2,3\n3,4\n4,6\n", "text such as '1 234' in column 'a'"),
        ("a,y\n2024-01-01,2\n2024-01-02,3\n3,4\n4,6\n", "text such as '2024-01-01'"),
        ("a,a ,y\n1,2,3\n", "the same name 'a'"),
        ("a;a;y\n1;2;3\n", "the same name 'a'"),
        ("a,y\n1,2\n2,3,4\n", "3 values in line 3"),
        ("a,y\n\n1,2\n\n2,3,4\n", "3 values in line 5"),
        ("", "empty"),
        ("\n\n", "empty"),
        ("a,b\n1,2\n", "no column 'y'"),
        ("a,y\n" + "1," + "9" * 200_000 + "\n", "no text in UTF-8"),
    ],
)
def test_text_that_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(RectilinearError, match=said):
        Table.read(tmp_path / "a.csv", "y")


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "cp1252"])
def test_other_encodings_are_one_error(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("größe,y\n1,2\n2,3\n3,4\n4,6\n", encoding=encoding)
    with pytest.raises(DataError, match="no text in UTF-8"):
        Table.read(tmp_path / "a.csv", "y")
    with pytest.raises(DataError):
        read_series(tmp_path / "a.csv")


def test_columns_of_one_name_in_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [pa.array(Y), pa.array(Y[::-1]), pa.array(Y)]
    pq.write_table(pa.table(columns, names=["a", "a", "y"]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="the same name 'a'"):
        Table.read(tmp_path / "a.parquet", "y")


def test_hidden_cells_of_a_masked_array_are_empty() -> None:
    X = np.ma.masked_less(np.column_stack([np.arange(5.0), [1.0, -999.0, 3.0, 4.0, 5.5]]), -100)
    with pytest.raises(NonFiniteError, match="1 in x1"):
        Table.from_arrays(X, Y)


@pytest.mark.parametrize("kind", ["complex128", "datetime64[D]", "timedelta64[s]"])
def test_arrays_of_other_kinds(kind: str) -> None:
    X = np.arange(10).reshape(5, 2).astype(kind)
    with pytest.raises(DataError, match="in column 'x0'"):
        Table.from_arrays(X, Y)
    with pytest.raises(DataError, match="in column 'y'"):
        Table.from_arrays(np.arange(10.0).reshape(5, 2), X[:, 0])


def test_the_target_cannot_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,y\n1,2\n2,3\n3,4\n4,6\n")
    with pytest.raises(ConfigError, match="target 'y'"):
        Table.read(tmp_path / "a.csv", "y", drop=["y"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n3\n", r"1 values in line 3 of a\.csv"),
        ("t,time,a\n0,0,1\n1,1,2\n", "2 columns of times in a.csv: t, time"),
        ("a,b\n1_0,2\n3,4\n", "'1_0' in column 'a', line 2"),
    ],
)
def test_series_that_are_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_series(tmp_path / "a.csv")


@pytest.mark.parametrize("kind", ["complex128", "datetime64[D]", "U3", "bool"])
def test_series_of_other_kinds(kind: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6).astype(kind))
    with pytest.raises(DataError, match="no table of numbers"):
        read_series(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("text", "second"),
    [
        (",x\n0,1.5\n1,2.5\n", "1.0"),
        ("date,co2\n19580329,316.1\n19580405,317.3\n", "1958-04-05"),
        ("YEAR;SUNACTIVITY\n1700;5\n1701;11\n", "1701"),
    ],
)
def test_numbers_of_rows_and_dates_are_no_variables_of_a_series(
    text: str, second: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(text)
    found = read_series(tmp_path / "a.csv")
    assert found.values[0].shape == (2, 1)
    assert found.times is not None
    assert str(found.times[0][1]) == second


@pytest.mark.parametrize("offset", [0.0, 1e6, 2.0**43])
@pytest.mark.parametrize("rows", [False, True])
def test_a_column_far_from_zero_is_standardised_and_not_dropped(
    offset: float, *, rows: bool
) -> None:
    """Of values that are exact with and without the offset, least squares and the standardised rows
    are the same.
    """
    random = np.random.default_rng(0)
    X = random.integers(-512, 512, (60, 3)) / 512
    y = X @ [1.0, -2.0, 3.0] + random.integers(-512, 512, 60) / 5120
    moved = X + np.array([0.0, offset, 0.0])
    here, there = (
        split_table(Table.from_arrays(x, y), 3, np.random.SeedSequence(0), range(3), rows=rows)
        for x in (X, moved)
    )
    for fold in (here, there):
        assert (fold.train.least_squares().loss < 0.01).all()
    assert np.allclose(here.train.least_squares().coef, there.train.least_squares().coef, atol=1e-9)
    assert np.allclose(here.test.mean_x, there.test.mean_x, atol=1e-9)
    if here.rows is not None and there.rows is not None:
        assert np.allclose(here.rows[0], there.rows[0], atol=1e-9)
