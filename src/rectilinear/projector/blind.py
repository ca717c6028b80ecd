"""Restoration by a prior without knowing the corruption: which kind, how strong, and where."""

from __future__ import annotations

from math import inf, log, pi

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from rectilinear.checks import check_scale, single
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.invertible import MLP
from rectilinear.operators import Diagonal, Operator
from rectilinear.projector.combined import CombinedPrior, standard
from rectilinear.projector.corruption import check_kinds, gaussian_blur
from rectilinear.projector.data import check_channels
from rectilinear.projector.patches import Patches, check_image, patch_posterior
from rectilinear.projector.prior import NOISE_FLOOR, ImagePrior, Posterior
from rectilinear.serialization import Configured

UNKNOWN_NOISE = 7.0  # that values may lie outside 0 to 1
NOISE_LEVELS = (0.0, *(0.012 * 1.3**i for i in range(16)))
TEXTURED = 0.1  # prior probability that a patch has detail which looks like more noise
BLUR_LEVELS = tuple(0.012 + 0.0075 * i for i in range(14))  # standard deviation over the height
BLUR_NOISE = 0.004  # of the data behind a blur whose width lies between two levels
ZEROED = ("missing", "occlusion")
WAYS = {"noise": "noise", "blur": "blur", **dict.fromkeys(ZEROED, "zeros")}
WINDOWS = (3, 7)  # pixels, for the share of zeros about a pixel
FILLED = (3, 7, 15)  # pixels, of the means that zeros are filled with
SQUARES = (2, 3, 5, 7, 10, 14)  # sides of squares of zeros that a pixel may lie in
SQUARE_SHARES = (1 / 8, 1 / 4)  # of the image's side, squares in larger images
LEAST_RIGHT = 0.9  # probability from which on a zero counts as data
CHOSEN_NOISE = 0.2  # of such data in small images: they were chosen by what the prior expects
ZERO_FEATURES = 4
HOLE_DEVIATIONS, LEAST_HOLE = 3.0, 0.02  # of the values about a hole, and their least mean
HIDDEN_EVIDENCE = -log(NOISE_FLOOR) - log(2 * pi) / 2  # of a value without a gain, in nats
LEAST = 0.02  # probability of a kind that counts
WIDTH = 24


