"""Supplement, broken symmetry: ``rectilinear reproduce zhang2025_biasfree asymmetry``.

Mirror images are removed from the data, a part at a time. The more are missing, the further the
two-layer ReLU network is from a linear map: the even part that it learns has more energy, and its
loss falls below that of the best linear map, which is impossible on symmetric data.

Cost: small 8 seconds, full a minute, on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from rectilinear import plots
from rectilinear.learning import Moments, Networks, simulate
from rectilinear.papers import Claim
from rectilinear.papers.zhang2025_biasfree._setup import LINEAR, RELU, name, shade, sine_task


@dataclass(frozen=True)
class Preset:
    """The size of a reproduction."""

    points: int
    inputs: int
    width: int
    std: float
    lr: float
    steps: int
    dropped: tuple[float, ...]


PRESETS = {
    "small": Preset(120, 8, 30, 1e-3, 0.02, 1500, (0.0, 0.25, 0.5, 1.0)),
    "full": Preset(300, 20, 60, 1e-4, 0.01, 4000, (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)),
}


@dataclass(frozen=True, eq=False)
class Result:
    """Losses along ``time``, the best linear map's, and the final even part, by part dropped."""

    dropped: tuple[float, ...]
    time: Tensor
    loss: Tensor
    best_linear: Tensor
    even: Tensor


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Train the same pairs of neurons on data with fewer and fewer mirrors."""
    p = PRESETS[preset]
    x, y = sine_task(p.points, p.inputs, seed)
    start = Networks.gaussian(p.inputs, p.width // 2, std=p.std, seed=seed).paired()
    losses, bests, evens = [], [], []
    for part in p.dropped:
        kept = 2 * p.points - round(part * p.points)
        run = simulate(start, x[:kept], y[:kept], 2 * p.lr, p.steps, points=201)
        data = Moments.of(x[:kept], y[:kept])
        f = run.networks(x)[0, :, 0]
        even = (f + f.roll(p.points)) / 2
        losses.append(run.loss[:, 0])
        bests.append(float(data.loss(data.optimum())))
        evens.append(float(even.square().mean() / f.square().mean()))
    best, even = torch.tensor([bests, evens], dtype=torch.float64)
    return Result(p.dropped, run.steps * p.lr, torch.stack(losses, dim=1), best, even)


def draw(result: Result, path: Path) -> None:
    """The losses over the best linear map's, and the even part."""
    figure, (curves, parts) = plots.canvas(7.0, 2.8, columns=2)
    for i, part in enumerate(result.dropped):
        curves.plot(
            result.time,
            result.loss[:, i] / result.best_linear[i],
            color=shade(1 - part),
            linewidth=1.3,
        )
    curves.axhline(1, color=LINEAR, linewidth=0.7, linestyle=(0, (4, 3)))
    curves.annotate("best linear map", (1, 1), xycoords=("axes fraction", "data"), xytext=(0, 3),
                    ha="right", textcoords="offset points", color=LINEAR, fontsize=8)  # fmt: skip
    name(
        curves,
        "loss over that of the best linear map",
        xlabel=r"time $(1+α)t/2τ$",
        ylim=(0, None),
        xlim=(0, float(result.time[-1])),
    )
    parts.plot(
        [100 * part for part in result.dropped], 100 * result.even, "o-", color=RELU, markersize=4
    )
    name(
        parts,
        "even part of the output, %",
        xlabel="mirrors dropped, %",
        ylim=(0, None),
        xlim=(0, 102),
    )
    plots.save(figure, path)


def claims(result: Result) -> list[Claim]:
    """Linear where nothing is missing, and less so with every mirror."""
    below = result.loss[-1] / result.best_linear
    return [
        Claim.at_most("even part on symmetric data", float(result.even[0]), 1e-10),
        Claim.at_least(
            "loss over the best linear map's on symmetric data", float(below[0]), 1.0 - 1e-9
        ),
        Claim.at_least(
            "growth of the even part from one part to the next, the least",
            float(result.even.diff().min()),
            0.0,
        ),
        Claim.at_most("loss over the best linear map's without mirrors", float(below[-1]), 0.9),
    ]
