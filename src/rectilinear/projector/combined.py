"""A prior of whole images and one of their patches, combined pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from rectilinear.checks import check_batch, check_scale, single
from rectilinear.errors import ConfigError, DtypeError, ShapeError
from rectilinear.invertible import MLP
from rectilinear.operators import Diagonal, Identity, Operator
from rectilinear.progress import Progress
from rectilinear.projector.corruption import CORRUPTIONS, corrupt
from rectilinear.projector.patches import GROUPED, patch_posterior
from rectilinear.projector.prior import ImagePrior, Posterior, fit_prior
from rectilinear.random import generator
from rectilinear.serialization import Configured

PATCH = 8  # pixels
LEAST_SIDE = 2 * PATCH  # of images that have patches of their own
WINDOWS = (1, 3, 7, 15)  # pixels, for the share of observed values about a pixel
FEATURES = 6 + len(WINDOWS)
ROUNDING = 0.01  # of a deviation, in its logarithm
WIDTH = 24
KINDS = ("noise", "missing", "occlusion")
BEYOND = 1.2  # strongest severity, in that of the strong one
NOISY = 1 / 3  # share of examples of a mask that have noise, too
NOISE_OF_MASKED = 0.3  # the strongest
GROUPS, ALIKE = 51, 2  # examples, and how many of them share their corruption's strength
LEAST_ERROR = 1e-4  # mean square error, below which an example counts no more
EQUAL = 1e-4  # difference of two estimates, below which there is nothing to choose
STEPS, ROWS = 800, 2048
OWN_IMAGES = 1000  # below which a prior knows those that it was fitted to too well
SAME_MEAN = 1e-4  # difference of the mean of images from that of a prior of the same images
FOLDS = 4


class CombinedPrior(Configured):
    """A prior of whole images beside one of their patches, by a network that weights the pixels.

    Patches keep detail and need much of it; whole images know what the rest must be where little is
    left. At every pixel the mean is ``w + a (p - w)`` of the posterior means ``w`` of whole images
    and ``p`` of patches. A small network gives ``a`` from 0 to 1 from both means and deviations,
    the noise, and the share of observed values about the pixel. In images of 48 pixels or more a
    side with noise alone, the prior of patches is adapted to each: 0.9 to 1.3 dB on photos.

    Args:
        whole: the prior of images ``(c, h, w)``.
        local: the prior of patches.
        scale: mean and deviation of the features of the network, ``(2, features)``.

    Raises:
        ShapeError: if the priors do not fit each other.
    """

    scale: Tensor

    def __init__(self, whole: ImagePrior, local: ImagePrior, scale: Tensor) -> None:
        super().__init__()
        shape, patch = whole.shape, local.shape
        if not len(shape) == len(patch) == 3 or shape[0] != patch[0] or min(shape[1:]) < patch[1]:
            raise ShapeError(
                f"priors of images {shape} and of patches {patch}",
                "(c, h, w) and smaller (c, p, p)",
                "Make it with fit_combined(prior, images).",
            )
        self.whole, self.local = whole, local
        self.register_buffer("scale", scale.detach().clone())
        self.network = MLP(FEATURES, 1, WIDTH, hidden=1)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape ``(c, h, w)`` of an image."""
        return self.whole.shape

    @property
    def centre(self) -> Tensor:
        """The mean image, ``(c, h, w)``."""
        return self.whole.centre

    @torch.no_grad()
    def posterior(
        self, y: Tensor, measurement: Operator | None = None, noise: float = 0.0
    ) -> Posterior:
        """The combined posterior of images behind ``y = K x + N(0, noise^2)``.

        Its evidence is that of whole images. Behind an operator that is not diagonal, of which
        patches know nothing, it is the posterior of whole images.

        Args:
            y: data, ``(b, c, h, w)``.
            measurement: ``K``, on flattened images; the identity by default.
            noise: standard deviation of the noise, 0 by default.

        Raises:
            ShapeError: if shapes do not fit.
            ConfigError: for negative noise.
        """
        found = self.whole.posterior(y, measurement, noise)
        if not isinstance(measurement, Identity | Diagonal | None):
            return found
        large = min(y.shape[2:]) >= GROUPED * self.local.shape[1]
        adapt = large and isinstance(measurement, Identity | None)
        local = patch_posterior(self.local, y, measurement, noise, adapt=adapt)
        features = combined_features(y, measurement, noise, found, local)
        share = self.shares(features).reshape(y.shape).to(y)
        away = local.mean - found.mean
        variance = found.std.square() + share * (local.std.square() - found.std.square())
        variance = variance + share * (1 - share) * away.square()
        return Posterior(found.mean + share * away, variance.sqrt(), found.log_evidence)

    def shares(self, features: Tensor) -> Tensor:
        """The weights ``a`` of patches, of rows of features, ``(b n,)``."""
        return self.network(standard(features, self.scale))[:, 0].sigmoid()


