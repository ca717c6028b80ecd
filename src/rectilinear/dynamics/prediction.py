"""What a prediction says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Prediction:
    """How a network will learn: what :func:`predict` returns. Tensors are of float64, on the CPU.

    ``maps`` are the linear maps that the network computes at these steps; its loss is half the mean square error,
    summed over outputs. ``final_loss`` is that of the best linear map, which no number of steps can beat.

    Attributes:
        steps: steps of gradient descent, ``(T,)``.
        loss: ``1/2 <|y - f|^2>`` at these steps, ``(T,)``.
        low: lower end of the band in which the loss is to be, ``(T,)``; the loss itself without an ``imbalance``.
        high: upper end, ``(T,)``.
        maps: effective maps at these steps, ``(T, o, d)``; with a bias, its column is the last.
        half_time: steps until the strongest mode has half its strength, None when that is later than the last step.
        plateau: steps until the loss has fallen by one percent of what that mode takes off, or None likewise.
        final_loss: loss of the best linear map.
        kind: ``"exact"`` where the theorem holds for these weights as they are, up to the size of the step;
            ``"estimated"`` where the even part that it has is neglected.
        method: how the curve was obtained.
        assumptions: what was checked and found to hold.
        step_error: relative error of times from finite steps, at most; 0 where the steps themselves were taken.
        delta: how uneven the two signs of a small unpaired start are, or None for others.
        weight_error: the relative distance from a linear network's weights that follows from ``delta``, or None.
        imbalance: how much more strength neurons of one sign have than the others, in [0, 1), on the way; None where
            no even part is neglected. The band follows from it.
    """

    steps: Tensor
    loss: Tensor
    low: Tensor
    high: Tensor
    maps: Tensor
    half_time: float | None
    plateau: float | None
    final_loss: float
    kind: Literal["exact", "estimated"]
    method: str
    assumptions: tuple[str, ...]
    step_error: float
    delta: float | None
    weight_error: float | None
    imbalance: float | None

    def to_json(self) -> dict[str, Any]:
        """Everything but the maps, as JSON values."""
        return {
            "half_time": self.half_time,
            "plateau": self.plateau,
            "loss_start": float(self.loss[0]),
            "loss_end": float(self.loss[-1]),
            "final_loss": self.final_loss,
            "kind": self.kind,
            "method": self.method,
            "assumptions": list(self.assumptions),
            "step_error": self.step_error,
            "delta": self.delta,
            "weight_error": self.weight_error,
            "imbalance": self.imbalance,
            "steps": [int(step) for step in self.steps],
            "loss": self.loss.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
        }

    def __str__(self) -> str:
        def at(value: float | None) -> str:
            return f"after the last step, {int(self.steps[-1])}" if value is None else f"step {value:.0f}"

        first, last = float(self.loss[0]), float(self.loss[-1])
        lines = [
            f"loss {first:.4g} -> {last:.4g} in {int(self.steps[-1])} steps (best linear map {self.final_loss:.4g})",
            f"plateau ends {at(self.plateau)}, half time {at(self.half_time)}",
            f"{self.kind}, by {self.method}",
        ]
        if self.imbalance is not None:
            ends = f"{float(self.low[-1]):.4g} to {float(self.high[-1]):.4g}"
            lines.append(f"at the end {ends}: the two signs of neurons differ by {100 * self.imbalance:.2g} %")
        if self.weight_error is not None:
            lines.append(f"weights {100 * self.weight_error:.2g} % from a linear network's (delta {self.delta:.3g})")
        return "\n".join([*lines, *(f"  holds: {assumption}" for assumption in self.assumptions)])
