"""Report on style transfer: styles, paths between styles, style exchange, and an added style."""

from __future__ import annotations

from dataclasses import dataclass
from tempfile import TemporaryDirectory
from time import process_time

import torch
from torch import Tensor

from rectilinear import datasets, plots
from rectilinear.plots.page import (
    Html,
    Section,
    captioned,
    chart,
    embedded_image,
    number,
    rows,
    table,
)
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
from rectilinear.style.measure import (
    TENTHS,
    PathScores,
    exchange_scores,
    path_error,
    score,
    style_scores,
)
from rectilinear.training import TrainConfig, train

SIZE, STYLES, ADDED, SHOWN = 16, ("soft", "negative", "dusk"), "rose", 12
ENDS = "soft", "dusk"
LATENT = 0.02
TRAINING = TrainConfig(
    steps=120, batch_size=24, lr=3e-3, warmup=20, schedule="cosine", ema=0.97, device="cpu"
)


@dataclass(frozen=True, eq=False)
class Demo:
    """A trained model, the same with an added style, images, and processor seconds of both."""

    model: StyleTransfer
    more: StyleTransfer
    train: Tensor
    test: Tensor
    seconds: float
    seconds_added: float


def style_sections(seed: int = 0) -> tuple[list[Section], dict[str, float]]:
    """Train on filters of photographs at 16 x 16, and show what operators of styles can do."""
    demo = train_demo(seed)
    with torch.no_grad():
        return _sections(demo)


