"""A prior of whole images and one of patches, combined: better than each, and as sure as it is."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

import rectilinear as rl
from rectilinear.errors import ConfigError, DataError, DtypeError, ShapeError
from rectilinear.projector import (
    CombinedPrior,
    corrupt,
    fit_blind,
    fit_combined,
    fit_prior,
    posterior,
    restore,
)

pytestmark = pytest.mark.whole


def large(split: str, count: int) -> torch.Tensor:
    """Digits of 20 x 20 pixels."""
    x, _ = rl.datasets.load("digits", split)
    return interpolate(x[:count], size=(20, 20), mode="bicubic").clamp(0, 1)


@pytest.fixture(scope="module")
def combined() -> CombinedPrior:
    train = large("train", 360)
    return fit_combined(fit_prior(train[:300], rank=32, components=6), train[300:], progress=False)


def error(x: torch.Tensor, y: torch.Tensor) -> float:
    return float((x - y).square().mean())


@pytest.mark.parametrize(
    ("kind", "severity", "noise"),
    [("noise", 0.05, 0.05), ("noise", 0.3, 0.3), ("missing", 0.5, 0.0), ("occlusion", 0.3, 0.0)],
)
def test_it_is_about_as_good_as_the_better_one_and_knows_its_errors(
    combined: CombinedPrior, kind: str, severity: float, noise: float
) -> None:
    x = large("test", 40)
    y, K = corrupt(x, kind, severity, torch.Generator().manual_seed(0))
    found = posterior(combined, y, K, noise)
    each = [error(posterior(p, y, K, noise).mean, x) for p in (combined.whole, combined.local)]
    assert error(found.mean, x) < 1.4 * min(each)
    assert error(found.mean, x) < 0.8 * max(each)
    unseen = (
        torch.ones_like(y) if K is None else 1 - K(torch.ones_like(y).flatten(1)).reshape(y.shape)
    )
    assert torch.equal(found.mean[unseen == 0], y[unseen == 0])
    ratio = ((found.mean - x) * unseen).square().sum() / (found.std * unseen).square().sum()
    assert 0.5 < ratio.sqrt() < 1.5
    torch.testing.assert_close(restore(combined, y, K, noise=noise), found.mean.clamp(0, 1))


def test_patches_know_no_blur_and_larger_images_are_of_patches(combined: CombinedPrior) -> None:
    x = large("test", 4)
    y, K = corrupt(x, "blur", 0.06)
    for mine, its in zip(
        vars(combined.posterior(y, K, 0.01)).values(),
        vars(combined.whole.posterior(y, K, 0.01)).values(),
        strict=True,
    ):
        assert torch.equal(mine, its)
    wide = torch.cat([x, x], 3)
    assert torch.equal(
        posterior(combined, wide, noise=0.1).mean, posterior(combined.local, wide, noise=0.1).mean
    )


def test_it_is_saved_and_takes_other_precisions(combined: CombinedPrior, tmp_path: Path) -> None:
    y, _ = corrupt(large("test", 5), "noise", 0.2, torch.Generator().manual_seed(0))
    mean = restore(combined, y, noise=0.2)
    combined.save_pretrained(tmp_path)
    torch.testing.assert_close(
        restore(CombinedPrior.from_pretrained(tmp_path), y, noise=0.2), mean, atol=1e-6, rtol=0
    )
    for dtype in (torch.float64, torch.float16):
        found = restore(combined, y.to(dtype), noise=0.2)
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), mean, atol=5e-3, rtol=0)


def test_small_images_and_other_channels_are_refused(combined: CombinedPrior) -> None:
    digits, _ = rl.datasets.load("digits", "train")
    with pytest.raises(ConfigError, match="16 or more"):
        fit_combined(fit_prior(digits[:99], rank=8, components=1), digits[:99])
    with pytest.raises(ShapeError, match="images"):
        fit_combined(combined.whole, digits[:99])
    with pytest.raises(ShapeError, match="patches"):
        CombinedPrior(combined.local, combined.whole, combined.scale)


def test_blind_restoration_uses_both(combined: CombinedPrior) -> None:
    train, x = large("train", 60), large("test", 40)
    blind = fit_blind(combined.whole, train, ("noise",), progress=False)
    assert isinstance(blind.prior, CombinedPrior)
    assert fit_blind(combined, train, ("noise",), progress=False).prior is combined
    y, _ = corrupt(x, "noise", 0.05, torch.Generator().manual_seed(0))
    assert error(blind(y), x) < 1.1 * error(restore(blind, y, noise=0.05), x)
    assert error(blind(y), x) < 0.8 * error(restore(combined.whole, y, noise=0.05), x)


def smooth(count: int, seed: int) -> torch.Tensor:
    """Images of 20 x 16 pixels, each a noise of its own smoothed."""
    x = torch.randn(count, 1, 24, 20, generator=torch.Generator().manual_seed(seed))
    x = avg_pool2d(avg_pool2d(x, 3, 1), 3, 1)
    return (0.5 + 0.5 * x).clamp(0, 1)


@pytest.fixture(scope="module")
def of_few() -> CombinedPrior:
    train = smooth(12, 0)
    return fit_combined(fit_prior(train), train, progress=False)


def test_a_prior_does_not_know_its_own_few_images_too_well(of_few: CombinedPrior) -> None:
    x = smooth(20, 1)
    y, _ = corrupt(x, "noise", 0.05, torch.Generator().manual_seed(0))
    found, of_patches = (posterior(p, y, noise=0.05) for p in (of_few, of_few.local))
    assert error(found.mean, x) < 1.1 * error(of_patches.mean, x)
    assert 0.6 < (error(found.mean, x) / found.std.square().mean()) ** 0.5 < 1.6
    with pytest.raises(ConfigError, match="4 or more"):
        fit_combined(fit_prior(x[:3]), x[:3], progress=False)


def test_other_sizes_than_those_of_images_that_are_not_square(of_few: CombinedPrior) -> None:
    x = smooth(4, 1).mT
    of_patches = posterior(of_few.local, x, noise=0.1)
    assert torch.equal(posterior(of_few, x, noise=0.1).mean, of_patches.mean)
    with pytest.raises(ShapeError, match="Resize them"):
        posterior(of_few.whole, x, noise=0.1)


def test_other_scales_and_other_priors_are_refused(of_few: CombinedPrior) -> None:
    for fit in (fit_combined, fit_blind):
        with pytest.raises(DataError, match="0 to 1"):
            fit(of_few.whole, 255 * smooth(8, 0), progress=False)
    with pytest.raises(DtypeError, match="ImagePrior"):
        fit_combined(of_few, smooth(8, 0))
    with pytest.raises(ConfigError, match="4096 values at most"):
        fit_blind(fit_prior(torch.rand(9, 3, 40, 40)), torch.rand(9, 3, 40, 40), ("blur",))


def test_images_in_half_precision_are_fitted_in_float32(of_few: CombinedPrior) -> None:
    train = smooth(12, 0).half()
    found = fit_combined(fit_prior(train), train, progress=False)
    y, _ = corrupt(smooth(9, 1), "noise", 0.1, torch.Generator().manual_seed(0))
    mine, its = (posterior(p, y, noise=0.1).mean for p in (found, of_few))
    assert (mine - its).abs().mean() < 0.01


def test_the_prior_that_is_passed_keeps_its_precision() -> None:
    train = smooth(12, 0)
    prior = fit_prior(train)
    found = fit_blind(prior, train.double(), ("noise",), progress=False)
    assert prior.centre.dtype == found.prior.centre.dtype == torch.float32


def test_detail_of_large_images_is_not_taken_for_noise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    draw = torch.Generator().manual_seed(0)
    x = avg_pool2d(torch.randn(36, 1, 52, 52, generator=draw), 5, 1).div(0.6).add(0.5).clamp(0, 1)
    prior = fit_combined(fit_prior(x[:24]), x[:24], progress=False)
    monkeypatch.setattr("rectilinear.projector.blind_training.KIND_EXAMPLES", (200, 200))
    blind = fit_blind(prior, x[:24], ("noise",), progress=False)
    assert blind.by_patches
    clean, noisy = x[24:], corrupt(x[24:], "noise", 0.1, draw)[0]
    kept = blind.answers.index("keep")
    assert (blind.probabilities(clean)[:, kept] > 0.5).float().mean() > 0.9
    assert (blind.probabilities(noisy)[:, kept] < 0.5).all()
    assert error(blind(noisy), clean) < 0.6 * error(noisy, clean)
    blind.save_pretrained(tmp_path / "blind")
    assert torch.equal(rl.load(tmp_path / "blind")(noisy), blind(noisy))
    assert torch.equal(blind.read(clean)["plain"], prior.whole.posterior(clean).log_evidence)