class BlindRestorer(Configured):
    """Restoration of images of unknown corruption: posterior means under every kind, averaged.

    - *Where*: a value that is 0 may be missing, or 0. A small network gives two probabilities, that
      0 is right and that the value is observed (as one in images larger than the prior's), from its
      posterior without all zeros and from the zeros about it, twice. The estimate is the posterior
      mean from the values that are surely right, zeros among these with noise of .2 as they were
      chosen by what the prior expects, times the probability that the value is missing.
    - *How strong*: noise and blur by the evidence of the data, over a grid of strengths. Where the
      prior is combined with one of patches, these tell the noise: whole images take detail for it.
    - *Which kind*: a second small network that reads the evidence of each under the prior, with and
      without the zeros, and counts of zeros and of values outside 0 to 1. Nothing is missing where
      nothing is 0, and a black image stays black.

    Both networks are trained by :func:`fit_blind` on corrupted training images. Images in half
    precision are restored in float32. Black bars at the edges of photos are no missing values.

    Args:
        prior: of whole images, of both, or of patches (which know no blur).
        kinds: names of :data:`CORRUPTIONS` among noise, missing, occlusion and blur.
        zeros: share of training images that are 0 at every value, ``(n,)``, or ``(1,)`` for all.
        kind_scale: mean and deviation of the features of the first network, ``(2, features)``.
        where_scale: those of the second, ``(2, features)``.
        by_patches: whether the evidence of noise is that of the patches of a combined prior.

    Raises:
        ConfigError: for a kind that is not restored, or features of another version.
    """

    zeros: Tensor
    kind_scale: Tensor
    where_scale: Tensor

    def __init__(
        self,
        prior: ImagePrior | CombinedPrior,
        kinds: tuple[str, ...],
        zeros: Tensor,
        kind_scale: Tensor,
        where_scale: Tensor,
        *,
        by_patches: bool = False,
    ) -> None:
        super().__init__()
        check_ways(kinds)
        counts = kind_scale.shape[1], where_scale.shape[1]
        if counts != feature_counts(kinds):
            raise ConfigError(
                f"{counts} features of a blind restorer",
                f"{feature_counts(kinds)}, as this version has",
                "Fit it again with fit_blind.",
            )
        self.prior, self.kinds = prior, tuple(kinds)
        self.by_patches = by_patches and isinstance(prior, CombinedPrior)
        self.register_buffer("zeros", zeros.detach().clone())
        self.register_buffer("kind_scale", kind_scale.detach().clone())
        self.register_buffer("where_scale", where_scale.detach().clone())
        self.which = MLP(kind_scale.shape[1], len(self.answers), WIDTH, hidden=1)
        heads = 1 + (len(zeros) > 1)
        self.where = nn.ModuleList(
            MLP(where_scale.shape[1], heads, WIDTH, hidden=1) for _ in range(2)
        )

    @property
    def whole(self) -> ImagePrior:
        """The prior that evidence is taken from: of whole images, or of patches."""
        return self.prior.whole if isinstance(self.prior, CombinedPrior) else self.prior

    @property
    def answers(self) -> tuple[str, ...]:
        """The kinds of restoration to choose from: keep, noise, zeros, blur."""
        return ("keep", *dict.fromkeys(WAYS[kind] for kind in self.kinds))

    @torch.no_grad()
    def probabilities(self, y: Tensor) -> Tensor:
        """The probability of every way in :attr:`answers` for images ``y``, ``(b, ways)``."""
        self._check(y)
        y = single(y)
        return self._probabilities(y, self.read(y))

    @torch.no_grad()
    def forward(self, y: Tensor) -> Tensor:
        """The restored images of ``y``, with values from 0 to 1, ``(b, c, h, w)``.

        Raises:
            DataError: for values far outside 0 to 1, such as bytes as floats.
        """
        self._check(y)
        check_scale(y, "y", UNKNOWN_NOISE)
        given, y = y, single(y)
        reading = self.read(y)
        shares = self._probabilities(y, reading)
        x = torch.zeros_like(y)
        ways = {"keep": self._keep, "noise": self._noise, "blur": self._blur, "zeros": self._zeros}
        for i, way in enumerate(self.answers):
            rows = (shares[:, i] > LEAST).nonzero()[:, 0]
            if len(rows):
                found = ways[way](y[rows], {name: part[rows] for name, part in reading.items()})
                x[rows] += shares[rows, i].to(y)[:, None, None, None] * found.clamp(0, 1)
        return x.to(given)

    def _check(self, y: Tensor) -> None:
        """Raise a ShapeError unless ``y`` are images of the kind that it was fitted to."""
        check_channels(y, self.prior.shape, "y")
        if len(self.zeros) > 1 and self.patched(y):
            raise ShapeError(
                f"y of shape {tuple(y.shape)}",
                f"(b, {', '.join(map(str, self.prior.shape))}): it was fitted to whole images",
                "Resize them, or fit another one: fit_blind(fit_prior(images, patch=8), images).",
            )

    def _probabilities(self, y: Tensor, reading: dict[str, Tensor]) -> Tensor:
        features = kind_features(y, reading)
        possible = torch.ones(len(y), len(self.answers), dtype=torch.bool, device=y.device)
        if "zeros" in self.answers:
            dubious = ((y == 0) & ~reading["bars"]).flatten(1).any(1)
            possible[:, self.answers.index("zeros")] = dubious & (y != 0).flatten(1).any(1)
        logits = self.which(standard(features, self.kind_scale))
        p = logits.masked_fill(~possible, -inf).softmax(1)
        p = torch.where(p > LEAST, p, 0.0)
        return p / p.sum(1, keepdim=True)

    def read(self, y: Tensor) -> dict[str, Tensor]:
        """The evidence that the choice among :attr:`answers` is made by, by name.

        - ``noise``, ``blur``: the evidence of every strength, ``(b, levels)``.
        - ``plain``: that of images without noise, ``(b,)``, by the prior of ``blur`` and ``zeros``.
        - ``filled``: that of noise on the image whose zeros are filled with means about them: noise
          that was cut off at 0 is there in the other values, too, and a missing value is not.
        - ``bars``: where black bars of photos are, ``(b, 1, h, w)``.
        - ``kept``: the probability that a value is observed, ``(b, c, h, w)``, 1 where it is not 0.
        - ``data``: where a value is surely right, ``(b, c, h, w)``.
        - ``zeros``: how well zeros are explained as missing, ``(b, 4)``: share of missing values,
          energy that they would get back, and the evidence of the other values, by itself and less
          that of all. Of images larger than the prior's, where this takes long, it is 0.
        """
        found = {"noise": self._noise_levels(y)}
        apart = self.by_patches and not self.patched(y)
        found["plain"] = self._evidence(y, None, 0.0) if apart else found["noise"][:, 0]
        found["filled"] = found["noise"].clone()
        found["bars"] = black_bars(y) & self.patched(y)
        rows = (y == 0).flatten(1).any(1).nonzero()[:, 0]
        if len(rows):
            found["filled"][rows] = self._noise_levels(filled(y[rows]))
        if "blur" in self.kinds:
            blurs = [gaussian_blur(y[:1], severity) for severity in BLUR_LEVELS]
            found["blur"] = torch.stack([self._evidence(y, K, BLUR_NOISE) for K in blurs], 1)
        found["zeros"] = y.new_zeros(len(y), ZERO_FEATURES)
        if "zeros" in self.answers and not self.patched(y):
            found["kept"], found["data"] = torch.ones_like(y), torch.ones_like(y, dtype=torch.bool)
            if len(rows):
                kept, data = self._observed(y[rows], found["bars"][rows])
                found["kept"][rows], found["data"][rows] = kept, data
                plain = found["plain"][rows]
                found["zeros"][rows] = self._zero_features(y[rows], kept, data, plain)
        return found

    def _observed(self, y: Tensor, bars: Tensor) -> tuple[Tensor, Tensor]:
        """The probability that every value is observed, and where it is surely right."""
        data = sure = (y != 0) | bars
        for network in self.where:
            features = where_features(self, y, data)
            found = network(standard(features, self.where_scale)).sigmoid()
            right, kept = (found[:, i].reshape(y.shape) for i in (0, -1))
            data = sure | (right > LEAST_RIGHT)
        return torch.where(sure, 1.0, kept), data

    def _zero_features(self, y: Tensor, kept: Tensor, data: Tensor, plain: Tensor) -> Tensor:
        """The explanation of zeros by missing values, given the evidence of all, ``(b, 4)``."""
        found = self.posterior(y, seen_only(data, y), 0.0)
        hidden = (~data).flatten(1).sum(1)
        evidence = (found.log_evidence - hidden * HIDDEN_EVIDENCE).to(y)
        values = y[0].numel()
        missing = (1 - kept).flatten(1)
        columns = [
            (1000 * missing.mean(1)).log1p(),
            (1000 * (missing * found.mean.flatten(1)).square().mean(1)).log1p(),
            signed_log(evidence / (values - hidden).clamp(min=1)),
            signed_log((evidence - plain.to(y)) / values),
        ]
        return torch.stack(columns, 1)

    def _noise_levels(self, y: Tensor) -> Tensor:
        if self.patched(y):
            return patch_levels(self.whole, y)
        if self.by_patches and isinstance(self.prior, CombinedPrior):
            return patch_levels(self.prior.local, y)  # whole images take detail for noise
        return torch.stack([self._evidence(y, None, s) for s in NOISE_LEVELS], 1)

    def _evidence(self, y: Tensor, K: Operator | None, noise: float) -> Tensor:
        return self.posterior(y, K, noise).log_evidence

    def posterior(
        self, y: Tensor, K: Operator | None, noise: float, *, adapt: bool = True
    ) -> Posterior:
        """The posterior given ``y``, ``K`` and ``noise``, by patches if the prior is of these."""
        if self.patched(y):
            return patch_posterior(self.whole, y, K, noise, adapt=adapt)
        return self.whole.posterior(y, K, noise)

    def _mean(self, y: Tensor, K: Operator | None, noise: float) -> Tensor:
        """The posterior mean, by both priors if they are combined."""
        if isinstance(self.prior, CombinedPrior) and not self.patched(y):
            return self.prior.posterior(y, K, noise).mean
        return self.posterior(y, K, noise).mean

    def patched(self, y: Tensor) -> bool:
        """True if the images ``y`` are larger than the prior's."""
        return tuple(y.shape[1:]) != self.prior.shape

    def _keep(self, y: Tensor, reading: dict[str, Tensor]) -> Tensor:  # noqa: ARG002
        return y

    def _noise(self, y: Tensor, reading: dict[str, Tensor]) -> Tensor:
        levels = reading["noise"]
        if not self.patched(y):
            if not isinstance(self.prior, CombinedPrior):
                return self._over(y, levels, [(None, s) for s in NOISE_LEVELS])
            if not self.by_patches:
                levels = patch_levels(self.prior.local, y)  # whole images take detail for noise
        rows = zip(y.split(1), noise_levels(levels).tolist(), strict=True)
        return torch.cat([self._mean(row, None, s) for row, s in rows])

    def _blur(self, y: Tensor, reading: dict[str, Tensor]) -> Tensor:
        cases: list[tuple[Operator | None, float]]
        cases = [(gaussian_blur(y[:1], s), BLUR_NOISE) for s in BLUR_LEVELS]
        return self._over(y, reading["blur"], cases)

    def _over(
        self, y: Tensor, evidence: Tensor, cases: list[tuple[Operator | None, float]]
    ) -> Tensor:
        """Posterior means, averaged over the cases by their evidence."""
        shares, x = evidence.softmax(1), torch.zeros_like(y)
        for i, (K, noise) in enumerate(cases):
            rows = (shares[:, i] > LEAST / len(cases)).nonzero()[:, 0]
            if len(rows):
                mean = self._mean(y[rows], K, noise)
                x[rows] += shares[rows, i].to(y)[:, None, None, None] * mean
        return x

    def _zeros(self, y: Tensor, reading: dict[str, Tensor]) -> Tensor:
        """The posterior mean where values that are 0 may be missing."""
        if "kept" in reading:
            kept, data = reading["kept"], reading["data"]
        else:
            kept, data = self._observed(y, reading["bars"])
        gains = data.to(y)
        if not self.patched(y):
            gains = torch.where(y == 0, NOISE_FLOOR / CHOSEN_NOISE * gains, gains)
        mean = self._mean(y, Diagonal(gains.flatten(1), trainable=False), 0.0)
        return torch.where(y == 0, (1 - kept) * mean, y)


