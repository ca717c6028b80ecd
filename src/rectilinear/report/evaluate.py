"""What a report says of a generator: every number and picture, computed once."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import torch

from rectilinear import flow as flows
from rectilinear._seed import generator
from rectilinear.flow.methods import METHODS
from rectilinear.metrics import evaluate_samples, normality, pca_curve
from rectilinear.operators import project_range, solve, svd, truncate

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from rectilinear.datasets import Images
    from rectilinear.flow import LinearFlow
    from rectilinear.linearizer import Linearizer
    from rectilinear.metrics import FeatureNetwork, GenerationScores, Normality

STEPS, METHOD = 100, "rk4"
SHOWN = 64  # samples in a grid
FRAMES = 11  # of an interpolation and of a singular curve
ROWS = 6  # of strips
ENOUGH = 4000  # test images from which a test split alone is the reference of the scores


class Equality(NamedTuple):
    """How far the operator of an integrator is from its steps, relative, in two precisions."""

    method: str
    steps: int
    float32: float
    float64: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Images ``(n, c, h, w)``, strips ``(rows, frames, c, h, w)``, and numbers."""

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
    original: Tensor
    noise: Tensor
    restored: Tensor
    inversion: float
    law: Normality
    interpolation: Tensor
    crossfade: Tensor
    scores_one: GenerationScores
    scores_many: GenerationScores
    seconds_one: float
    seconds_many: float


@torch.no_grad()
def evaluate(flow: LinearFlow, train: Images, test: Images, features: FeatureNetwork, seed: int = 0) -> Evaluation:
    """Sample, compare, decompose, invert, interpolate, score and time ``flow``."""
    draw = generator(seed)
    f = flows.collapse(flow, STEPS, METHOD)

    def many(x: Tensor) -> Tensor:
        return flows.sample(flow, x, STEPS, METHOD)

    real = test.images if len(test) >= ENOUGH else torch.cat([train.images, test.images])
    noise = standard_noise(flow, max(1000, len(real) // 2), draw)
    one_step, many_steps = f(noise), many(noise)
    shuffled = torch.randperm(len(test), generator=draw)
    original = test.images[shuffled]
    recovered = invert(f, original)
    restored = f(recovered)
    ends = original[:ROWS], original[-ROWS:]
    times = torch.linspace(0, 1, FRAMES)
    u, s, _ = svd(f)
    ranks = tuple(2**i for i in range(len(s).bit_length()) if 2**i < len(s))
    walk = torch.linspace(-2.5, 2.5, FRAMES)[None, :, None] * torch.diag(s)[:ROWS, None]
    projectors = [project_range(truncate(f, k)) for k in ranks]
    return Evaluation(
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
        truncated_samples=torch.stack([*(truncate(f, k)(noise[:FRAMES]) for k in ranks), one_step[:FRAMES]]),
        original=original[:FRAMES],
        noise=recovered,
        restored=restored[:FRAMES],
        inversion=(restored - original).abs().max().item(),
        law=normality(recovered),
        interpolation=f.out_space.interpolate(*ends, times).swapaxes(0, 1),
        crossfade=torch.stack([torch.lerp(*ends, t) for t in times], 1),
        scores_one=evaluate_samples(one_step.clamp(0, 1), real, features, seed=seed),
        scores_many=evaluate_samples(many_steps.clamp(0, 1), real, features, seed=seed),
        seconds_one=seconds(f, noise[:1000], repeats=20),
        seconds_many=seconds(many, noise[:1000], repeats=3),
    )


def standard_noise(flow: LinearFlow, n: int, draw: torch.Generator) -> Tensor:
    """``n`` draws of ``N(0, I)`` in the noise space, on the device of the flow."""
    return torch.randn(n, *flow.g_noise.shape, generator=draw).to(next(flow.parameters()))


def invert(f: Linearizer, x: Tensor) -> Tensor:
    """The noise that ``f`` maps to ``x``."""
    return f.in_space.decode(solve(f.operator, f.out_space.encode(x)))


@torch.no_grad()
def compare(flow: LinearFlow, method: str, noise: Tensor, steps: int = STEPS) -> Equality:
    """The largest ``|B z - z_1| / |z_1|`` over latents of ``noise``, ``z_1`` by the steps and ``B`` their product."""
    errors = []
    for dtype in (torch.float32, torch.float64):
        copy = deepcopy(flow).to(dtype)
        z = copy.noise_space.encode(noise.to(dtype))
        steps_taken = flows.integrate(copy.velocity, z, steps, method, end=copy.end)
        folded = flows.collapse(copy, steps, method).operator(z)
        errors.append(((folded - steps_taken).norm(dim=1) / steps_taken.norm(dim=1)).max().item())
    return Equality(method, steps, *errors)


def seconds(sampler: Callable[[Tensor], Tensor], noise: Tensor, repeats: int) -> float:
    """The median time of a call, after one to warm up, for 1,000 samples."""
    times = []
    for _ in range(repeats + 1):
        start = perf_counter()
        sampler(noise)
        times.append(perf_counter() - start)
    return median(times[1:]) * 1000 / len(noise)
