"""The slow twin of the engine: a torch module on the rows, autograd and ``torch.optim``, one run at
a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np


def module(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> nn.Sequential:
    """A chain of ``nn.Linear`` in float64 with these weights."""
    net = nn.Sequential()
    for j, weight in enumerate(weights):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bool(biases), dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(weight))
            if biases:
                layer.bias.copy_(torch.tensor(biases[j]))
        net.append(layer)
    return net


def optimizer(net: nn.Module, name: str, lr: float) -> torch.optim.Optimizer:
    if name == "adam":
        return torch.optim.Adam(net.parameters(), lr=lr)
    return torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9 if name == "momentum" else 0.0)


def train(
    net: nn.Sequential,
    X: Tensor,
    y: Tensor,
    name: str,
    lr: float,
    steps: int,
    sample_weight: Tensor | None = None,
) -> list[float]:
    """Full-batch training on half the (weighted) square error, summed over outputs, as everywhere
    in the package.

    Returns the mean square error over rows and outputs before every step and after the last.
    """
    y = y[:, None] if y.ndim == 1 else y
    shares = (
        torch.full((len(X), 1), 1 / len(X), dtype=X.dtype)
        if sample_weight is None
        else sample_weight[:, None]
    )
    shares = shares / shares.sum()
    rule, losses = optimizer(net, name, lr), []
    for _ in range(steps + 1):
        loss = (shares * (net(X) - y).square()).sum() / 2
        losses.append(2 * loss.item() / y.shape[1])
        rule.zero_grad()
        loss.backward()
        if len(losses) <= steps:
            rule.step()
    return losses


def end_to_end(net: nn.Sequential, inputs: int) -> tuple[Tensor, Tensor]:
    """The matrix ``(m, d)`` and the intercept ``(m,)`` that the net computes."""
    with torch.no_grad():
        intercept = net(torch.zeros(1, inputs, dtype=torch.float64))[0]
        return (net(torch.eye(inputs, dtype=torch.float64)) - intercept).T, intercept
