import pytest
import torch

from makers_data import rand
from rectilinear.analysis.measure import BOOTSTRAP_BLOCKS, ratio
from rectilinear.numerics import wilson_interval


@pytest.mark.parametrize("n", [50, 5000])
def test_bootstrap_intervals_cover(n):
    hits = 0
    for seed in range(40):
        a = rand(n, seed=seed) + 2
        _, (low, high) = ratio(a, torch.ones(n), seed)
        hits += low <= 2 <= high
    assert 33 <= hits <= 40


def test_ratio_of_many_rows_and_of_none():
    a = rand(3 * BOOTSTRAP_BLOCKS + 5, seed=0)
    assert ratio(a, torch.ones(len(a)), 0)[0] == pytest.approx(float(a.mean()))
    assert ratio(torch.zeros(3), torch.zeros(3), 0) == (0.0, (0.0, 0.0))
    assert ratio(torch.ones(1), torch.ones(1), 0) == (1.0, None)


def test_wilson_ends_are_where_the_rate_is_just_rejected():
    for k, n in ((0, 7), (3, 10), (98, 100), (40, 40)):
        for end in wilson_interval(k / n, n):
            assert abs(k / n - end) == pytest.approx(
                1.959964 * (max(end * (1 - end), 0) / n) ** 0.5, abs=1e-7
            )
