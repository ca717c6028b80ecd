import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import references_metrics as ref
from rectilinear.errors import ConfigError, NonFiniteError, ShapeError
from rectilinear.metrics import precision_recall as pr
from rectilinear.metrics.generation import BLOCK_ROWS


@settings(deadline=None, max_examples=15)
@given(st.integers(6, 20), st.integers(6, 20), st.integers(1, 5), st.integers(0, 999))
def test_equals_loops(n, m, k, seed):
    g = torch.Generator().manual_seed(seed)
    real = torch.randn(n, 2, generator=g, dtype=torch.float64)
    fake = torch.randn(m, 2, generator=g, dtype=torch.float64) * 0.5 + 1
    assert pr(real, fake, k) == (ref.covered(fake, real, k), ref.covered(real, fake, k))


def test_chunks_make_no_difference():
    g = torch.Generator().manual_seed(0)
    real, fake = (
        torch.randn(BLOCK_ROWS + 7, 3, generator=g),
        torch.randn(2 * BLOCK_ROWS + 1, 3, generator=g) + 0.5,
    )
    cross = (fake[:, None] - real).norm(dim=-1)
    radius_real, radius_fake = (
        (x[:, None] - x).norm(dim=-1).sort(dim=1).values[:, 3] for x in (real, fake)
    )
    precision = (cross <= radius_real).any(1).double().mean().item()
    recall = (radius_fake >= cross.T).any(1).double().mean().item()
    assert pr(real, fake) == pytest.approx(
        (precision, recall), abs=2e-3
    )  # one or two ties in float32


def test_same_copies_and_far_samples():
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(1)) + 1000
    x[10:20] = x[0]  # repeated points have radius zero
    assert pr(x, x.flip(0)) == (1, 1)
    assert pr(x, x + 100) == (0, 0)
    collapsed = x[:1].expand(50, 3)
    precision, recall = pr(x, collapsed)
    assert (precision, recall) == (1, 11 / 50)  # all real enough, and nearly all else is missing


def test_bad_arguments():
    x = torch.rand(4, 2)
    for k in (0, 4):
        with pytest.raises(ConfigError, match=f"k = {k} for 4 real"):
            pr(x, x, k)
    with pytest.raises(ShapeError):
        pr(x, x[:, :1])
    with pytest.raises(NonFiniteError):
        pr(x, x.log().fill_(float("nan")))
