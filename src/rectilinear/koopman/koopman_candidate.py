"""The full Koopman model as a candidate of a forecaster."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from rectilinear.errors import ForecastWarning
from rectilinear.koopman.autoregression import Piece, Plan
from rectilinear.koopman.closed_form import fit
from rectilinear.koopman.fit_config import FitConfig
from rectilinear.koopman.model import Koopman
from rectilinear.koopman.series import Series


class FullMap:
    """A :class:`~rectilinear.koopman.Koopman` with the interface of a stride map."""

    def __init__(self, plan: Plan, model: Koopman) -> None:
        self.plan, self.model = plan, model

    @torch.no_grad()
    def simulate(self, past: Tensor, steps: int, u: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """``steps`` observations after ``past`` ``(b, lags, d)``, newest row first."""
        times = self.model.dt * torch.arange(1, steps + 1, dtype=past.dtype)
        return self.model.forecast(past[:, : self.plan.lags].flatten(1), times)


def fit_full(plan: Plan, pieces: Sequence[Piece], seed: int = 0) -> FullMap:
    """The full model of ``plan.lags`` observations over a horizon of ``plan.stride`` steps."""
    states = tuple(p.x for p in pieces)
    times = tuple(torch.arange(len(x), dtype=torch.float64) for x in states)
    series = Series(states, times, 1.0, regular=True)
    config = FitConfig(horizon=plan.stride, delays=plan.lags, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ForecastWarning)
        model, _ = fit(series, config)
    model.requires_grad_(requires_grad=False)
    return FullMap(plan, model)
