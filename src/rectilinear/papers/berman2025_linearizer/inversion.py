"""Exact inversion: ``rectilinear reproduce berman2025_linearizer inversion``.

The paper reports 31.6 dB (MNIST) and 33.4 dB (CelebA) between images and their reconstructions from
noise. An untrained network scores higher, so this number does not show training. The distribution
of the recovered noise does: its Kolmogorov-Smirnov distance from N(0, I) is large with the
published objective, and as small as that of true noise with the likelihood at full rank.

Cost: small 20 seconds, full about 15 minutes, on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from rectilinear import flow as flows
from rectilinear import plots
from rectilinear.flow.inversion import Inversion
from rectilinear.linearizer import Linearizer
from rectilinear.metrics import Normality
from rectilinear.papers import Claim
from rectilinear.papers.berman2025_linearizer._model import STEPS, published, solved, unfinished
from rectilinear.papers.berman2025_linearizer.one_step import GRID_IMAGES, unclipped_psnr
from rectilinear.random import generator

PAPER_PSNR = 31.6  # dB, MNIST
NOISE = (
    0.1  # Kolmogorov-Smirnov distance, median over coordinates: twice what 297 draws of noise have
)
SIGMA = 0.15  # standard deviation of the noise added to the data of the full-rank model


@dataclass(frozen=True, eq=False)
class Result:
    """By model: PSNR of the reconstruction, test of the noise, and images ``(n, c, h, w)``."""

    psnr: dict[str, float]
    normality: dict[str, Normality]
    images: dict[str, Tensor]


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Invert held-out images by the published model, trained or not, and by one of full rank."""
    theirs, ours = published(preset, seed, data_dir), solved(preset, seed, data_dir, SIGMA)
    test = theirs.test[:1000]
    noisy = test + SIGMA * torch.randn(test.shape, generator=generator(seed))
    cases: dict[str, tuple[Linearizer, Tensor]] = {
        "untrained": (unfinished(theirs.before), test),
        "published": (unfinished(theirs.after), test),
        "full rank": (flows.collapse(ours.after, STEPS), noisy),
    }
    found = {name: flows.inversion(f, x) for name, (f, x) in cases.items()}
    images = {
        f"{name}: {part}": row
        for name, (_, x) in cases.items()
        for part, row in zip(("image", "noise", "again"), _rows(x, found[name]), strict=True)
    }
    return Result(
        psnr={
            name: unclipped_psnr(found[name].reconstruction, x) for name, (_, x) in cases.items()
        },
        normality={name: result.normality for name, result in found.items()},
        images=images,
    )


def draw(result: Result, path: Path) -> None:
    """Three rows a model: images, their noise at one scale, and the reconstructions."""
    plots.save(
        plots.strips({name: row.float().numpy() for name, row in result.images.items()}), path
    )


def claims(result: Result) -> list[Claim]:
    """The paper's number for each model, and what tells them apart."""
    return [
        *(
            Claim.at_least(f"round trip, {name}, dB", x, PAPER_PSNR)
            for name, x in result.psnr.items()
        ),
        *(
            Claim.at_least(
                f"Kolmogorov-Smirnov distance of the noise from noise, {name}",
                result.normality[name].ks,
                NOISE,
            )
            for name in ("untrained", "published")
        ),
        Claim.at_most(
            "Kolmogorov-Smirnov distance of the noise from noise, full rank",
            result.normality["full rank"].ks,
            NOISE,
        ),
        Claim.close(
            "standard deviation of the noise, full rank",
            result.normality["full rank"].std,
            1.0,
            0.1,
        ),
        Claim.close(
            "its mean length over root n, full rank",
            result.normality["full rank"].mean_norm,
            1.0,
            0.1,
        ),
    ]


def _rows(x: Tensor, found: Inversion) -> list[Tensor]:
    noise = found.noise[:GRID_IMAGES].reshape(x[:GRID_IMAGES].shape) / 5 + 0.5
    return [x[:GRID_IMAGES], noise, found.reconstruction[:GRID_IMAGES]]
