"""Restoration by a prior without knowing the corruption: which kind, how strong, and where."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, max_pool2d, one_hot

from rectilinear.checks import check_batch, check_floating, check_limits
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.invertible import MLP
from rectilinear.operators import Diagonal, Operator
from rectilinear.projector.corruption import (
    CORRUPTIONS,
    corrupt,
    gaussian_blur,
    named_corruption,
)
from rectilinear.projector.patches import patch_evidence, patch_posterior
from rectilinear.projector.prior import ImagePrior, Posterior
from rectilinear.random import generator
from rectilinear.serialization import Configured

UNKNOWN_NOISE = 7.0  # that values may lie outside 0 to 1
NOISE_LEVELS = (0.0, 0.02, 0.035, 0.06, 0.09, 0.13, 0.18, 0.24, 0.31, 0.4, 0.52, 0.68)
BLUR_LEVELS = tuple(0.012 + 0.0075 * i for i in range(14))  # standard deviation over the height
BLUR_NOISE = 0.004  # of the data behind a blur whose width lies between two levels
ZEROED = ("missing", "occlusion")
WINDOWS = (3, 7)  # pixels, for the share of zeros about a pixel
SQUARES = (2, 3, 5, 7, 10, 14)  # sides of squares of zeros that a pixel may lie in
LEAST_KEPT = 0.9  # probability from which on a zero counts as observed
LEAST = 0.02  # probability of a kind that counts
TRAINED_IMAGES = 600
LEAST_EXAMPLES, CROP = 48, 48
"""Corrupted examples to train on at least, and the side of the crops of few larger images."""
TRAINED_VALUES = 60_000
STEPS = 400
WIDTH = 24


class BlindRestorer(Configured):
    """Restoration of images of unknown corruption: posterior means under every kind, averaged.

    - *Which kind*: a small network that reads the evidence of each under the prior, and shares of
      zeros and of values outside 0 to 1.
    - *How strong*: noise and blur by the evidence of the data, over a grid of strengths.
    - *Where*: a value that is 0 may be missing, or 0. A second small network gives the probability
      from its posterior without all zeros and from the zeros about it, twice; the estimate is the
      posterior mean from what is surely observed, times the probability that the value is missing.

    Both networks are trained by :func:`fit_blind` on corrupted training images, in seconds.

    Args:
        prior: of whole images, or of patches (which know no blur).
        kinds: names of :data:`CORRUPTIONS` among noise, missing, occlusion and blur.
        zeros: share of training images that are 0 at every value, ``(n,)``, or ``(1,)`` for all.
        kind_scale: mean and deviation of the features of the first network, ``(2, features)``.
        where_scale: those of the second, ``(2, features)``.

    Raises:
        ConfigError: for a kind that is not restored, or blur with a prior of patches.
    """

    zeros: Tensor
    kind_scale: Tensor
    where_scale: Tensor

    def __init__(
        self,
        prior: ImagePrior,
        kinds: tuple[str, ...],
        zeros: Tensor,
        kind_scale: Tensor,
        where_scale: Tensor,
    ) -> None:
        super().__init__()
        known = ("noise", *ZEROED, "blur")
        for kind in kinds:
            named_corruption(kind)
            if kind not in known:
                raise ConfigError(
                    f"corruption '{kind}' for blind restoration",
                    ", ".join(known),
                    "Use restore(prior, y, K) where the corruption is known.",
                )
        self.prior, self.kinds = prior, tuple(kinds)
        self.register_buffer("zeros", zeros.detach().clone())
        self.register_buffer("kind_scale", kind_scale.detach().clone())
        self.register_buffer("where_scale", where_scale.detach().clone())
        self.which = MLP(kind_scale.shape[1], len(self.answers), WIDTH, hidden=1)
        self.where = nn.ModuleList(MLP(where_scale.shape[1], 1, WIDTH, hidden=1) for _ in range(2))

    @property
    def answers(self) -> tuple[str, ...]:
        """The kinds of restoration to choose from: keep, noise, zeros, blur."""
        ways = {"noise": "noise", "missing": "zeros", "occlusion": "zeros", "blur": "blur"}
        return ("keep", *dict.fromkeys(ways[kind] for kind in self.kinds))

    @torch.no_grad()
    def probabilities(self, y: Tensor) -> Tensor:
        """The probability of every way in :attr:`answers` for images ``y``, ``(b, ways)``."""
        check_floating(y, "y")
        return self._probabilities(kind_features(y, self._levels(y)))

    @torch.no_grad()
    def forward(self, y: Tensor) -> Tensor:
        """The restored images of ``y``, with values from 0 to 1, ``(b, c, h, w)``.

        Raises:
            DataError: for values far outside 0 to 1, such as bytes as floats.
        """
        check_floating(y, "y")
        check_limits(y, "y", (0, 1), UNKNOWN_NOISE)
        levels = self._levels(y)
        shares = self._probabilities(kind_features(y, levels))
        x = torch.zeros_like(y)
        ways = {"keep": self._keep, "noise": self._noise, "blur": self._blur, "zeros": self._zeros}
        for i, way in enumerate(self.answers):
            rows = (shares[:, i] > LEAST).nonzero()[:, 0]
            if len(rows):
                found = ways[way](y[rows], {name: e[rows] for name, e in levels.items()})
                x[rows] += shares[rows, i].to(y)[:, None, None, None] * found.clamp(0, 1)
        return x

    def _probabilities(self, features: Tensor) -> Tensor:
        p = self.which(_standard(features, self.kind_scale)).softmax(1)
        p = torch.where(p > LEAST, p, 0.0)
        return p / p.sum(1, keepdim=True)

    def _levels(self, y: Tensor) -> dict[str, Tensor]:
        """The evidence of every strength of noise and of blur, ``(b, levels)``."""
        found = {"noise": torch.stack([self._evidence(y, None, s) for s in NOISE_LEVELS], 1)}
        if "blur" in self.kinds:
            blurs = [gaussian_blur(y[:1], severity) for severity in BLUR_LEVELS]
            found["blur"] = torch.stack([self._evidence(y, K, BLUR_NOISE) for K in blurs], 1)
        return found

    def _evidence(self, y: Tensor, K: Operator | None, noise: float) -> Tensor:
        if K is None and self.patched(y):
            return patch_evidence(self.prior, y, noise)
        return self.posterior(y, K, noise).log_evidence

    def posterior(self, y: Tensor, K: Operator | None, noise: float) -> Posterior:
        """The posterior given ``y``, ``K`` and ``noise``, by patches if the prior is."""
        if self.patched(y):
            return patch_posterior(self.prior, y, K, noise)
        return self.prior.posterior(y, K, noise)

    def patched(self, y: Tensor) -> bool:
        """True if the images ``y`` are larger than the prior's."""
        return tuple(y.shape[1:]) != self.prior.shape

    def _keep(self, y: Tensor, levels: dict[str, Tensor]) -> Tensor:  # noqa: ARG002
        return y

    def _noise(self, y: Tensor, levels: dict[str, Tensor]) -> Tensor:
        return self._over(y, levels["noise"], [(None, s) for s in NOISE_LEVELS])

    def _blur(self, y: Tensor, levels: dict[str, Tensor]) -> Tensor:
        cases: list[tuple[Operator | None, float]]
        cases = [(gaussian_blur(y[:1], s), BLUR_NOISE) for s in BLUR_LEVELS]
        return self._over(y, levels["blur"], cases)

    def _over(
        self, y: Tensor, evidence: Tensor, cases: list[tuple[Operator | None, float]]
    ) -> Tensor:
        """Posterior means, averaged over the cases by their evidence."""
        shares, x = evidence.softmax(1), torch.zeros_like(y)
        for i, (K, noise) in enumerate(cases):
            rows = (shares[:, i] > LEAST / len(cases)).nonzero()[:, 0]
            if len(rows):
                mean = self.posterior(y[rows], K, noise).mean
                x[rows] += shares[rows, i].to(y)[:, None, None, None] * mean
        return x

    def _zeros(self, y: Tensor, levels: dict[str, Tensor]) -> Tensor:  # noqa: ARG002
        """The posterior mean where values that are 0 may be missing."""
        empty, observed = y == 0, y != 0
        for network in self.where:
            found = self.posterior(y, _seen(observed, y), 0.0)
            p = network(_standard(where_features(self, y, found), self.where_scale))
            kept = torch.sigmoid(p).reshape(y.shape)
            observed = ~empty | (kept > LEAST_KEPT)
        return torch.where(empty, (1 - kept) * found.mean, y)


