"""A distribution of images: a Gaussian mixture on principal coordinates, with exact posteriors."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor

from rectilinear.checks import (
    STANDARDISED_REACH,
    check_batch,
    check_finite,
    check_floating,
    check_scale,
    is_within,
    whole,
)
from rectilinear.errors import ConfigError, DtypeError, ShapeError
from rectilinear.invertible import (
    Chain,
    Flatten,
    Invertible,
    MixtureMap,
    Reflections,
    Rotation,
    fit_mixture,
)
from rectilinear.metrics.pca import held_out_residual, principal_axes
from rectilinear.notebook import short_repr
from rectilinear.operators import Diagonal, Identity, Operator, to_dense
from rectilinear.projector.conditioning import (
    Information,
    Natural,
    adapted,
    condition,
    log_evidence,
)
from rectilinear.projector.data import check_images, check_measured, check_noise
from rectilinear.projector.model import Projector, Selection
from rectilinear.random import generator
from rectilinear.serialization import Configured

NOISE_FLOOR = 1e-3  # standard deviation, below that of rounding to 8 bits, 1 / 255 / sqrt(12)
ROWS_AT_A_TIME = 4096  # images whose posteriors are computed together
MAX_DENSE = 4096  # values of an image up to which a measurement may be any operator
MAX_EXACT = 1024  # values of an image, above which axes are found by a randomised decomposition
MAX_FITTED = 10_000  # images that the mixture is fitted to
ROWS_OF_COMPONENT = 125  # images for each component of the mixture, on average
MAX_COMPONENTS = 80
RANK, PATCH_RANK = 64, 96  # by default, and of patches in colour
IMAGES_OF_AXIS = 10  # images for each axis, below which residuals are those of held-out images
MAX_PATCHES = 50_000  # that the mixture of patches is fitted to
PATCHES_OF_COMPONENT = 1000
PATCH_ITERATIONS = 6  # of expectation maximisation: more gain less than 0.02 dB on photos


@dataclass(frozen=True, eq=False)
class Posterior:
    """Mean, uncertainty and evidence of images behind data.

    Attributes:
        mean: the posterior mean, ``(b, *shape)``, the estimate of least expected square error.
        std: the standard deviation of every value about it, ``(b, *shape)``.
        log_evidence: ``log p(y)``, the log-density of the data in nats, ``(b,)``.
    """

    mean: Tensor
    std: Tensor
    log_evidence: Tensor

    __repr__ = short_repr


class ImagePrior(Configured):
    """The distribution ``x = mean + V c + e`` of images, with posteriors in closed form.

    ``V`` are ``d`` principal axes, ``c`` follows a Gaussian mixture, and ``e`` is Gaussian and
    independent from value to value: the density on the range of the linear projector
    ``x -> mean + V V^T (x - mean)``, and the residual that the projector takes off. Behind every
    linear measurement with Gaussian noise the posterior is a mixture again.

    Args:
        mean: mean image, ``(c, h, w)`` or of any other shape.
        axes: ``V``, ``(n, d)`` with orthonormal columns.
        residual: standard deviations of ``e``, ``(n,)``.
        mixture: the density of ``c``, on ``(d,)``.

    Raises:
        ShapeError: if the shapes do not fit each other.

    Reference: D. Zoran, Y. Weiss, From learning models of natural image patches to whole image
    restoration, ICCV 2011; G. Yu, G. Sapiro, S. Mallat, Solving inverse problems with piecewise
    linear estimators, IEEE TIP 2012.

    Example:
        >>> x = torch.randn(300, 1, 2, 3)
        >>> prior = fit_prior(x, rank=4, components=2)
        >>> y = x[:5].clone()
        >>> y[..., 0] = 0
        >>> found = prior.posterior(y, Diagonal((y != 0).float().flatten(1), trainable=False))
        >>> torch.equal(found.mean[..., 1:], y[..., 1:]), bool((found.std[..., 0] > 0.1).all())
        (True, True)
    """

    centre: Tensor
    axes: Tensor
    residual: Tensor

    def __init__(self, mean: Tensor, axes: Tensor, residual: Tensor, mixture: MixtureMap) -> None:
        super().__init__()
        n = mean.numel()
        if axes.ndim != 2 or axes.shape[0] != n or residual.shape != (n,):
            raise ShapeError(
                f"a mean of {n} values, axes {tuple(axes.shape)}, residuals "
                f"{tuple(residual.shape)}",
                "(n,), (n, d) and (n,)",
                "Make the prior with fit_prior(images).",
            )
        if mixture.shape != (axes.shape[1],):
            raise ShapeError(
                f"a mixture on {mixture.shape}",
                f"({axes.shape[1]},), as the axes",
                "Fit it to rows @ axes, or make the prior with fit_prior(images).",
            )
        self.shape = tuple(mean.shape)
        self.register_buffer("centre", mean.detach().clone())
        self.register_buffer("axes", axes.detach().clone())
        self.register_buffer("residual", residual.detach().clone())
        self.mixture = mixture.requires_grad_(requires_grad=False)

    @property
    def rank(self) -> int:
        """The number ``d`` of principal coordinates."""
        return self.axes.shape[1]

    @property
    def projector(self) -> Projector:
        """The projector onto the range, with the mixture as its density."""
        n, d = self.axes.shape
        mean = self.centre.flatten()
        rotation: Invertible = (
            Rotation.from_matrix(self.axes, mean) if d == n else Reflections(self.axes, mean)
        )
        g = Chain(Flatten(self.shape), rotation) if len(self.shape) > 1 else rotation
        spread = self.residual.square().mean().sqrt().clamp(min=NOISE_FLOOR).repeat(n)
        return Projector(g, Selection.leading(n, d).to(self.axes), self.mixture, spread)

    def forward(self, x: Tensor) -> Tensor:
        """The projection ``mean + V V^T (x - mean)``, ``(b, *shape)``."""
        check_images(x, self.shape, "x")
        rows = (x - self.centre).flatten(1)
        return ((rows @ self.axes) @ self.axes.T).reshape(x.shape) + self.centre

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` images of the range by ``generator``, ``(count, *shape)``, no residual."""
        z = torch.randn(whole(count, "count"), self.rank, generator=generator, dtype=torch.float64)
        c = self.mixture.inverse(z.to(self.axes))
        return (c @ self.axes.T).reshape(count, *self.shape) + self.centre

    @torch.no_grad()
    def log_prob(self, x: Tensor, noise: float = 0.0) -> Tensor:
        """The log-density at images ``x`` ``(b, *shape)`` with noise, in nats, ``(b,)``.

        The standard deviation of the noise is 0 by default; less than 0.001 counts as 0.001.
        """
        return log_evidence(Natural.of(self.mixture), self._noisy(x, noise)).to(torch.float64)

    def _noisy(self, y: Tensor, noise: float) -> Information:
        """The likelihood of the coordinates given images with noise."""
        self._check(y, None, noise)
        gains = torch.ones_like(self._mean())[None]
        return self._information(y.flatten(1).double(), gains, max(noise, NOISE_FLOOR) ** 2)[0]

    @torch.no_grad()
    def posterior(
        self,
        y: Tensor,
        measurement: Operator | None = None,
        noise: float = 0.0,
    ) -> Posterior:
        """The posterior of images behind ``y = K x + N(0, noise^2)``.

        Args:
            y: data, ``(b, *shape)``.
            measurement: ``K``, on flattened images; the identity by default. An operator that is
                not diagonal is made a matrix, for images of at most 4096 values.
            noise: standard deviation of the noise, 0 by default, where values seen without a gain
                are kept as they are. Less than 0.001, the rounding to 8 bits, counts as 0.001.

        Raises:
            ShapeError: if shapes do not fit.
            ConfigError: for negative noise, or an image too large for its measurement.
        """
        self._check(y, measurement, noise)
        rows, mean = y.flatten(1).double(), self._mean()
        variance = max(noise, NOISE_FLOOR) ** 2
        if measurement is None or isinstance(measurement, Identity | Diagonal):
            gains = torch.ones_like(mean)[None]
            if isinstance(measurement, Diagonal):
                gains = measurement.values.detach().double().reshape(-1, len(mean))
            parts = self._rows(rows, gains, variance)
            if noise == 0:
                parts = torch.where(gains == 1, rows, parts[0]), *parts[1:]
        else:
            parts = self._dense(rows, to_dense(measurement).double(), variance)
        x, std, evidence = parts
        return Posterior(
            x.to(y).reshape(y.shape), std.to(y).reshape(y.shape), evidence.to(torch.float64)
        )

    @torch.no_grad()
    def adapted(self, y: Tensor, noise: float, counts: float = 30.0) -> ImagePrior:
        """The prior of the images behind ``y = x + N(0, noise^2)``, its mixture adapted to them.

        A step of expectation maximisation on the noisy images, drawn to this prior's mixture,
        which counts for ``counts`` images in each component and in the weights.

        Args:
            y: noisy images ``(b, *shape)`` that are alike, such as the patches of one photo.
            noise: standard deviation of the noise; less than 0.001 counts as 0.001.
            counts: images that each component of this prior counts for, above 0; 30 by default.

        Raises:
            ShapeError: if shapes do not fit.
            ConfigError: for negative noise, or counts that are not above 0.

        Reference: E. Luo, S. Chan, T. Nguyen, Adaptive image denoising by mixture adaptation, IEEE
        TIP 2016.

        Example:
            >>> x = torch.rand(200, 1, 3, 3, generator=torch.Generator().manual_seed(0))
            >>> x = x.mean((2, 3), keepdim=True) + 0.2 * x
            >>> prior, y = fit_prior(x, rank=9, components=2), x[:1].rot90(2).expand(99, 1, 3, 3)
            >>> found = prior.adapted(y, noise=0.1)
            >>> bool((found.log_prob(y) > prior.log_prob(y)).all())
            True
        """
        data = self._noisy(y, noise)
        if not is_within(counts, 0) or counts == 0:
            raise ConfigError(f"counts={counts!r}", "a number above 0")
        mixture = adapted(self.mixture, data, counts).to(self.mixture.means.dtype)
        return ImagePrior(self.centre, self.axes, self.residual, mixture)

    def _rows(self, rows: Tensor, gains: Tensor, variance: float) -> tuple[Tensor, Tensor, Tensor]:
        """As ``_diagonal``, some rows at a time: each with gains of its own takes a matrix."""
        found = torch.empty_like(rows), torch.empty_like(rows), rows.new_empty(len(rows))
        full = (gains == 1).all(1).expand(len(rows))
        for alike in (True, False):
            for part in (full == alike).nonzero()[:, 0].split(ROWS_AT_A_TIME):
                if not len(part):
                    continue
                own = gains if len(gains) == 1 else gains[part[:1] if alike else part]
                of_part = self._diagonal(rows[part], own, variance)
                for column, values in zip(found, of_part, strict=True):
                    column[part] = values
        return found

    def _diagonal(
        self, rows: Tensor, gains: Tensor, variance: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, deviations and evidence for ``y_i = a_i x_i + noise``, gains ``(1 or b, n)``."""
        V, tau2 = self.axes.double(), self.residual.double().square()
        information, data, precision = self._information(rows, gains, variance)
        found = condition(Natural.of(self.mixture), information, V)
        smooth = found.mean @ V.T
        share = tau2 * precision  # of what V c does not explain, ascribed to e
        x = self._mean() + smooth + share * (data - smooth)
        variances = (1 - share).square() * found.variances + tau2 * (1 - share)
        return x, variances.clamp(min=0).sqrt(), found.log_evidence

    def _information(
        self, rows: Tensor, gains: Tensor, variance: float
    ) -> tuple[Information, Tensor, Tensor]:
        """The likelihood of ``c``, data without gains and mean, and precisions as data of V c."""
        V, tau2, mean = self.axes.double(), self.residual.double().square(), self._mean()
        seen = gains != 0
        data = torch.where(seen, rows / torch.where(seen, gains, 1.0) - mean, 0.0)
        total = gains.square() * tau2 + variance
        precision = gains.square() / total
        h = (precision * data) @ V
        if len(precision) == 1:
            gram = (V * precision[0, :, None]).T @ V
        else:
            gram = torch.stack([(V * p[:, None]).T @ V for p in precision])
        normal = torch.where(seen, data.square() * precision + total.log() + log(2 * pi), 0)
        return Information(gram, h, -0.5 * normal.sum(1)), data, precision

    def _dense(self, rows: Tensor, K: Tensor, variance: float) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, deviations and evidence for a matrix ``K``, the same for all images."""
        V, tau2, mean = self.axes.double(), self.residual.double().square(), self._mean()
        eye = torch.eye(len(K), dtype=K.dtype, device=K.device)
        root = torch.linalg.cholesky((K * tau2) @ K.T + variance * eye)  # of cov(K e + noise)
        whiten = torch.linalg.solve_triangular(root, torch.cat([K, eye], 1), upper=False)
        KW, W = whiten[:, : K.shape[1]], whiten[:, K.shape[1] :]
        M, data = KW @ V, (rows - mean @ K.T) @ W.T
        volume = 2 * root.diagonal().log().sum() + len(K) * log(2 * pi)
        base = -0.5 * (data.square().sum(1) + volume)
        back = tau2[:, None] * KW.T  # cov(e, whitened data)
        kept = V - back @ M
        found = condition(Natural.of(self.mixture), Information(M.T @ M, data @ M, base), kept)
        x = mean + found.mean @ kept.T + data @ back.T
        variances = found.variances + (tau2 - (back @ KW).diagonal() * tau2).clamp(min=0)
        return x, variances.sqrt(), found.log_evidence

    def _mean(self) -> Tensor:
        return self.centre.double().flatten()

    def _check(self, y: Tensor, measurement: Operator | None, noise: float) -> None:
        check_images(y, self.shape, "y")
        check_finite(y, "y")
        n = self.centre.numel()
        check_noise(noise)
        if measurement is None:
            return
        check_measured(measurement, y)
        if not isinstance(measurement, Identity | Diagonal):
            if measurement.batch_shape:
                raise ShapeError(
                    f"measurements of batch shape {tuple(measurement.batch_shape)}",
                    "one for all images, or diagonal ones",
                    "Restore the images one by one.",
                )
            if n > MAX_DENSE:
                raise ConfigError(
                    f"a {type(measurement).__name__} on images of {n} values",
                    f"at most {MAX_DENSE} unless it is diagonal",
                    "Fit it to smaller images, or images in colour to their channels: "
                    "images.flatten(0, 1)[:, None].",
                )


@torch.no_grad()
def fit_prior(
    images: Tensor,
    rank: int | None = None,
    *,
    components: int | None = None,
    patch: int | None = None,
    seed: int = 0,
) -> ImagePrior:
    """The prior of images ``(b, *shape)``, or of their square patches, by principal axes and EM.

    With fewer than ten images for each axis, the spread about the axes is that of held-out images,
    a quarter at a time: few images lie nearer to their own axes than others do.

    Args:
        images: clean images with values from 0 to 1, or standardised.
        rank: number of principal coordinates, at most the values of an image; by default 64, and
            96 of patches in colour, whose detail 64 do not hold (1.1 dB less on photos).
        components: components of the mixture; by default one for 125 images, 80 at most, or one
            for 1000 different patches, 50 at most. Two wide ones, a thousandth of the weight, are
            added for what no other expects: ``prior.mixture`` counts them, too.
        patch: side of the patches in pixels, of images ``(b, c, h, w)``: for images of any size, 8
            is usual. By default the prior is of whole images. Up to 50,000 patches at random
            places are taken; 50 components take half a minute of one core to fit at rank 64, a
            minute at rank 96.
        seed: of the choice of images and patches, and of the mixture.

    Raises:
        ConfigError: if the rank or the patch is out of range, or all images are equal.
        DataError: for images on another scale, such as bytes as floats.
        ShapeError: if there are fewer than two images.

    Example:
        >>> fit_prior(torch.rand(20, 3, 16, 16), rank=8, components=1, patch=4).shape
        (3, 4, 4)
    """
    draw, most, share, iterations = generator(seed), MAX_FITTED, ROWS_OF_COMPONENT, None
    if isinstance(images, list | tuple):
        fix = "Pass torch.stack(images); of photos of several sizes, stack tiles cut from them."
        raise DtypeError(f"a {type(images).__name__} of images", "one tensor (b, c, h, w)", fix)
    check_floating(images, "images")
    check_scale(images, "images", STANDARDISED_REACH)
    places = len(images)
    if patch is not None:
        most, share, iterations = MAX_PATCHES, PATCHES_OF_COMPONENT, PATCH_ITERATIONS
        places = number_of_patches(images, patch)
        images = random_patches(images, patch, max(MAX_FITTED, min(most, places)), draw)
    check_batch(images, None, "images")
    if len(images) < 2:
        small = patch is None and images.ndim == 4
        raise ShapeError(
            f"{len(images)} images",
            "two or more",
            "Fit the patches of one image: fit_prior(images, patch=8)." if small else "",
        )
    if bool((images == images[:1]).all()):
        raise ConfigError("images, or patches, that are all equal", "images that differ")
    n = images[0].numel()
    if rank is None:
        rank = RANK if patch is None or images.shape[1] == 1 else PATCH_RANK
    rank = min(whole(rank, "rank", 1), n, len(images) - 1)
    mean, axes, _ = principal_axes(images, rank if n > MAX_EXACT else None)
    axes = axes[:, :rank]
    rows = images.flatten(1).double() - mean
    c = rows @ axes
    parts = zip(rows.split(512), c.split(512), strict=True)
    residual = torch.stack([(part - z @ axes.T).square().sum(0) for part, z in parts]).sum(0)
    residual = residual / len(rows)
    if patch is None and len(images) < IMAGES_OF_AXIS * rank:
        residual = held_out_residual(rows, rank)
    chosen = c[torch.randperm(len(c), generator=draw)[:most].to(c.device)]
    if components is None:
        components = max(1, min(MAX_COMPONENTS, min(len(chosen), places) // share))
    mixture = fit_mixture(chosen, components=components, iterations=iterations, seed=seed).map
    centre = mean.reshape(images.shape[1:]).to(images)
    residual = residual.sqrt().to(images)
    return ImagePrior(centre, axes.to(images), residual, mixture.to(images.dtype))


def number_of_patches(images: Tensor, side: int) -> int:
    """The number of different patches of images ``(b, c, h, w)``."""
    if images.ndim != 4:
        raise ShapeError(
            f"images of shape {tuple(images.shape)}",
            "(b, c, h, w)",
            "Add axes: images[:, None] to grey ones, image[None] to one.",
        )
    b, c, h, w = images.shape
    if not 1 <= whole(side, "patch", 1) <= min(h, w):
        got = f"patches of {side} pixels of images {tuple(images.shape)}"
        fix = "Move the channels: images.movedim(3, 1)." if w in (1, 3) and c > 3 else ""
        raise ConfigError(got, f"1 to {min(h, w)}, the side of images (b, c, h, w)", fix)
    return b * (h - side + 1) * (w - side + 1)


def random_patches(
    images: Tensor, side: int, count: int, generator: torch.Generator | None = None
) -> Tensor:
    """``count`` patches ``(count, c, side, side)`` at random places of images ``(b, c, h, w)``."""
    b, _, h, w = images.shape
    which, top, left = (
        torch.randint(0, most, (count,), generator=generator)
        for most in (b, h - side + 1, w - side + 1)
    )
    places = zip(which.tolist(), top.tolist(), left.tolist(), strict=True)
    return torch.stack([images[i, :, y : y + side, x : x + side] for i, y, x in places])
