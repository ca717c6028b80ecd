"""What a report says of a generator: every number and picture, computed once."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

from rectilinear import flow as flows
from rectilinear.datasets import Images
from rectilinear.errors import ConfigError
from rectilinear.flow import LinearFlow
from rectilinear.flow.methods import METHODS
from rectilinear.linearizer import Linearizer
from rectilinear.metrics import (
    FeatureNetwork,
    GenerationScores,
    Normality,
    evaluate_samples,
    pca_curve,
)
from rectilinear.operators import project_range, svd, truncate
from rectilinear.random import generator

STEPS, METHOD = 100, "rk4"
SHOWN = 64  # samples in a grid
FRAMES = 11  # of an interpolation and of a singular curve
ROWS = 6  # of strips
HELD_OUT = 1000  # images that are inverted and projected, at most
MOST_RANKS = 11  # powers of two at which the operator is cut
PART = 2**20  # pixels that go through the networks at a time
FEWEST_SCORED = (
    8  # images: a half of them is the reference, and neighbourhoods reach to the third neighbour
)
ENOUGH = 4000  # test images from which a test split alone is the reference of the scores


class Equality(NamedTuple):
    """How far the operator of an integrator is from its steps, relative, in two precisions."""

    method: str
    steps: int
    float32: float
    float64: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Images ``(n, c, h, w)``, strips ``(rows, frames, c, h, w)``, and numbers.

    ``noise`` is recovered from ``noisy``, held-out images with the noise of the training added, as
    the model knows them; ``law`` is its law, ``law_clean`` that of the noise recovered from the
    images as they are. ``scores`` is empty, and ``scores_many`` None, where there are fewer than
    :data:`FEWEST_SCORED` images. ``classes`` are those that the network of the features tells
    apart.
    """

    sigma: float
    real: Tensor
    one_step: Tensor
    many_steps: Tensor
    pixel_difference: float
    equality: tuple[Equality, ...]
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
    law: Normality
    law_clean: Normality
    interpolation: Tensor
    crossfade: Tensor
    finish: str
    scores: dict[str, GenerationScores]
    scores_many: GenerationScores | None
    seconds_one: float
    seconds_many: float
    classes: int = 2


