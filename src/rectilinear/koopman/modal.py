"""The modes of a Koopman model: what oscillates, how fast, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from rectilinear.koopman.model import Koopman


@dataclass(frozen=True, eq=False)
class Modes:
    """The modes of a model, strongest first: one of each complex pair, then as many fields as modes.

    Attributes:
        eigenvalues: of one step, complex ``(m,)``.
        exponents: their logarithms per unit of time, complex ``(m,)``.
        period: time of one turn, infinite for real modes, ``(m,)``.
        time_scale: time in which a mode shrinks to ``1/e``, infinite on the unit circle, ``(m,)``.
        amplitude: root mean square of each mode in the data it was fitted on, in their standard deviations, ``(m,)``.
        shapes: what each mode looks like in the observations, complex ``(m, dim)``.
    """

    eigenvalues: Tensor
    exponents: Tensor
    period: Tensor
    time_scale: Tensor
    amplitude: Tensor
    shapes: Tensor

    def table(self, count: int = 8) -> list[dict[str, float | None]]:
        """The leading modes as rows of numbers; what is infinite is None."""
        columns = {
            "radius": self.eigenvalues.abs(),
            "angle": self.eigenvalues.angle(),
            "period": self.period,
            "time_scale": self.time_scale,
            "amplitude": self.amplitude,
        }
        rows = range(min(count, len(self.eigenvalues)))
        return [{k: (v if abs(v := float(c[i])) < inf else None) for k, c in columns.items()} for i in rows]


@torch.no_grad()
def modes(model: Koopman, x: Tensor) -> Modes:
    """The modes of ``model``, with their amplitudes on the states ``x`` ``(b, delays dim)``.

    The eigenvalues of the remainder, which only carries what the features miss, are left out.

    Example:
        >>> from rectilinear.datasets import simulate
        >>> from rectilinear.koopman import FitConfig, as_series, fit
        >>> data = simulate("linear", count=20, steps=60)
        >>> model, found = fit(as_series(data.states, data.times), FitConfig(rank=8, horizon=40, fourier=0))
        >>> sorted(modes(model, found.anchors).period.numpy().round(3))[:2]
        [np.float64(2.732), np.float64(6.283)]
    """
    lift, h = model.lift, len(model.spectrum.frequency)
    exponents = model.spectrum.exponents()[: lift.pads - h]
    readout = lift.readout[:, : model.dim]
    pairs = torch.complex(readout[: 2 * h : 2], -readout[1 : 2 * h : 2])
    shapes = torch.cat([pairs, readout[2 * h :].to(pairs.dtype)])
    y = model.encode(x)[:, : lift.pads]
    size = torch.cat([y[:, : 2 * h].unflatten(1, (h, 2)).square().sum(2) / 2, y[:, 2 * h :].square()], dim=1)
    amplitude = size.mean(0).sqrt() * torch.linalg.vector_norm(shapes, dim=1)
    order = amplitude.argsort(descending=True)
    exponents, amplitude, shapes = exponents[order], amplitude[order], shapes[order]
    period = 2 * torch.pi / exponents.imag.abs()
    time_scale = 1 / (-exponents.real).clamp(min=0)
    return Modes((exponents * model.dt).exp(), exponents, period, time_scale, amplitude, shapes)
