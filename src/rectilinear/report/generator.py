"""The page of a generator: an evaluation as facts, sections and an image of samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats
from torch import Tensor

from rectilinear import plots
from rectilinear.metrics import GenerationScores
from rectilinear.plots.charts import png
from rectilinear.plots.page import (
    Fact,
    Html,
    Section,
    beside,
    captioned,
    chart,
    embedded_image,
    folded,
    number,
    rows,
    table,
)
from rectilinear.report.evaluate import MIN_SCORED_IMAGES, STEPS, Evaluation

FEW_IMAGES = 500  # training images below which samples vary those
COPIED = 0.5  # distance to training images, relative to that of held-out images, of a copy


def facts(metrics: Mapping[str, float | None]) -> list[Fact]:
    """The numbers at the head of the page."""
    known = {name: value for name, value in metrics.items() if value is not None}
    one, many = known["seconds_per_1000_one_step"], known["seconds_per_1000_many_step"]
    return [
        Fact(
            _short(known["collapse_error"]),
            f"largest relative difference between one step and {STEPS}, in the latents",
        ),
        Fact(
            _short(known["inversion"]),
            "largest error of a pixel after image → noise → image, on held-out images, in float64",
        ),
        Fact(
            f"{known['noise_std']:.3f}",
            "standard deviation of the noise recovered from them; noise has 1",
        ),
        *_distance(metrics),
        Fact(f"{one:.2g} s", f"for 1,000 samples in one step, against {many:.2g} s in {STEPS}"),
    ]


def _distance(metrics: Mapping[str, float | None]) -> list[Fact]:
    """The distance of samples from real images, where there were enough images to find it."""
    mine, least, decoded = (metrics[f"fd_{kind}"] for kind in ("one_step", "real", "decoded"))
    if mine is None or least is None:
        return []
    limit = "" if decoded is None else f", {_short(decoded)} encoded and decoded at its rank"
    text = f"Fréchet distance of one-step samples; real images score {_short(least)}{limit}"
    return [Fact(_short(mine), text)]


def sections(
    e: Evaluation, log: list[dict[str, Any]], config: str, machine: dict[str, str]
) -> list[Section]:
    """All of the page below its head."""
    return [
        _samples(e),
        *([_classes(e)] if e.of_classes else []),
        *([_nearest(e.nearest, e)] if e.nearest is not None else []),
        _collapse_error(e),
        _spectrum(e),
        _curves(e),
        _inversion(e),
        _interpolation(e),
        _scores(e),
        _training(log, config, machine),
    ]


def samples_picture(e: Evaluation) -> bytes:
    """One step, many steps and real images side by side, as a PNG."""
    sheets = [_sheet(images, 8) for images in (e.one_step, e.many_steps, e.real)]
    height = max(len(sheet) for sheet in sheets)
    sheets = [np.pad(sheet, ((0, height - len(sheet)), (0, 0), (0, 0))) for sheet in sheets]
    gap = np.zeros((len(sheets[0]), e.real.shape[-1], 4), dtype=np.uint8)
    return png(
        np.concatenate([sheets[0], gap, sheets[1], gap, sheets[2]], axis=1),
        max(1, 32 // e.real.shape[-1]),
    )


def _samples(e: Evaluation) -> Section:
    grids = {
        "One step": _grid(e.one_step, "samples drawn in one step"),
        f"{STEPS} steps": _grid(e.many_steps, f"samples drawn in {STEPS} steps"),
        "Real": _grid(e.real, "held-out images"),
    }
    return Section(
        f"One step, {STEPS} steps, real",
        f"The same noise, once through the folded operator and once through {STEPS} steps of "
        "the integrator. "
        "Image by image the first two grids agree; the third shows held-out images.",
        (
            captioned(
                beside(grids),
                "Samples.",
                f"{len(e.one_step)} of each and {len(e.real)} held out, {e.finish}. "
                "The largest difference of a pixel between the first two grids, "
                f"over all samples drawn, is {number(e.pixel_difference)} on a scale from 0 to 1.",
            ),
        ),
    )


def _classes(e: Evaluation) -> Section:
    strips = {name: _strip(x, f"samples of class {name}") for name, x in e.of_classes.items()}
    return Section(
        "Class by class",
        "The density of the leading latents is a mixture whose components have classes. Leaving "
        "out the other components gives the generator of one class: the same operator, exactly "
        "linear.",
        (
            captioned(
                rows(strips),
                "Samples of each class.",
                "A row is a class, a column one draw of noise.",
            ),
        ),
    )


def _nearest(images: Tensor, e: Evaluation) -> Section:
    strips = {
        "sample": _strip(images[0], "samples"),
        "nearest": _strip(images[1], "the nearest training image of each"),
    }
    return Section(
        "Nearest training images",
        "Samples above the training images nearest to them in pixels. A generator that copies has "
        "samples much nearer to training images than held-out images are. "
        + expectation(e.trained_on, e.nearest_samples, e.nearest_held_out),
        (
            captioned(
                rows(strips),
                "Nearest.",
                "Median root mean square difference of pixels: "
                f"{number(e.nearest_samples)} for samples, {number(e.nearest_held_out)} for "
                "held-out images.",
            ),
        ),
    )


def expectation(images: int, samples: float, held_out: float) -> str:
    """A sentence on what so many training images, and these distances, say about samples.

    Example:
        >>> expectation(80, 0.1, 0.11)
        'From 80 images expect variations and blends of them; a thousand or more give new ones.'
    """
    if samples < COPIED * held_out:
        return (
            f"These samples are less than {COPIED:g} times as far: take them for copies, and train "
            "for fewer steps or on more images."
        )
    if images < FEW_IMAGES:
        return (
            f"From {images} images expect variations and blends of them; a thousand or more give "
            "new ones."
        )
    if samples > held_out / COPIED:
        return (
            "These samples are much farther: many are no images of this kind. Train for longer, or "
            "sample at a lower rank."
        )
    return f"At {images:,} images and these distances neither is the case."


def _collapse_error(e: Evaluation) -> Section:
    head = ("Integrator", "Steps", "Difference in float32", "Difference in float64")
    return Section(
        "Why they agree",
        "In the latents the velocity is linear at every time, so each step of an integrator is "
        "a matrix and all steps "
        "are their product. No approximation is made: what differs is rounding.",
        (
            captioned(
                table(
                    head,
                    [(_TITLES[q.method], q.steps, q.float32, q.float64) for q in e.collapse_errors],
                ),
                "Collapse error.",
                "The largest relative difference between the product of the steps applied once "
                "and the steps applied "
                f"one by one, over {len(e.one_step)} draws of noise.",
            ),
        ),
    )


def _spectrum(e: Evaluation) -> Section:
    lines = {"this model": (e.ranks, e.truncation), "PCA": (e.ranks, e.truncation_pca)}
    better = [
        k
        for k, mine, pca in zip(e.ranks, e.truncation, e.truncation_pca, strict=True)
        if mine < pca
    ]
    strips = {f"rank {k}": _strip(x, f"samples at rank {k}") for k, x in _ranked(e)}
    spectrum = plots.spectrum({"B": e.spectrum.cpu().numpy()})
    return Section(
        "The spectrum of the operator",
        "One matrix B carries noise to data, so the generator has singular values. They say "
        "how far each direction of "
        "the latent space reaches, and cutting B to its leading ones gives a model of every rank.",
        (
            captioned(
                chart(spectrum, "singular values of B in descending order"),
                "Singular values",
                f"of the folded operator, largest {number(float(e.spectrum[0]))}, smallest "
                f"{number(float(e.spectrum[-1]))}.",
            ),
            captioned(
                chart(
                    plots.curves(
                        lines, "rank", "mean square error", logx=True, logy=True, markers=True
                    ),
                    "reconstruction error against rank, for this model and for PCA",
                ),
                "Truncation.",
                "Held-out images projected onto the leading singular points, in the space of "
                "the model, beside the "
                f"same number of principal components. Better than PCA at {_listed(better)}.",
            ),
            captioned(
                rows(strips),
                "Samples at each rank.",
                "The same noise through the operator cut to its leading singular values: what "
                "each doubling adds.",
            ),
        ),
    )


def _curves(e: Evaluation) -> Section:
    strips = {
        f"{i}   σ = {number(float(s))}": _strip(x, f"walk along singular point {i}")
        for i, (s, x) in enumerate(zip(e.spectrum, e.curves, strict=False), start=1)
    }
    return Section(
        "Singular curves",
        "A singular vector of the operator is a direction of the latent space; decoded it is a "
        "curve of images. "
        "Along a row the latent runs from −2.5 to +2.5 standard deviations, the others at zero.",
        (
            captioned(
                rows(strips),
                "The leading singular directions.",
                "The middle of every row is the zero vector.",
            ),
        ),
    )


def _inversion(e: Evaluation) -> Section:
    d = e.normality.dim
    recovered = e.noise.flatten(1).cpu().numpy()
    strips = {
        "image": _strip(e.noisy, "held-out images"),
        "noise": _strip(
            e.noise[: len(e.noisy)].reshape(e.noisy.shape) / 5 + 0.5, "the noise that gives them"
        ),
        "again": _strip(e.restored, "the images from that noise"),
    }
    distributions = {
        "coordinates of the noise": (recovered, stats.norm()),
        "length of the noise, squared": ((recovered**2).sum(1), stats.chi2(d)),
    }
    columns = (e.normality, e.normality_clean) if e.sigma else (e.normality,)
    numbers: list[tuple[str | float, ...]] = [
        ("mean of the coordinates", *(test.mean for test in columns), 0.0),
        ("standard deviation", *(test.std for test in columns), 1.0),
        ("mean length ÷ √n", *(test.mean_norm for test in columns), e.normality.expected_mean_norm),
        (
            "standard deviation of the length",
            *(_known(test.std_norm) for test in columns),
            e.normality.expected_std_norm,
        ),
        (
            "Kolmogorov–Smirnov distance, median",
            *(test.ks for test in columns),
            0.83 / e.normality.n**0.5,
        ),
    ]
    head = (
        ("", "From noisy images", "From clean images", "Noise has")
        if e.sigma
        else ("", "Recovered", "Noise has")
    )
    noisy = (
        f" Training added noise of standard deviation {number(e.sigma)} to the images, "
        "so the column that counts is that of held-out images with such noise."
        if e.sigma
        else ""
    )
    return Section(
        "Inversion",
        "Images back to their noise and forth again. That they return says little, for any "
        "invertible network returns; "
        "what counts is that the noise on the way looks like noise.",
        (
            captioned(
                rows(strips),
                "To noise and back.",
                f"Largest error of a pixel over {e.normality.n} held-out images: "
                f"{number(e.inversion)} in float64, {number(e.inversion_float32)} where network "
                "and noise are in float32.",
            ),
            captioned(
                chart(
                    plots.histogram(distributions),
                    "histograms of the recovered noise under the densities it should have",
                ),
                "The distribution of the recovered noise.",
                "Bars are what was recovered, lines the standard normal and the χ² density "
                "that noise follows." + noisy,
            ),
            captioned(table(head, numbers), "In numbers.", f"{e.normality.n} images, n = {d}."),
        ),
    )


def _interpolation(e: Evaluation) -> Section:
    images = {}
    for i, (path, fade) in enumerate(zip(e.interpolation[:4], e.crossfade, strict=False), start=1):
        images[f"{i}   in its space"] = _strip(path, "interpolation in the induced space")
        images[f"{i}   of pixels"] = _strip(fade, "interpolation of pixels")
    return Section(
        "Interpolation",
        "The straight line between two images in the space of the model, where sums and "
        "multiples are its own, and "
        "below each the average of their pixels.",
        (captioned(rows(images), "Straight lines.", "The ends of each row are held-out images."),),
    )


def _scores(e: Evaluation) -> Section:
    many = e.scores_many
    if many is None:
        return Section(
            "Scores and timing",
            f"Too few images to score: a distance needs {MIN_SCORED_IMAGES} or more, a half of "
            "them for the reference. "
            f"1,000 samples take {number(e.seconds_one)} s in one step and {number(e.seconds_many)} s in {STEPS}.",
            (),
        )

    def line(
        name: str, scores: GenerationScores, seconds: str | float = ""
    ) -> tuple[str | float, ...]:
        return name, scores.fd, scores.precision, scores.recall, scores.sliced_wasserstein, seconds

    lines = [
        *(
            line(f"one step, {way}", x, e.seconds_one if way == e.finish else "")
            for way, x in e.scores.items()
        ),
        line(f"{STEPS} steps, {e.finish}", many, e.seconds_many),
        *(
            []
            if e.scores_decoded is None
            else [line("real images, encoded and decoded at the rank", e.scores_decoded)]
        ),
        (
            "real against real",
            many.fd_real,
            many.precision_real,
            many.recall_real,
            many.sliced_wasserstein_real,
            "",
        ),
    ]
    head = ("Samples", many.name, "Precision", "Recall", "Sliced Wasserstein", "Seconds per 1,000")
    scorer = "a classifier that this project trained" if e.classes else "a network of your own"
    if e.classes == 1:
        scorer = "a network with random weights (images of one class teach it nothing; sub-folders are classes)"
    return Section(
        "Scores and timing",
        f"How near the samples are to real images, in the features of {scorer}, beside what"
        " as many other real images score: no generator can be shown to be better than that row.",
        (
            captioned(
                table(head, lines),
                f"Scores of {many.n} samples each.",
                "A Fréchet distance is comparable only under the name in its column. Recall "
                "counts how much of the "
                "real is generated, precision how much of the generated is real.",
            ),
        ),
    )


def _training(log: list[dict[str, Any]], config: str, machine: dict[str, str]) -> Section:
    blocks: list[Html] = []
    ignored = {"step", "seconds", "lr", "gradient_norm"}
    names = [name for name in log[-1] if name not in ignored and _finite(log, name)] if log else []
    for name in names[:4]:
        steps, values = zip(
            *((line["step"], line[name]) for line in log if line.get(name) is not None), strict=True
        )
        figure = plots.curves({name: (steps, values)}, "step", name)
        blocks.append(
            captioned(
                chart(figure, f"{name} against step"), name, _NAMES.get(name, "as it was logged.")
            )
        )
    facts = table(("", ""), list(machine.items()))
    return Section(
        "Training",
        "The terms that were logged, and everything needed to run it again.",
        (
            *blocks,
            captioned(facts, "Where.", "The machine of the evaluation."),
            folded("Configuration", config),
        ),
    )


_TITLES = {
    "euler": "Euler",
    "midpoint": "Midpoint",
    "rk4": "Runge–Kutta 4",
    "magnus2": "Magnus 2",
    "magnus4": "Magnus 4",
}
_NAMES = {
    "loss": "is what training minimised.",
    "nll": "is the negative log-likelihood.",
    "nested": "is the error of the reconstruction from leading ranks.",
}


def _short(value: float) -> str:
    return number(float(f"{value:.2g}"))


def _grid(images: Tensor, description: str) -> Html:
    columns = int(np.ceil(np.sqrt(len(images))))
    return embedded_image(_sheet(images, columns), description, _scale(images))


def _strip(images: Tensor, description: str) -> Html:
    return embedded_image(_sheet(images, len(images)), description, _scale(images))


def _sheet(images: Tensor, columns: int) -> np.ndarray:
    return plots.grid(images.float().cpu().numpy(), columns, gap=max(1, images.shape[-1] // 16))


def _scale(images: Tensor) -> int:
    """The factor by which small images are enlarged in the file."""
    return max(1, 64 // images.shape[-1])


def _ranked(e: Evaluation) -> list[tuple[int, Tensor]]:
    return list(zip((*e.ranks, len(e.spectrum)), e.truncated_samples, strict=True))


def _listed(ranks: list[int]) -> str:
    return f"rank {', '.join(map(str, ranks))}" if ranks else "no rank shown"


def _known(value: float | None) -> str | float:
    return "–" if value is None else value


def _finite(log: list[dict[str, Any]], name: str) -> bool:
    values = [line.get(name) for line in log]
    return sum(isinstance(value, float) and bool(np.isfinite(value)) for value in values) > 1
