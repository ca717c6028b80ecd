"""One-step generators on one budget: the objectives of rectilinear and their peers.

    python benchmarks/generators.py --data-dir DATA --seconds 480 [--rows nested-mixture,likelihood]

Peers are flow matching, MeanFlow, a Glow of normflows, and the codes of a convolutional autoencoder
or of PCA with the same Gaussian mixture that the nested generator fits to its latents. "Held-out
images" are the limit of a decoder: images that are neither of the training nor of the reference,
encoded, cut to the rank and decoded. Of 500 samples or fewer, scores are means of four draws.

Every row trains for the same processor seconds on the same images, and is scored in the same
features on the same number of samples, ``--n`` or half of the test images. The features are of a
network that tells the classes apart; of images of fewer than four classes, turned and flipped, it
tells the orientation. A finished row is not trained again, an interrupted one
resumes. So rows may be added later, or run in parallel, one process each. Writes
``results/generators-<data>-<seconds>s.md`` from all rows, with ``-seed<n>`` in its name where the
first seed is not 0. Of several seeds it has means and ranges.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from _page import options

import rectilinear as rl
from rectilinear import datasets, metrics, training
from rectilinear.config import write_json
from rectilinear.flow import (
    LinearFlow,
    LowRankEndpoint,
    bits_per_dimension,
    collapse,
    denoise,
    objectives,
)
from rectilinear.invertible import Chain, Flatten, VectorFlow
from rectilinear.plots.charts import grid, png
from rectilinear.random import generator
from rectilinear.recipes import recipe_named
from rectilinear.recipes.base import Fitted, Labels
from rectilinear.recipes.generators import latents_for
from rectilinear.report.evaluate import nearest_images

sys.path.insert(0, str(Path(__file__).parent))
from _mixture_peers import Autoencoder, PrincipalComponents, mixture_of_codes
from _peers import FlowMatching, Glow, MeanFlow

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from rectilinear.datasets import Images

    Sampler = Callable[[Tensor], Tensor]

_ALONE = {"nested": 0.0, "latents": 0}
OURS: dict[str, dict[str, Any]] = {
    "nested-mixture": {},
    "nested-density": {"density_model": "splines"},
    "nested": {"latents": 0},
    "likelihood": _ALONE,
    "solved": _ALONE,
    "paper": _ALONE,
}
PEERS: dict[str, tuple[type, dict[str, float]]] = {  # of ways to sample
    "flow-matching": (FlowMatching, {f"{k} step{'s' * (k > 1)}": k for k in (1, 2, 4, 8, 50)}),
    "meanflow": (MeanFlow, {"1 step": 1}),
    "glow": (Glow, {"one step": 1.0, "one step, temperature 0.7": 0.7}),
}
CODES = ("autoencoder-mixture", "pca-mixture")  # peers that are a code and a mixture
PACKAGED = "packaged"  # the trained weights of that name that come with the package
ROWS = (*OURS, PACKAGED, *CODES, *PEERS)
RANKS = (8, 16, 32, 64)
FORMATS = {"fd": ".2f", "precision": ".3f", "recall": ".3f", "nearest": ".3f", "bits": ".2f",
         "seconds_per_1000": ".2f"}  # fmt: skip
LIMIT = "held-out images"  # in place of samples
JUDGED_CLASSES = 4  # from which on classes are what a judge tells apart
NEAREST = 500  # samples whose nearest training images are found
FEW, DRAWS = 500, 4  # samples so few that scores are means of four draws
SCALE = 1.2  # of the noise, as a second way to sample: recall for precision
FIRST = {"mixture": 0.85, "splines": 0.6}  # part of the seconds for the first of two stages


def flow_row(
    row: str, args: argparse.Namespace, folder: Path, known: Images, test: Tensor
) -> tuple[Any, ...]:
    """Train one of our objectives: (samplers, facts)."""
    train = known.images
    recipe = recipe_named(args.recipe).fitted_to(train)
    recipe = replace(recipe, components=args.components, **OURS[row])
    first = args.seconds * (FIRST[recipe.density_model] if recipe.latents else 1)
    recipe = replace(
        recipe,
        training=budget(recipe.training, first, args.seed),
        density=budget(recipe.density, args.seconds - first or 1, args.seed),
    )
    results, fitted = [], 0.0
    for stage in recipe.stages(train, labels_of(known)):
        flow = stage.model
        if isinstance(stage, Fitted):
            fitted = stage.record["seconds"]
            continue
        objective = stage.objective
        if row == "solved":
            objective = objectives.solved(flow)
        if row == "paper":
            n = train[0].numel()
            g_noise = Chain(
                Flatten(tuple(train.shape[1:])), VectorFlow(n, blocks=4, width=recipe.width)
            )
            flow = LinearFlow(flow.g_data, g_noise, LowRankEndpoint(n, rank=8))
            objective = objectives.paper(flow)
        result = training.train(
            objective, stage.data, stage.training, folder / stage.name, progress=False
        )
        results.append((result, stage.training))
    flow.requires_grad_(requires_grad=False)
    f = collapse(flow, steps=100)
    samplers: dict[str, Sampler] = {"one step": f}
    facts = {"rank_errors": rank_errors(f, test[:2000]), "bits": None}
    if row not in ("solved", "paper"):
        full = recipe.rank or n_values(train)
        ranks = sorted({k for k in (16, 32, 64, full) if k <= n_values(train)})
        samplers |= {f"one step, rank {k}": rl.truncate(f, k) for k in ranks}
        samplers[f"{LIMIT}, rank {full}"] = rl.project_range(rl.truncate(f, full))
        if not recipe.latents or recipe.density_model == "splines":
            samplers[f"one step, rank {full}, noise x {SCALE}"] = lambda z: rl.truncate(f, full)(
                SCALE * z
            )
            samplers["one step, denoised"] = lambda z: denoise(f, f(z), recipe.noise)
        facts["bits"] = float(bits_per_dimension(f, test[:2000]).mean())
    measured = size(flow, results)
    measured["seconds"] += fitted
    return samplers, facts | measured


def packaged_row(args: argparse.Namespace, test: Tensor) -> tuple[Any, ...]:
    """The weights that come with the package, whatever their training took: see docs/models.md."""
    f = collapse(g := rl.load(args.data))
    kept = rl.project_range(rl.truncate(f, g.rank))
    samplers: dict[str, Sampler] = {f"one step, rank {k}": rl.truncate(f, k) for k in (16, g.rank)}
    samplers[f"{LIMIT}, rank {g.rank}"] = kept
    facts = {"rank_errors": rank_errors(f, test[:2000]), "bits": None, "images_seen": 0}
    return samplers, facts | {"parameters": sum(p.numel() for p in g.parameters()), "seconds": 0.0}


def code_row(row: str, args: argparse.Namespace, folder: Path, known: Images) -> tuple[Any, ...]:
    """Train a code, and fit the mixture to it: (samplers, facts)."""
    train = known.images
    codes = latents_for(len(train), n_values(train))  # as many as the nested generator has
    codec: Any
    start, results = time.process_time(), []
    if row == "pca-mixture":
        codec = PrincipalComponents(train, codes)
    else:
        codec = Autoencoder(tuple(train.shape[1:]), codes)
        config = peer_config(args, FIRST["mixture"])
        results = [(training.train(codec, train, config, folder, progress=False), config)]
        start = time.process_time()
    recipe = replace(recipe_named(args.recipe), components=args.components)
    density = mixture_of_codes(codec, train, labels_of(known), recipe, args.seed)
    fitted = time.process_time() - start
    samplers: dict[str, Sampler] = {
        f"one step, {codes} codes": lambda z: codec.decode(
            density.inverse(z.flatten(1)[:, :codes])
        ),
        f"{LIMIT}, {codes} codes": lambda x: codec.decode(codec.encode(x)),
    }
    model = torch.nn.ModuleList([codec, density] if results else [density])
    facts = {"rank_errors": None, "bits": None} | size(model, results)
    facts["seconds"] += fitted
    return samplers, facts


def labels_of(known: Images) -> Labels | None:
    """The labels of data with classes."""
    return Labels(known.labels, known.classes) if len(known.classes) > 1 else None


def n_values(images: Tensor) -> int:
    """Values of an image."""
    return images[0].numel()


def peer_config(args: argparse.Namespace, share: float = 1.0) -> training.TrainConfig:
    """The training of peers, in batches of the size of the recipe's."""
    return training.TrainConfig(
        steps=10**7, max_seconds=share * args.seconds, lr=1e-3, betas=(0.9, 0.99),
        batch_size=recipe_named(args.recipe).training.batch_size, warmup=200, schedule="cosine", ema=0.998, device="cpu", seed=args.seed, clock="processor",
    )  # fmt: skip


