"""The idempotent model: ``rectilinear reproduce berman2025_linearizer projector``.

The paper's generative model is ``f = g^-1 A g`` with ``A = diag(b)``, ``b`` a learned vector of
zeros and ones, trained for reconstruction, rank and size of the latents; it shows images and no
numbers. Idempotence needs no training: it is measured here in both precisions, before and after
training, on data, noise and corrupted images. The paper's rank weight, 0.75 of an absolute error,
keeps nothing at 64 dimensions; relative to the error of rank 0 it is Kaiser's rule and keeps a rank
at every size. Latents of noise lie far outside those of data unless the projector was trained on
noisy images; even then projected noise is not a sample of the data, so samples are drawn from a
density on the range.

Cost: small 20 seconds, full seven minutes, of processor time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from torch import Tensor

from rectilinear import datasets, plots, training
from rectilinear.papers import Claim
from rectilinear.projector import CORRUPTIONS, Projector, corrupt, from_pca, restoration
from rectilinear.projector.restoration_table import Restoration
from rectilinear.random import generator, seed_all
from rectilinear.recipes.projector import ProjectorRecipe
from rectilinear.training import TrainConfig

STRIP_IMAGES = 12
HELD_OUT = {"small": 1000, "full": 200}  # images that restoration is measured on
_SHORT = TrainConfig(
    steps=500, batch_size=128, lr=3e-3, warmup=30, schedule="cosine", ema=0.98, device="cpu"
)
PRESETS = {
    "small": ProjectorRecipe(
        rank=None, blocks=4, width=64, training=_SHORT, density=replace(_SHORT, steps=100)
    ),
    "full": ProjectorRecipe(
        data="mnist",
        rank=None,
        rank_weight=4.0,
        training=replace(_SHORT, steps=6000, max_seconds=240.0, clock="processor"),
        density=replace(_SHORT, steps=1000, max_seconds=60.0, clock="processor"),
    ),
}


@dataclass(frozen=True, eq=False)
class Result:
    """Idempotence by (state, precision, input), rank, restoration beside PCA, and image rows."""

    twice: dict[tuple[str, str, str], float]
    rank: int
    dim: int
    restoration: list[Restoration]
    noise: dict[str, float]  # RMS of the latents of noise over that of data, by state
    images: dict[str, Tensor]


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """The result of training with a learned rank, on held-out images."""
    recipe = PRESETS[preset]
    train, test = (
        datasets.load(recipe.data, split, data_dir).images for split in ("train", "test")
    )
    test = test[: HELD_OUT[preset]]
    seed_all(seed)
    twice: dict[tuple[str, str, str], float] = {}
    noise: dict[str, float] = {}
    static = torch.randn(test.shape, generator=generator(seed))
    with TemporaryDirectory() as folder:
        for stage in recipe.stages(train):
            assert isinstance(stage.model, Projector)
            if not stage.name:
                twice |= _twice("untrained", stage.model, test, seed)
                noise["untrained"] = _size(stage.model, static) / _size(stage.model, test)
            training.train(
                stage.objective,
                stage.data,
                stage.training,
                Path(folder) / stage.name,
                progress=False,
            )
    f = stage.model.requires_grad_(requires_grad=False)
    assert isinstance(f, Projector)
    twice |= _twice("trained", f, test, seed)
    noise["trained"] = _size(f, static) / _size(f, test)
    linear = from_pca(train, f.rank, blocks=1, width=2)[0].requires_grad_(requires_grad=False)
    noisy = corrupt(test[:STRIP_IMAGES], "noise", 0.5, generator(seed)).images
    occluded = corrupt(test[:STRIP_IMAGES], "occlusion", 0.375, generator(seed)).images
    return Result(
        twice=twice,
        rank=f.rank,
        dim=f.g.dim,
        restoration=restoration({"projector": f, "PCA": linear}, test, steps=10, seed=seed),
        noise=noise,
        images={
            "noisy": noisy,
            "projected": f(noisy),
            "occluded": occluded,
            "projected ": f(occluded),
            "clean": test[:STRIP_IMAGES],
            "noise projected": f(static[:STRIP_IMAGES]),
            "samples": f.sample(STRIP_IMAGES, generator(seed)),
        },
    )


def draw(result: Result, path: Path) -> None:
    """Corrupted, projected and clean images, projected noise, and samples of the range."""
    plots.save(plots.strips({name: row.numpy() for name, row in result.images.items()}), path)


def claims(result: Result) -> list[Claim]:
    """Claims on idempotence, the learned rank, restoration beside PCA, and latents of noise."""
    bounds = {"float32": 1e-5, "float64": 1e-12}
    gains = [row.psnr["projector"] - row.psnr["PCA"] for row in result.restoration]
    return [
        *(
            Claim.at_most(
                f"|f(f(x)) - f(x)|, {state}, {precision}, {case}", error, bounds[precision]
            )
            for (state, precision, case), error in result.twice.items()
        ),
        Claim.at_least("learned rank", result.rank, 2),
        Claim.at_least(
            "dimensions left out by the learned rank", result.dim - result.rank, result.dim / 2
        ),
        Claim.at_least(
            "share of corruptions and severities above PCA of the same rank", _share(gains), 0.8
        ),
        Claim.at_least("mean gain over PCA of the same rank, dB", sum(gains) / len(gains), 0.5),
        Claim.at_least(
            "latents of noise over those of data, untrained", result.noise["untrained"], 1.5
        ),
        Claim.at_most(
            "latents of noise over those of data, trained on noisy images too",
            result.noise["trained"],
            1.5,
        ),
    ]


def _share(gains: list[float]) -> float:
    return sum(gain > 0 for gain in gains) / len(gains)


@torch.no_grad()
def _twice(state: str, f: Projector, test: Tensor, seed: int) -> dict[tuple[str, str, str], float]:
    """The largest entries of ``|f(f(x)) - f(x)|`` in both precisions; ``f`` is left unchanged."""
    found = {}
    x = test[:200]
    cases = {"data": x, "noise": torch.randn(x.shape, generator=generator(seed))}
    cases["corrupted"] = torch.cat(
        [corrupt(x, kind, 0.4, generator(seed)).images for kind in CORRUPTIONS]
    )
    before = {name: part.clone() for name, part in f.state_dict().items()}
    for dtype in (torch.float32, torch.float64):
        f.to(dtype)
        for case, y in cases.items():
            once = f(y.to(dtype))
            found[state, str(dtype).removeprefix("torch."), case] = float(
                (f(once) - once).abs().max()
            )
    f.float().load_state_dict(before)
    return found


@torch.no_grad()
def _size(f: Projector, x: Tensor) -> float:
    """Root mean square of the latents that ``f`` keeps."""
    return f.coordinates(x).square().mean().sqrt().item()