def check_ways(kinds: tuple[str, ...]) -> None:
    """Raise a ConfigError unless ``kinds`` are corruptions that are restored."""
    check_kinds(kinds)
    for kind in kinds:
        if kind not in WAYS:
            raise ConfigError(
                f"corruption '{kind}' for blind restoration",
                ", ".join(WAYS),
                "Use restore(prior, y, K) where the corruption is known.",
            )


def feature_counts(kinds: tuple[str, ...]) -> tuple[int, int]:
    """The numbers of features of kinds, and of places."""
    return 15 + len(SQUARES) + len(SQUARE_SHARES) + ZERO_FEATURES + 2 * ("blur" in kinds), 6 + len(
        WINDOWS
    )


def seen_only(observed: Tensor, y: Tensor) -> Operator:
    """The measurement of values of ``y`` that are observed."""
    return Diagonal(observed.to(y).flatten(1), trainable=False)


def patch_levels(prior: ImagePrior, y: Tensor) -> Tensor:
    """The evidence of every strength of noise under a prior of patches, ``(b, levels)``.

    A patch has the noise of its image, or, with a probability of a tenth, detail that the prior
    takes for more noise: ``sum_t log(.9 p(t | s) + .1 mean_(s' >= s) p(t | s'))`` over tiles ``t``.
    The deviations of largest evidence are then within 4 % on half of held-out photos, at a standard
    deviation of .1, and those of photos full of texture are 7 % too large in place of 11 %.
    """
    side = prior.shape[1]
    check_image(y, side)
    tiles = y[..., : -(y.shape[2] % side) or None, : -(y.shape[3] % side) or None]
    tiles = Patches(tiles, side, side).of(tiles)
    of = torch.stack([prior.log_prob(tiles, s) for s in NOISE_LEVELS], 1)
    of = of.unflatten(0, (len(y), -1))
    counts = torch.arange(len(NOISE_LEVELS), 0, -1).to(of)
    more = of.flip(2).logcumsumexp(2).flip(2) - counts.log()
    return torch.logaddexp(of + log(1 - TEXTURED), more + log(TEXTURED)).sum(1)


