"""Report of a generator: copies of training images."""

from __future__ import annotations

import torch

from rectilinear.report.evaluate import NEAREST_BLOCK, nearest_images


def test_a_copy_is_found_in_any_block() -> None:
    g = torch.Generator().manual_seed(0)
    train = torch.rand(NEAREST_BLOCK + 10, 1, 3, 3, generator=g)
    copies = torch.tensor([0, NEAREST_BLOCK - 1, NEAREST_BLOCK, NEAREST_BLOCK + 9])
    index, apart = nearest_images(train[copies], train)
    assert torch.equal(index, copies)
    assert apart.max() == 0
    moved = (train[copies] + 0.25).clone()
    assert (nearest_images(moved, train[copies])[1] <= 0.25 + 1e-6).all()
