"""Report on projectors: restoration of digits, anomaly scores, and samples of the range."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rectilinear import datasets, metrics, plots, training
from rectilinear.plots.page import (
    Html,
    Section,
    beside,
    captioned,
    chart,
    embedded_image,
    number,
    rows,
    table,
)
from rectilinear.projector import (
    CORRUPTIONS,
    DensityObjective,
    Projector,
    ProjectorObjective,
    RandomCorruption,
    corrupt,
    from_pca,
    restoration,
    restore,
    spline,
)
from rectilinear.projector.restoration_table import Restoration
from rectilinear.random import generator, seed_all
from rectilinear.training import TrainConfig

RANK = 16
NOISE = 0.05  # of the latents, see Projector.fitted
STRIP_IMAGES = 10
CORRUPTION_OF_STRIP = {"noise": 0.25, "missing": 0.5, "occlusion": 0.375, "blur": 0.06}

USUAL = (0.01, 0.99)
"""The usual range of a score holds this middle part of those of held-out images."""


def score_rows(scores: dict[str, Tensor], usual: dict[str, Tensor]) -> list[dict[str, Any]]:
    """A row for each anomaly score: its mean, the usual range, and the number of images above it.

    ``usual`` are the scores of held-out images of the training data, whose quantiles :data:`USUAL`
    are the range.

    Example:
        >>> rows = score_rows({"residual": torch.tensor([1.0, 5.0])}, {"residual": torch.ones(9)})
        >>> rows[0]["mean"], rows[0]["usual_low"], rows[0]["usual_high"], rows[0]["above"]
        (3.0, 1.0, 1.0, 1)
    """
    rows = []
    for name, found in scores.items():
        low, high = np.quantile(usual[name].numpy(), USUAL).tolist()
        mean, above = float(found.mean()), int((found > high).sum())
        rows.append(
            {"score": name, "mean": mean, "usual_low": low, "usual_high": high, "above": above}
        )
    return rows


def projector_sections(seed: int = 0) -> tuple[list[Section], dict[str, float]]:
    """The sections of the report and its numbers, of a projector trained on digits for seconds."""
    seed_all(seed)
    train, test = (datasets.load("digits", split).images for split in ("train", "test"))
    linear, f = _trained(train, seed)
    twice = _idempotence(f, test, seed)
    table_rows = restoration({"projector": f, "PCA": linear}, test, steps=20, seed=seed)
    gains = [row.psnr["projector"] - row.psnr["PCA"] for row in table_rows]
    letters = datasets.letters(8).images
    anomalous = {
        "letters": letters[torch.randperm(len(letters), generator=generator(seed))],
        "noise": torch.rand(test.shape, generator=generator(seed)),
        "rotated digits": test.rot90(dims=(2, 3)),
    }
    scores = {name: f.scores(x) for name, x in {"digits": test, **anomalous}.items()}
    auroc = metrics.roc(scores["digits"]["likelihood"], scores["letters"]["likelihood"]).area
    found = {
        "projector_idempotence": max(twice.values()),
        "projector_psnr_gain": sum(gains) / len(gains),
        "projector_auroc": auroc,
    }
    parts = [
        _restored(f, linear, test, seed),
        _psnr(table_rows, gains),
        _twice(twice),
        _anomalies(scores, anomalous, found),
        _samples(f, linear, train, test, seed),
    ]
    return parts, found


def _trained(train: Tensor, seed: int) -> tuple[Projector, Projector]:
    """The projector of PCA and the trained one, each with its density."""
    f, errors = from_pca(train, RANK, blocks=6, width=96)
    # the coupling of this one stays at the identity
    linear = from_pca(train, RANK, blocks=1, width=2)[0].fitted(train, NOISE)
    corruption = RandomCorruption(tuple(CORRUPTION_OF_STRIP))
    objective = ProjectorObjective(f, errors, corruption=corruption)
    _train(
        objective,
        train,
        TrainConfig(steps=1200, max_seconds=12.0, batch_size=128, lr=3e-3, seed=seed),
    )
    with torch.no_grad():
        coordinates = f.coordinates(train)
    noise = NOISE * float(coordinates.std(0).max())
    density = spline(coordinates, 4, 64, noise, seed)
    _train(
        DensityObjective(density, noise),
        coordinates,
        TrainConfig(steps=400, max_seconds=4.0, batch_size=256, lr=2e-3, seed=seed),
    )
    f = f.fitted(train, NOISE, density)
    return linear.requires_grad_(requires_grad=False), f.requires_grad_(requires_grad=False)


def _train(objective: nn.Module, data: Tensor, config: TrainConfig) -> None:
    short = TrainConfig(
        **{
            **vars(config),
            "schedule": "cosine",
            "warmup": 50,
            "ema": 0.98,
            "clock": "processor",
            "device": "cpu",
        }
    )
    with TemporaryDirectory() as folder:
        training.train(objective, data, short, Path(folder), progress=False)


@torch.no_grad()
def _idempotence(f: Projector, x: Tensor, seed: int) -> dict[str, float]:
    """The largest ``|f(f(x)) - f(x)|`` for each kind of input ``x``."""
    cases = {"digits": x, "noise": torch.randn(x.shape, generator=generator(seed))}
    cases |= {kind: corrupt(x, kind, 0.4, generator(seed)).images for kind in CORRUPTIONS}
    return {name: float((f(f(case)) - f(case)).abs().max()) for name, case in cases.items()}


def _restored(f: Projector, linear: Projector, test: Tensor, seed: int) -> Section:
    x = test[:STRIP_IMAGES]
    blocks = []
    for kind, severity in CORRUPTION_OF_STRIP.items():
        y, measurement = corrupt(x, kind, severity, generator(seed))
        strips = {"corrupted": y, "PCA": linear(y), "projector": f(y)}
        if measurement is not None:
            strips["with measurement"] = restore(f, y, measurement)
        strips["clean"] = x
        shown = rows({name: _strip(images, f"{kind}: {name}") for name, images in strips.items()})
        blocks.append(captioned(shown, f"{kind.capitalize()} {severity:g}.", "Held-out digits."))
    return Section(
        "Restoration",
        f"f = g⁻¹ P g with P² = P keeps {f.rank} of {f.g.dim} latents, so f(f(x)) = f(x) for "
        "every x and all weights. It was trained to map corrupted digits to clean ones. The row "
        "“with measurement” alternates projections onto the range and onto the images that agree "
        "with the observed pixels or the known blur.",
        tuple(blocks),
    )


def _psnr(found: list[Restoration], gains: list[float]) -> Section:
    above = sum(gain > 0 for gain in gains)
    lines = [
        (
            row.kind,
            f"{row.severity:g}",
            "yes" if row.with_measurement else "",
            "" if row.kind == "none" else f"{row.corrupted:.1f}",
            f"{row.psnr['PCA']:.1f}",
            f"{row.psnr['projector']:.1f}",
            f"{row.psnr['projector'] - row.psnr['PCA']:+.1f}".replace("-", "−"),
        )
        for row in found
    ]
    head = (
        "corruption",
        "severity",
        "measurement",
        "corrupted, dB",
        "PCA, dB",
        "projector, dB",
        "gain, dB",
    )
    return Section(
        "PSNR",
        f"The projector beside PCA of the same rank on all held-out digits: above it in {above} "
        f"of {len(found)} rows, by {sum(gains) / len(gains):.1f} dB on average. It was not "
        "trained on salt (pixels set to black or white at random).",
        (
            captioned(
                table(head, lines),
                "Restoration.",
                "Measurement: both maps use the mask of the observed pixels, or the blur.",
            ),
        ),
    )


def _twice(errors: dict[str, float]) -> Section:
    return Section(
        "Idempotence",
        "The largest difference of a pixel between f(f(x)) and f(x) is "
        f"{number(max(errors.values()))} in float32, on digits, noise and corrupted digits. A "
        "network that learns idempotence has it near its data only.",
        (
            captioned(
                table(("on", "largest |f(f(x)) − f(x)|"), list(errors.items())),
                "Largest difference.",
                "",
            ),
        ),
    )


def _anomalies(
    scores: dict[str, dict[str, Tensor]], anomalous: dict[str, Tensor], found: dict[str, float]
) -> Section:
    curves = {
        name: metrics.roc(scores["digits"]["likelihood"], scores[name]["likelihood"])
        for name in anomalous
    }
    figure = plots.curves(
        {name: (roc.false.numpy(), roc.true.numpy()) for name, roc in curves.items()},
        "false positive rate",
        "true positive rate",
    )
    kinds = list(scores["digits"])
    lines: list[tuple[str | float, ...]] = [
        (
            kind,
            *(metrics.roc(scores["digits"][kind], scores[name][kind]).area for name in anomalous),
        )
        for kind in kinds
    ]
    above = {name: score_rows(scores[name], scores["digits"]) for name in anomalous}
    usual: list[tuple[str | float, ...]] = [
        (
            row["score"],
            f"{number(row['usual_low'])} to {number(row['usual_high'])}",
            *(f"{rows[i]['above'] / len(anomalous[name]):.0%}" for name, rows in above.items()),
        )
        for i, row in enumerate(score_rows(scores["digits"], scores["digits"]))
    ]
    head = ("score", "usual range", *(f"{name} above it" for name in anomalous))
    shown = beside({name: _sheet(x[:24], name) for name, x in anomalous.items()})
    return Section(
        "Anomaly scores",
        "The distance of an image from the range and its likelihood tell digits from other "
        "images: printed letters with an area under the ROC curve (AUROC) of "
        f"{found['projector_auroc']:.3f}. Rotated digits are harder.",
        (
            captioned(shown, "Anomalous images.", "None of them was in the training data."),
            captioned(chart(figure, "ROC curves"), "ROC curves.", "Of the score likelihood."),
            captioned(table(("score", *anomalous), lines), "AUROC.", "Of each score."),
            captioned(table(head, usual), "Usual range.", "It holds 98 % of the held-out digits."),
        ),
    )


def _samples(f: Projector, linear: Projector, train: Tensor, test: Tensor, seed: int) -> Section:
    made = {
        "splines on the range": f.sample(32, generator(seed)),
        "Gaussian on the range": f.fitted(train, NOISE).sample(32, generator(seed)),
        "PCA, Gaussian": linear.sample(32, generator(seed)),
        "digits": test[:32],
    }
    return Section(
        "Samples of the range",
        f"The range is a surface of {f.rank} dimensions with global coordinates. A small spline "
        "flow learned the "
        "density of the digits' coordinates; samples of it, decoded, lie on the range exactly.",
        (
            captioned(
                beside({name: _sheet(x, name) for name, x in made.items()}),
                "Samples.",
                "Beside real digits.",
            ),
        ),
    )


def _strip(images: Tensor, description: str) -> Html:
    return embedded_image(plots.grid(images.numpy(), len(images)), description, scale=6)


def _sheet(images: Tensor, description: str) -> Html:
    return embedded_image(plots.grid(images.numpy(), 8), description, scale=6)
