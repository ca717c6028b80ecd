"""Tables of ``projector.py --restore``: restoration beside what a user would pick, and drift.

Each peer that is trained has the processor seconds of the projector. BM3D needs the package
``bm3d``, TV, NLM and biharmonic inpainting need scikit-image: without them their columns stay out.
"""

from __future__ import annotations

import json
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import torch
from _projector_peers import Reconstruction, UNet, autoencoder
from sklearn.ensemble import IsolationForest
from torch import Tensor, nn

from rectilinear import datasets, metrics
from rectilinear.projector import (
    CombinedPrior,
    ImagePrior,
    Overlapping,
    Projector,
    ProjectorObjective,
    RandomCorruption,
    corrupt,
    fit_blind,
    fit_combined,
    fit_prior,
    from_pca,
    restore,
)
from rectilinear.projector.prior import random_patches
from rectilinear.projector.restoration_table import restoration_psnr
from rectilinear.random import generator, seed_all
from rectilinear.style.photos import read_photos

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    Map = Callable[[Tensor], Tensor]

KINDS = ("noise", "missing", "occlusion", "blur")
CASES = {
    "noise": (0.1, 0.25, 0.5),
    "missing": (0.25, 0.5, 0.75),
    "occlusion": (0.25, 0.375, 0.5),
    "blur": (0.04, 0.06, 0.1),
}
PHOTO_CASES = {
    "noise": (15 / 255, 25 / 255, 50 / 255),
    "missing": (0.25, 0.5, 0.75),
    "occlusion": (0.125, 0.25),
}
SIDE, PATCH, PATCH_RANK = 64, 8, 16  # of tiles of photos, their patches, and PCA of these
RIDGE_ROWS, RIDGE = 40_000, 30.0
OURS, PATCHES, BOTH = "prior", "prior of patches", "both"
F, PCA, SEEN = "projector f(y)", "PCA", "as seen"


Table = dict[tuple[str, ...], dict[str, float]]
"""A row of numbers by column, for each row by what is written before it."""


def tables(args: argparse.Namespace) -> str:
    """All tables of one data set, as Markdown: means over the seeds."""
    found: list[dict[str, Table]] = []
    texts = []
    for seed in range(args.seed, args.seed + args.seeds):
        tables_of_seed, text = kept(args, seed)
        found.append(tables_of_seed)
        texts.append(text)
    photos = args.data == "photos" and args.data_dir is not None
    options = (
        f"--n {args.n}{f' --components {args.components}' * (not photos)} --seeds {args.seeds}"
    )
    lines = [
        f"## {'Known noise or mask' if args.known else 'Restoration'}: {args.data}, {args.n} held-out images, {args.seeds} seed{'s'[: args.seeds > 1]}\n",
        (
            f"`python benchmarks/projector.py --restore --data {args.data} {options}"
            f"{' --data-dir PHOTOS' * photos}{' --known' * args.known}{' --few' * args.few}`; torch {torch.__version__}, one thread. All numbers are means "
            "over the seeds, which draw images, corruptions and networks. "
            f"{' '.join(texts)}\n"
        ),
    ]
    for title in found[0]:
        lines += written(title, [tables_of_seed[title] for tables_of_seed in found])
    return "\n".join(lines) + "\n"


def kept(args: argparse.Namespace, seed: int) -> tuple[dict[str, Table], str]:
    """The tables of one seed, as ``one_seed`` finds them, or as they lie in ``--out``."""
    few = "-known" * args.known or "-few" * args.few
    file = args.out / "restore" / f"{args.data}-{args.n}-{args.components}{few}-{seed}.json"
    if not file.exists():
        tables_of_seed, text = one_seed(args, seed)
        rows = {title: [*table.items()] for title, table in tables_of_seed.items()}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([rows, text]), encoding="utf-8")
    rows, text = json.loads(file.read_text(encoding="utf-8"))
    return {title: {tuple(key): row for key, row in table} for title, table in rows.items()}, text


