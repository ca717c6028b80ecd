"""Report on style transfer: styles at any strength, ways back, and a style that comes later."""

from __future__ import annotations

from dataclasses import dataclass
from tempfile import TemporaryDirectory
from time import process_time

import torch
from torch import Tensor
from torch.nn.functional import pad

from rectilinear import plots
from rectilinear.plots.page import Html, Section, captioned, embedded_image, rows, table
from rectilinear.random import seed_all
from rectilinear.style import (
    Lessons,
    StyleObjective,
    StyleTransfer,
    filtered,
    fit_style,
    new_model,
    with_ways_back,
)
from rectilinear.style.measure import above_flat, way_back_scores
from rectilinear.style.photos import paint, read_photos
from rectilinear.style.style_map import LEVELS, as_eight_bit
from rectilinear.training import TrainConfig, train

SIDE, STYLES, ADDED = 96, ("negative", "dusk", "ink"), "rose"
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.2)
TRAINING = TrainConfig(
    steps=150, batch_size=8, lr=3e-3, warmup=10, schedule="cosine", ema=None, device="cpu"
)


@dataclass(frozen=True, eq=False)
class Demo:
    """A trained model with an added style, what is held out, and processor seconds of both."""

    model: StyleTransfer
    held_out: Lessons
    seconds: float
    seconds_added: float


def style_sections(seed: int = 0) -> tuple[list[Section], dict[str, float]]:
    """Train on filters of two photographs, and show what operators of styles can do."""
    demo = train_demo(seed)
    with torch.no_grad():
        return _sections(demo)


def train_demo(seed: int = 0) -> Demo:
    """Three styles trained together, and a fourth in closed form with the network as it is."""
    photos, test = (read_photos("photos", split, SIDE) for split in ("train", "test"))
    seed_all(seed)
    start = process_time()
    model = new_model(STYLES, couplings=4, width=24, basis="pixels")
    lessons = paint(photos, STYLES, filtered, progress=False)
    with TemporaryDirectory() as folder:
        objective = StyleObjective(model, lessons, tile=32)
        train(objective, lessons.rows(), TRAINING, folder, progress=False)
    model.requires_grad_(requires_grad=False)
    trained = process_time()
    later = paint(photos, [ADDED], filtered, progress=False)
    model = model.added(ADDED, fit_style(model, photos, later.paintings[ADDED]))
    seconds = process_time() - trained
    model = with_ways_back(model, photos)
    held_out = paint(test, [*STYLES, ADDED], filtered, progress=False)
    return Demo(model, held_out, trained - start, seconds)


def _sections(demo: Demo) -> tuple[list[Section], dict[str, float]]:
    gains = {
        name: above_flat(demo.model.style(name), [*zip(demo.held_out.photos, painted, strict=True)])
        for name, painted in demo.held_out.paintings.items()
    }
    ways = way_back_scores(demo.model, demo.held_out.photos)
    metrics = {
        "style_above_flat_db": sum(gains[name] for name in STYLES) / len(STYLES),
        "style_added_above_flat_db": gains[ADDED],
        "style_strength_0_db": ways["strength 0"],
        "style_exchange_db": ways["exchange"],
        "style_removal_db": ways["removal"],
        "style_added_seconds_share": demo.seconds_added / demo.seconds,
        "style_parameters_share": max(demo.model.shares.values()),
    }
    return [_styles(demo, gains), _strength(demo), _ways_back(demo, ways), _added(demo, metrics)], (
        metrics
    )