def train_demo(seed: int = 0) -> Demo:
    """Three styles trained together, and a fourth fitted with the networks as they are."""
    images = datasets.load("photos", "train", size=SIZE).images
    test = datasets.load("photos", "test", size=SIZE).images
    seed_all(seed)
    model = new_model((3, SIZE, SIZE), STYLES, blocks=8, width=32)
    data, weights = lessons(images, STYLES, filtered, blends=3)
    start = process_time()
    with TemporaryDirectory() as folder:
        train(StyleObjective(model, weights, latent=LATENT), data, TRAINING, folder, progress=False)
    trained = process_time()
    some = images[::6]
    operator = fit_style(model, some, filtered(some, {ADDED: 1.0}), size=5)
    return Demo(
        model,
        model.added(ADDED, operator),
        images[::12],
        test[:: max(1, len(test) // 48)][:48],
        trained - start,
        process_time() - trained,
    )


def _sections(demo: Demo) -> tuple[list[Section], dict[str, float]]:
    held_out = style_scores(demo.model, demo.test, filtered)
    seen = style_scores(demo.model, demo.train, filtered)
    added = style_scores(demo.more, demo.test, filtered)[ADDED]
    paths = path_scores(demo.model, demo.test, filtered)
    transfer = exchange_scores(demo.model, demo.test, filtered)
    metrics = {
        "style_psnr_held_out": _mean(held_out),
        "style_psnr_train": _mean(seen),
        "style_path_gain": float(paths.own_gain.min()),
        "style_path_error": path_error(demo.model, demo.test[:16]),
        "style_transfer_psnr": float(transfer["model"].nanmean()),
        "style_added_psnr": added,
        "style_added_seconds_share": demo.seconds_added / demo.seconds,
        "style_parameters_share": max(demo.more.shares.values()),
    }
    return [
        _styles(demo, held_out, seen),
        _path(demo, paths, metrics),
        _exchange(demo, transfer),
        _added(demo, metrics),
    ], metrics


def _styles(demo: Demo, held_out: dict[str, float], seen: dict[str, float]) -> Section:
    x = _chosen(demo.test)
    strips = {"original": _strip(x, "held-out images")}
    for name in demo.model.names:
        strips[f"{name}, teacher"] = _strip(filtered(x, {name: 1.0}), f"the teacher's {name}")
        strips[f"{name}, model"] = _strip(demo.model(x, name), f"the model's {name}")
    lines = [(name, seen[name], held_out[name]) for name in demo.model.names]
    return Section(
        "A style is an operator",
        "Two invertible networks serve all styles; between them each style is one convolution of "
        f"5 × 5 pixels. Trained for {demo.seconds:.0f} seconds on tiles of two photographs, shown "
        "on squares of them that were held out.",
        (
            captioned(
                rows(strips),
                "Styles.",
                "The teacher is a filter with sliders: blur, tint, curve, polarity.",
            ),
            table(("style", "PSNR on training images, dB", "held out, dB"), lines),
        ),
    )


def _path(demo: Demo, paths: PathScores, metrics: dict[str, float]) -> Section:
    i, j = ENDS
    x = _chosen(demo.test)[SHOWN // 2 :][:1]
    times = [k / 10 for k in range(11)]
    ends = demo.model(x, i), demo.model(x, j)
    strips = {
        "teacher": torch.cat([filtered(x, {i: 1 - t, j: t}) for t in times]),
        "operators": torch.cat([demo.model.path(i, j, t)(x) for t in times]),
        "pixels": torch.cat([torch.lerp(*ends, t) for t in times]),
    }
    lines = {
        "path of operators": (TENTHS, paths.path.mean(0)),
        "pixels of the model's images": (TENTHS, paths.own.mean(0)),
    }
    return Section(
        "Between two styles",
        "(1 − a) A_i + a A_j is a straight line in the induced space, up to "
        f"{number(metrics['style_path_error'])}. "
        "The teacher blends by moving its sliders, which is not what blending pixels does.",
        (
            captioned(
                rows(
                    {name: _strip(frames, f"{i} to {j}, {name}") for name, frames in strips.items()}
                ),
                f"From {i} to {j}.",
                "One held-out image, in tenths.",
            ),
            captioned(
                chart(
                    plots.curves(lines, "a", "PSNR to the teacher's blend, dB"),
                    "PSNR along the path",
                ),
                "Nearer to the teacher's blend.",
                f"Means over all pairs of styles and {len(demo.test)} held-out images; at every "
                f"tenth the operators are at least {metrics['style_path_gain']:.2g} dB ahead.",
            ),
        ),
    )


def _exchange(demo: Demo, transfer: dict[str, Tensor]) -> Section:
    i, j = "soft", "negative"
    x = _chosen(demo.test)
    styled = demo.model(x, i)
    strips = {
        f"in style {i}": styled,
        f"turned to {j}": demo.model.between(i, j)(styled),
        f"{j} of the original": demo.model(x, j),
        f"{i} taken away": demo.model.removal(i)(styled),
        "original": x,
    }
    names = demo.model.names
    lines: list[tuple[str | float, ...]] = [
        (
            f"{a} → {b}",
            *(float(transfer[key][p, q]) for key in ("model", "teacher", "ceiling", "before")),
        )
        for p, a in enumerate(names)
        for q, b in enumerate(names)
        if a != b
    ]
    head = (
        "",
        "model's images, dB",
        "teacher's images, dB",
        "from the original, dB",
        "as it is, dB",
    )
    return Section(
        "From style to style",
        "A_j A_i⁺ turns images in one style into another without the original, and A_i⁺ takes a "
        "style away. On the model's images that is exact; the teacher's differ from them, and the "
        "difference goes along.",
        (
            captioned(
                rows({name: _strip(y, name) for name, y in strips.items()}),
                "Exchange.",
                "Of held-out images.",
            ),
            table(head, lines),
        ),
    )


def _added(demo: Demo, metrics: dict[str, float]) -> Section:
    x = _chosen(demo.test)
    strips = {
        "original": x,
        f"{ADDED}, teacher": filtered(x, {ADDED: 1.0}),
        f"{ADDED}, model": demo.more(x, ADDED),
        f"half {ADDED}, half dusk": demo.more.path(ADDED, "dusk", 0.5)(x),
    }
    middle = score(demo.more.path(ADDED, "dusk", 0.5)(x), filtered(x, {ADDED: 0.5, "dusk": 0.5}))
    return Section(
        "A style more",
        f"The style {ADDED} came later, with the networks as they were. Least squares of the "
        f"latents found its operator in {100 * metrics['style_added_seconds_share']:.2g} % of the "
        f"time of the training; it has {100 * metrics['style_parameters_share']:.2g} % of the "
        "parameters.",
        (
            captioned(
                rows({name: _strip(y, name) for name, y in strips.items()}),
                "Added.",
                f"Held-out images, {metrics['style_added_psnr']:.1f} dB to the teacher's; "
                f"half-way to dusk, which no training has shown, {middle:.1f} dB.",
            ),
        ),
    )


def _chosen(images: Tensor) -> Tensor:
    """The images with most to see, of different places."""
    contrast = images.flatten(1).std(1)
    best = contrast.topk(min(3 * SHOWN, len(images))).indices.sort().values
    return images[best[torch.linspace(0, len(best) - 1, SHOWN).long()]]


def _strip(images: Tensor, description: str) -> Html:
    return embedded_image(plots.grid(images.clamp(0, 1).numpy(), len(images)), description, scale=3)


def _mean(values: dict[str, float]) -> float:
    return sum(values.values()) / len(values)