def peer_row(row: str, args: argparse.Namespace, folder: Path, train: Tensor) -> tuple[Any, ...]:
    """Train a peer: (samplers, facts)."""
    make, ways = PEERS[row]
    config = peer_config(args)
    peer = make(train[: config.batch_size])
    result = training.train(peer, train, config, folder, progress=False)
    samplers = {name: (lambda z, way=way: peer.sample(z, way)) for name, way in ways.items()}
    return samplers, {"rank_errors": None, "bits": None} | size(peer, [(result, config)])


def budget(config: training.TrainConfig, seconds: float, seed: int) -> training.TrainConfig:
    """The same training with a budget of processor seconds."""
    return replace(
        config, steps=10**7, max_seconds=seconds, clock="processor", device="cpu", seed=seed
    )


def size(
    model: torch.nn.Module, results: list[tuple[training.TrainResult, training.TrainConfig]]
) -> dict[str, Any]:
    """Parameters, steps and seconds of a row."""
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "images_seen": sum(result.step * config.batch_size for result, config in results),
        "seconds": sum(result.seconds for result, _ in results),
    }


def rank_errors(f: rl.Linearizer, images: Tensor) -> list[float]:
    """Held-out mean square error of ``f`` truncated to each rank of ``RANKS``."""
    u, space = rl.svd(f.operator).u, f.out_space
    coordinates = u.apply_adjoint(space.encode(images))
    kept = [coordinates * (torch.arange(coordinates.shape[1]) < k) for k in RANKS]
    return [float((space.decode(u(z)) - images).square().mean()) for z in kept]


