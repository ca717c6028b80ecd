from dataclasses import dataclass

import pytest
import torch

from rectilinear import datasets
from rectilinear.config import from_json, to_json
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.metrics import (
    GenerationScores,
    evaluate_samples,
    frechet_distance,
    precision_recall,
    real_scores,
    sliced_wasserstein,
)


@dataclass
class Pixels:
    """The simplest features: the pixels."""

    name: str = "pixels"

    def embed(self, images):
        return images.flatten(1).double()


REAL = datasets.load("digits").images


def test_real_samples_score_like_the_floor():
    scores = evaluate_samples(datasets.load("digits", "test").images, REAL, Pixels())
    assert (scores.name, scores.n) == ("fd/pixels@297", 297)
    assert scores.fd == pytest.approx(scores.fd_real, rel=0.2)
    assert scores.precision == pytest.approx(scores.precision_real, abs=0.06)
    assert scores.recall == pytest.approx(scores.recall_real, abs=0.06)
    assert scores.sliced_wasserstein < 2 * scores.sliced_wasserstein_real
    assert "fd/pixels@297" in str(scores)
    assert from_json(GenerationScores, to_json(scores)) == scores


def test_the_scores_are_the_metrics_against_one_half():
    fake, n = REAL[:60].flip(3), 50
    scores = evaluate_samples(fake, REAL, Pixels(), n=n, seed=3)
    order = torch.randperm(len(REAL), generator=torch.Generator().manual_seed(3))
    reference, held = REAL[order[:n]].flatten(1), REAL[order[n : 2 * n]].flatten(1)
    chosen = fake.flatten(1)[torch.randperm(60, generator=torch.Generator().manual_seed(3))[:n]]
    assert scores.fd == pytest.approx(frechet_distance(chosen, reference))
    assert (scores.precision, scores.recall) == precision_recall(
        reference.double(), chosen.double()
    )
    assert scores.sliced_wasserstein == pytest.approx(
        sliced_wasserstein(chosen, reference), rel=1e-5
    )  # of float32
    assert scores.fd_real == pytest.approx(frechet_distance(held, reference))
    assert scores.precision_real == precision_recall(reference.double(), held.double()).precision


def test_damage_shows():
    good, bad = REAL[:300], (REAL[:300] + 0.3 * torch.randn(300, 1, 8, 8)).clamp(0, 1)
    blurred = REAL.mean(0, keepdim=True).expand(300, -1, -1, -1)
    real = REAL[300:]
    scores = [evaluate_samples(x, real, Pixels(), n=300) for x in (good, bad, blurred)]
    assert scores[0].fd < scores[1].fd
    assert scores[0].fd < scores[2].fd
    assert scores[2].recall < 0.05 < 0.5 < scores[0].recall


def test_the_floor_shuffles_and_can_be_passed():
    ordered = torch.cat([REAL[:100] * 0, REAL[:100]])  # two halves that differ
    least = real_scores(ordered, Pixels(), n=60)
    apart = frechet_distance(ordered[:60].flatten(1), ordered[100:160].flatten(1))
    assert least.fd < apart / 3
    fake = REAL[200:260]
    once = evaluate_samples(fake, ordered, Pixels(), baseline=least)
    assert once == evaluate_samples(fake, ordered, Pixels())


def test_bad_sizes_are_named():
    with pytest.raises(ConfigError, match="n = 800 for 1500 real and 900 generated"):
        evaluate_samples(torch.rand(900, 1, 8, 8), REAL, Pixels(), n=800)
    with pytest.raises(ConfigError, match="half of the real ones"):
        real_scores(REAL[:7], Pixels())
    with pytest.raises(ShapeError, match="generated images"):
        evaluate_samples(torch.rand(9, 1, 9, 9), REAL, Pixels())
