"""The digits that come with scikit-learn."""

from __future__ import annotations

from typing import Literal

import torch

from rectilinear._seed import generator
from rectilinear.datasets.images import Images

TRAIN_SIZE = 1500


def digits(split: Literal["train", "test"]) -> Images:
    """The 1,797 handwritten digits of 8 x 8 pixels and 17 levels, in a fixed split of 1,500 and 297.

    Reference: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.

    Example:
        >>> (digits("test").images * 16).frac().abs().max().item()
        0.0
    """
    from sklearn.datasets import load_digits  # takes a second to import

    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(pixels), generator=generator(0))
    chosen = order[:TRAIN_SIZE] if split == "train" else order[TRAIN_SIZE:]
    images = torch.as_tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return Images(images[chosen], torch.as_tensor(labels, dtype=torch.int64)[chosen], tuple("0123456789"), "digits")