def score(row: str, args: argparse.Namespace, folder: Path, known: Images, test: Images) -> None:
    """Train and score one row; ``folder`` gets ``rows.json`` and an image of samples a method."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    if row in OURS:
        samplers, facts = flow_row(row, args, folder, known, test.images)
    elif row == PACKAGED:
        samplers, facts = packaged_row(args, test.images)
    elif row in CODES:
        samplers, facts = code_row(row, args, folder, known)
    else:
        samplers, facts = peer_row(row, args, folder, known.images)
    features, floor = judge(args, known, test)
    random = torch.Generator().manual_seed(1)
    count = args.n * (DRAWS if args.n <= FEW else 1)
    noise = torch.randn(count, *known.images.shape[1:], generator=random)
    real, rows = test.images, []
    far = float(nearest_images(real[:NEAREST], known.images)[1].median())
    others = real[torch.randperm(len(real), generator=generator(0))[args.n : 2 * args.n]]
    for name, sampler in samplers.items():
        start = time.process_time()
        given = (others if name.startswith(LIMIT) else noise).split(1000)
        with torch.set_grad_enabled("denoised" in name):
            drawn = torch.cat([sampler(part).detach() for part in given]).clamp(0, 1)
        seconds = (time.process_time() - start) * 1000 / len(drawn)
        scores = [
            metrics.evaluate_samples(fake, real, features, args.n, baseline=floor)
            for fake in drawn.split(args.n)
        ]
        fake = drawn[: args.n]
        near, apart = nearest_images(fake[:NEAREST], known.images)
        found = {"name": scores[0].name, "draws": len(scores)}
        for key in ("fd", "precision", "recall"):
            found[key] = sum(getattr(one, key) for one in scores) / len(scores)
        found |= {"floor": scores[0].fd_real, "recall_real": scores[0].recall_real}
        found |= {"nearest": float(apart.median()), "nearest_real": far}
        found |= {"row": row, "sampling": name, "seconds_per_1000": seconds}
        rows.append(found | facts)
        print(json.dumps(rows[-1]), flush=True)
        (folder / f"{name.replace(', ', '-').replace(' ', '-')}.png").write_bytes(
            png(grid(fake[:100], columns=20), 2)
        )
        pairs = torch.cat([fake[:20], known.images[near[:20]]])
        (folder / f"nearest-{len(rows)}.png").write_bytes(png(grid(pairs, columns=20), 2))
    write_json(folder / "rows.json", rows)


def judge(
    args: argparse.Namespace, known: Images, test: Images
) -> tuple[metrics.FeatureNetwork, Any]:
    """The feature network, trained once, and the scores of real images."""
    folder = args.out / args.data / "features"
    if not folder.exists():
        pair = told_apart(known), told_apart(test)
        features = metrics.train_features(*pair[0], pair[1], name=known.name)
        features.save_pretrained(folder)
    features = metrics.FeatureNetwork.from_pretrained(folder)
    return features, metrics.real_scores(test.images, features, args.n)


def told_apart(data: Images) -> tuple[Tensor, Tensor]:
    """What a judge tells apart: the classes, or where they are few, an orientation of each image."""
    if len(data.classes) >= JUDGED_CLASSES:
        return data.images, data.labels
    kind = torch.arange(len(data)) % 8
    flipped = torch.where((kind < 4)[:, None, None, None], data.images, data.images.flip(3))
    turned = [flipped.rot90(k, (2, 3)) for k in range(4)]
    return torch.stack(turned)[kind % 4, torch.arange(len(data))], kind


def table(args: argparse.Namespace, folders: list[Path], train: Tensor, test: Tensor) -> str:
    """All rows of the ``folders``, one of each seed, that are done, as Markdown."""
    rows = grouped(folders)
    first = rows[0][0]
    command = f"python benchmarks/generators.py --data {args.data} --seconds {args.seconds:.0f}"
    command += f" --n {args.n}"
    command += f" --recipe {args.recipe}" * (args.recipe != args.data)
    command += f" --components {args.components}" * (args.components is not None)
    command += f" --seed {args.seed}" * bool(args.seed)
    command += f" --seeds {args.seeds}" * (args.seeds > 1)
    lost = ", ".join(f"{e:.4f}" for e in metrics.pca_curve(train, test[:2000], RANKS).tolist())
    several = "Means of the seeds that a row names; in brackets the least and the largest. "
    judge_line = (
        f"{first['name']}: of real images against real ones {first['floor']:.3f}, recall of real "
        f"images {first['recall_real']:.3f}. Trained on {len(train):,} images. "
        + several
        * (args.seeds > 1)
        + "Bits per dimension are of the model of noisy data. Errors are held-out, behind the "
        f"leading {', '.join(map(str, RANKS))} singular directions; PCA's are {lost}.\n"
    )
    if (draws := max(r.get("draws", 1) for same in rows for r in same)) > 1:
        judge_line = f"{judge_line.rstrip()} Scores of samples are means of {draws} draws.\n"
    if measured := [r["nearest_real"] for same in rows for r in same if "nearest_real" in r]:
        judge_line = judge_line.rstrip() + (
            ' "Nearest" is the root mean square difference of pixels between a sample and the '
            "nearest training image, the median; of held-out images it is "
            f"{measured[0]:.3f}.\n"
        )
    columns = ["row", *["seeds"] * (args.seeds > 1), "sampling", "fd", "precision", "recall"]
    columns += ["nearest", "bits/dim", "s/1,000", "parameters", "seconds", "images seen", "errors"]
    lines = [
        f"# Generators on {args.data}, {args.seconds:.0f} seconds of one processor each\n",
        (
            f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, torch "
            f"{torch.__version__}, float32.\n"
        ),
        judge_line,
        f"| {' | '.join(columns)} |",
        "|" + "---|" * len(columns),
    ]
    lines += [f"| {' | '.join(cells(same, args.seeds > 1))} |" for same in rows]
    return "\n".join(lines) + "\n"


def grouped(folders: list[Path]) -> list[list[dict[str, Any]]]:
    """The finished rows, those of several seeds together."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in ROWS:
        for path in (folder / row / "rows.json" for folder in folders):
            for one in json.loads(path.read_text()) if path.exists() else ():
                found.setdefault((row, one["sampling"]), []).append(one)
    return list(found.values())


