"""Report of a generator: copies of training images, and what to expect."""

from __future__ import annotations

import torch

from rectilinear.report.evaluate import NEAREST_BLOCK, nearest_images
from rectilinear.report.generator import expectation


def test_a_copy_is_found_in_any_block() -> None:
    g = torch.Generator().manual_seed(0)
    train = torch.rand(NEAREST_BLOCK + 10, 1, 3, 3, generator=g)
    copies = torch.tensor([0, NEAREST_BLOCK - 1, NEAREST_BLOCK, NEAREST_BLOCK + 9])
    index, apart = nearest_images(train[copies], train)
    assert torch.equal(index, copies)
    assert apart.max() == 0
    moved = (train[copies] + 0.25).clone()
    assert (nearest_images(moved, train[copies])[1] <= 0.25 + 1e-6).all()


def test_what_to_expect_is_said() -> None:
    assert "copies" in expectation(5000, 0.01, 0.1)
    assert "blends" in expectation(50, 0.1, 0.1)
    assert "longer" in expectation(5000, 0.5, 0.1)
    assert "neither" in expectation(5000, 0.1, 0.1)
