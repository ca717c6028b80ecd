"""Training of the small classifiers and regressors that the figures on expressivity show."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


def network(sizes: Sequence[int], *, bias: bool) -> nn.Sequential:
    """ReLU layers of these sizes, the inputs first, in float64."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, bias=bias, dtype=torch.float64), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def fit(
    model: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor], steps: int, lr: float
) -> Tensor:
    """Full-batch Adam, its rate falling to zero along a cosine over the last half; the loss before each step."""
    optimizer = torch.optim.Adam(model.parameters(), lr)
    half = steps // 2
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: 0.5 + 0.5 * float(torch.cos(torch.tensor(torch.pi * max(0, k - half) / (steps - half))))
    )
    losses = y.new_empty(steps)  # numbers kept one by one would split the memory that each step needs in one piece
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        value = loss(model(x)[:, 0], y)
        losses[step] = value.detach()
        value.backward()
        optimizer.step()
        schedule.step()
    return losses