def standard(features: Tensor, scale: Tensor) -> Tensor:
    """The features less their mean ``scale[0]``, over their deviation ``scale[1]``."""
    return (features.to(scale) - scale[0]) / scale[1]


def feature_scale(features: Tensor) -> Tensor:
    """The mean and deviation of features, ``(2, features)``."""
    return torch.stack([features.mean(0), features.std(0).clamp(min=1e-3)])


def descend(
    network: nn.Module, loss: Callable[[], Tensor], steps: int, weight_decay: float = 0.0
) -> None:
    """Minimise the mean of a loss of random rows by Adam, at rates from .01 to 0 by a cosine."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()


def combined_features(
    y: Tensor, measurement: Operator | None, noise: float, whole: Posterior, local: Posterior
) -> Tensor:
    """The features of every value, ``(b n, features)``."""
    seen = torch.ones_like(y)
    if isinstance(measurement, Diagonal):
        gains = measurement.values.detach().to(y)
        seen = (gains != 0).to(y).reshape(-1, *y.shape[1:]).expand_as(y)
    columns = [
        (whole.std + ROUNDING).log(),
        (local.std + ROUNDING).log(),
        (whole.mean - local.mean).abs(),
        torch.full_like(y, noise),
        whole.mean,
        local.mean,
        *(avg_pool2d(seen, w, 1, w // 2, count_include_pad=False) for w in WINDOWS),
    ]
    return torch.stack([c.flatten() for c in columns], 1)


def fit_combined(
    prior: ImagePrior, images: Tensor, seed: int = 0, *, progress: bool = True
) -> CombinedPrior:
    """The prior of whole images combined with one of their patches, fitted to corrupted images.

    The network of :class:`CombinedPrior` is trained for the least square error, over the root of
    that of patches, on images with noise, missing pixels or a square that is missing.

    Args:
        prior: of whole images ``(c, h, w)`` of 16 pixels or more a side.
        images: clean images ``(b, c, h, w)`` with values from 0 to 1: those that the prior was
            fitted to, or others. A prior knows its own images too well, so where they are fewer
            than 1000, examples are restored by priors fitted without them, a quarter at a time.
            Of a part of its images it cannot tell: pass all, or others.
        seed: of patches, corruptions and network.
        progress: show it on standard error; for images of 28 x 28 it takes a minute of one core.

    Raises:
        ShapeError: unless the images are of the prior's shape.
        DataError: for images on another scale, such as bytes as floats.
        DtypeError: for another prior than one of fit_prior.
        ConfigError: for images of fewer than 16 pixels a side, or fewer than four images that the
            prior was fitted to.

    Example:
        >>> from rectilinear.projector import corrupt, fit_prior
        >>> draw = torch.Generator().manual_seed(0)
        >>> x = torch.rand(60, 1, 4, 4, generator=draw).repeat_interleave(5, 2)
        >>> x = x.repeat_interleave(5, 3)
        >>> prior = fit_prior(x[:50], rank=8, components=1)
        >>> y, _ = corrupt(x[50:], "noise", 0.1, draw)
        >>> found = fit_combined(prior, x[:50], progress=False).posterior(y, noise=0.1)
        >>> error = (found.mean - x[50:]).square().mean()
        >>> bool(error < 0.5 * (prior.posterior(y, noise=0.1).mean - x[50:]).square().mean())
        True
    """
    if not isinstance(prior, ImagePrior):
        raise DtypeError(
            f"a prior of type {type(prior).__name__}",
            "an ImagePrior",
            "Make it with fit_prior(images).",
        )
    check_batch(images, prior.shape, "images")
    check_scale(images, "images")
    images = single(images.to(prior.centre))
    if len(prior.shape) != 3 or min(prior.shape[1:]) < LEAST_SIDE:
        raise ConfigError(
            f"images of shape {prior.shape}",
            f"(c, h, w) with h and w of {LEAST_SIDE} or more, two patches of {PATCH} pixels",
            "Use the prior of whole images as it is.",
        )
    draw = generator(seed)
    order = torch.randperm(len(images), generator=draw).to(images.device)
    cases = _cases(prior, images, order, seed)
    local = fit_prior(images, patch=PATCH, seed=seed)
    unit = torch.tensor([[0.0], [1.0]]).to(images).repeat(1, FEATURES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        f = CombinedPrior(prior, local, unit).to(images)
    parts = []
    with Progress("patches and whole images", GROUPS, shown=progress) as display:
        for number in range(GROUPS):
            display.advance("examples")
            whole, some = cases[number % len(cases)]
            rows = (ALIKE * (number // len(cases)) + torch.arange(ALIKE)) % len(some)
            x = images[some[rows.to(some.device)]]
            parts.append(_example(whole, local, x, number, draw))
    features, away, rest, weights = (torch.cat(part) for part in zip(*parts, strict=True))
    f.scale.copy_(feature_scale(features))
    _fit(f, features, away, rest, weights, draw)
    return f.eval().requires_grad_(requires_grad=False)


def _cases(
    prior: ImagePrior, images: Tensor, order: Tensor, seed: int
) -> list[tuple[ImagePrior, Tensor]]:
    """Priors of whole images, and the rows of images that each restores in examples."""
    mean = images.mean(0).to(prior.centre)
    near = max(SAME_MEAN, torch.finfo(mean.dtype).eps)
    if len(images) >= OWN_IMAGES or not torch.allclose(mean, prior.centre, rtol=0, atol=near):
        return [(prior, order)]
    if len(images) < FOLDS:
        raise ConfigError(
            f"{len(images)} images, and a prior fitted to these",
            f"{FOLDS} or more, or others",
            "Use a prior of patches: fit_prior(images, patch=8).",
        )
    cases = []
    for part in order.tensor_split(FOLDS):
        rest = images[order[~torch.isin(order, part)]]
        cases.append((fit_prior(rest, prior.rank, seed=seed), part))
    return cases


@torch.no_grad()
def _example(
    prior: ImagePrior, of_patches: ImagePrior, x: Tensor, number: int, draw: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, ``p - w``, ``x - w`` and weights, of values where the two estimates differ."""
    kind = KINDS[number % len(KINDS)]
    strength, noisy, amount = torch.rand(3, generator=draw).tolist()
    strongest = BEYOND * CORRUPTIONS[kind].severities[-1]
    y, K = corrupt(x, kind, strongest * strength ** (2 if kind == "noise" else 1), draw)
    noise = strongest * strength**2 if kind == "noise" else 0.0
    if K is not None and noisy < NOISY:
        noise = NOISE_OF_MASKED * amount**2
        added = noise * torch.randn(x.shape, generator=draw, dtype=x.dtype).to(x)
        y = y + K(added.flatten(1)).reshape(x.shape)
    whole = prior.posterior(y, K, noise)
    local = patch_posterior(of_patches, y, K, noise, adapt=False)
    features = combined_features(y, K, noise, whole, local)
    error = (local.mean - x).square().flatten(1).mean(1).clamp(min=LEAST_ERROR)
    weights = error.rsqrt()[:, None].expand(len(x), x[0].numel()).flatten()
    away, rest = (local.mean - whole.mean).flatten(), (x - whole.mean).flatten()
    some = (away.abs() > EQUAL).nonzero()[:, 0]
    return features[some], away[some], rest[some], weights[some]


def _fit(
    f: CombinedPrior,
    features: Tensor,
    away: Tensor,
    rest: Tensor,
    weights: Tensor,
    draw: torch.Generator,
) -> None:
    """Least squares of ``rest - a away`` by Adam."""
    if not len(features):
        return
    size = (weights * away.square()).mean()

    def loss() -> Tensor:
        rows = torch.randint(len(features), (ROWS,), generator=draw).to(features.device)
        errors = rest[rows] - f.shares(features[rows]) * away[rows]
        return (weights[rows] * errors.square()).mean() / size

    descend(f.network, loss, STEPS)
