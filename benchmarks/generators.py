"""One-step generators on one budget: the objectives of rectilinear, flow matching and MeanFlow.

    python benchmarks/generators.py --data-dir DATA --seconds 480 [--rows nested-critic,likelihood]

Every row trains for the same processor seconds on the same images, and is scored in the same
features on the same number of samples. A finished row is not trained again, an interrupted one
resumes. So rows may be added later, or run in parallel, one process each. Writes
``results/generators-<data>-<seconds>s.md`` from all rows, with ``-seed<n>`` in its name for a
seed other than 0.
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
from rectilinear.recipes import recipe_named
from rectilinear.recipes.base import Fitted, Labels

sys.path.insert(0, str(Path(__file__).parent))
from _peers import FlowMatching, MeanFlow

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

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
PEERS: dict[str, tuple[type, tuple[int, ...]]] = {
    "flow-matching": (FlowMatching, (1, 2, 4, 8, 50)),
    "meanflow": (MeanFlow, (1,)),
}
RANKS = (8, 16, 32, 64)
SCALE = 1.2  # of the noise, as a second way to sample: recall for precision
FIRST = {"mixture": 0.94, "splines": 0.6}  # part of the seconds for the first of two stages


def flow_row(
    row: str, args: argparse.Namespace, folder: Path, train: Tensor, test: Tensor
) -> tuple[Any, ...]:
    """Train one of our objectives: (samplers, facts)."""
    recipe = replace(recipe_named(args.data), **OURS[row])
    first = args.seconds * (FIRST[recipe.density_model] if recipe.latents else 1)
    recipe = replace(
        recipe,
        training=budget(recipe.training, first, args.seed),
        density=budget(recipe.density, args.seconds - first or 1, args.seed),
    )
    results, fitted = [], 0.0
    known = datasets.load(args.data, "train", args.data_dir)
    for stage in recipe.stages(train, Labels(known.labels, known.classes)):
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
        samplers |= {f"one step, rank {k}": rl.truncate(f, k) for k in (16, 32, 64, 128)}
        samplers |= {
            f"one step, rank {k}, noise x {SCALE}": lambda z, k=k: rl.truncate(f, k)(SCALE * z)
            for k in (16, 32)
        }
        samplers["one step, denoised"] = lambda z: denoise(f, f(z), recipe.noise)
        facts["bits"] = float(bits_per_dimension(f, test[:2000]).mean())
    measured = size(flow, results)
    measured["seconds"] += fitted
    return samplers, facts | measured


def peer_row(row: str, args: argparse.Namespace, folder: Path, train: Tensor) -> tuple[Any, ...]:
    """Train a peer: (samplers, facts)."""
    make, counts = PEERS[row]
    peer = make()
    config = training.TrainConfig(
        steps=10**7, max_seconds=args.seconds, batch_size=64, lr=1e-3, betas=(0.9, 0.99), warmup=200,
        schedule="cosine", ema=0.998, device="cpu", seed=args.seed, clock="processor",
    )  # fmt: skip
    result = training.train(peer, train, config, folder, progress=False)
    samplers = {f"{k} step{'s' * (k > 1)}": (lambda z, k=k: peer.sample(z, k)) for k in counts}
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


def score(row: str, args: argparse.Namespace, folder: Path, train: Tensor, test: Tensor) -> None:
    """Train and score one row; ``folder`` gets ``rows.json`` and an image of samples a method."""
    torch.manual_seed(args.seed)
    made = (
        flow_row(row, args, folder, train, test)
        if row in OURS
        else peer_row(row, args, folder, train)
    )
    samplers, facts = made
    features, floor = judge(args, train, test)
    noise = torch.randn(args.n, *train.shape[1:], generator=torch.Generator().manual_seed(1))
    rows = []
    for name, sampler in samplers.items():
        start = time.perf_counter()
        fake = torch.cat([sampler(part).detach() for part in noise.split(1000)]).clamp(0, 1)
        seconds = (time.perf_counter() - start) * 1000 / args.n
        scores = metrics.evaluate_samples(fake, test, features, args.n, baseline=floor)
        rows.append({"row": row, "sampling": name, "fd": scores.fd, "precision": scores.precision,
                     "recall": scores.recall, "name": scores.name, "floor": scores.fd_real,
                     "recall_real": scores.recall_real, "seconds_per_1000": seconds, **facts})  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
        (folder / f"{name.replace(', ', '-').replace(' ', '-')}.png").write_bytes(
            png(grid(fake[:100], columns=20), 2)
        )
    write_json(folder / "rows.json", rows)


def judge(
    args: argparse.Namespace, train: Tensor, test: Tensor
) -> tuple[metrics.FeatureNetwork, Any]:
    """The feature network, trained once, and the scores of real images."""
    folder = args.out / args.data / "features"
    if not folder.exists():
        labels = [
            datasets.load(args.data, split, args.data_dir).labels for split in ("train", "test")
        ]
        metrics.train_features(train, labels[0], (test, labels[1]), name=args.data).save_pretrained(
            folder
        )
    features = metrics.FeatureNetwork.from_pretrained(folder)
    return features, metrics.real_scores(test, features, args.n)


def table(args: argparse.Namespace, folder: Path, train: Tensor, test: Tensor) -> str:
    """All rows of ``folder`` that are done, as Markdown."""
    paths = [folder / row / "rows.json" for row in (*OURS, *PEERS)]
    rows = [row for path in paths if path.exists() for row in json.loads(path.read_text())]
    command = f"python benchmarks/generators.py --data {args.data} --seconds {args.seconds:.0f}"
    command += f" --n {args.n}"
    command += f" --seed {args.seed}" * bool(args.seed)
    lost = ", ".join(f"{e:.4f}" for e in metrics.pca_curve(train, test[:2000], RANKS).tolist())
    judge_line = (
        f"{rows[0]['name']}: floor (real against real) {rows[0]['floor']:.3f}, recall of real "
        "images "
        f"{rows[0]['recall_real']:.3f}. Bits per dimension are of the model of noisy data. Errors "
        "are held-out, "
        f"behind the leading {', '.join(map(str, RANKS))} singular directions; PCA's are {lost}.\n"
    )
    lines = [
        f"# Generators on {args.data}, {args.seconds:.0f} seconds of one processor each\n",
        (
            f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, torch "
            f"{torch.__version__}, float32.\n"
        ),
        judge_line,
        (
            "| objective | sampling | fd | precision | recall | bits/dim | s/1,000 | parameters | "
            "images seen | errors |"
        ),
        "|" + "---|" * 10,
    ]
    for r in rows:
        bits = "" if r["bits"] is None else f"{r['bits']:.2f}"
        errors = ", ".join(f"{e:.4f}" for e in r["rank_errors"] or ())
        lines.append(
            f"| {r['row']} | {r['sampling']} | {r['fd']:.2f} | {r['precision']:.3f} | "
            f"{r['recall']:.3f} | {bits} "
            f"| {r['seconds_per_1000']:.2f} | {r['parameters']:,} | {r['images_seen']:,} | "
            f"{errors} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train, score, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--rows", default=",".join([*OURS, *PEERS]))
    parser.add_argument("--n", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/generators"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    train, test = (
        datasets.load(args.data, split, args.data_dir).images for split in ("train", "test")
    )
    kind = f"{args.seconds:.0f}s" + (f"-seed{args.seed}" if args.seed else "")
    folder = args.out / args.data / kind
    for row in filter(None, args.rows.split(",")):
        if not (folder / row / "rows.json").exists():
            score(row, args, folder / row, train, test)
    result = Path(__file__).parent / "results" / f"generators-{args.data}-{kind}.md"
    result.write_text(table(args, folder, train, test))
    print(f"wrote {result}")


if __name__ == "__main__":
    main()