def _seen(observed: Tensor, y: Tensor) -> Operator:
    return Diagonal(observed.to(y).flatten(1), trainable=False)


def _standard(features: Tensor, scale: Tensor) -> Tensor:
    return (features.to(scale) - scale[0]) / scale[1]


def kind_features(y: Tensor, levels: dict[str, Tensor]) -> Tensor:
    """Features of kinds of corruption, ``(b, features)``: evidence, zeros, and range."""
    n = y[0].numel()
    empty = (y == 0).all(1, keepdim=True).to(y)
    noise = levels["noise"].to(y)
    columns = [
        ((y < 0) | (y > 1)).to(y).flatten(1).mean(1),
        empty.flatten(1).mean(1),
        (empty * (1 - avg_pool2d(empty, 3, 1, 1, count_include_pad=False))).flatten(1).mean(1),
        *(_in_square(empty, side).flatten(1).mean(1) for side in SQUARES),
        noise[:, 0] / n,
        noise.amax(1) / n,
        noise.argmax(1).to(y),
    ]
    if "blur" in levels:
        blur = levels["blur"].to(y)
        columns += [(blur.amax(1) - noise[:, 0]) / n, blur.argmax(1).to(y)]
    compressed = [c.sign() * c.abs().log1p() if i > 8 else c for i, c in enumerate(columns)]
    return torch.stack(compressed, 1)


