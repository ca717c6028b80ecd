"""Inputs that a model may take, guessed from its first layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 3
SIDES = (32, 224, 64, 28)  # of images, and lengths of signals, that models are built for
TOKENS = 5


def guesses(model: nn.Module) -> Iterator[Tensor]:
    """Random inputs, the likeliest first: rows and tokens, images of usual sizes, or whole numbers for embeddings.

    Example:
        >>> [tuple(x.shape) for x in guesses(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))]
        [(3, 4), (3, 5, 4)]
    """
    kinds = nn.Linear | nn.Embedding | nn.Conv1d | nn.Conv2d | nn.Conv3d
    first = next((m for m in model.modules() if isinstance(m, kinds)), None)
    if isinstance(first, nn.Embedding):
        yield torch.arange(ROWS * TOKENS).reshape(ROWS, TOKENS) % first.num_embeddings
    elif isinstance(first, nn.Linear):
        yield from (_numbers(*shape, first.in_features) for shape in ((ROWS,), (ROWS, TOKENS)))
    elif first is not None:
        axes = next(k for kind, k in _CONVOLUTIONS.items() if isinstance(first, kind))
        sides = SIDES if axes < 3 else SIDES[:1]
        yield from (_numbers(ROWS, first.in_channels, *[side] * axes) for side in sides)


_CONVOLUTIONS = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}


def _numbers(*shape: int) -> Tensor:
    """The same ones each time, between -1 and 1, drawn from no one's random numbers."""
    random = torch.Generator().manual_seed(0)
    return 2 * torch.rand(*shape, generator=random, dtype=torch.float64) - 1
