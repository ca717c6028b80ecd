import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rectilinear.errors import DtypeError, NonFiniteError, ShapeError
from rectilinear.training.batches import Batches

SIZES = {"rows": st.integers(1, 12), "size": st.integers(1, 15), "seed": st.integers(0, 9)}


@settings(deadline=None, max_examples=25)
@given(**SIZES)
def test_each_epoch_visits_each_row_once(rows, size, seed):
    batches = Batches(torch.arange(float(rows)), size, seed)
    epochs = torch.cat([batches(step) for step in range(3 * rows)])[: 3 * rows].reshape(3, rows)
    assert torch.equal(epochs.sort(1).values, torch.arange(float(rows)).expand(3, rows))


@settings(deadline=None, max_examples=25)
@given(**SIZES, step=st.integers(0, 40))
def test_a_batch_depends_on_seed_and_step_and_not_on_what_came_before(rows, size, seed, step):
    data = torch.randn(rows, 2)
    walked, jumped = Batches(data, size, seed), Batches(data, size, seed)
    for earlier in range(step):
        walked(earlier)
    assert torch.equal(walked(step), jumped(step))
    assert jumped(step).shape == (size, 2)


@settings(deadline=None, max_examples=25)
@given(**SIZES, world=st.integers(1, 4), step=st.integers(0, 9))
def test_processes_share_the_batch_of_one(rows, size, seed, world, step):
    data = torch.arange(float(rows))
    shares = [
        Batches(data, size * world, seed, rank=rank, world=world)(step) for rank in range(world)
    ]
    assert torch.equal(torch.cat(shares), Batches(data, size * world, seed)(step))


def test_epochs_and_seeds_differ():
    data = torch.arange(100.0)
    batches = Batches(data, 100)
    assert not torch.equal(batches(0), batches(1))
    assert not torch.equal(batches(0), Batches(data, 100, seed=1)(0))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (torch.zeros(3, 2, dtype=torch.int64), DtypeError),
        (np.zeros((3, 2)), DtypeError),
        (torch.zeros(0, 2), ShapeError),
        (torch.tensor(1.0), ShapeError),
        (torch.tensor([0.0, float("nan")]), NonFiniteError),
        (torch.tensor([0.0, float("inf")]), NonFiniteError),
    ],
)
def test_unusable_data_are_refused(data, error):
    with pytest.raises(error, match="data"):
        Batches(data, 2)


def test_the_fingerprint_notices_values_shape_and_dtype():
    data = torch.rand(10, 4)
    changed = data.clone()
    changed[7, 2] += 1
    others = [changed, data.reshape(20, 2), data.double(), data[:9]]
    assert Batches(data, 2).fingerprint() == Batches(data.clone(), 3, seed=1).fingerprint()
    assert len({Batches(x, 2).fingerprint() for x in [data, *others]}) == 5
