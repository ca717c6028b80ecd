import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from makers_data import rand
from rectilinear.errors import NonFiniteError, ShapeError
from rectilinear.metrics import kolmogorov_smirnov, normality


@settings(deadline=None, max_examples=15)
@given(st.integers(8, 200), st.floats(-0.5, 0.5), st.floats(0.5, 2), st.integers(0, 999))
def test_equals_scipy(n, mean, std, seed):
    x = rand(n, 3, seed=seed) * std + mean
    statistic, p_value = kolmogorov_smirnov(x)
    for i in range(3):
        peer = scipy.stats.kstest(x[:, i].numpy(), "norm")
        assert statistic[i].item() == pytest.approx(peer.statistic)
        assert p_value[i].item() == pytest.approx(
            peer.pvalue, abs=0.004 if peer.pvalue < 0.2 else 0.022
        )


def test_noise_passes():
    report = normality(rand(1000, 100).reshape(1000, 1, 10, 10).requires_grad_())
    assert (report.n, report.dim) == (1000, 100)
    assert abs(report.mean) < 0.02
    assert abs(report.std - 1) < 0.02
    assert report.mean_norm == pytest.approx(report.expected_mean_norm, abs=0.01)
    assert report.std_norm == pytest.approx(report.expected_std_norm, rel=0.1)
    assert report.rejected < 0.15
    assert report.p_value > 0.01
    assert report.ks == pytest.approx(0.83 / 1000**0.5, rel=0.2)
    assert "coordinates rejected" in str(report)


@pytest.mark.parametrize("d", [1, 7, 784])
def test_expected_norm_is_that_of_chi(d):
    report = normality(rand(2, d))
    assert report.expected_mean_norm * np.sqrt(d) == pytest.approx(scipy.stats.chi(d).mean())
    assert report.expected_std_norm == pytest.approx(scipy.stats.chi(d).std(), rel=1e-6)


def test_what_is_not_noise_fails():
    x = rand(1000, 20)
    assert normality(10 * x).std == pytest.approx(10, rel=0.02)
    for wrong in (10 * x, x + 1, x.sign(), x.abs()):
        assert normality(wrong).rejected == 1
        assert normality(wrong).p_value < 1e-6
    # every coordinate normal, but all of them the same: only the length tells
    same = normality(x[:, :1].expand(-1, 20))
    assert same.std_norm > 3 * same.expected_std_norm


def test_bad_noise():
    with pytest.raises(NonFiniteError):
        normality(torch.full((3, 2), float("inf")))
    with pytest.raises(ShapeError, match="at least two"):
        normality(torch.zeros(1, 1))
    with pytest.raises(ShapeError):
        kolmogorov_smirnov(torch.zeros(4))


def test_one_sample_has_a_length_and_no_spread_of_it():
    report = normality(rand(1, 500))
    assert report.std_norm is None
    assert report.mean_norm == pytest.approx(1, abs=0.15)
    assert "unknown" in str(report)


@pytest.mark.parametrize(("n", "dim"), [(1, 3), (3, 784), (4, 1), (5, 12288)])
def test_samples_too_few_to_reject_anything_have_no_p_value(n, dim):
    report = normality(1e6 + rand(n, dim))
    assert report.p_value is None
    assert report.least_n > n
    assert normality(1e6 + rand(report.least_n, dim)).p_value < 0.05, "so many do"
    assert (report.rejected is None) == (n < 5)
    assert "coordinates rejected" in str(report)
