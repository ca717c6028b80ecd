"""The loss of many steps at once, through powers of the operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rectilinear.koopman.series import unpack

if TYPE_CHECKING:
    from rectilinear.koopman.model import Koopman


class MultiStep(nn.Module):
    """``mean |pi g^-1(A^t g(x, 0)) - x(t)|^2 / scale^2`` over random times ``t`` of packed windows.

    Every time is one application of ``A^t``, near or far: no rollout. Learned features train at the full rate, the
    modes, which the closed form has found well already, at a hundredth of it. Features of the state alone start from
    weights of zero: beside them the network would see only what they leave, which is small and rough;
    :func:`~rectilinear.koopman.solve_features` gives all their weights in the end.

    Args:
        model: what to train; :func:`~rectilinear.koopman.fit` gives its start.
        times: times drawn for each batch.
        lr: rate of the training, to which that of the modes is set.

    Example:
        >>> from rectilinear.datasets import simulate
        >>> from rectilinear.koopman import FitConfig, as_series, fit
        >>> data = simulate("pendulum", count=20, steps=40)
        >>> model, found = fit(as_series(data.states), FitConfig(rank=8, horizon=20, fourier=20, width=8))
        >>> MultiStep(model)(found.packed())["loss"].ndim
        0
    """

    def __init__(self, model: Koopman, times: int = 16, lr: float = 1e-3) -> None:
        super().__init__()
        self.model, self.times, self.lr = model, times, lr

    def prepare(self, data: Tensor) -> None:  # noqa: ARG002 - what the training loop calls before step 0
        """Clear the weights of features of the state alone, where a network is to learn in their place."""
        features = self.model.lift.features
        if features.width and not any(features.looks):
            features.weight.zero_()

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        model = self.model
        anchors, observed, times = unpack(rows, model.state_dim, model.dim)
        drawn = torch.randint(times.shape[1], (min(self.times, times.shape[1]),), device=rows.device)
        error = model(anchors, times[:, drawn])[..., : model.dim] - observed[:, drawn]
        return {"loss": (error / model.lift.scale[: model.dim]).square().mean()}

    def diagnostics(self, rows: Tensor) -> dict[str, float]:
        """The round trip of the padded states, and the spectral radius."""
        lift = self.model.lift
        x = lift.pad(rows[:, : self.model.state_dim])
        back = lift.inverse(lift(x)) - x
        radius = float((self.model.spectrum.exponents().real.max() * self.model.dt).exp())
        return {"round_trip": float(back.abs().max()), "spectral_radius": radius}

    def parameter_groups(self) -> list[dict[str, Any]]:
        features = list(self.model.lift.features.parameters())
        modes = [*self.model.spectrum.parameters(), self.model.lift.readout]
        return [{"params": features}, {"params": modes, "lr": self.lr / 100}]