def _styles(demo: Demo, gains: dict[str, float]) -> Section:
    strips = {"photo": _strip(_floats(demo.held_out.photos), "held-out parts of photographs")}
    for name in STYLES:
        taught = _floats(demo.held_out.paintings[name])
        strips[f"{name}, teacher"] = _strip(taught, f"the teacher's {name}")
        made = [demo.model(x, name) for x in _floats(demo.held_out.photos)]
        strips[f"{name}, model"] = _strip(made, f"the model's {name}")
    return Section(
        "A style is an operator",
        "One invertible network serves all styles; in its latents each style is one affine map of "
        "48 channels, the same at every place. Trained for "
        f"{demo.seconds:.0f} seconds on three quarters of two photographs, shown on the rest.",
        (
            captioned(rows(strips), "Styles.", "The teacher is a filter with sliders."),
            table(
                ("style", "PSNR above the best flat colour, held out, dB"),
                [(name, gains[name]) for name in STYLES],
            ),
        ),
    )


def _strength(demo: Demo) -> Section:
    x = _floats(demo.held_out.photos)[0]
    strips = {
        name: _strip(
            [demo.model.path("identity", name, t)(x) for t in STRENGTHS], f"{name} by strength"
        )
        for name in STYLES
    }
    return Section(
        "Any strength",
        "The photo is a style, too: (1 − t) I + t H lies between. Strength 0 is the photo, and "
        "beyond 1 is a stronger style.",
        (captioned(rows(strips), "Strengths.", ", ".join(f"{t:g}" for t in STRENGTHS) + "."),),
    )


def _ways_back(demo: Demo, ways: dict[str, float]) -> Section:
    x = _floats(demo.held_out.photos)
    i, j = STYLES[1], STYLES[2]
    saved = [as_eight_bit(demo.model(photo, i)) for photo in x]
    strips = {
        f"{i}, 8 bits": saved,
        f"turned to {j}": [demo.model.between(i, j)(y) for y in saved],
        f"{j} of the photo": [demo.model(photo, j) for photo in x],
        f"{i} taken away": [demo.model.removal(i)(y) for y in saved],
        "photo": x,
    }
    lines = [
        (kind, ways[kind], ways[f"{kind}, exact inverse"], ways[f"{kind}, nothing"])
        for kind in ("exchange", "removal")
    ]
    return Section(
        "From style to style",
        "Images that have been in a file have 256 levels, and the exact inverse amplifies the "
        "rounding. An operator fitted to such images takes its place; the exact inverse is for "
        "images in memory.",
        (
            captioned(
                rows({name: _strip(y, name) for name, y in strips.items()}),
                "Exchange and removal.",
                "Of held-out images of 8 bits.",
            ),
            table(("", "fitted, dB", "exact inverse, dB", "as it is, dB"), lines),
        ),
    )


def _added(demo: Demo, metrics: dict[str, float]) -> Section:
    x = _floats(demo.held_out.photos)
    strips = {
        "photo": x,
        f"{ADDED}, teacher": _floats(demo.held_out.paintings[ADDED]),
        f"{ADDED}, model": [demo.model(photo, ADDED) for photo in x],
        f"half {ADDED}": [demo.model.path("identity", ADDED, 0.5)(photo) for photo in x],
    }
    return Section(
        "A style more",
        f"The style {ADDED} came later, with the network as it was: least squares of the latents "
        f"found its {demo.model.g.places * (demo.model.g.places + 1):,} numbers in "
        f"{100 * metrics['style_added_seconds_share']:.2g} % of the time of the training. It is "
        f"{metrics['style_added_above_flat_db']:.1f} dB above the best flat colour.",
        (
            captioned(
                rows({name: _strip(y, name) for name, y in strips.items()}),
                "Added.",
                "Held-out images.",
            ),
        ),
    )


def _floats(images: object) -> list[Tensor]:
    return [image.float() / LEVELS for image in images]  # type: ignore[attr-defined] # bytes


def _strip(images: list[Tensor], description: str) -> Html:
    """Images side by side, at one height."""
    h, w = (max(x.shape[i] for x in images) for i in (1, 2))
    padded = [pad(x.clamp(0, 1), (0, w - x.shape[2], 0, h - x.shape[1])) for x in images]
    grid = plots.grid(torch.stack(padded).numpy(), len(padded))
    return embedded_image(grid, description, scale=1)
