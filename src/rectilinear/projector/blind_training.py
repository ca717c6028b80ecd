"""Training of blind restoration, on images that are corrupted at all strengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, floor, pi, sin

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from rectilinear.checks import check_batch, check_scale, single
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.operators import Diagonal
from rectilinear.progress import Progress
from rectilinear.projector.blind import (
    LEAST_RIGHT,
    NOISE_LEVELS,
    WAYS,
    ZEROED,
    BlindRestorer,
    check_ways,
    feature_counts,
    kind_features,
    where_features,
)
from rectilinear.projector.combined import (
    BEYOND,
    LEAST_SIDE,
    CombinedPrior,
    descend,
    feature_scale,
    fit_combined,
    standard,
)
from rectilinear.projector.corruption import CORRUPTIONS, corrupt
from rectilinear.projector.data import check_channels
from rectilinear.projector.patches import GROUPED
from rectilinear.projector.prior import MAX_DENSE, ImagePrior
from rectilinear.random import generator

KIND_EXAMPLES = 1200, 800  # with a prior of images, of patches
WHERE_EXAMPLES = 600, 200
WHERE_VALUES = 60_000
CLEAN = 6  # one of as many examples is clean
DARK = 0.4  # share of examples that are darkened
DARKEST = 0.7  # highest level that is cut off, in the largest value of the image
DIMMEST = 0.05  # least factor of the values
BLACK = 1 / 6  # share of examples with a black area
KIND_CROP, WHERE_CROP = 64, 24  # pixels, of examples for a prior of patches: a mask takes long
BATCH = 400, 50  # examples of kinds that are read together: of images, for patches
KIND_STEPS, WHERE_STEPS = 400, 1200
JITTER = 0.0, 0.2  # noise on the features of kinds, in deviations, against few examples


def fit_blind(
    prior: ImagePrior | CombinedPrior,
    images: Tensor,
    kinds: tuple[str, ...] | None = None,
    seed: int = 0,
    *,
    progress: bool = True,
) -> BlindRestorer:
    """The blind restorer of a prior, trained on corrupted images at all strengths.

    Half of the examples are as a file has them: cut to 0 to 1 and rounded to 8 bits. With a prior
    of patches, the examples of kinds are darkened in four of ten cases, until parts are black or
    the whole hardly shows, and a sixth has a black area of its own, so that black is not taken for
    missing; of those of places a fifth is darkened.

    A prior of whole images of 16 pixels or more a side is combined with one of their patches first,
    by :func:`fit_combined`.

    Args:
        prior: of images like these, of their patches, or of both.
        images: clean images ``(b, c, h, w)`` with values from 0 to 1. A prior of patches is trained
            on crops of 24 and 64 pixels: pass all images that there are, the time does not grow.
        kinds: corruptions that it shall know, by default all that the prior can: noise, missing,
            occlusion and, with a prior of whole images of at most 4096 values, blur.
        seed: of the corruptions and of both networks.
        progress: show it on standard error; it takes 15 to 90 CPU seconds with priors of images of
            8 to 28 pixels, two to three minutes with a prior of patches of 64 axes.

    Raises:
        ShapeError: if the images are not ``(b, c, h, w)``.
        DataError: for images on another scale, such as bytes as floats.
        ConfigError: for an unknown kind, no kind, or blur with a prior of patches or of larger
            images.

    Example:
        >>> import rectilinear as rl
        >>> from rectilinear.projector import corrupt, fit_prior
        >>> images, _ = rl.datasets.load("digits", "train")
        >>> prior = fit_prior(images[:500], rank=12, components=3)
        >>> blind = fit_blind(prior, images[500:600], kinds=("noise",))
        >>> y, _ = corrupt(images[600:620], "noise", 0.3, torch.Generator().manual_seed(0))
        >>> bool((blind(y) - images[600:620]).square().mean() < 0.03)
        True
    """
    check_batch(images, None, "images")
    if images.ndim != 4:
        raise ShapeError(
            f"images of shape {tuple(images.shape)}",
            "(b, c, h, w)",
            "Add axes: images[:, None] to grey ones, image[None] to one.",
        )
    check_channels(images, prior.shape, "images")
    check_scale(images, "images")
    images = single(images.to(prior.centre))
    patched = tuple(images.shape[1:]) != prior.shape
    dense = not patched and images[0].numel() <= MAX_DENSE
    if kinds is None:
        kinds = ("noise", *ZEROED, "blur") if dense else ("noise", *ZEROED)
    if not kinds:
        raise ConfigError("no kinds of corruption", f"some of {', '.join(CORRUPTIONS)}")
    check_ways(kinds)
    if not dense and "blur" in kinds:
        raise ConfigError(
            f"blur with a prior of {'patches' if patched else f'{images[0].numel()} values'}",
            "noise, missing, occlusion",
            f"Leave blur out, or fit a prior of whole images of {MAX_DENSE} values at most.",
        )
    if not patched and isinstance(prior, ImagePrior) and min(images.shape[2:]) >= LEAST_SIDE:
        prior = fit_combined(prior, images, seed, progress=progress)
    draw = generator(seed)
    zeros = (images == 0).to(images).mean(0).flatten()
    zeros = zeros.mean()[None] if patched else zeros
    unit = torch.tensor([[0.0], [1.0]]).to(images)
    counts = feature_counts(kinds)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        scales = (unit.repeat(1, c) for c in counts)
        f = BlindRestorer(prior, kinds, zeros, *scales, by_patches=_detailed(prior)).to(images)
        total = KIND_EXAMPLES[patched] + 2 * WHERE_EXAMPLES[patched]
        with Progress("blind restoration", total, shown=progress) as display:
            if "zeros" in f.answers:
                _fit_where(f, images, draw, display)
            _fit_which(f, images, draw, display)
    return f.eval().requires_grad_(requires_grad=False)


@dataclass(frozen=True, eq=False)
class _Examples:
    """Corrupted training images, the way to restore each, and values right and observed."""

    y: Tensor
    way: Tensor
    right: Tensor
    observed: Tensor


def _examples(
    f: BlindRestorer,
    images: Tensor,
    kinds: tuple[str, ...],
    n: int,
    crop: int,
    power: int,
    draw: torch.Generator,
    *,
    black: bool,
) -> _Examples:
    """Images with a corruption of these kinds each, of severity ``u^power`` of the strongest."""
    order = torch.randperm(len(images), generator=draw)
    y, way, right, observed = [], [], [], []
    corrupted = 0
    for i in range(n):
        x = images[order[i % len(order)]][None]
        x = _crop(x, max(crop, 2 * f.prior.shape[1]), draw) if f.patched(x) else x
        if f.patched(x):
            x = _darkened(x, draw, dim=black)
            x = _with_black(x, draw) if black else x
        clean, there = x, torch.ones_like(x, dtype=torch.bool)
        answer = "keep"
        if i % CLEAN:
            kind = kinds[corrupted % len(kinds)]
            corrupted += 1
            share = float(torch.rand((), generator=draw)) ** power
            least = NOISE_LEVELS[1] if kind == "noise" else 0.0
            strongest = CORRUPTIONS[kind].severities[-1] * BEYOND
            x, K = corrupt(x, kind, least + share * (strongest - least), draw)
            answer = "keep" if torch.equal(x, clean) else WAYS[kind]
            if kind in ZEROED and isinstance(K, Diagonal):
                there = K.values.reshape(x.shape) != 0
        right.append((x == clean) | there)
        if float(torch.rand((), generator=draw)) < 0.5:
            x = (255 * x.clamp(0, 1)).round() / 255
        y.append(x)
        way.append(f.answers.index(answer))
        observed.append(there)
    ways = torch.tensor(way).to(images.device)
    return _Examples(torch.cat(y), ways, torch.cat(right), torch.cat(observed))


def _crop(x: Tensor, side: int, draw: torch.Generator) -> Tensor:
    """A square of one image at a random place, or less where the image is smaller."""
    for axis in (2, 3):
        n = min(side, x.shape[axis])
        first = int(torch.randint(x.shape[axis] - n + 1, (), generator=draw))
        x = x.narrow(axis, first, n)
    return x


def _darkened(x: Tensor, draw: torch.Generator, *, dim: bool) -> Tensor:
    """One image, sometimes with a random level cut off, or, with ``dim``, at a short exposure."""
    chance, amount = torch.rand(2, generator=draw).tolist()
    if chance < DARK / 2:
        return (x - DARKEST * amount * x.max()).clamp(min=0)
    return DIMMEST**amount * x if dim and chance < DARK else x


def _with_black(x: Tensor, draw: torch.Generator) -> Tensor:
    """One image, sometimes with a black half-plane, black around a disc, or a black disc."""
    chance, form, *place = torch.rand(5, generator=draw).tolist()
    if chance > BLACK:
        return x
    h, w = x.shape[2:]
    down = torch.arange(h, device=x.device)[:, None] / h - place[0]
    right = torch.arange(w, device=x.device) / w - place[1]
    if form < 1 / 2:
        angle = 2 * pi * place[2] if form < 1 / 4 else pi / 2 * floor(4 * place[2])
        black = cos(angle) * down + sin(angle) * right > 0
    else:
        black = (down.square() + right.square() < (0.1 + 0.4 * place[2]) ** 2) == (form < 3 / 4)
    return torch.where(black, 0.0, x)


def _detailed(prior: ImagePrior | CombinedPrior) -> bool:
    """True for images so large that a prior of them takes detail for noise, and patches do not."""
    if not isinstance(prior, CombinedPrior):
        return False
    return min(prior.shape[1:]) >= GROUPED * prior.local.shape[1]


def _fit_which(f: BlindRestorer, images: Tensor, draw: torch.Generator, display: Progress) -> None:
    """The network that tells the kind."""
    patched = f.patched(images)
    examples = _examples(f, images, f.kinds, KIND_EXAMPLES[patched], KIND_CROP, 2, draw, black=True)
    with torch.no_grad():
        parts = []
        for y in examples.y.split(BATCH[patched]):
            display.advance("kinds of corruption", len(y))
            parts.append(kind_features(y, f.read(y)))
    features = torch.cat(parts)
    f.kind_scale.copy_(feature_scale(features))
    target = one_hot(examples.way, len(f.answers)).to(features)
    jitter = JITTER[patched]
    x = standard(features, f.kind_scale)
    _fit(f.which, cross_entropy, x, target, draw, KIND_STEPS, jitter)


def _fit_where(f: BlindRestorer, images: Tensor, draw: torch.Generator, display: Progress) -> None:
    """The networks that tell the values that are missing, one after the other."""
    zeroed = tuple(kind for kind in f.kinds if kind in ZEROED)
    patched = f.patched(images)
    power, count = 1 + patched, WHERE_EXAMPLES[patched]
    examples = _examples(f, images, zeroed, count, WHERE_CROP, power, draw, black=False)
    y, observed = examples.y, examples.y != 0
    empty = (~observed).flatten().nonzero()[:, 0]
    if not len(empty):
        return
    some = empty[torch.randperm(len(empty), generator=draw)[:WHERE_VALUES].to(empty.device)]
    for number, network in enumerate(f.where):
        display.advance("missing values", len(y))
        with torch.no_grad():
            features = where_features(f, y, observed)
        if not number:
            f.where_scale.copy_(feature_scale(features[some]))
        features = standard(features, f.where_scale)
        targets = [examples.right, examples.observed][patched:]
        columns = [part.flatten()[some].to(features) for part in targets]
        target = torch.stack(columns, 1)
        error = binary_cross_entropy_with_logits
        _fit(network, error, features[some], target, draw, WHERE_STEPS)
        with torch.no_grad():
            found = network(features)[:, 0].sigmoid().reshape(y.shape)
        observed = (y != 0) | (found > LEAST_RIGHT)


def _fit(
    network: nn.Module,
    error: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    target: Tensor,
    draw: torch.Generator,
    steps: int,
    jitter: float = 0.0,
) -> None:
    """Logistic regression, with one hidden layer, by Adam, on features with noise."""

    def loss() -> Tensor:
        rows = torch.randint(len(x), (min(len(x), 512),), generator=draw).to(x.device)
        noise = jitter * torch.randn(len(rows), x.shape[1], generator=draw, dtype=x.dtype)
        return error(network(x[rows] + noise.to(x.device)), target[rows])

    descend(network, loss, steps, weight_decay=1e-5)