def where_features(f: BlindRestorer, y: Tensor, found: Posterior) -> Tensor:
    """Features of missing values and of zeros, for every value, ``(b n, features)``."""
    empty = (y == 0).all(1, keepdim=True).to(y)
    around = [avg_pool2d(empty, w, 1, w // 2, count_include_pad=False) for w in WINDOWS]
    square = torch.stack([_in_square(empty, side) for side in SQUARES]).sum(0)
    whole = empty.flatten(1).mean(1)[:, None, None, None].expand_as(empty)
    often = f.zeros.to(y)
    often = often.expand_as(y[0].flatten()).reshape(y.shape[1:]).expand_as(y)
    columns = [found.mean, found.std, found.mean / (found.std + 0.02), often]
    columns += [part.expand_as(y) for part in (*around, square, whole)]
    return torch.stack([c.flatten() for c in columns], 1)


def _in_square(empty: Tensor, side: int) -> Tensor:
    """1 where a pixel lies in a square of zeros of this side, ``(b, 1, h, w)``."""
    if side > min(empty.shape[2:]):
        return torch.zeros_like(empty)
    corners = (avg_pool2d(empty, side, 1) > 1 - 0.5 / side**2).to(empty)
    return max_pool2d(nn.functional.pad(corners, (side - 1,) * 4), side, 1)


@dataclass(frozen=True, eq=False)
class _Examples:
    """Corrupted training images, the way to restore each, and the values that are still there."""

    y: Tensor
    way: Tensor
    observed: Tensor


def fit_blind(
    prior: ImagePrior,
    images: Tensor,
    kinds: tuple[str, ...] = ("noise", "missing", "occlusion", "blur"),
    seed: int = 0,
) -> BlindRestorer:
    """The blind restorer of a prior, trained on corrupted images at all strengths.

    Args:
        prior: of images like these, or of their patches.
        images: clean images ``(b, c, h, w)`` with values from 0 to 1; some hundreds are used, and
            fewer than 48 several times, larger ones in crops of 48 x 48.
        kinds: corruptions that it shall know: noise, missing, occlusion, blur.
        seed: of the corruptions and of both networks.

    Raises:
        ShapeError: if the images are not ``(b, c, h, w)``.
        ConfigError: for an unknown kind, no kind, or blur with a prior of patches.

    Example:
        >>> import rectilinear as rl
        >>> from rectilinear.projector import fit_prior
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
    if not kinds:
        raise ConfigError("no kinds of corruption", f"some of {', '.join(CORRUPTIONS)}")
    patched = tuple(images.shape[1:]) != prior.shape
    if patched and "blur" in kinds:
        raise ConfigError(
            "blur with a prior of patches", "noise, missing, occlusion", "Leave blur out."
        )
    draw = generator(seed)
    clean = images[torch.randperm(len(images), generator=draw)[:TRAINED_IMAGES].to(images.device)]
    if len(clean) < LEAST_EXAMPLES:
        clean = _repeated(clean, draw, crop=patched)
    zeros = (images == 0).to(images).mean(0).flatten()
    zeros = zeros.mean()[None] if patched else zeros
    unit = torch.tensor([[0.0], [1.0]]).to(images)
    counts = 12 + 2 * ("blur" in kinds), 4 + len(WINDOWS) + 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        f = BlindRestorer(prior, kinds, zeros, *(unit.repeat(1, c) for c in counts)).to(images)
        _train(f, _examples(f, clean, draw), draw)
    return f.eval().requires_grad_(requires_grad=False)


def _repeated(images: Tensor, draw: torch.Generator, *, crop: bool) -> Tensor:
    """Few images again and again, to be corrupted each time in another way, or crops of them."""
    images = images.repeat(-(-LEAST_EXAMPLES // len(images)), 1, 1, 1)
    if not crop:
        return images
    h, w = (min(side, CROP) for side in images.shape[2:])
    found = []
    for image in images:
        top, left = (
            int(torch.randint(side - size + 1, (), generator=draw))
            for side, size in zip(image.shape[1:], (h, w), strict=True)
        )
        found.append(image[:, top : top + h, left : left + w])
    return torch.stack(found)


def _examples(f: BlindRestorer, clean: Tensor, draw: torch.Generator) -> _Examples:
    """Every image with a corruption and a strength of its own; one in eight stays clean."""
    ways = {"noise": "noise", "missing": "zeros", "occlusion": "zeros", "blur": "blur"}
    y, way, observed = clean.clone(), torch.zeros(len(clean), dtype=torch.long), clean == clean
    for i in range(len(clean)):
        if i % 8 == 0:
            continue
        kind = f.kinds[i % len(f.kinds)]
        severity = float(torch.rand((), generator=draw)) * CORRUPTIONS[kind].severities[-1] * 1.2
        one = corrupt(clean[i : i + 1], kind, severity, draw)
        y[i : i + 1], way[i] = one.images, f.answers.index(ways[kind])
        if kind in ZEROED and isinstance(one.measurement, Diagonal):
            observed[i] = one.measurement.values.reshape(clean[i].shape) != 0
    return _Examples(y, way, observed)


def _train(f: BlindRestorer, examples: _Examples, draw: torch.Generator) -> None:
    """Both networks, one after the other."""
    y = examples.y
    with torch.no_grad():
        features = kind_features(y, f._levels(y))
    f.kind_scale.copy_(_scale(features))
    target = one_hot(examples.way, len(f.answers)).to(features)
    _fit(f.which, _standard(features, f.kind_scale), target, draw)
    if "zeros" not in f.answers:
        return
    rows = ((examples.way == f.answers.index("zeros")) | (examples.way == 0)).nonzero()[:, 0]
    y, there = y[rows], examples.observed[rows]
    observed = y != 0
    empty = (y == 0).flatten().nonzero()[:, 0]
    if not len(empty):
        return
    some = empty[torch.randperm(len(empty), generator=draw)[:TRAINED_VALUES].to(empty.device)]
    for number, network in enumerate(f.where):
        with torch.no_grad():
            features = where_features(f, y, f.posterior(y, _seen(observed, y), 0.0))
        if not number:
            f.where_scale.copy_(_scale(features[some]))
        features = _standard(features, f.where_scale)
        kept = there.flatten()[some].to(features)[:, None]
        _fit(network, features[some], kept, draw)
        with torch.no_grad():
            observed = (y != 0) | (torch.sigmoid(network(features)).reshape(y.shape) > LEAST_KEPT)


def _scale(features: Tensor) -> Tensor:
    return torch.stack([features.mean(0), features.std(0).clamp(min=1e-3)])


def _fit(network: nn.Module, x: Tensor, target: Tensor, draw: torch.Generator) -> None:
    """Logistic regression, with one hidden layer, by Adam."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        rows = torch.randint(len(x), (min(len(x), 512),), generator=draw).to(x.device)
        logits = network(x[rows])
        loss = (
            cross_entropy(logits, target[rows])
            if target.shape[1] > 1
            else nn.functional.binary_cross_entropy_with_logits(logits, target[rows])
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
