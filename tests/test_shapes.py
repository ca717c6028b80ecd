import numpy as np
import pytest
import torch

from rectilinear.checks import check_batch, check_finite, check_floating
from rectilinear.errors import DtypeError, NonFiniteError, ShapeError


@pytest.mark.parametrize(
    "bad",
    [torch.ones(2, dtype=torch.int64), torch.ones(2, dtype=torch.complex64), np.ones(2), [1.0]],
)
def test_only_real_floating_tensors_pass(bad):
    with pytest.raises(DtypeError, match="thing"):
        check_floating(bad, "thing")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_good_batches_pass_in_every_precision(dtype):
    check_batch(torch.ones(2, 3, dtype=dtype), (3,), "x")
    check_finite(torch.ones(2, 3, dtype=dtype), "x")


@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (2, 4), (2, 3, 1)])
def test_wrong_shapes_are_refused_with_the_shape(shape):
    with pytest.raises(ShapeError, match="x "):
        check_batch(torch.ones(shape), (3,), "x")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_first_bad_entry_is_named(value):
    x = torch.zeros(4, 5)
    x[2, 3] = x[3, 1] = value
    with pytest.raises(NonFiniteError, match=r"2 NaN or infinite entries in x, first at \(2, 3\)"):
        check_finite(x, "x")
