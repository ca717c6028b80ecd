"""One step against a hundred: ``rectilinear reproduce berman2025_linearizer one_step``.

The paper reports 32.4 dB (MNIST) and 32.9 dB (CelebA) between samples drawn in one step and in a
hundred. Both are the same product of matrices, so they should agree up to rounding, and here they
do. A Runge-Kutta matrix whose stages are averaged instead of nested agrees less; it is computed
here too.

Cost: small 10 seconds, full about 10 minutes, on two cores.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from rectilinear import flow as flows
from rectilinear import plots
from rectilinear.flow import LinearFlow
from rectilinear.metrics import mean_psnr
from rectilinear.operators import svd, to_dense
from rectilinear.papers import Claim
from rectilinear.papers.berman2025_linearizer._model import RANK, STEPS, published, unfinished
from rectilinear.random import generator

PAPER_PSNR = 32.4  # dB, MNIST
METHODS = ("euler", "midpoint", "rk4", "magnus4")
GRID_IMAGES = 10


@dataclass(frozen=True, eq=False)
class Result:
    """PSNR in float32 and differences in float64 by integrator; spectra; images by row."""

    psnr: dict[str, float]
    difference: dict[str, float]
    psnr_averaged: float
    singular_values: Tensor
    singular_values_without_last_step: Tensor
    images: dict[str, Tensor]


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Train the paper's model; sample it in one step and in a hundred with every integrator."""
    return measure(published(preset, seed, data_dir).after, seed)


@torch.no_grad()
def measure(flow: LinearFlow, seed: int = 0) -> Result:
    """The figure of a trained flow."""
    noise = torch.randn(200, *flow.g_noise.shape, generator=generator(seed))
    double = deepcopy(flow).double()
    many = {method: flows.sample(flow, noise, STEPS, method) for method in METHODS}
    one = {method: flows.collapse(flow, STEPS, method)(noise) for method in METHODS}
    averaged = flow.data_space.decode(flow.noise_space.encode(noise) @ averaged_stages(flow).mT)
    return Result(
        psnr={method: unclipped_psnr(one[method], many[method]) for method in METHODS},
        difference={
            method: flows.collapse_error(double, noise.double(), STEPS, method)
            for method in METHODS
        },
        psnr_averaged=unclipped_psnr(averaged, many["rk4"]),
        singular_values=svd(flows.collapse(flow, STEPS, "euler").operator).s,
        singular_values_without_last_step=svd(unfinished(flow).operator).s,
        images={
            "100 steps": many["rk4"][:GRID_IMAGES],
            "one step": one["rk4"][:GRID_IMAGES],
            "one step,\nstages averaged": averaged[:GRID_IMAGES],
        },
    )


def averaged_stages(flow: LinearFlow) -> Tensor:
    """The product of ``I + h/6 (W1 + 2 W2 + 2 W3 + W4)``, stages not nested: what not to do."""
    h = 1 / STEPS
    n = flow.velocity.dim
    product = torch.eye(n)
    for k in range(STEPS - 1):
        first, middle, last = (
            to_dense(flow.velocity.velocity((k + c) * h)) for c in (0.0, 0.5, 1.0)
        )
        product = product + h / 6 * (first + 4 * middle + last) @ product
    return to_dense(flow.velocity.endpoint(1 - h)) @ product


def unclipped_psnr(x: Tensor, y: Tensor) -> float:
    """:func:`~rectilinear.metrics.mean_psnr` of unclipped values, at most 200 dB an image."""
    return mean_psnr(x, y, most=200.0)


def draw(result: Result, path: Path) -> None:
    """Three rows of samples: a hundred steps, one step, and one step with averaged stages."""
    plots.save(
        plots.strips({name: row.float().numpy() for name, row in result.images.items()}), path
    )


def claims(result: Result) -> list[Claim]:
    """The paper's sentence, and what follows from the mathematics."""
    others = result.singular_values_without_last_step[RANK:]
    return [
        *(
            Claim.at_least(f"one step against 100, {m}, dB", x, PAPER_PSNR)
            for m, x in result.psnr.items()
        ),
        *(
            Claim.at_most(f"relative difference in float64, {m}", x, 1e-11)
            for m, x in result.difference.items()
        ),
        Claim.at_least(
            "lost by averaging the stages of Runge-Kutta, dB",
            result.psnr["rk4"] - result.psnr_averaged,
            40.0,
        ),
        Claim.close(
            "rank of the operator",
            float((result.singular_values > 1e-5 * result.singular_values[0]).sum()),
            RANK,
            0.0,
        ),
        Claim.close(
            "100 x its other singular values when the last step is left out",
            float(others.mean()) * STEPS,
            1.0,
            0.05,
        ),
    ]
