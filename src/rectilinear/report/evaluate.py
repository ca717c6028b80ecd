"""The evaluation of a generator for its report: every number and image, computed once."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

from rectilinear import flow as flows
from rectilinear.datasets import Images
from rectilinear.flow import LinearFlow
from rectilinear.flow.generator import postprocessing
from rectilinear.flow.integrators import METHODS
from rectilinear.metrics import (
    FeatureNetwork,
    GenerationScores,
    Normality,
    evaluate_samples,
    pca_curve,
)
from rectilinear.metrics.linearity import Embedding
from rectilinear.operators import project_range, svd, truncate
from rectilinear.progress import Progress
from rectilinear.random import generator

STEPS, METHOD = 100, "rk4"
GRID_IMAGES = 64  # samples in a grid
STRIP_IMAGES = 11  # images of an interpolation and of a singular curve
STRIP_ROWS = 6  # rows of strips
MAX_CLASS_ROWS = 20  # classes of which samples are shown
NEAREST_BLOCK = 4096  # training images that samples are compared with at a time
MAX_HELD_OUT_IMAGES = 1000  # images that are inverted and projected, or timed
MAX_HELD_OUT_PIXELS = 2**21  # values of these
MAX_SAMPLED_PIXELS = 2**23  # values of the samples that are scored
STAGES = 7
MAX_RANKS = 11  # powers of two at which the operator is truncated
MAX_BATCH_PIXELS = 2**20  # pixels that go through the networks at a time
MIN_SCORED_IMAGES = 8  # a half is the reference, and precision needs a third neighbour
MIN_REFERENCE_IMAGES = 4000  # test images from which the scores need no training images


class CollapseError(NamedTuple):
    """Relative difference of an integrator's operator from its steps, in two precisions."""

    method: str
    steps: int
    float32: float
    float64: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Images ``(n, c, h, w)``, strips ``(rows, frames, c, h, w)``, and numbers.

    ``noise`` is recovered from ``noisy``, held-out images with the noise of the training added, as
    the model knows them; ``normality`` is its test against ``N(0, I)``, ``normality_clean`` that of
    the noise recovered from clean images. ``scores`` is empty, and ``scores_many`` None, where
    there are fewer than :data:`MIN_SCORED_IMAGES` images. ``scores_decoded`` are those of real
    images, encoded, cut to the rank of the generator and decoded: the limit of its samples; None
    without a rank. ``classes`` are those that the network of
    the features tells apart, where it is a classifier. ``of_classes`` are samples of each class,
    one noise for all;
    ``nearest`` ``(2, n, c, h, w)`` samples above their nearest training images, whose median
    root mean square difference of pixels is ``nearest_samples``, and ``nearest_held_out`` for
    held-out images in place of samples; ``trained_on`` counts the training images.
    """

    sigma: float
    real: Tensor
    one_step: Tensor
    many_steps: Tensor
    pixel_difference: float
    collapse_errors: tuple[CollapseError, ...]
    spectrum: Tensor
    curves: Tensor
    ranks: tuple[int, ...]
    truncation: tuple[float, ...]
    truncation_pca: tuple[float, ...]
    truncated_samples: Tensor
    noisy: Tensor
    noise: Tensor
    restored: Tensor
    inversion: float
    inversion_float32: float
    normality: Normality
    normality_clean: Normality
    interpolation: Tensor
    crossfade: Tensor
    finish: str
    scores: dict[str, GenerationScores]
    scores_many: GenerationScores | None
    scores_decoded: GenerationScores | None
    seconds_one: float
    seconds_many: float
    classes: int | None = None
    of_classes: dict[str, Tensor] = field(default_factory=dict)
    nearest: Tensor | None = None
    nearest_samples: float = 0.0
    nearest_held_out: float = 0.0
    trained_on: int = 0


@torch.no_grad()
def evaluate(
    flow: LinearFlow,
    train: Images,
    test: Images,
    features: Embedding,
    *,
    seed: int = 0,
) -> Evaluation:
    """Sample, compare, decompose, invert, interpolate, score and time ``flow``.

    Args:
        flow: the trained generator.
        train: the images it was trained on.
        test: held-out images.
        features: the network whose features samples are scored in.
        seed: of noise, choices and shuffles.
    """
    with Progress("evaluation", STAGES) as display:
        return _evaluated(flow, train, test, features, seed, display)


def _evaluated(
    flow: LinearFlow,
    train: Images,
    test: Images,
    features: Embedding,
    seed: int,
    display: Progress,
) -> Evaluation:
    display.advance("samples in one step")
    random, sigma = generator(seed), flow.noise_level
    f = flows.collapse(flow, STEPS, METHOD)
    ways = postprocessing(f, flow.noise_level, flow.rank)
    finish = list(ways)[-1]

    # cutting the operator gives the same samples as projecting them, in one decoding
    one = in_parts((lambda x: ways[finish](f(x))) if flow.rank is None else truncate(f, flow.rank))
    many = in_parts(lambda x: ways[finish](flows.sample(flow, x, STEPS, METHOD)))

    def score(samples: Tensor) -> GenerationScores:
        return evaluate_samples(samples.clamp(0, 1), real, features, seed=seed)

    real = (
        test.images if len(test) >= MIN_REFERENCE_IMAGES else torch.cat([train.images, test.images])
    )
    enough_values = max(GRID_IMAGES, MAX_SAMPLED_PIXELS // real[0].numel())
    noise = flow.noise(min(max(1000, len(real) // 2), enough_values), random)
    one_step, drawn = one(noise), in_parts(f)(noise)
    display.advance(f"samples in {STEPS} steps")
    start = perf_counter()
    many_steps = many(noise)
    seconds_many = (perf_counter() - start) * 1000 / len(noise)
    display.advance("inversion")
    most = min(MAX_HELD_OUT_IMAGES, max(1, MAX_HELD_OUT_PIXELS // test.images[0].numel()))
    original = test.images[torch.randperm(len(test), generator=random)[:most]]
    there = flows.inversion(f, original)
    noisy = original + sigma * torch.randn(original.shape, generator=random)
    known = flows.inversion(f, noisy)
    display.advance("ranks")
    pairs = max(1, min(STRIP_ROWS, len(original) // 2))
    ends = original[:pairs], (original if len(original) > 1 else train.images)[-pairs:]
    u, s, _ = svd(f.operator)
    decode = f.out_space.decode
    rows, enough = min(STRIP_ROWS, len(s)), len(real) >= MIN_SCORED_IMAGES
    ranks = tuple(2**i for i in range(MAX_RANKS) if 2**i < min(len(s), len(train)))
    walk = torch.zeros(rows, STRIP_IMAGES, len(s))
    walk[range(rows), :, range(rows)] = torch.linspace(-2.5, 2.5, STRIP_IMAGES) * s[:rows, None]
    coordinates = in_parts(lambda x: u.apply_adjoint(f.out_space.encode(x)))(original)
    kept = (coordinates * (torch.arange(len(s)) < k).to(coordinates) for k in ranks)
    truncation = [(in_parts(decode)(u(c)) - original).square().mean().item() for c in kept]
    display.advance("integrators")
    errors = tuple(compare(flow, method, noise[:GRID_IMAGES]) for method in METHODS)
    display.advance("scores")
    shown = one_step[:STRIP_IMAGES].clamp(0, 1)
    decoded = None
    if flow.rank is not None and enough:
        others = torch.randperm(len(real), generator=generator(seed))[len(real) // 2 :]
        others = others[: min(len(real) // 2, len(noise))]
        decoded = in_parts(project_range(truncate(f, flow.rank)))(real[others])
    scores, scores_many = {}, None
    if enough:
        scores = {
            way: score(one_step if way == finish else in_parts(post)(drawn))
            for way, post in ways.items()
        }
        scores_many = score(many_steps)
    index, apart = nearest_images(one_step[:MAX_HELD_OUT_IMAGES].clamp(0, 1), train.images)
    display.advance("seconds of sampling")
    return Evaluation(
        sigma=sigma,
        real=original[:GRID_IMAGES],
        one_step=one_step[:GRID_IMAGES],
        many_steps=many_steps[:GRID_IMAGES],
        pixel_difference=(one_step - many_steps).abs().max().item(),
        collapse_errors=errors,
        spectrum=s,
        curves=decode(u(walk.flatten(0, 1))).unflatten(0, (-1, STRIP_IMAGES)),
        ranks=ranks,
        truncation=tuple(truncation),
        truncation_pca=tuple(pca_curve(train.images, original, ranks).tolist()),
        truncated_samples=torch.stack(
            [*(truncate(f, k)(noise[:STRIP_IMAGES]) for k in ranks), f(noise[:STRIP_IMAGES])]
        ),
        noisy=noisy[:STRIP_IMAGES],
        noise=known.noise.to(noisy),
        restored=known.reconstruction[:STRIP_IMAGES],
        inversion=max(there.error, known.error),
        inversion_float32=max(there.rounded_error, known.rounded_error),
        normality=known.normality,
        normality_clean=there.normality,
        interpolation=flows.interpolate(f, *ends, STRIP_IMAGES).swapaxes(0, 1),
        crossfade=torch.stack(
            [torch.lerp(*ends, t) for t in torch.linspace(0, 1, STRIP_IMAGES)], 1
        ),
        finish=finish,
        scores=scores,
        scores_many=scores_many,
        scores_decoded=None if decoded is None else score(decoded),
        seconds_one=seconds(one, noise[:most], repeats=3),
        seconds_many=seconds_many,
        classes=features.classes if isinstance(features, FeatureNetwork) else None,
        of_classes={
            name: flow.given(name).sample(STRIP_IMAGES, seed)
            for name in flow.classes[:MAX_CLASS_ROWS]
        },
        nearest=torch.stack([shown, train.images[index[: len(shown)]]]),
        nearest_samples=apart.median().item(),
        nearest_held_out=nearest_images(original, train.images)[1].median().item(),
        trained_on=len(train),
    )


def nearest_images(images: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest of ``others`` to each image, and the root mean square difference of pixels.

    Example:
        >>> others = torch.tensor([0.0, 2.0, 1.5]).reshape(3, 1, 1, 1).expand(3, 1, 2, 2)
        >>> nearest_images(torch.ones(1, 1, 2, 2), others)
        (tensor([2]), tensor([0.5000]))
    """
    best = torch.full((len(images),), float("inf"))
    index = torch.zeros(len(images), dtype=torch.int64)
    for start in range(0, len(others), NEAREST_BLOCK):
        distance = torch.cdist(
            images.flatten(1),
            others[start : start + NEAREST_BLOCK].flatten(1),
            compute_mode="donot_use_mm_for_euclid_dist"
            if images[0].numel() < 100
            else "use_mm_for_euclid_dist",
        )
        low, where = distance.min(1)
        index = torch.where(low < best, where + start, index)
        best = torch.minimum(best, low)
    return index, best / images[0].numel() ** 0.5


def in_parts(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """``function`` applied to parts of a batch, to save memory."""
    return lambda x: torch.cat(
        [function(part) for part in x.split(max(1, MAX_BATCH_PIXELS // x[0].numel()))]
    )


def compare(flow: LinearFlow, method: str, noise: Tensor) -> CollapseError:
    """The operator of ``method`` against its steps, in both precisions."""
    single, double = (
        flows.collapse_error(deepcopy(flow).to(dtype), noise.to(dtype), STEPS, method)
        for dtype in (torch.float32, torch.float64)
    )
    return CollapseError(method, STEPS, single, double)


def seconds(sampler: Callable[[Tensor], Tensor], noise: Tensor, repeats: int) -> float:
    """The median time of a call, after one to warm up, for 1,000 samples."""
    times = []
    for _ in range(repeats + 1):
        start = perf_counter()
        sampler(noise)
        times.append(perf_counter() - start)
    return median(times[1:]) * 1000 / len(noise)
