"""Restoration, anomaly detection and samples of a projector beside three peers on one budget.

The peers are PCA of the same rank, a convolutional autoencoder of as many parameters trained on
the same corrupted images, and a network that learns to be idempotent (Shocher et al. 2023). Each
has the same processor seconds.

    python benchmarks/projector.py           # digits, 40 seconds each: six minutes
    python benchmarks/projector.py --data mnist --rank 32 --seconds 120 --data-dir DATA
    python benchmarks/projector.py --restore --seeds 3           # beside ridge, U-Net, BM3D ...
    python benchmarks/projector.py --ways    # variants of the training of the projector, on digits

Trained models and finished seeds lie in ``--out``; the same command resumes. Each command writes
its own section of the page, and leaves the others as they are.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from _projector_peers import LearnedIdempotence, Reconstruction, autoencoder, size
from _restoration import tables
from torch import Tensor, nn

from rectilinear import datasets, metrics, plots, training
from rectilinear.errors import DataError
from rectilinear.invertible import Chain, Flatten, Rotation
from rectilinear.projector import (
    CORRUPTIONS,
    Projector,
    RandomCorruption,
    Selection,
    corrupt,
    gaussian,
    restoration,
)
from rectilinear.random import generator, seed_all
from rectilinear.recipes.base import Features
from rectilinear.recipes.projector import ProjectorRecipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from rectilinear.projector.restoration_table import Restoration
    from rectilinear.training import TrainConfig

OURS, PCA, AUTO, LEARNED = "projector", "PCA", "autoencoder", "learned idempotence"
WAYS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "additive couplings": {"coupling": "additive"},
    "clean images": {"corruptions": ()},
    "noise only": {"corruptions": ("noise",)},
    "tightness .01": {"tightness": 0.01},
    "likelihood .01": {"likelihood": 0.01},
    "nested ranks": {"nested": True},
    "learned rank": {"rank": None},
}
PAGE = Path(__file__).parent / "results" / "projector.md"
TITLE = "# Projectors: by construction, linear, and learned"
DENSITY = 0.2  # share of the projector's seconds for the density on its range


@dataclass(frozen=True, eq=False)
class Data:
    """Training data of all models, and the data that they are scored on."""

    train: Tensor
    test: Tensor
    real: Tensor
    anomalous: dict[str, Tensor]
    features: metrics.FeatureNetwork


def load(args: argparse.Namespace) -> Data:
    """Images, anomalous images, and the features in which samples are scored."""
    train, test = (
        datasets.load(args.data, split, args.data_dir).images for split in ("train", "test")
    )
    features = Features(args.data).train(
        args.features or args.out / args.data / "features", args.data_dir
    )
    few = test[: args.n]
    anomalous = {
        "uniform noise": torch.rand(few.shape, generator=generator(1)),
        "shuffled pixels": few.flatten(1)[
            :, torch.randperm(few[0].numel(), generator=generator(2))
        ].reshape(few.shape),
        "letters": datasets.letters(test.shape[-1], 0.72 if args.data == "mnist" else 1.0).images,
        "on their side": few.rot90(dims=(2, 3)),
    }
    if args.data == "mnist":
        try:
            anomalous["fashion"] = datasets.load("fashion_mnist", "test", args.data_dir).images[
                : args.n
            ]
        except DataError:
            print("no Fashion-MNIST images under --data-dir: left out")
    return Data(
        train, few, test if len(test) > 2000 else torch.cat([train, test]), anomalous, features
    )


def budget(config: TrainConfig, seconds: float) -> TrainConfig:
    """The same with a budget of processor seconds."""
    return replace(
        config,
        max_seconds=seconds,
        steps=10**6,
        clock="processor",
        device="cpu",
        evaluate_every=10**6,
    )


def projector(
    args: argparse.Namespace, data: Data, name: str, seconds: float, **changes: Any
) -> tuple[Projector, int]:
    """Ours, and its number of steps."""
    recipe = replace(ProjectorRecipe(data=args.data, rank=args.rank), **changes)
    recipe = replace(
        recipe,
        training=budget(recipe.training, (1 - DENSITY) * seconds),
        density=budget(recipe.density, DENSITY * seconds),
    )
    seed_all(args.seed)
    steps = 0
    for stage in recipe.stages(data.train):
        folder = args.out / args.data / f"{seconds:.0f}s" / name / stage.name
        result = training.train(stage.objective, stage.data, stage.training, folder, progress=False)
        steps = steps or result.step
    return stage.model.eval().requires_grad_(requires_grad=False), steps


def peer(args: argparse.Namespace, data: Data, name: str, objective: nn.Module) -> int:
    """Train a peer; its number of steps."""
    config = budget(ProjectorRecipe().training, args.seconds)
    folder = args.out / args.data / f"{args.seconds:.0f}s" / name.replace(" ", "-")
    result = training.train(objective, data.train, config, folder, progress=False)
    objective.eval().requires_grad_(requires_grad=False)
    return result.step


def pca(train: Tensor, rank: int) -> Projector:
    """The linear projector."""
    mean, axes, _ = metrics.pca(train)
    g = Chain(Flatten(tuple(train.shape[1:])), Rotation.from_matrix(axes.float(), mean.float()))
    return Projector(g, Selection.leading(len(mean), rank)).fitted(train, 0.05)


@torch.no_grad()
def idempotence(f: nn.Module, data: Data) -> dict[str, float]:
    """Largest ``|f(f(x)) - f(x)|`` on data, on noise and on corrupted images."""
    x = data.test[:300].to(next(iter(f.state_dict().values())).dtype)
    noise = torch.randn(x.shape, generator=generator(0), dtype=x.dtype)
    corrupted = torch.cat([corrupt(x[:60], kind, 0.4, generator(0)).images for kind in CORRUPTIONS])
    cases = {"data": x, "noise": noise, "corrupted": corrupted}
    return {name: float((f(f(case)) - f(case)).abs().max()) for name, case in cases.items()}


def compare(args: argparse.Namespace) -> str:
    """Train all, measure all: the table as Markdown."""
    data = load(args)
    untrained = next(
        ProjectorRecipe(data=args.data, rank=args.rank).stages(data.train)
    ).model.eval()
    ours, steps = projector(args, data, "projector", args.seconds)
    peers: dict[str, nn.Module] = {}
    counts = {OURS: steps}
    for name in filter(None, args.peers.split(",")):
        peers[name] = build(args, data, name, size(untrained))
        counts[name] = peer(args, data, name, peers[name])
    maps: dict[str, nn.Module] = {OURS: ours, PCA: pca(data.train, args.rank)}
    maps |= {name: objective.network for name, objective in peers.items()}
    rows = restoration(maps, data.test, seed=args.seed)
    draw(args, data, maps, ours, peers)
    lines = [*head(args, maps, counts), *restored(rows), *twice(data, untrained, maps)]
    return (
        "\n".join([*lines, *anomalies(data, maps), *samples(args, data, ours, maps[PCA], peers)])
        + "\n"
    )


def build(args: argparse.Namespace, data: Data, name: str, parameters: int) -> nn.Module:
    """A peer of as many parameters, untrained."""
    seed_all(args.seed)
    network = autoencoder(tuple(data.train.shape[1:]), args.rank, parameters)
    if name == AUTO:
        return Reconstruction(network, RandomCorruption(ProjectorRecipe().corruptions))
    return LearnedIdempotence(network, data.train)


def head(args: argparse.Namespace, maps: dict[str, nn.Module], counts: dict[str, int]) -> list[str]:
    """Title, command and sizes of the models."""
    command = f"python benchmarks/projector.py --data {args.data} --rank {args.rank}"
    command += f" --seconds {args.seconds:.0f}"
    ours = maps[OURS]
    assert isinstance(ours, Projector)
    sizes = {
        name: f"{size_of(ours.g if f is ours else f):,} parameters"
        for name, f in maps.items()
        if name in counts
    }
    trained = ", ".join(f"{name} {text}, {counts[name]:,} steps" for name, text in sizes.items())
    return [
        f"## {args.data}, rank {args.rank}, {args.seconds:.0f} processor seconds each\n",
        (
            f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, torch {torch.__version__}, float32, "
            f"{os.cpu_count()} busy cores."
        ),
        (
            f"{trained}; the density on the range has {size_of(ours) - size_of(ours.g):,} more. "
            "Steps are few:"
        ),
        (
            "the processor was busy, and its seconds short. A step of learned idempotence is four "
            "convolutional passes.\n"
        ),
    ]


def size_of(f: nn.Module) -> int:
    """All parameters, whether frozen or not."""
    return sum(p.numel() for p in f.parameters())


def restored(rows: list[Restoration]) -> list[str]:
    """PSNR by corruption and severity, the best in bold."""
    names = list(rows[0].psnr)
    best = [max(row.psnr, key=row.psnr.__getitem__) for row in rows]
    above = [
        f"above {name} in {sum(row.psnr[OURS] > row.psnr[name] for row in rows)}"
        for name in names[1:]
    ]
    lines = [
        "### Restoration, PSNR in dB\n",
        (
            "One application of each map; where *measurement*, 30 steps in turn with the observed "
            "pixels or blur. `salt` is a corruption"
        ),
        f"that none was trained on. Of {len(rows)} rows the projector is {', '.join(above)}.\n",
        f"| corruption | severity | | as seen | {' | '.join(names)} |",
        "|---|---|---|" + "---|" * (1 + len(names)),
    ]
    for row, winner in zip(rows, best, strict=True):
        cells = " | ".join(
            f"**{row.psnr[n]:.2f}**" if n == winner else f"{row.psnr[n]:.2f}" for n in names
        )
        seen = "" if row.corrupted == float("inf") else f"{row.corrupted:.2f}"
        lines.append(
            f"| {row.kind} | {row.severity:g} | {'measurement' if row.with_measurement else ''} | "
            f"{seen} | {cells} |"
        )
    return [*lines, ""]


def twice(data: Data, untrained: nn.Module, maps: dict[str, nn.Module]) -> list[str]:
    """Table of the idempotence errors of each map."""
    double = {"projector, untrained": untrained, **maps}
    lines = [
        "### Largest |f(f(x)) - f(x)|\n",
        "| map | precision | data | noise | corrupted |",
        "|---|---|---|---|---|",
    ]
    for name, f in double.items():
        for dtype in (torch.float32, torch.float64):
            errors = idempotence(f.to(dtype), data)
            lines.append(
                f"| {name} | {str(dtype)[6:]} | {' | '.join(f'{e:.1e}' for e in errors.values())} |"
            )
        f.to(torch.float32)
    return [*lines, ""]


@torch.no_grad()
def anomalies(data: Data, maps: dict[str, nn.Module]) -> list[str]:
    """Area under the curve for each score and each kind of anomalous image."""
    scores: dict[str, Callable[[Tensor], Tensor]] = {}
    for name in (OURS, PCA):
        for kind in ("residual", "complement", "likelihood"):
            scores[f"{name}, {kind}"] = lambda x, f=maps[name], kind=kind: f.scores(x)[kind]
    for name in [name for name in maps if name not in (OURS, PCA)]:
        scores[f"{name}, residual"] = lambda x, f=maps[name]: (x - f(x)).flatten(1).square().mean(1)
    lines = [
        (
            "### Anomalous images, AUROC against held-out images\n\n| score | "
            f"{' | '.join(data.anomalous)} |"
        )
    ]
    lines.append("|---|" + "---|" * len(data.anomalous))
    for name, score in scores.items():
        normal = score(data.test)
        areas = [metrics.roc(normal, score(x)).area for x in data.anomalous.values()]
        lines.append(f"| {name} | {' | '.join(f'{area:.3f}' for area in areas)} |")
    return [*lines, ""]


def samples(
    args: argparse.Namespace,
    data: Data,
    ours: Projector,
    linear: Projector,
    peers: dict[str, nn.Module],
) -> list[str]:
    """Fréchet distance, precision and recall of samples."""
    n = min(args.n, len(data.real) // 2)
    fakes = {
        "projector, splines on the range": ours.sample(n, generator(3)),
        "projector, Gaussian on the range": ours.fitted(data.train[:20_000], 0.05).sample(
            n, generator(3)
        ),
        "PCA, Gaussian": linear.sample(n, generator(3)),
    }
    with torch.no_grad():
        if AUTO in peers:
            network = peers[AUTO].network
            codes = gaussian(network.encoder(data.train[:5000]), 0.01)
            noise = torch.randn(n, codes.dim, generator=generator(3))
            fakes["autoencoder, Gaussian of its codes"] = network.decoder(codes.inverse(noise))
        if LEARNED in peers:
            fakes["learned idempotence, f(z)"] = peers[LEARNED].sample(n, generator(3))
            fakes["learned idempotence, f(f(z))"] = peers[LEARNED].network(
                fakes["learned idempotence, f(z)"]
            )
    floor = metrics.real_scores(data.real, data.features, n)
    lines = [
        f"### Samples, fd/{data.features.name}@{n}\n",
        "| samples | fd | precision | recall |",
        "|---|---|---|---|",
        f"| real images | {floor.fd:.2f} | {floor.precision:.3f} | {floor.recall:.3f} |",
    ]
    for name, fake in fakes.items():
        s = metrics.evaluate_samples(fake.clamp(0, 1), data.real, data.features, n, baseline=floor)
        lines.append(f"| {name} | {s.fd:.2f} | {s.precision:.3f} | {s.recall:.3f} |")
    return [*lines, ""]


def draw(
    args: argparse.Namespace,
    data: Data,
    maps: dict[str, nn.Module],
    ours: Projector,
    peers: dict[str, nn.Module],
) -> None:
    """Images of restorations and samples, saved beside the models."""
    folder = args.out / args.data / f"{args.seconds:.0f}s"
    x = data.test[:12]
    for kind, severity in (("noise", 0.5), ("occlusion", 0.375), ("blur", 0.1)):
        seen = corrupt(x, kind, severity, generator(0)).images
        with torch.no_grad():
            rows = {"seen": seen, **{name: f(seen) for name, f in maps.items()}, "true": x}
        plots.save(
            plots.strips({name: row.numpy() for name, row in rows.items()}), folder / f"{kind}.png"
        )
    made = {OURS: ours.sample(12, generator(0)), PCA: maps[PCA].sample(12, generator(0))}
    if LEARNED in peers:
        made[LEARNED] = peers[LEARNED].sample(12, generator(0))
    plots.save(
        plots.strips({name: row.numpy() for name, row in made.items()}), folder / "samples.png"
    )


def ways(args: argparse.Namespace) -> str:
    """Variants of training the projector, by mean PSNR over the severities of each corruption."""
    data = load(args)
    kinds = ("none", *CORRUPTIONS)
    lines = [
        f"## Ways to train it: {args.data}, {args.seconds:.0f} processor seconds each\n",
        (
            f"`python benchmarks/projector.py --ways --data {args.data} --rank {args.rank} "
            f"--seconds {args.seconds:.0f}`;"
        ),
        (
            "PSNR in dB, the mean over severities, of one application; AUROC of the likelihood "
            "against "
            "letters.\n"
        ),
        f"| way | rank | {' | '.join(kinds)} | letters | recall |",
        "|---|---|" + "---|" * (len(kinds) + 2),
    ]
    n = min(args.n, len(data.real) // 2)
    floor = metrics.real_scores(data.real, data.features, n)
    for way, changes in WAYS.items():
        f, _ = projector(args, data, f"way-{way.replace(' ', '-')}", args.seconds, **changes)
        rows = [
            row for row in restoration({way: f}, data.test, steps=1) if not row.with_measurement
        ]
        means = [[row.psnr[way] for row in rows if row.kind == kind] for kind in kinds]
        cells = " | ".join(f"{sum(values) / len(values):.2f}" for values in means)
        area = metrics.roc(
            f.scores(data.test)["likelihood"], f.scores(data.anomalous["letters"])["likelihood"]
        ).area
        fake = f.sample(n, generator(3)).clamp(0, 1)
        recall = metrics.evaluate_samples(fake, data.real, data.features, n, baseline=floor).recall
        lines.append(f"| {way} | {f.rank} | {cells} | {area:.3f} | {recall:.3f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train, measure, and write a part of the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--features", type=Path, help="folder of a trained feature network")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--n", type=int, default=1000, help="images to measure on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1, help="with --restore: means over so many")
    parser.add_argument("--peers", default=f"{AUTO},{LEARNED}", help="besides PCA")
    parser.add_argument("--ways", action="store_true")
    parser.add_argument("--restore", action="store_true", help="beside what a user would pick")
    parser.add_argument("--few", action="store_true", help="with --restore: fewer peers")
    parser.add_argument("--known", action="store_true", help="with --restore: known noise and mask")
    parser.add_argument("--components", type=int, default=50, help="of the prior, with --restore")
    parser.add_argument("--out", type=Path, default=Path("runs/projector"))
    parser.add_argument("--page", type=Path, default=PAGE, help="with one section from this run")
    args = parser.parse_args()
    torch.set_num_threads(1)
    part = ways(args) if args.ways else tables(args) if args.restore else compare(args)
    print(part)
    before = args.page.read_text(encoding="utf-8") if args.page.exists() else TITLE
    args.page.write_text(merged(before, part), encoding="utf-8")
    print(f"wrote {args.page}")


def merged(page: str, section: str) -> str:
    """The page with this section, in place of the one of the same name or at its end."""
    title, *sections = page.split("\n## ")
    found = {_name(text): text.strip() for text in sections}
    new = section.removeprefix("## ").strip()
    found[_name(new)] = new
    return "\n\n## ".join([title.strip(), *found.values()]) + "\n"


def _name(section: str) -> str:
    return section.partition(",")[0]


if __name__ == "__main__":
    main()
