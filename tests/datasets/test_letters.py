"""Printed letters."""

import pytest
import torch

from rectilinear.datasets import letters
from rectilinear.errors import ConfigError


def test_each_letter_in_each_face_fills_its_share_in_the_middle() -> None:
    images, labels = letters(16, fill=0.5)
    assert images.dtype == torch.float32
    assert 0 <= images.min() <= images.max() <= 1
    assert torch.bincount(labels).unique().numel() == 1
    ink = images[:, 0] > 0.1
    tall, wide = ink.any(2).sum(1), ink.any(1).sum(1)
    longest = torch.maximum(tall, wide)
    assert longest.min() >= 6
    assert longest.max() <= 10
    rows = torch.arange(16.0)
    middle = (ink.any(2) * rows).sum(1) / tall
    assert (middle - 7.5).abs().max() <= 1.5


def test_letters_differ() -> None:
    data = letters(8)
    firsts = torch.stack([data.images[data.labels == i][0] for i in range(len(data.classes))])
    assert (
        torch.cdist(firsts.flatten(1), firsts.flatten(1)).add(10 * torch.eye(len(firsts))).min()
        > 0.3
    )
    assert "O" not in data.classes


@pytest.mark.parametrize(("size", "fill"), [(0, 1.0), (8, 0.0), (8, 1.1)])
def test_bad_sizes(size: int, fill: float) -> None:
    with pytest.raises(ConfigError):
        letters(size, fill)
