"""The optimiser of training runs, AdamW or orthogonal steps, and the moving average of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
ITERATIONS = 5


class Descent(torch.optim.AdamW):
    """AdamW; parameters of groups with ``orthogonal=True`` take steps of equal singular values.

    Their gradients are averaged with a decay of 0.95, and the average, as a matrix ``(n, m)`` of
    outputs and inputs, is made orthogonal: ``lr max(1, n / m)^(1/2)`` is the spectral norm of a
    step. For the weights of linear and convolutional layers between others, in short runs.

    Reference: K. Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024
    (https://kellerjordan.github.io/posts/muon).

    Example:
        >>> w = torch.nn.Parameter(torch.zeros(2, 3))
        >>> optimizer = Descent([{"params": [w], "orthogonal": True}], lr=0.1, weight_decay=0.0)
        >>> w.grad = torch.tensor([[5.0, 0.0, 0.0], [0.0, 0.2, 0.0]])
        >>> optimizer.step()
        >>> bool((torch.linalg.svdvals(w.detach()) - 0.1).abs().max() < 0.04)
        True
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all groups.

        Raises:
            ValueError: if a parameter of an orthogonal group has fewer than two axes.
        """
        for group in self.param_groups:
            if group.get("orthogonal"):
                for p in group["params"]:
                    if p.grad is not None:
                        self._turn(p, group)
                        p.grad = None  # so that AdamW leaves it
        return super().step(closure)

    def _turn(self, p: Tensor, group: dict[str, Any]) -> None:
        if p.ndim < 2:
            raise ValueError(f"a parameter of shape {tuple(p.shape)} in an orthogonal group")
        assert p.grad is not None
        state = self.state[p]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["average"] = torch.zeros_like(p)
        state["step"] += 1
        average = state["average"].lerp_(p.grad, 1 - MOMENTUM)
        turned = orthogonalized(p.grad.lerp(average, MOMENTUM).flatten(1))
        n, m = turned.shape
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(turned.view_as(p), alpha=-group["lr"] * sqrt(max(1, n / m)))


def orthogonalized(x: Tensor) -> Tensor:
    """The matrix with its singular values moved to about 1, ``(n, m)``, by five iterations.

    ``a x + b (x x^T) x + c (x x^T)^2 x``, with coefficients that raise small values fast: they end
    between 0.7 and 1.2, for those above a thousandth of the Frobenius norm.

    Example:
        >>> values = torch.linalg.svdvals(orthogonalized(torch.diag(torch.tensor([9.0, 1.0, 0.1]))))
        >>> bool(values.max() < 1.3), bool(values.min() > 0.6)
        (True, True)
    """
    x = x / x.norm().clamp_min(torch.finfo(x.dtype).tiny)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.mT
    for _ in range(ITERATIONS):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x if wide else x.mT


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
