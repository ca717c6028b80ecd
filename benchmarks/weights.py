"""The generators that come with the package: training, weights, scores and samples.

    python benchmarks/weights.py mnist --data-dir DATA --seconds 1500
    python benchmarks/weights.py mnist --data-dir DATA --steps 4000

Trains the recipe of that name for the processor seconds given (a tenth of them at most is for the
mixture), or for so many steps: only then the same command gives the same weights, to the bit on
machines that round alike. Rounds the weights to half precision, and fits the mixture to latents of the rounded
network. Writes ``src/rectilinear/recipes/weights/NAME``, prints the SHA-256 that belongs into
``src/rectilinear/recipes/packaged.py``, and scores the result. An interrupted training resumes.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rectilinear import datasets, metrics, training
from rectilinear.flow import LinearFlow, collapse
from rectilinear.operators import project_range, truncate
from rectilinear.random import generator, seed_all
from rectilinear.recipes import recipe_named
from rectilinear.recipes.base import Fitted, Labels
from rectilinear.recipes.packaged import FOLDER, halved
from rectilinear.tensor_files import WEIGHTS, file_sha256

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear.datasets import Images

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "mnist": ("mnist", {"noise": 0.05, "components": 20}),
    "fashion_mnist": ("mnist", {"noise": 0.05, "components": 20}),
    "digits": ("digits", {}),
}
"""The recipe of each, and its changes."""
FIRST = 0.95  # of the seconds, for the network


def trained(
    name: str, data: Images, seconds: float, steps: int | None, out: Path
) -> tuple[LinearFlow, float]:
    """The generator, and the processor seconds that it took."""
    kind, changes = SETTINGS[name]
    recipe = replace(recipe_named(kind), data=name, **changes)
    budget = replace(
        recipe.training,
        steps=steps or 10**7,
        max_seconds=None if steps else FIRST * seconds,
        clock="processor",
        device="cpu",
    )
    recipe = replace(recipe, training=budget)
    seed_all(budget.seed)
    spent = 0.0
    for stage in recipe.stages(data.images, Labels(data.labels, data.classes)):
        if isinstance(stage, Fitted):
            print(json.dumps(stage.record))
            model = stage.model
            continue
        result = training.train(stage.objective, stage.data, stage.training, out, progress=False)
        spent, start = result.seconds, time.process_time()
        round_to_half(stage.model)
    assert isinstance(model, LinearFlow)
    return model, spent + time.process_time() - start


@torch.no_grad()
def round_to_half(model: torch.nn.Module) -> None:
    """Every number of ``model`` as half precision has it; rotations stay orthogonal."""
    model.half().float()


def scores(g: LinearFlow, train: Images, test: Images, n: int, folder: Path) -> dict[str, Any]:
    """Samples against held-out images, in features of a classifier of the training images."""
    if not folder.exists():
        test_pair = (test.images, test.labels)
        metrics.train_features(
            train.images, train.labels, test_pair, name=train.name
        ).save_pretrained(folder)
    network = metrics.FeatureNetwork.from_pretrained(folder)
    real = test.images if len(test) >= 2 * n else torch.cat([train.images, test.images])
    baseline = metrics.real_scores(real, network, n)

    def score(images: Tensor) -> str:
        return str(metrics.evaluate_samples(images, real, network, n, baseline=baseline))

    order = torch.randperm(len(real), generator=generator(0))[n : 2 * n]
    kept = project_range(truncate(collapse(g), g.rank or g.velocity.dim))
    with torch.no_grad():
        decoded = torch.cat([kept(part) for part in real[order].split(500)]).clamp(0, 1)
    asked = torch.arange(len(g.classes)).repeat_interleave(200)
    drawn = torch.cat([g.given(c).sample(200, c) for c in range(len(g.classes))])
    return {
        "samples": score(g.sample(n, 1)),
        "limit, held-out images decoded at this rank": score(decoded),
        "samples of a class that the judge takes for it": float(
            (network.predict(drawn) == asked).float().mean()
        ),
        "held-out images classified by p(class | x)": float(
            (g.classify(test.images) == test.labels).float().mean()
        ),
    }


def main() -> None:
    """Train, save, score."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=SETTINGS)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seconds", type=float, default=1500.0)
    parser.add_argument("--steps", type=int, help="steps of the network instead of seconds")
    parser.add_argument("--n", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path("runs/weights"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    train, test = (datasets.load(args.name, s, args.data_dir) for s in ("train", "test"))
    model, seconds = trained(args.name, train, args.seconds, args.steps, args.out / args.name)
    halved(model).save_pretrained(FOLDER / args.name)
    print(f"{args.name}: {seconds:.0f} s, SHA-256 {file_sha256(FOLDER / args.name / WEIGHTS)}")
    model = halved(model).float().requires_grad_(requires_grad=False)
    n = min(args.n, (len(train) + len(test)) // 2)
    print(json.dumps(scores(model, train, test, n, args.out / f"{args.name}-features"), indent=1))


if __name__ == "__main__":
    main()
