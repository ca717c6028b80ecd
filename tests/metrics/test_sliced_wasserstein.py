import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import references_metrics as ref
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.metrics import sliced_wasserstein


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(0, 999))
def test_one_dimension_is_exact_for_any_two_sizes(n, m, p, seed):
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(n, 1, generator=g, dtype=torch.float64)
    b = torch.randn(m, 1, generator=g, dtype=torch.float64)
    found = sliced_wasserstein(a, b, projections=3, p=p)
    assert found == pytest.approx(ref.wasserstein_1d(a[:, 0].numpy(), b[:, 0].numpy(), p))
    if p == 1:
        assert found == pytest.approx(scipy.stats.wasserstein_distance(a[:, 0], b[:, 0]))


def test_properties_of_a_distance():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 300, 2, 3, generator=g, dtype=torch.float64)
    b = b + 1
    assert sliced_wasserstein(a, a.flip(0)) == 0
    assert sliced_wasserstein(a, b) == sliced_wasserstein(b, a) == sliced_wasserstein(a, b, seed=0)
    assert sliced_wasserstein(a, b) != sliced_wasserstein(a, b, seed=1)
    assert sliced_wasserstein(3 * a, 3 * b) == pytest.approx(3 * sliced_wasserstein(a, b))
    # a shift by s gives |s . u|, whose mean square over unit directions is |s|^2 / d
    assert sliced_wasserstein(a, a + 1, projections=4000) == pytest.approx(1, rel=0.05)


def test_bad_arguments():
    x = torch.rand(4, 2)
    with pytest.raises(ConfigError, match="projections = 0"):
        sliced_wasserstein(x, x, projections=0)
    with pytest.raises(ShapeError):
        sliced_wasserstein(x, x[:, :1])
    with pytest.raises(ShapeError):
        sliced_wasserstein(x[:, 0], x[:, 0])