def one_seed(args: argparse.Namespace, seed: int) -> tuple[dict[str, Table], str]:
    """All tables of one seed, by their titles, and what was trained."""
    seed_all(seed)
    photos = args.data == "photos"
    train, test = (images(args, split) for split in ("train", "test"))
    draw = generator(seed)
    test = test[torch.randperm(len(test), generator=draw)[: args.n]]
    kinds, cases = (KINDS[:3], PHOTO_CASES) if photos else (KINDS, CASES)
    start = time.process_time()
    prior = (
        fit_prior(train, patch=PATCH, seed=seed)
        if photos
        else fit_prior(train, components=args.components, seed=seed)
    )
    fitted = time.process_time() - start
    priors: dict[str, ImagePrior | CombinedPrior] = {OURS: prior}
    if test.shape[-1] > 2 * PATCH and not photos:
        priors[PATCHES] = fit_prior(train, patch=PATCH, seed=seed)
    some = train if photos else train[:: max(1, len(train) // 400)]
    if args.known:
        if PATCHES in priors:
            priors[BOTH] = fit_combined(prior, some, seed=seed)
        return known_tables(priors, test, cases, seed), (
            f"Seed {seed}: the prior (rank {prior.rank}, {prior.mixture.components} components) "
            f"took {fitted:.0f} processor seconds to fit."
        )
    start = time.process_time() - fitted
    blind = fit_blind(prior, some, kinds, seed=seed)  # combines the prior with patches by itself
    seconds = time.process_time() - start
    if isinstance(blind.prior, CombinedPrior):
        priors[BOTH] = blind.prior
    print(f"seed {seed}: prior {fitted:.0f} s, blind {seconds - fitted:.0f} s", flush=True)
    peers, steps = trained(train, kinds, seconds, few=args.few)
    found = {
        "Blind: nothing is known of the corruption, PSNR in dB": blind_table(
            {OURS: blind, **peers}, test, cases, seed
        ),
    }
    if not photos:  # theirs take as long again: --known
        found |= known_tables(priors, test, cases, seed)
    if not (photos or args.few):
        found["A hundred rounds of projecting and rounding to 8 bits"] = drift(peers, test)
        found["Anomalous images, AUROC against held-out images"] = anomalies(
            prior, peers, train, test
        )
    return found, (
        f"Seed {seed}: the prior (rank {prior.rank}, {prior.mixture.components} components) took "
        f"{fitted:.0f} processor seconds to fit, its blind restorer {seconds - fitted:.0f}; each "
        f"trained peer had {seconds:.0f} ({', '.join(f'{k} {n:,} steps' for k, n in steps.items())})."
    )


def images(args: argparse.Namespace, split: Literal["train", "test"]) -> Tensor:
    """Grey images of the data set, or square tiles of the photos of a folder."""
    if args.data == "photos":
        parts = [
            photo.unfold(1, SIDE, SIDE).unfold(2, SIDE, SIDE).flatten(1, 2).movedim(1, 0)
            for photo in read_photos(args.data_dir or "photos", split)
        ]
        return torch.cat([part.float().mean(1, keepdim=True) / 255 for part in parts])
    return datasets.load(args.data, split, args.data_dir).images.mean(1, keepdim=True)


HEADS = {"A hundred": "Root mean square change from the first result, in steps of 8 bits.\n"}


def written(title: str, of_seeds: list[Table]) -> list[str]:
    """A table of means over seeds, the best of each row of PSNR in bold."""
    psnr = "PSNR" in title
    first = next(iter(of_seeds[0].items()))
    before = ("corruption", "severity") if psnr else ("",)
    names = [*before, *first[1]]
    lines = [f"### {title}\n", *(text for start, text in HEADS.items() if title.startswith(start))]
    lines += [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for key in of_seeds[0]:
        means = {
            name: sum(part[key][name] for part in of_seeds) / len(of_seeds)
            for name in of_seeds[0][key]
        }
        best = max(v for name, v in means.items() if name != SEEN)
        cells = [
            ""
            if value == float("inf")
            else f"**{value:.2f}**"
            if psnr and value == best
            else f"{value:.2f}"
            if psnr or "AUROC" not in title
            else f"{value:.3f}"
            for value in means.values()
        ]
        lines.append(f"| {' | '.join([*key, *cells])} |")
    return [*lines, ""]


def trained(
    train: Tensor, kinds: tuple[str, ...], seconds: float, *, few: bool
) -> tuple[dict[str, Map], dict[str, int]]:
    """Ridge regression, PCA, U-Net, and on small images an autoencoder and the projector."""
    corruption = RandomCorruption(kinds)
    shape = tuple(train.shape[1:])
    photos, rank = shape[1] == SIDE, 16 if shape[1] == 8 else 32
    batch = 16 if photos else 64
    found: dict[str, Map] = {"ridge": ridge(train, corruption, PATCH if photos else None)}
    unet = Reconstruction(UNet(shape[0], 16), corruption)
    steps = {"U-Net": descend(unet, train, seconds, batch)}
    found["U-Net"] = unet.network
    found[PCA] = linear(train, rank, patched=photos)
    if few:
        return found, steps
    if not photos:
        f, errors = from_pca(train, rank)
        objective = ProjectorObjective(f, errors, corruption=corruption)
        steps[F], found[F] = descend(objective, train, seconds, batch), f
    auto = Reconstruction(autoencoder(shape, 128 if photos else rank, 230_000), corruption)
    steps["autoencoder"] = descend(auto, train, seconds, batch)
    return {**found, "autoencoder": auto.network}, steps


def linear(train: Tensor, rank: int, *, patched: bool) -> Map:
    """The linear projector of images, or of their patches, averaged."""
    rows = random_patches(train, PATCH, 10_000, generator(0)) if patched else train
    f = from_pca(rows, PATCH_RANK if patched else rank, blocks=1, width=2)[0]
    f.requires_grad_(requires_grad=False)
    return Overlapping(f, PATCH, PATCH // 2) if patched else f


def descend(objective: nn.Module, data: Tensor, seconds: float, batch: int) -> int:
    """Adam for a budget of processor seconds, the rate falling to zero; the number of steps."""
    optimizer = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad])
    start, step = time.process_time(), 0
    while (used := (time.process_time() - start) / seconds) < 1:
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - used)
        loss = objective(data[torch.randint(len(data), (batch,))])["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
    objective.eval().requires_grad_(requires_grad=False)
    print(type(objective).__name__, step, "steps", flush=True)
    return step


def ridge(train: Tensor, corruption: RandomCorruption, patch: int | None) -> Map:
    """One linear regression from corrupted to clean images (of patches of photos), averaged."""
    x = train[torch.randint(len(train), (RIDGE_ROWS if patch is None else 2000,))]
    y = torch.cat([corruption(part) for part in x.split(64)])
    if patch is not None:
        x, y = (nn.functional.unfold(z, patch, stride=patch).mT.flatten(0, 1) for z in (x, y))
    x, y = x.flatten(1).double(), y.flatten(1).double()
    mx, my = x.mean(0), y.mean(0)
    gram = (y - my).T @ (y - my) + RIDGE * torch.eye(y.shape[1], dtype=y.dtype)
    weight = torch.linalg.solve(gram, (y - my).T @ (x - mx))

    def f(z: Tensor) -> Tensor:
        return ((z.flatten(1).double() - my) @ weight + mx).to(z).reshape(z.shape)

    return f if patch is None else Overlapping(f, patch, patch // 2)


@torch.no_grad()
def blind_table(
    maps: dict[str, Map], test: Tensor, cases: dict[str, tuple[float, ...]], seed: int
) -> Table:
    """PSNR without knowing the corruption."""
    found: Table = {}
    for kind, severities in {"none": (0.0,), **cases}.items():
        for severity in severities:
            y = test if kind == "none" else corrupt(test, kind, severity, generator(seed)).images
            row = {SEEN: restoration_psnr(y, test)}
            row |= {name: restoration_psnr(f(y), test) for name, f in maps.items()}
            found[kind, f"{severity:.3g}"] = row
            print(kind, severity, row, flush=True)
    return found


def known_tables(
    priors: dict[str, ImagePrior | CombinedPrior],
    test: Tensor,
    cases: dict[str, tuple[float, ...]],
    seed: int,
) -> dict[str, Table]:
    """PSNR where the noise level or the mask is known, beside methods that need no training."""
    found: dict[str, Table] = {}
    for kind in [kind for kind in cases if kind != "blur"]:
        known = "sigma" if kind == "noise" else "mask"
        table = found.setdefault(f"With a known {known}: {kind}, PSNR in dB", {})
        for severity in cases[kind]:
            y, K = corrupt(test, kind, severity, generator(seed))
            noise = severity if kind == "noise" else 0.0
            row = {SEEN: restoration_psnr(y, test)}
            for name, prior in priors.items():
                row[name] = restoration_psnr(restore(prior, y, K, noise=noise), test)
            seen = None if K is None else K(torch.ones_like(y).flatten(1)).reshape(y.shape)
            for name, method in classical(kind, test.shape[-1]).items():
                images = [
                    method(y[i, 0].double().numpy(), severity if seen is None else seen[i, 0] == 0)
                    for i in range(len(y))
                ]
                stacked = torch.stack([torch.as_tensor(z.copy()) for z in images])[:, None]
                row[name] = restoration_psnr(stacked.to(test), test)
            table[kind, f"{severity:.3g}"] = row
            print(kind, severity, row, flush=True)
    return found


def classical(kind: str, side: int) -> dict[str, Callable[..., object]]:
    """Methods that need no training, of the packages that are installed."""
    if not find_spec("skimage") or side < 16:
        return {}
    from skimage.restoration import (
        denoise_nl_means,
        denoise_tv_chambolle,
        inpaint_biharmonic,
    )

    if kind != "noise":
        return {"biharmonic": lambda y, out: inpaint_biharmonic(y, out.numpy())}
    found = {
        "TV": lambda y, s: denoise_tv_chambolle(y, weight=0.9 * s),
        "NLM": lambda y, s: denoise_nl_means(y, 5, 9, h=0.6 * s, sigma=s, fast_mode=True),
    }
    if find_spec("bm3d"):
        import bm3d

        found["BM3D"] = lambda y, s: bm3d.bm3d(y, s)
    return found


@torch.no_grad()
def drift(peers: dict[str, Map], test: Tensor) -> Table:
    """Changes by a hundred rounds of projecting and rounding to 8 bits."""
    found: Table = {}
    for name in (F, PCA, "autoencoder"):
        x = first = rounded(peers[name](test))
        row = found.setdefault((name,), {})
        for k in range(2, 101):
            x = rounded(peers[name](x))
            if k in (2, 5, 20, 100):
                row[f"round {k}"] = 255 * float((x - first).square().mean().sqrt())
    return found


def rounded(x: Tensor) -> Tensor:
    """8-bit images."""
    return (255 * x.clamp(0, 1)).round() / 255


@torch.no_grad()
def anomalies(
    prior: ImagePrior,
    peers: dict[str, Map],
    train: Tensor,
    test: Tensor,
) -> Table:
    """Area under the curve for scores of the prior's projector and of simple peers."""
    few = train[:4000]
    side = test.shape[-1]
    grey = torch.rand(len(test), 1, 1, 1, generator=generator(1)).expand_as(test)
    odd = {
        "letters": datasets.letters(side, 0.72 if side == 28 else 1.0).images,
        "noise": torch.rand(test.shape, generator=generator(4)),
        "on their side": test.rot90(dims=(2, 3)),
        "shuffled": test.flatten(1)[:, torch.randperm(side**2, generator=generator(2))].view_as(
            test
        ),
        "grey": grey,
        "black": torch.zeros_like(test),
        "nearly grey": (grey + 0.01 * torch.randn(test.shape, generator=generator(3))).clamp(0, 1),
    }
    f = peers[F]
    assert isinstance(f, Projector)
    scored = {F: f.fitted(few, 0.05), "prior": prior.projector.fitted(few, 0.05, prior.mixture)}
    scores: dict[str, Callable[[Tensor], Tensor]] = {}
    for name, model in scored.items():
        for kind in model.scores(test[:1]):  # one that removes nothing has fewer
            scores[f"{name}, {kind}"] = lambda x, m=model, k=kind: m.scores(x)[k]
    flat, c = few.flatten(1).double(), metrics.pca(few)
    std = c.std.clamp(min=0.02)
    forest = IsolationForest(random_state=0).fit(flat.numpy())
    scores["1-NN"] = lambda x: torch.cdist(x.flatten(1).double(), flat).amin(1)
    scores["Mahalanobis"] = lambda x: (
        (((x.flatten(1).double() - c.mean) @ c.axes) / std).square().sum(1)
    )
    scores["isolation forest"] = lambda x: torch.as_tensor(
        -forest.score_samples(x.flatten(1).double().numpy())
    )
    found: Table = {}
    for name, score in scores.items():
        normal = finite(score(test))
        areas = {kind: metrics.roc(normal, finite(score(x))).area for kind, x in odd.items()}
        found[(name,)] = areas
    return found


def finite(scores: Tensor) -> Tensor:
    """Scores with what overflowed, far off the data, as very large."""
    return torch.nan_to_num(scores.double(), nan=1e30, posinf=1e30).clamp(max=1e30)
