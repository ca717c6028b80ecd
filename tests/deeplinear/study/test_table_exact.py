"""Tables with integers that float64 rounds, rows in another order, or no table at all."""

import decimal

import numpy as np
import pytest
import torch

from rectilinear.deeplinear import Table
from rectilinear.errors import DataError, ShapeError

Y = np.arange(6.0)
LONG = 2**53 + np.arange(6)


@pytest.mark.parametrize(
    "column",
    [
        LONG,
        -LONG,
        LONG.astype(np.uint64) + np.uint64(2**63 + 1),
        LONG.astype(object),
        LONG.astype(str),
        LONG.astype("S"),
        np.array([decimal.Decimal(int(n)) for n in LONG]),
        np.array([10**400 + i for i in range(6)], dtype=object),
    ],
)
def test_whole_numbers_that_float64_would_round_are_refused_and_their_column_is_named(column):
    with pytest.raises(
        DataError, match=r"whole number of more digits than float64 has, in column 'x0'"
    ):
        Table.from_arrays(np.asarray(column)[:, None], Y)


def test_long_ids_of_a_file_are_refused_by_name_and_may_be_dropped(tmp_path):
    path = tmp_path / "ids.csv"
    path.write_text("id,a,y\n" + "".join(f"{n},{i % 4},{i}\n" for i, n in enumerate(LONG)))
    with pytest.raises(DataError, match=r"9007199254740993, .* in column 'id'; .*--drop"):
        Table.read(path, "y")
    assert Table.read(path, "y", drop=["id"]).names == ("a",)


@pytest.mark.parametrize(
    "column", [LONG // 2 * 2, LONG.astype(float), [f"{n}.0" for n in LONG], 2**60 * np.arange(6)]
)
def test_what_float64_holds_is_kept(column):
    column = np.asarray(column)
    assert np.array_equal(Table.from_arrays(column[:, None], Y).X[:, 0], column.astype(float))


def test_rows_of_the_same_labels_in_another_order_are_refused():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame({"a": Y**2})
    y = pd.Series(Y).sample(frac=1, random_state=0)
    with pytest.raises(DataError, match=r"in another order"):
        Table.from_arrays(X, y)
    assert Table.from_arrays(X, y.loc[X.index]).y.tolist() == Y.tolist()
    assert (
        Table.from_arrays(X.set_axis(list("abcdef")), y).y.tolist() == y.tolist()
    )  # labels of other kinds


def test_tensors_are_read_and_sparse_or_ragged_input_is_one_clear_error():
    x = torch.arange(6.0, requires_grad=True)[:, None]
    assert Table.from_arrays(x, Y).X[:, 0].tolist() == Y.tolist()
    assert Table.from_arrays(x.bfloat16(), torch.arange(6)).X[:, 0].tolist() == Y.tolist()
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(DataError, match="sparse"):
        Table.from_arrays(sparse.csr_matrix(np.eye(6)), Y)
    with pytest.raises(ShapeError, match="different lengths"):
        Table.from_arrays([[1, 2], [2], [3, 1], [5, 6]], Y[:4])


@pytest.mark.parametrize("name", ["a", "y"])
def test_numbers_whose_differences_leave_float64_are_refused_by_name(name):
    wide = np.array([-1.7e308, 1.7e308, 0.0, 1.0, 2.0, 3.0])
    columns = {"a": Y**2, "y": Y} | {name: wide}
    with pytest.raises(DataError, match=f"in {name};"):
        Table.from_columns(columns, "y")