def cells(same: list[dict[str, Any]], several: bool) -> list[str]:
    """The cells of a row of the table: the mean and the range over seeds."""

    def text(key: str, form: str) -> str:
        values = [r[key] for r in same if r.get(key) is not None]
        if not values:
            return ""
        mean = format(sum(values) / len(values), form)
        return mean + f" ({min(values):{form}} to {max(values):{form}})" * (len(values) > 1)

    errors = zip(*(r["rank_errors"] or () for r in same), strict=True)
    mean = {key: sum(r[key] for r in same) / len(same) for key in ("seconds", "images_seen")}
    return [
        same[0]["row"],
        *[str(len(same))] * several,
        same[0]["sampling"],
        *(text(key, form) for key, form in FORMATS.items()),
        f"{same[0]['parameters']:,}",
        *([f"{mean['seconds']:.0f}", f"{mean['images_seen']:,.0f}"] if mean["seconds"] else "  "),
        ", ".join(f"{sum(e) / len(e):.4f}" for e in errors),
    ]


def main() -> None:
    """Train, score, and write the table."""
    parser = options(__doc__)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--n", type=int, default=5000)
    parser.add_argument("--components", type=int, help="of a class; as in the recipe if none")
    parser.add_argument("--recipe", help="by default that of the name of the data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds from --seed on")
    parser.add_argument("--out", type=Path, default=Path("runs/generators"))
    args = parser.parse_args()
    args.recipe = args.recipe or args.data
    torch.set_num_threads(1)
    train, test = (datasets.load(args.data, split, args.data_dir) for split in ("train", "test"))
    args.n = min(args.n, len(test) // 2)
    first, folders = args.seed, []
    for seed in range(first, first + args.seeds):
        args.seed = seed
        kind = f"{args.seconds:.0f}s" + (f"-seed{args.seed}" if args.seed else "")
        folders.append(folder := args.out / args.data / kind)
        for row in filter(None, args.rows.split(",")):
            if not (folder / row / "rows.json").exists() and (row != PACKAGED or not args.seed):
                score(row, args, folder / row, train, test)
    args.seed = first
    result = Path(__file__).parent / "results" / f"generators-{args.data}-{folders[0].name}.md"
    result.write_text(table(args, folders, train.images, test.images))
    print(f"wrote {result}")


if __name__ == "__main__":
    main()
