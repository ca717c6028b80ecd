import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import references_metrics as ref
from rectilinear.checks import tolerance
from rectilinear.errors import DtypeError, NonFiniteError, ShapeError
from rectilinear.metrics import frechet_distance


def sample(n, d, seed):
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=g, dtype=torch.float64)
    return torch.randn(n, d, generator=g, dtype=torch.float64) @ mix + torch.randn(
        d, generator=g, dtype=torch.float64
    )


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 6), st.integers(0, 999))
def test_equals_the_matrix_square_root(d, seed):
    a, b = sample(40, d, seed), sample(30, d, seed + 1000)
    # the root of a product of two covariances loses half of the digits
    assert frechet_distance(a, b) == pytest.approx(ref.frechet_distance(a, b), rel=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 12), st.integers(1, 8), st.integers(0, 999))
def test_is_a_distance_however_few_rows(n, d, seed):
    a, b = sample(n, d, seed), sample(n + 3, d, seed + 1000)
    size = float(a.square().sum() + b.square().sum())
    assert frechet_distance(a, a) <= tolerance(torch.float64, size)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    assert frechet_distance(a, b) >= 0
    turn = torch.linalg.qr(sample(d, d, seed)).Q
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b), rel=1e-9)


def test_gaussians_on_a_line_have_a_closed_form():
    x = sample(50, 1, 0)
    a, b = 2 * (x - x.mean()) / x.std() + 1, 5 * (x - x.mean()) / x.std() - 3
    assert frechet_distance(a, b) == pytest.approx((1 + 3) ** 2 + (2 - 5) ** 2)


def test_rank_deficient_covariances_do_not_leak():
    low = sample(30, 3, 0) @ torch.eye(40, dtype=torch.float64)[:3]  # 3 of 40 dimensions
    assert frechet_distance(low, low.flip(1)) == pytest.approx(
        2 * low.var(0).sum().item() + 2 * low.mean(0).square().sum().item(), rel=1e-9
    )


def test_bad_samples_are_named():
    x = sample(5, 3, 0)
    with pytest.raises(ShapeError, match="at least two each"):
        frechet_distance(x, x[:1])
    with pytest.raises(ShapeError, match=r"second sample of shape \(5, 2\)"):
        frechet_distance(x, x[:, :2])
    with pytest.raises(ShapeError, match="Flatten"):
        frechet_distance(x[None], x[None])
    with pytest.raises(NonFiniteError):
        frechet_distance(x, x / 0)
    with pytest.raises(DtypeError):
        frechet_distance(x.long(), x)
