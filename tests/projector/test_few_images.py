"""Priors and blind restoration of few images: each image in many ways, and none known too well."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool2d

import rectilinear as rl
from rectilinear.metrics import psnr
from rectilinear.projector import (
    corrupt,
    fit_blind,
    fit_prior,
    masked,
    posterior,
    restore,
)
from rectilinear.projector.blind_training import _crop
from rectilinear.random import generator


@pytest.mark.parametrize("count", [1, 3, 7])
def test_noise_is_recognised_after_few_images(count: int) -> None:
    images, held_out = (rl.datasets.load("digits", split).images for split in ("train", "test"))
    prior = fit_prior(images[:400], rank=16, components=2)
    f = fit_blind(prior, images[-count:], kinds=("noise", "missing"))
    for kind, answer, least in (("noise", "noise", 0.6), ("missing", "zeros", 0.6)):
        y, _ = corrupt(held_out[:100], kind, 0.35, generator(0))
        found = f.probabilities(y).argmax(1) == f.answers.index(answer)
        assert found.double().mean() > least
        gain = psnr(restore(f, y), held_out[:100]) - psnr(y, held_out[:100])
        assert gain.mean() > 2


def test_large_images_are_cropped() -> None:
    images = torch.rand(1, 3, 90, 20)
    crops = [_crop(images, 64, generator(seed)) for seed in (0, 1)]
    assert crops[0].shape == (1, 3, 64, 20)
    assert not torch.equal(crops[0], crops[1]), "elsewhere in the same image"


def test_no_images_are_restored_to_none_by_a_function() -> None:
    assert restore(lambda x: x, torch.zeros(0, 1, 8, 8)).shape == (0, 1, 8, 8)
    assert restore(lambda x: x, torch.zeros(0, 1, 8, 8), noise=0.1).shape == (0, 1, 8, 8)


def smooth(count: int, seed: int) -> torch.Tensor:
    """Images of 20 x 16 pixels, each a noise of its own smoothed."""
    x = torch.randn(count, 1, 24, 20, generator=generator(seed))
    x = avg_pool2d(avg_pool2d(x, 3, 1), 3, 1)
    return (0.5 + 0.5 * x).clamp(0, 1)


@pytest.mark.parametrize("count", [2, 3, 12, 40])
def test_a_prior_of_few_images_knows_how_far_others_are(count: int) -> None:
    prior, x = fit_prior(smooth(count, 0)), smooth(30, 1)
    y = x + 0.05 * torch.randn(x.shape, generator=generator(0))
    mask = masked(torch.rand(x.shape, generator=generator(1)) > 0.5)
    for data, K, noise in ((y, None, 0.05), (mask(x.flatten(1)).reshape(x.shape), mask, 0.0)):
        found = posterior(prior, data, K, noise)
        assert (found.mean - x).square().mean() < (data - x).square().mean()
        ratio = (found.mean - x).square().mean() / found.std.square().mean()
        assert 0.6 < ratio.sqrt() < 1.6