@torch.no_grad()
def evaluate(
    flow: LinearFlow,
    train: Images,
    test: Images,
    features: FeatureNetwork,
    *,
    sigma: float = 0.0,
    rank: int | None = None,
    seed: int = 0,
) -> Evaluation:
    """Sample, compare, decompose, invert, interpolate, score and time ``flow``.

    ``sigma`` is the standard deviation of the noise that training added to the data, ``rank`` that
    at which samples are
    to be drawn: see :func:`finishes`.
    """
    draw = generator(seed)
    f = flows.collapse(flow, STEPS, METHOD)
    ways = finishes(f, sigma, rank)
    finish = list(ways)[-1]

    def by(way: str) -> Callable[[Tensor], Tensor]:
        return in_parts(lambda x: ways[way](f(x)))

    one, many = by(finish), in_parts(lambda x: ways[finish](flows.sample(flow, x, STEPS, METHOD)))

    def score(samples: Tensor) -> GenerationScores:
        return evaluate_samples(samples.clamp(0, 1), real, features, seed=seed)

    real = test.images if len(test) >= ENOUGH else torch.cat([train.images, test.images])
    noise = standard_noise(flow, max(1000, len(real) // 2), draw)
    one_step, many_steps = one(noise), many(noise)
    original = test.images[torch.randperm(len(test), generator=draw)[:HELD_OUT]]
    there = flows.inversion(f, original)
    noisy = original + sigma * torch.randn(original.shape, generator=draw)
    known = flows.inversion(f, noisy)
    pairs = max(1, min(ROWS, len(original) // 2))
    ends = original[:pairs], (original if len(original) > 1 else train.images)[-pairs:]
    u, s, _ = svd(f)
    rows, enough = min(ROWS, len(s)), len(real) >= FEWEST_SCORED
    ranks = tuple(2**i for i in range(MOST_RANKS) if 2**i < min(len(s), len(train)))
    walk = torch.zeros(rows, FRAMES, len(s))
    walk[range(rows), :, range(rows)] = torch.linspace(-2.5, 2.5, FRAMES) * s[:rows, None]
    projectors = [in_parts(project_range(truncate(f, k))) for k in ranks]
    return Evaluation(
        sigma=sigma,
        real=original[:SHOWN],
        one_step=one_step[:SHOWN],
        many_steps=many_steps[:SHOWN],
        pixel_difference=(one_step - many_steps).abs().max().item(),
        equality=tuple(compare(flow, method, noise[:SHOWN]) for method in METHODS),
        spectrum=s,
        curves=u(walk.flatten(0, 1)).unflatten(0, (-1, FRAMES)),
        ranks=ranks,
        truncation=tuple((p(original) - original).square().mean().item() for p in projectors),
        truncation_pca=tuple(pca_curve(train.images, original, ranks).tolist()),
        truncated_samples=torch.stack(
            [*(truncate(f, k)(noise[:FRAMES]) for k in ranks), f(noise[:FRAMES])]
        ),
        noisy=noisy[:FRAMES],
        noise=known.noise,
        restored=known.reconstruction[:FRAMES],
        inversion=max(there.error, known.error),
        law=known.law,
        law_clean=there.law,
        interpolation=flows.interpolate(f, *ends, FRAMES).swapaxes(0, 1),
        crossfade=torch.stack([torch.lerp(*ends, t) for t in torch.linspace(0, 1, FRAMES)], 1),
        finish=finish,
        scores={way: score(by(way)(noise)) for way in ways} if enough else {},
        scores_many=score(many_steps) if enough else None,
        seconds_one=seconds(one, noise[:1000], repeats=10),
        seconds_many=seconds(many, noise[:1000], repeats=3),
        classes=features.classes,
    )


def finishes(
    f: Linearizer, sigma: float, rank: int | None
) -> dict[str, Callable[[Tensor], Tensor]]:
    """What may be done to samples of ``f``, the last being what should: nothing, a step along the
    score, a projection.

    A model of data with added noise draws noisy data; the step along the score takes the noise off.
    A model with an
    ordered spectrum is sampled at the ``rank`` that it was trained for: projecting its samples onto
    the range of the truncated operator gives that operator's samples, however they were drawn.
    """
    ways: dict[str, Callable[[Tensor], Tensor]] = {"as drawn": lambda x: x}
    if sigma:
        ways["after a step along the score"] = lambda x: flows.denoise(f, x, sigma)
    if rank is not None:
        check_rank(min(f.operator.in_dim, f.operator.out_dim), rank)
        ways[f"at rank {rank}"] = project_range(truncate(f, rank))
    return ways


def check_rank(dim: int, rank: int | None) -> None:
    """Raise ConfigError for a rank to sample at that an operator on ``dim`` coordinates has not."""
    if rank is not None and not 1 <= rank <= dim:
        raise ConfigError(
            f"rank {rank}", f"1 to {dim}, the dimension of the model", "Choose one in this range."
        )


def in_parts(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same function of a batch, a part of the batch at a time, for the sake of memory."""
    return lambda x: torch.cat([function(part) for part in x.split(max(1, PART // x[0].numel()))])


def standard_noise(flow: LinearFlow, n: int, draw: torch.Generator) -> Tensor:
    """``n`` draws of ``N(0, I)`` in the noise space, on the device of the flow."""
    return torch.randn(n, *flow.g_noise.shape, generator=draw).to(next(flow.parameters()))


def compare(flow: LinearFlow, method: str, noise: Tensor) -> Equality:
    """The operator of ``method`` against its steps, in both precisions."""
    single, double = (
        flows.equality(deepcopy(flow).to(dtype), noise.to(dtype), STEPS, method)
        for dtype in (torch.float32, torch.float64)
    )
    return Equality(method, STEPS, single, double)


def seconds(sampler: Callable[[Tensor], Tensor], noise: Tensor, repeats: int) -> float:
    """The median time of a call, after one to warm up, for 1,000 samples."""
    times = []
    for _ in range(repeats + 1):
        start = perf_counter()
        sampler(noise)
        times.append(perf_counter() - start)
    return median(times[1:]) * 1000 / len(noise)
