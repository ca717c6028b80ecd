"""The exponential moving average of a module's weights, and evaluation with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """The exponential moving average ``m <- d m + (1 - d) w`` of a module's trainable parameters.

    ``d = min(decay, (1 + step) / (10 + step))``, so that the initial weights are forgotten quickly.
    With ``decay=None`` there is no average, and the result is the module itself.

    Example:
        >>> module = nn.Linear(1, 1, bias=False); average = EMA(module, decay=0.9)
        >>> _ = nn.init.constant_(module.weight, 1.0)
        >>> for step in range(1000): average.update(step)
        >>> with evaluation(module, average): round(module.weight.item(), 4)
        1.0
    """

    def __init__(self, module: nn.Module, decay: float | None) -> None:
        self.decay = decay
        named = (
            {name: p for name, p in module.named_parameters() if p.requires_grad}
            if decay is not None
            else {}
        )
        self.names: list[str] = list(named)
        self.weights: list[Tensor] = list(named.values())
        self.averages = [p.detach().clone() for p in self.weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average with the weights after step number ``step``."""
        if self.decay is not None:
            torch._foreach_lerp_(
                self.averages, self.weights, 1 - min(self.decay, (1 + step) / (10 + step))
            )

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and averages."""
        for weight, average in zip(self.weights, self.averages, strict=True):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.averages, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, average in zip(self.names, self.averages, strict=True):
            average.copy_(state[name])


@contextmanager
def evaluation(module: nn.Module, ema: EMA) -> Iterator[None]:
    """The module as it will be used, inside the block: averaged weights, eval, no gradients."""
    training = module.training
    ema.swap()
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)
        ema.swap()
