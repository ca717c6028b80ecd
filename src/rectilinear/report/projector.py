"""The page on projectors: a network that is idempotent by construction repairs digits, and knows
what is none.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from rectilinear import datasets, metrics, plots, training
from rectilinear.plots.page import (
    Html,
    Section,
    beside,
    captioned,
    chart,
    number,
    picture,
    rows,
    table,
)
from rectilinear.projector import (
    KINDS,
    DensityObjective,
    Projector,
    ProjectorObjective,
    RandomDamage,
    Restoration,
    damage,
    from_pca,
    restoration,
    restore,
    spline,
)
from rectilinear.projector.corruption import Kind
from rectilinear.random import generator, seed_all
from rectilinear.training import TrainConfig

RANK, SHOWN, NOISE = 16, 10, 0.05
HARM: tuple[Kind, ...] = ("noise", "missing", "occlusion", "blur")
SHOWN_DAMAGE: tuple[tuple[Kind, float], ...] = (
    ("noise", 0.25),
    ("missing", 0.5),
    ("occlusion", 0.375),
    ("blur", 0.06),
)


def projector_sections(seed: int = 0) -> tuple[list[Section], dict[str, float]]:
    """Train a projector of digits for some seconds, use it, and say how well: sections of a page,
    and numbers.
    """
    seed_all(seed)
    train, test = (datasets.load("digits", split).images for split in ("train", "test"))
    linear, f = _trained(train, seed)
    twice = _idempotence(f, test, seed)
    table_rows = restoration({"projector": f, "PCA": linear}, test, steps=20, seed=seed)
    gains = [row.psnr["projector"] - row.psnr["PCA"] for row in table_rows]
    printed = datasets.letters(8).images
    strange = {
        "letters": printed[torch.randperm(len(printed), generator=generator(seed))],
        "noise": torch.rand(test.shape, generator=generator(seed)),
        "digits on their side": test.rot90(dims=(2, 3)),
    }
    scores = {name: f.scores(x) for name, x in {"digits": test, **strange}.items()}
    letters = metrics.roc(scores["digits"]["likelihood"], scores["letters"]["likelihood"]).area
    found = {
        "projector_idempotence": max(twice.values()),
        "projector_psnr_gain": sum(gains) / len(gains),
        "projector_auroc": letters,
    }
    parts = [
        _restored(f, linear, test, seed),
        _decibels(table_rows, gains),
        _twice(twice),
        _strangers(scores, strange, found),
        _samples(f, linear, train, test, seed),
    ]
    return parts, found


def _trained(train: Tensor, seed: int) -> tuple[Projector, Projector]:
    """PCA's projector, and what training makes of it, with the densities of both."""
    f, lost = from_pca(train, RANK, blocks=6, width=96)
    linear = from_pca(train, RANK, blocks=1, width=2)[0].fitted(
        train, NOISE
    )  # its coupling is at the identity
    objective = ProjectorObjective(f, lost, harm=RandomDamage(HARM))
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
    """The largest ``|f(f(x)) - f(x)|`` by what ``x`` is."""
    cases = {"digits": x, "noise": torch.randn(x.shape, generator=generator(seed))}
    cases |= {kind: damage(x, kind, 0.4, generator(seed)).images for kind in KINDS}
    return {name: float((f(f(case)) - f(case)).abs().max()) for name, case in cases.items()}


def _restored(f: Projector, linear: Projector, test: Tensor, seed: int) -> Section:
    x = test[:SHOWN]
    blocks = []
    for kind, severity in SHOWN_DAMAGE:
        seen, known = damage(x, kind, severity, generator(seed))
        strips = {"seen": seen, "PCA": linear(seen), "projector": f(seen)}
        if known is not None:
            strips["and known"] = restore(f, seen, known)
        strips["true"] = x
        shown = rows({name: _strip(images, f"{kind}: {name}") for name, images in strips.items()})
        blocks.append(captioned(shown, f"{kind.capitalize()} {severity:g}.", "Held-out digits."))
    return Section(
        "Damaged, projected, true",
        f"f = g⁻¹ P g with P² = P keeps {f.rank} of {f.g.dim} latents, so f(f(x)) = f(x) for every x: the network is a "
        "projector whatever its weights. It was trained to map damaged digits to whole ones. Where the damage is "
        "known, projections onto the range and onto the known pixels take turns (the row “and known”).",
        tuple(blocks),
    )


