"""Blind restoration that is trained on few images sees each of them corrupted in many ways."""

from __future__ import annotations

import pytest
import torch

import rectilinear as rl
from rectilinear.metrics import psnr
from rectilinear.projector import corrupt, fit_blind, fit_prior, restore
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
