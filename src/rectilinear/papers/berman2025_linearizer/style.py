"""Style transfer: ``rectilinear reproduce berman2025_linearizer style``.

The paper shows four styles of one photograph. The operator of each is a depth-wise 4 x 4
convolution that a network computes from the index of the style, and styles are interpolated by that
index; no numbers are reported. Here the four painted styles that come with the package are shown on
whole photographs that no training has seen, 256 pixels high, each at strengths from 0 (the photo)
to 1.2: a straight line of operators. Beside it a small model is trained on filters of a part of
these photographs and measured on the rest.

Cost: small 40 seconds, full 6 minutes, on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Literal

import torch
from torch import Tensor

from rectilinear import plots, recipes
from rectilinear.papers import Claim
from rectilinear.random import seed_all
from rectilinear.style import (
    StyleCollection,
    StyleObjective,
    StyleTransfer,
    filtered,
    fit_style,
    new_model,
    with_ways_back,
)
from rectilinear.style.measure import above_flat, score, way_back_scores
from rectilinear.style.photos import paint, read_photos
from rectilinear.style.style_map import LEVELS
from rectilinear.training import TrainConfig, train

ADDED = "rose"
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.2)
PAINTED = ("engraving", "night", "charcoal", "woodcut")
HEIGHT = 256


@dataclass(frozen=True)
class Preset:
    """The size of a reproduction."""

    side: int
    styles: tuple[str, ...]
    width: int
    photos: int
    training: TrainConfig


PRESETS = {
    "small": Preset(
        96,
        ("negative", "dusk"),
        24,
        1,
        TrainConfig(
            steps=120, batch_size=8, lr=3e-3, warmup=10, schedule="cosine", ema=None, device="cpu"
        ),
    ),
    "full": Preset(
        224,
        ("soft", "sepia", "negative", "dusk", "ink"),
        48,
        2,
        TrainConfig(
            steps=1_000_000,
            max_seconds=240.0,
            clock="processor",
            batch_size=8,
            lr=2e-3,
            warmup=20,
            schedule="cosine",
            ema=None,
            device="cpu",
        ),
    ),
}


@dataclass(frozen=True, eq=False)
class Result:
    """Scores in dB, costs relative to training and to the network, and rows of images.

    Images are ``(n, c, h, w)``; ``painted`` are ways back of the packaged styles.
    """

    gains: dict[str, float]
    added: float
    added_seconds: float
    share: float
    ways: dict[str, float]
    painted: dict[str, float]
    straight: float
    images: dict[str, Tensor]


def compute(
    preset: Literal["small", "full"],
    seed: int = 0,
    data_dir: Path | None = None,
) -> Result:
    """Train styles together, add another, measure on held-out parts; draw the packaged styles."""
    size = PRESETS[preset]
    photos, test = (read_photos("photos", split, size.side) for split in ("train", "test"))
    seed_all(seed)
    model = new_model(size.styles, couplings=4, width=size.width, basis="pixels")
    start = process_time()
    lessons = paint(photos, size.styles, filtered, progress=False)
    with TemporaryDirectory() as folder:
        objective = StyleObjective(model, lessons, tile=32)
        train(objective, lessons.rows(), size.training, folder, progress=False)
    trained = process_time()
    model = model.cpu().requires_grad_(requires_grad=False)
    later = paint(photos, [ADDED], filtered, progress=False).paintings[ADDED]
    model = model.added(ADDED, fit_style(model, photos, later))
    added_seconds = (process_time() - trained) / (trained - start)
    return measure(with_ways_back(model, photos), test, added_seconds, size.photos)


@torch.no_grad()
def measure(model: StyleTransfer, test: list[Tensor], added_seconds: float, count: int) -> Result:
    """The scores of a trained model, and the figure of the packaged styles on whole photographs."""
    held = paint(test, model.styles, filtered, progress=False)
    gains = {
        name: above_flat(model.style(name), [*zip(held.photos, painted, strict=True)])
        for name, painted in held.paintings.items()
    }
    styles = recipes.load("styles")
    assert isinstance(styles, StyleCollection)
    part = styles.member(*PAINTED)
    whole = [
        torch.cat([a, b], 2)[:, :, : HEIGHT * 3 // 2].float() / LEVELS
        for a, b in zip(
            read_photos("photos", "train", HEIGHT),
            read_photos("photos", "test", HEIGHT),
            strict=True,
        )
    ][::-1][:count]
    x = torch.stack(whole)
    images = {
        f"{name} {i}": torch.cat([part.path("identity", name, t)(photo[None]) for t in STRENGTHS])
        for i, photo in enumerate(x, start=1)
        for name in PAINTED
    }
    start, end = (part.g(part(x[:1], name)) for name in PAINTED[:2])
    t = 0.3
    line = part.g.inverse(torch.lerp(start, end, t))[0]
    return Result(
        gains={name: gain for name, gain in gains.items() if name != ADDED},
        added=gains[ADDED],
        added_seconds=added_seconds,
        share=max(model.shares.values()),
        ways=way_back_scores(model, held.photos),
        painted=way_back_scores(_only(part), [photo[:, :192, :256] for photo in x]),
        straight=score(part.path(*PAINTED[:2], t)(x[0]), line),
        images=images,
    )


def _only(part: StyleTransfer) -> StyleTransfer:
    """The painted styles."""
    for name in part.styles:
        if name not in PAINTED:
            part = part.without(name)
    return part


def draw(result: Result, path: Path) -> None:
    """Photographs in each packaged style, from strength 0 on the left to 1.2 on the right."""
    plots.save(
        plots.strips(
            {name: row.clamp(0, 1).float().numpy() for name, row in result.images.items()}
        ),
        path,
    )


def claims(result: Result) -> list[Claim]:
    """Consequences of the algebra, and measurements of the models on held-out images."""
    return [
        Claim.at_least(
            "packaged styles at strength 0, to the photo, dB", result.painted["strength 0"], 120.0
        ),
        Claim.at_least("straight path to a straight line of latents, dB", result.straight, 90.0),
        Claim.at_least(
            "packaged styles, exchange from own 8-bit images, dB", result.painted["exchange"], 30.0
        ),
        Claim.at_least(
            "the same above the exact inverse, dB",
            result.painted["exchange"] - result.painted["exchange, exact inverse"],
            5.0,
        ),
        Claim.at_least(
            "packaged styles, removal from own 8-bit images, dB", result.painted["removal"], 20.0
        ),
        Claim.at_least(
            "trained styles above the best flat colour, mean, dB",
            sum(result.gains.values()) / len(result.gains),
            5.0,
        ),
        Claim.at_least(
            "the style in closed form above the best flat colour, dB", result.added, 2.0
        ),
        Claim.at_most("parameters of a style, relative to the network", result.share, 0.03),
    ]
