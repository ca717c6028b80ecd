import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import references_metrics as ref
from rectilinear import metrics
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.metrics import psnr, ssim


def pair(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(*shape, generator=g, dtype=torch.float64)
    return x, (x + 0.3 * torch.randn(*shape, generator=g, dtype=torch.float64)).clamp(0, 1)


@settings(deadline=None, max_examples=15)
@given(
    st.integers(1, 14), st.integers(1, 14), st.sampled_from([1.0, 2.0, 255.0]), st.integers(0, 999)
)
def test_ssim_equals_loops(h, w, peak, seed):
    x, y = pair(2, 2, h, w, seed=seed)
    expected = [
        sum(
            ref.ssim((peak * a).numpy(), (peak * b).numpy(), peak)
            for a, b in zip(xs, ys, strict=True)
        )
        / 2
        for xs, ys in zip(x, y, strict=True)
    ]
    assert torch.allclose(
        ssim(peak * x, peak * y, peak), torch.tensor(expected, dtype=torch.float64)
    )


def test_ssim_orders_damage():
    x, y = pair(3, 1, 28, 28)
    assert torch.allclose(ssim(x, x), torch.ones(3, dtype=torch.float64))
    assert (ssim(x, y) < ssim(x, (x + y) / 2)).all()
    assert torch.allclose(ssim(x, y), ssim(y, x))
    assert (ssim(x, 1 - x) < 0).all()


def test_psnr():
    x, y = pair(4, 3, 5, 5)
    for i in range(4):
        mse = float(((x[i] - y[i]) ** 2).mean())
        assert 10 ** (-psnr(x, y)[i].item() / 10) == pytest.approx(mse)
    assert torch.allclose(psnr(255 * x, 255 * y, peak=255), psnr(x, y))
    assert torch.isinf(psnr(x, x)).all()


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_bad_arguments(metric):
    x, y = pair(2, 1, 8, 8)
    with pytest.raises(ShapeError, match="batches of 2 and 1"):
        metric(x, y[:1])
    with pytest.raises(ShapeError):
        metric(x, y[..., :4])
    with pytest.raises(ConfigError, match="peak = 0"):
        metric(x, y, peak=0)


def test_ssim_wants_images():
    with pytest.raises(ShapeError, match=r"\(b, c, h, w\)"):
        ssim(torch.rand(3, 4, 4), torch.rand(3, 4, 4))


def test_every_psnr_is_one_and_says_how_it_clips_and_averages():
    x = torch.rand(6, 3, 5, 5, dtype=torch.float64)
    y = x + 0.5 * torch.randn(
        x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    y[0] = x[0]
    error = ((x - y) ** 2).mean((1, 2, 3))
    each = -10 * error.log10()
    torch.testing.assert_close(metrics.psnr(x, y), each)
    clipped = -10 * ((x - y.clamp(0, 1)) ** 2).mean((1, 2, 3)).log10()
    torch.testing.assert_close(metrics.psnr(x, y, clip=True), clipped)
    torch.testing.assert_close(metrics.psnr(255 * x, 255 * y, peak=255, clip=True), clipped)
    assert metrics.psnr(y[None], x[None]).item() == pytest.approx(
        -10 * error.mean().log10().item(), rel=1e-12
    )
    assert metrics.mean_psnr(y, x, most=120.0, clip=True) == pytest.approx(
        clipped.clamp(max=120).mean().item(), rel=1e-12
    )
    assert metrics.mean_psnr(x, y, most=50.0) == pytest.approx(
        each.clamp(max=50).mean().item(), rel=1e-12
    )
