"""The generators that come with the package: training, weights, scores and samples.

    make weights DATA=FOLDER                                            # all of them, an hour
    python benchmarks/weights.py mnist --data-dir DATA --seconds 1200
    python benchmarks/weights.py mnist --data-dir DATA --steps 4000
    python benchmarks/weights.py mnist --data-dir DATA --refit

Trains the recipe of each name for the processor seconds given (a twentieth of them at most is for
the mixture), or for so many steps: only then the same command gives the same weights, to the bit on
machines that round alike. ``--refit`` keeps the network of the package and fits the mixture alone.
Rounds the weights to half precision, and fits the mixture to latents of the rounded network. Writes
``src/rectilinear/recipes/weights/NAME``, and a card, ``NAME-card.json``, with the scores and the
SHA-256 that belongs into ``src/rectilinear/recipes/packaged.py``. An interrupted training resumes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from _page import options

from rectilinear import datasets, metrics, training
from rectilinear.config import write_json
from rectilinear.flow import LinearFlow, collapse
from rectilinear.operators import project_range, truncate
from rectilinear.random import generator, seed_all
from rectilinear.recipes import recipe_named
from rectilinear.recipes.base import Fitted, Labels
from rectilinear.recipes.generators import Nested
from rectilinear.recipes.packaged import FOLDER, halved, load_generator
from rectilinear.tensor_files import WEIGHTS, file_sha256

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear.datasets import Images

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "mnist": ("mnist", {}),
    "fashion_mnist": ("mnist", {}),
    "digits": ("digits", {}),
}
"""The recipe of each, and its changes."""
SECONDS = {"mnist": 1200, "fashion_mnist": 1200, "digits": 63}
FIRST = 0.95  # of the seconds, for the network


def recipe_of(name: str) -> Nested:
    """The recipe of a generator of the package."""
    kind, changes = SETTINGS[name]
    recipe = replace(recipe_named(kind), data=name, **changes)
    assert isinstance(recipe, Nested)
    return recipe


def refitted(name: str, data: Images) -> tuple[LinearFlow, float]:
    """The generator of the package with another mixture, and the processor seconds of it."""
    g, start = load_generator(name), time.process_time()
    first = LinearFlow(
        g.g_data.blocks[0], g.g_noise, g.velocity, noise_level=g.noise_level, rank=g.rank,
        limits=g.limits,
    )  # fmt: skip
    first = halved(first).float()
    found = recipe_of(name).fit_density(first, data.images, Labels(data.labels, data.classes))
    print(json.dumps(found.record))
    assert isinstance(found.model, LinearFlow)
    return found.model, time.process_time() - start


def trained(
    name: str, data: Images, seconds: float, steps: int | None, out: Path
) -> tuple[LinearFlow, float]:
    """The generator, and the processor seconds that it took."""
    recipe = recipe_of(name)
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
        stage.model.load_state_dict(halved(stage.model).float().state_dict())
    assert isinstance(model, LinearFlow)
    return model, spent + time.process_time() - start


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


def make(name: str, args: argparse.Namespace) -> None:
    """Train, save, score, and write the card of one generator."""
    train, test = (datasets.load(name, split, args.data_dir) for split in ("train", "test"))
    if args.refit:
        model, seconds = refitted(name, train)
    else:
        model, seconds = trained(
            name, train, args.seconds or SECONDS[name], args.steps, args.out / name
        )
    half = halved(model)
    half.save_pretrained(FOLDER / name)
    model = half.float().requires_grad_(requires_grad=False)
    n = min(args.n, (len(train) + len(test)) // 2)
    card = {
        "command": " ".join(["python", "benchmarks/weights.py", *sys.argv[1:]]),
        "sha256": file_sha256(FOLDER / name / WEIGHTS),
        "processor_seconds": seconds,
        "images": len(train),
        **scores(model, train, test, n, args.out / f"{name}-features"),
    }
    write_json(args.out / f"{name}-card.json", card)
    print(f"{name}: {json.dumps(card, indent=1)}")


def main() -> None:
    """Make each of the generators named."""
    parser = options(__doc__)
    parser.add_argument("names", nargs="*", choices=[*SETTINGS, []], help="all by default")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seconds", type=float, help=f"of each; by default {SECONDS}")
    parser.add_argument("--steps", type=int, help="steps of the network instead of seconds")
    parser.add_argument("--refit", action="store_true", help="the mixture alone")
    parser.add_argument("--n", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path("runs/weights"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.names or SETTINGS:
        make(name, args)


if __name__ == "__main__":
    main()