def noise_levels(evidence: Tensor) -> Tensor:
    """The deviation of largest evidence ``(b, levels)``, between levels by a parabola, ``(b,)``."""
    best = evidence.argmax(1)
    at = best.clamp(2, len(NOISE_LEVELS) - 2)
    left, middle, right = (evidence.gather(1, (at + i)[:, None])[:, 0] for i in (-1, 0, 1))
    curvature = (2 * middle - left - right).clamp(min=torch.finfo(evidence.dtype).tiny)
    step = ((right - left) / (2 * curvature)).clamp(-1, 1)
    ratio = NOISE_LEVELS[2] / NOISE_LEVELS[1]
    return torch.where(best == 0, 0.0, NOISE_LEVELS[1] * ratio ** (at - 1 + step))


def black_bars(y: Tensor) -> Tensor:
    """True in the black rows and columns at the edges of images, ``(b, 1, h, w)``."""
    empty = (y == 0).all(1, keepdim=True)
    bars = torch.zeros_like(empty)
    for axis in (2, 3):
        line = empty.all(5 - axis, keepdim=True).long()
        bars |= (line.cumprod(axis) + line.flip(axis).cumprod(axis).flip(axis)) > 0
    return bars


def filled(y: Tensor) -> Tensor:
    """The images ``y`` with means of windows about them, the smallest first, in place of zeros."""
    seen = (y != 0).any(1, keepdim=True).to(y)
    x, empty = y, seen == 0
    for window in FILLED:
        mass, total = (avg_pool2d(z, window, 1, window // 2) for z in (seen, seen * y))
        near = empty & (mass > 0)
        x = torch.where(near, total / mass.clamp(min=torch.finfo(y.dtype).tiny), x)
        empty = empty & ~near
    return x


def kind_features(y: Tensor, reading: dict[str, Tensor]) -> Tensor:
    """Features of kinds of corruption, ``(b, features)``: range, zeros, and evidence."""
    empty = ((y == 0).all(1, keepdim=True) & ~reading["bars"]).to(y)
    alone = empty * (1 - avg_pool2d(empty, 3, 1, 1, count_include_pad=False))
    side = min(y.shape[2:])
    sides = *SQUARES, *(max(1, round(share * side)) for share in SQUARE_SHARES)
    squares = [_in_square(empty, side) for side in sides]
    edges = [empty[:, :, [0, -1]].flatten(1), empty[..., [0, -1]].flatten(1)]
    shares = [((y < 0) | (y > 1)).to(y), (y == 1).to(y), empty, alone, *squares]
    columns = [(1000 * part.flatten(1).mean(1)).log1p() for part in shares]
    columns.append(torch.cat(edges, 1).mean(1))
    columns += [*_around_zeros(y, empty), *reading["zeros"].to(y).unbind(1)]
    values = y[0].numel()
    for name in ("noise", "filled", "blur"):
        if name not in reading:
            continue
        of = reading[name].to(y)
        none = of[:, 0] if name != "blur" else reading["plain"].to(y)
        for column in (none, of.amax(1) - none)[name == "blur" :]:
            columns.append(signed_log(column / values))
        columns.append(of.argmax(1).to(y).log1p())
    return torch.stack(columns, 1)


def signed_log(x: Tensor) -> Tensor:
    """The sign of ``x`` times ``log(1 + |x|)``."""
    return x.sign() * x.abs().log1p()


def _around_zeros(y: Tensor, empty: Tensor) -> tuple[Tensor, ...]:
    """Mean and relative deviation of what is not 0 next to zeros, and shares of holes, ``(b,)``.

    Noise that was cut off at 0 has a half of a normal distribution about its zeros, of which the
    deviation is .76 of the mean; about a missing value there is the image. A hole is a zero among
    values that are far from 0 and alike; those of the last share have values on most sides.
    """
    sums = [avg_pool2d(z, 3, 1, 1).mean(1, keepdim=True) for z in (1 - empty, y, y.square())]
    there = empty * (sums[0] > 0)
    mass = sums[0].clamp(min=torch.finfo(y.dtype).tiny)
    mean, square = sums[1] / mass, sums[2] / mass
    variance = (square - mean**2).clamp(min=0)
    total = [
        (there * z).flatten(1).sum(1) for z in (torch.ones_like(mass), mean, variance, mean**2)
    ]
    share = (total[2] / total[3].clamp(min=1e-6)).sqrt()
    hole = there * (mean > HOLE_DEVIATIONS * variance.sqrt() + LEAST_HOLE)
    shares = [(1000 * z.flatten(1).mean(1)).log1p() for z in (hole, hole * (sums[0] > 0.5))]
    return total[1] / total[0].clamp(min=1), share.clamp(max=2), *shares


def where_features(f: BlindRestorer, y: Tensor, observed: Tensor) -> Tensor:
    """Features of missing values and of zeros, given what is observed, ``(b n, features)``."""
    found = f.posterior(y, seen_only(observed, y), 0.0, adapt=False)
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
    corners = (_window_sums(empty, side) > side**2 - 0.5).to(empty)
    padded = nn.functional.pad(corners, (side - 1,) * 4)
    return (_window_sums(padded, side) > 0.5).to(empty)


def _window_sums(x: Tensor, side: int) -> Tensor:
    """Sums of all squares of this side, ``(b, 1, h - side + 1, w - side + 1)``."""
    total = nn.functional.pad(x.double().cumsum(2).cumsum(3), (1, 0, 1, 0))
    rows = total[:, :, side:] - total[:, :, :-side]
    return rows[..., side:] - rows[..., :-side]
