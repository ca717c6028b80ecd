"""Style transfer: ``rectilinear reproduce berman2025_linearizer style``.

The paper shows four styles of one photograph. The operator of each is a depth-wise 4 x 4
convolution that a network computes from the index of the style, and styles are interpolated by that
index; no numbers are reported. Here several photographs are styled and others held out, a style is
an operator, and styles are interpolated along a straight line of operators. The result is compared
with the teacher's own blend of the two styles. The published interpolation is measured beside it:
half-way from the first style to the third it is at the second.

Cost: small 40 seconds, full 10 minutes, on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Literal

import torch
from torch import Tensor

from rectilinear import datasets, plots
from rectilinear.papers import Claim
from rectilinear.random import seed_all
from rectilinear.style import (
    StyleObjective,
    StyleTransfer,
    filtered,
    fit_style,
    lessons,
    new_model,
    path_scores,
)
from rectilinear.style.measure import PathScores, exchange_scores, path_error, style_scores
from rectilinear.training import TrainConfig, train

ADDED = "rose"
SHOWN = 11


@dataclass(frozen=True)
class Preset:
    """The size of a reproduction."""

    size: int
    styles: tuple[str, ...]
    width: int
    training: TrainConfig


PRESETS = {
    "small": Preset(
        16,
        ("soft", "negative", "dusk"),
        32,
        TrainConfig(
            steps=200, batch_size=24, lr=3e-3, warmup=20, schedule="cosine", ema=0.97, device="cpu"
        ),
    ),
    "full": Preset(
        32,
        ("soft", "sepia", "negative", "dusk", "ink"),
        48,
        TrainConfig(
            steps=20_000,
            max_seconds=540.0,
            batch_size=16,
            lr=3e-3,
            warmup=50,
            schedule="cosine",
            ema=0.99,
        ),
    ),
}


@dataclass(frozen=True, eq=False)
class Result:
    """Scores in dB, errors, costs relative to training and to the networks, rows of images.

    Images are ``(n, c, h, w)``.
    """

    train: dict[str, float]
    held_out: dict[str, float]
    paths: PathScores
    middle_by_number: float
    path_error: float
    transfer: dict[str, Tensor]
    added: float
    added_seconds: float
    share: float
    images: dict[str, Tensor]


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Train the styles together, add another, and measure on held-out photographs."""
    size = PRESETS[preset]
    images = datasets.load("photos", "train", data_dir, size.size).images
    test = datasets.load("photos", "test", data_dir, size.size).images
    seed_all(seed)
    model = new_model((3, size.size, size.size), size.styles, blocks=8, width=size.width)
    data, weights = lessons(images, size.styles, filtered, blends=3)
    start = process_time()
    with TemporaryDirectory() as folder:
        train(
            StyleObjective(model, weights, latent=0.02), data, size.training, folder, progress=False
        )
    trained = process_time()
    some = images[::6]
    model = model.cpu().requires_grad_(requires_grad=False)
    more = model.added(ADDED, fit_style(model, some, filtered(some, {ADDED: 1.0}), size=5))
    seconds = (process_time() - trained) / (trained - start)
    return measure(
        model, more, images[:: len(images) // 64][:64], test[:: len(test) // 64][:64], seconds
    )


@torch.no_grad()
def measure(
    model: StyleTransfer, more: StyleTransfer, images: Tensor, test: Tensor, added_seconds: float
) -> Result:
    """The figure of a trained model, and of the same with one style more."""
    first, middle, last = model.names[0], model.names[1], model.names[-1]
    x = test[len(test) // 2 :][:1]
    times = torch.linspace(0, 1, SHOWN).tolist()
    by_number = style_scores(model, test, lambda y, _: filtered(y, {first: 0.5, last: 0.5}))[middle]
    return Result(
        train=style_scores(model, images, filtered),
        held_out=style_scores(model, test, filtered),
        paths=path_scores(model, test, filtered),
        middle_by_number=by_number,
        path_error=path_error(model, test[:16]),
        transfer=exchange_scores(model, test, filtered),
        added=style_scores(more, test, filtered)[ADDED],
        added_seconds=added_seconds,
        share=max(more.shares.values()),
        images={
            "original": test[:: len(test) // SHOWN][:SHOWN],
            **{f"{name}": model(test[:: len(test) // SHOWN][:SHOWN], name) for name in model.names},
            ADDED: more(test[:: len(test) // SHOWN][:SHOWN], ADDED),
            f"{first} to {last}": torch.cat([model.path(first, last, t)(x) for t in times]),
            "teacher's": torch.cat([filtered(x, {first: 1 - t, last: t}) for t in times]),
        },
    )


def draw(result: Result, path: Path) -> None:
    """Held-out photographs in each style, and a path between two beside the teacher's own."""
    plots.save(
        plots.strips(
            {name: row.clamp(0, 1).float().numpy() for name, row in result.images.items()}
        ),
        path,
    )


def claims(result: Result) -> list[Claim]:
    """Consequences of linearity, and measurements of the model."""
    (middle,) = (
        float(row[4])
        for ends, row in zip(result.paths.pairs, result.paths.path, strict=True)
        if set(ends) == {*(list(result.held_out)[:1]), *(list(result.held_out)[-1:])}
    )
    loss = [result.train[name] - result.held_out[name] for name in result.train]
    exact = result.transfer["model"][~result.transfer["model"].isnan()]
    return [
        Claim.at_most(
            "training above held-out images, mean over styles, dB", sum(loss) / len(loss), 1.0
        ),
        Claim.at_most(
            "path from its straight line in the induced space, relative", result.path_error, 1e-5
        ),
        Claim.at_least(
            "path above blended pixels at the worst tenth, dB",
            float(result.paths.own_gain.min()),
            0.0,
        ),
        Claim.at_least(
            "halfway, above the walk over the style's number, dB",
            middle - result.middle_by_number,
            5.0,
        ),
        Claim.at_least(
            "one style turned into another, the worst pair, dB", float(exact.min()), 40.0
        ),
        Claim.at_most("seconds to add a style, relative to training", result.added_seconds, 0.02),
        Claim.at_most("parameters of a style, relative to the networks", result.share, 1e-3),
    ]
