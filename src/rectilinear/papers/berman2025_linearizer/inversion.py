"""Exact inversion: ``rectilinear reproduce berman2025_linearizer inversion``.

The paper reports 31.6 dB (MNIST) and 33.4 dB (CelebA) between images and what comes back from their noise. That number
says nothing by itself: an untrained network scores higher. The law of the recovered noise tells the models apart: it is
far from noise under the published one, whose operator shrinks all but 8 directions by a hundred, and near it under one
of full rank.

Cost: small 20 seconds, full about an hour, on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from rectilinear import flow as flows
from rectilinear import plots
from rectilinear._seed import generator
from rectilinear.config import atomic_write
from rectilinear.papers.berman2025_linearizer._model import STEPS, published, solved, unfinished
from rectilinear.papers.berman2025_linearizer.one_step import SHOWN, decibels
from rectilinear.papers.claim import Claim

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from rectilinear.linearizer import Linearizer
    from rectilinear.metrics import Normality

PAPER_PSNR = 31.6  # dB, MNIST
SIGMA = 0.15  # standard deviation of the noise added to the data of the full-rank model


@dataclass(frozen=True, eq=False)
class Result:
    """By model: decibels of the way back, the law of the noise, and images ``(rows, n, c, h, w)``."""

    psnr: dict[str, float]
    law: dict[str, Normality]
    images: Tensor


def compute(preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None) -> Result:
    """Invert held-out images with the published model, trained and untrained, and with one of full rank."""
    theirs, ours = published(preset, seed, data_dir), solved(preset, seed, data_dir, SIGMA)
    test = theirs.test[:1000]
    noisy = test + SIGMA * torch.randn(test.shape, generator=generator(seed))
    cases: dict[str, tuple[Linearizer, Tensor]] = {
        "untrained": (unfinished(theirs.before), test),
        "published": (unfinished(theirs.after), test),
        "full rank": (flows.collapse(ours.after, STEPS), noisy),
    }
    found = {name: flows.inversion(f, x) for name, (f, x) in cases.items()}
    shown = [row for name, (_, x) in cases.items() for row in _rows(x, found[name])]
    return Result(
        psnr={name: decibels(found[name].reconstruction, x) for name, (_, x) in cases.items()},
        law={name: result.law for name, result in found.items()},
        images=torch.stack(shown),
    )


def draw(result: Result, path: Path) -> None:
    """Three rows a model: images, their noise at the same scale for all, and the images that come back."""
    images = result.images.flatten(0, 1).float().numpy()
    with atomic_write(path) as tmp:
        tmp.write_bytes(plots.png(plots.grid(images, SHOWN), scale=max(1, 64 // images.shape[-1])))


def claims(result: Result) -> list[Claim]:
    """The paper's number for each model, and what tells them apart."""
    return [
        *(Claim.at_least(f"there and back, {name}, dB", x, PAPER_PSNR) for name, x in result.psnr.items()),
        Claim.at_least("standard deviation of the noise, published", result.law["published"].std, 2.0),
        Claim.close("standard deviation of the noise, full rank", result.law["full rank"].std, 1.0, 0.1),
        Claim.close("its mean length over root n", result.law["full rank"].mean_norm, 1.0, 0.1),
    ]


def _rows(x: Tensor, found: flows.Inversion) -> list[Tensor]:
    noise = found.noise[:SHOWN].reshape(x[:SHOWN].shape) / 5 + 0.5
    return [x[:SHOWN], noise, found.reconstruction[:SHOWN]]