def _decibels(found: list[Restoration], gains: list[float]) -> Section:
    above = sum(gain > 0 for gain in gains)
    lines = [
        (
            row.kind,
            f"{row.severity:g}",
            "known" if row.known else "",
            "" if row.kind == "none" else f"{row.seen:.1f}",
            f"{row.psnr['PCA']:.1f}",
            f"{row.psnr['projector']:.1f}",
            f"{row.psnr['projector'] - row.psnr['PCA']:+.1f}".replace("-", "−"),
        )
        for row in found
    ]
    head = ("damage", "severity", "", "seen, dB", "PCA, dB", "projector, dB", "gain, dB")
    return Section(
        "In decibels",
        f"PSNR of all held-out digits beside PCA of the same rank, by damage and severity: above it in {above} of "
        f"{len(found)} rows, by {sum(gains) / len(gains):.1f} dB on average. Salt, pixels set to black or white at "
        "random, is damage that it was not trained on.",
        (
            captioned(
                table(head, lines),
                "Restoration.",
                "“known”: the missing pixels or the blur are told to both.",
            ),
        ),
    )


def _twice(errors: dict[str, float]) -> Section:
    return Section(
        "Once is enough",
        f"The largest difference of a pixel between f(f(x)) and f(x) is {number(max(errors.values()))} in float32, on "
        "digits, on noise and on damaged digits. A network that learns f(f(x)) = f(x) has it only near its data.",
        (
            captioned(
                table(("on", "largest |f(f(x)) − f(x)|"), list(errors.items())), "Idempotence.", ""
            ),
        ),
    )


def _strangers(
    scores: dict[str, dict[str, Tensor]], strange: dict[str, Tensor], found: dict[str, float]
) -> Section:
    curves = {
        name: metrics.roc(scores["digits"]["likelihood"], scores[name]["likelihood"])
        for name in strange
    }
    figure = plots.curves(
        {name: (roc.false.numpy(), roc.true.numpy()) for name, roc in curves.items()},
        "false alarms",
        "found",
    )
    kinds = list(scores["digits"])
    lines: list[tuple[str | float, ...]] = [
        (kind, *(metrics.roc(scores["digits"][kind], scores[name][kind]).area for name in strange))
        for kind in kinds
    ]
    shown = beside({name: _sheet(x[:24], name) for name, x in strange.items()})
    return Section(
        "What is no digit",
        "How far an image is from the range, and how unlikely its place on it, tell digits from other images: printed "
        f"letters with an area under the curve of {found['projector_auroc']:.3f}. Digits on their side are harder.",
        (
            captioned(shown, "Strange images.", "None of them was seen in training."),
            captioned(
                chart(figure, "receiver operating characteristics"), "Alarms.", "By the likelihood."
            ),
            captioned(table(("score", *strange), lines), "Area under the curve.", "Three scores."),
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
        f"The range is a surface of {f.rank} dimensions with one chart. A small network with splines learned the "
        "density of the digits' coordinates there; what is drawn from it and decoded lies on the range exactly.",
        (
            captioned(
                beside({name: _sheet(x, name) for name, x in made.items()}),
                "Samples.",
                "Beside real digits.",
            ),
        ),
    )


def _strip(images: Tensor, description: str) -> Html:
    return picture(plots.grid(images.numpy(), len(images)), description, scale=6)


def _sheet(images: Tensor, description: str) -> Html:
    return picture(plots.grid(images.numpy(), 8), description, scale=6)
