"""Image restoration with a projector or a prior: denoising, inpainting, deblurring."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rectilinear.checks import check_finite, check_floating, single, tolerance, whole
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.operators import Diagonal, Operator
from rectilinear.projector.blind import BlindRestorer
from rectilinear.projector.combined import CombinedPrior
from rectilinear.projector.data import check_channels, check_noise, check_operator
from rectilinear.projector.model import Projector
from rectilinear.projector.patches import patch_posterior
from rectilinear.projector.prior import ImagePrior, Posterior
from rectilinear.random import generator

FAR = 30.0  # times the scale of a prior's images, beyond which sums of values are on another
FAR_IMAGES = 8.0  # largest value of images with a mean from 0 to 1, and of noise not known
NOISE_REACHES = 10.0  # standard deviations that Gaussian noise does not reach
NEGATIVE_AMONG = 64  # values of which some are below minus half a standard deviation of their noise
BELOW = 0.05  # mean of what lies below 0 of images from 0 to 1, besides .4 of the noise
IMAGE_MEAN = 0.02  # least mean of images from 0 to 1
ROUNDING = 1e-3  # of a mean of images from 0 to 1
POWER_ITERATIONS = 10  # of the check that |K| <= 1
HELD_OUT = 0.1  # share of the observed values that estimates are compared on
LEAST_HELD_OUT = 10  # values, below which nothing is held out


@torch.no_grad()
def restore(
    f: Callable[[Tensor], Tensor],
    y: Tensor,
    measurement: Operator | None = None,
    steps: int = 50,
    *,
    noise: float | None = None,
    damping: float = 1.0,
    limits: tuple[float, float] | None = None,
    seed: int = 0,
) -> Tensor:
    """Restored images of data ``y = K x + noise``, ``(b, *shape)``.

    - *A prior* (:class:`ImagePrior`, :class:`CombinedPrior`) gives the posterior mean, and needs
      ``K`` or ``noise``. A prior of patches restores images of any size, patch by patch. A
      :class:`BlindRestorer` estimates the corruption where neither ``K`` nor ``noise`` is given.
    - *A projector, or any map*, without ``K`` and ``noise``, is applied once: ``f(y)``.
    - *With* ``K`` it iterates ``x <- v + K^T (y - K v)``, ``v = x + t (f(x) - x)``, from ``x = y``:
      a step of size ``t`` towards the range, then one towards the data. For a mask ``K`` and
      ``t = 1`` these are alternating projections onto the range and onto the images with the
      observed values.
    - *With* ``noise`` the step towards the data is ``s K^T (y - K v)``, ``s = d / (d + noise^2)``
      with ``d = max(|y - K v|^2 / n - noise^2, 0)``, the mean square of what the range does not
      explain: the residual is kept where noise is small, and left out where it explains it all.
      The best of ``y``, ``f(y)`` and all iterates is returned, by the error at a tenth of the
      observed values that are held out, or, where there is noise, on a second, independent draw of
      the data (``y + w`` and ``y - w`` with ``w`` of the noise's size are independent).

    A prior of whole images is no denoiser for light noise, and a prior of patches knows nothing of
    wide holes: :func:`fit_combined` has both.

    Args:
        f: a prior, a projector, or any map of images to images.
        y: corrupted images, ``(b, *shape)``.
        measurement: ``K``, on flattened images; ``|K| <= 1`` unless ``f`` is a prior.
        steps: number of iterations of a map with ``K`` or ``noise``, 50 by default.
        noise: standard deviation of the noise of ``y``; by default unknown without ``K``, and 0
            with it.
        damping: ``t``, above 0 to 1, 1 by default.
        limits: least and largest value of the result; by default 0 and 1 for a prior of images
            with a mean between these, else none.
        seed: of what is held out.

    Raises:
        ConfigError: for fewer than one step, damping or noise out of range, ``|K| > 1``, where
            the iteration diverges, a prior without ``K`` and ``noise``, or data or noise far beyond
            the images of the prior, such as values from 0 to 255 or from -1 to 1, or ``noise=25``.

    Reference: H. Bauschke, J. Borwein, On projection algorithms for solving convex feasibility
    problems, 1996; N. Oliveira, J. Lei, R. Tibshirani, Unbiased risk estimation in the normal means
    problem via coupled bootstrap techniques, 2021 (arXiv 2111.09447), for independent draws.

    Example:
        >>> flat = lambda x: x.mean(1, keepdim=True).expand_as(x)  # projects onto constants
        >>> observed = Diagonal(torch.tensor([1.0, 1.0, 0.0]))
        >>> restore(flat, torch.tensor([[3.0, 3.0, 0.0]]), observed).round().tolist()
        [[3.0, 3.0, 3.0]]
    """
    steps = whole(steps, "steps", 1)
    check_floating(y, "y")
    check_finite(y, "y")
    if noise is not None:
        check_noise(noise)
    if not 0 < damping <= 1:
        raise ConfigError(f"damping={damping!r}", "above 0 to 1")
    blind = measurement is None and noise is None
    if isinstance(f, Projector):
        _check_projected(f, y)
    if isinstance(f, ImagePrior | CombinedPrior | BlindRestorer):
        prior = f.prior if isinstance(f, BlindRestorer) else f
        if blind and isinstance(f, BlindRestorer):
            _check_scale(prior, y, None, 0.0)
            x = f(y)
        elif blind:
            raise ConfigError(
                "a prior, and neither a measurement nor noise",
                "one of them: without, the posterior mean is the data",
                "Pass noise=sigma or K; if nothing is known, restore(fit_blind(prior, images), y).",
            )
        else:
            x = posterior(prior, y, measurement, noise or 0.0).mean
        off = float((prior.centre - 0.5).abs().amax())
        limits = (0.0, 1.0) if limits is None and off < 0.5 + ROUNDING else limits
    elif blind:
        x = f(y)
    else:
        x = _Iteration(f, measurement, noise, damping, steps).run(y, seed)
    return x if limits is None else x.clamp(*limits)


def _is_of_images(prior: ImagePrior | CombinedPrior) -> bool:
    """True for a mean from 0 to 1, and not 0 as that of standardised data."""
    low, high = prior.centre.aminmax()
    return float(prior.centre.mean()) > IMAGE_MEAN and bool(low > -ROUNDING and high < 1 + ROUNDING)


def _check_scale(
    prior: ImagePrior | CombinedPrior, y: Tensor, measurement: Operator | None, noise: float
) -> None:
    """Raise a ConfigError for data or noise on another scale than the images of the prior."""
    if not y.numel():
        return
    scale, most = max(1.0, float(prior.centre.abs().amax())), float(y.abs().amax())
    alone = measurement is None or (
        isinstance(measurement, Diagonal) and float(measurement.values.detach().abs().amax()) <= 1
    )
    reach = FAR_IMAGES if alone and _is_of_images(prior) else FAR * scale
    far = most > reach + NOISE_REACHES * noise
    off = float(y.mean().abs()) > reach + NOISE_REACHES * noise / y.numel() ** 0.5
    low = float(y.amin())  # such noise makes values negative
    absent = noise > 2 * scale and low > -noise / 2 and int((y != 0).sum()) >= NEGATIVE_AMONG
    if noise and measurement is None and _is_of_images(prior):
        below = float(-y.clamp(max=0).mean())
        if below > BELOW + noise * (0.4 + NOISE_REACHES / y.numel() ** 0.5):
            raise ConfigError(
                f"data that lie below 0 by {below:.3g} in the mean, and noise of {noise:.3g}",
                "images from 0 to 1, as the prior's, with this noise",
                "Pass (y + 1) / 2 and half of the noise if your images are from -1 to 1.",
            )
    if far or off or absent:
        said = f" and noise of {noise:.3g}" if noise else ""
        raise ConfigError(
            f"data with values from {low:.3g} to {float(y.amax()):.3g}{said}",
            f"the scale of the prior's images, whose mean is {scale:.3g} at most",
            "Divide bytes by 255, and the standard deviation of their noise.",
        )


def posterior(
    prior: ImagePrior | CombinedPrior,
    y: Tensor,
    measurement: Operator | None = None,
    noise: float = 0.0,
) -> Posterior:
    """The posterior of images of any size: mean, standard deviations and evidence.

    Images of the size of the prior are taken whole, see :meth:`ImagePrior.posterior`; those of
    another size patch by patch, which takes square patches, and their evidence is then that of
    independent tiles.

    Args:
        prior: of whole images, of patches, or of both.
        y: data, ``(b, *shape)``.
        measurement: ``K``, on flattened images; diagonal for a prior of patches.
        noise: standard deviation of the noise, 0 by default.

    Example:
        >>> from rectilinear.projector import fit_prior
        >>> x = torch.rand(4, 1, 12, 12)
        >>> found = posterior(fit_prior(x, 8, patch=4, components=1), x, noise=0.1)
        >>> found.mean.shape, bool((found.std < 0.1).all())
        (torch.Size([4, 1, 12, 12]), True)
    """
    check_noise(noise)
    check_floating(y, "y")
    check_finite(y, "y")
    if (full := single(y)).dtype != y.dtype:
        found = posterior(prior, full, measurement, noise)
        return Posterior(found.mean.to(y), found.std.to(y), found.log_evidence)
    local = prior.local if isinstance(prior, CombinedPrior) else prior
    square = len(local.shape) == 3 and local.shape[1] == local.shape[2]
    if square:
        check_channels(y, prior.shape, "y")
    _check_scale(prior, y, measurement, noise)
    if square and tuple(y.shape[1:]) != prior.shape:
        return patch_posterior(local, y, measurement, noise)
    return prior.posterior(y, measurement, noise)


def _check_projected(f: Projector, y: Tensor) -> None:
    """Raise a ShapeError unless ``y`` are images of the projector's channels and size."""
    shape = f.g.shape
    if len(shape) != 3 or tuple(y.shape[1:]) == tuple(shape):
        return
    check_channels(y, shape, "y")
    raise ShapeError(
        f"y of shape {tuple(y.shape)}",
        f"(b, {', '.join(map(str, shape))}), as the projector's images",
        "Resize them, or project patch by patch: restore(Overlapping(f), y, ...).",
    )


class _Iteration:
    """Steps towards the range and the data, and the best of their results."""

    def __init__(
        self,
        f: Callable[[Tensor], Tensor],
        measurement: Operator | None,
        noise: float | None,
        damping: float,
        steps: int,
    ) -> None:
        self.f, self.K, self.noise = f, measurement, noise
        self.damping, self.steps = damping, steps

    def run(self, y: Tensor, seed: int) -> Tensor:
        data = y.flatten(1)
        if self.K is not None:
            check_measurement(self.K, data)
        results = self._results(y, self.K, self.noise or 0.0)
        if self.noise is None:  # the plain iteration
            return results[-1]
        return results[self._best(y, seed)]

    def _results(self, y: Tensor, K: Operator | None, noise: float) -> list[Tensor]:
        """``y``, ``f(y)`` and the iterates."""
        once = self.f(y)
        x, data, results = y, y.flatten(1), [y, once]
        for step in range(self.steps):
            v = (x + self.damping * ((self.f(x) if step else once) - x)).flatten(1)
            rest = data - (v if K is None else K(v))
            if noise:
                unexplained = (rest.square().mean(1, keepdim=True) - noise**2).clamp(min=0)
                rest = rest * unexplained / (unexplained + noise**2)
            x = (v + (rest if K is None else K.apply_adjoint(rest))).reshape(y.shape)
            results.append(x)
        return results

    def _best(self, y: Tensor, seed: int) -> int:
        """The result of least error on data that it was not made from."""
        assert self.noise is not None
        draw, K = generator(seed), self.K
        data = y.flatten(1)
        if self.noise:
            w = self.noise * torch.randn(y.shape, generator=draw, dtype=y.dtype).to(y.device)
            results = self._results(y + w, K, 2**0.5 * self.noise)
            target, seen = data - w.flatten(1), torch.ones_like(data)
            if isinstance(K, Diagonal):
                seen = (K.values.detach() != 0).to(data).expand_as(data)
        elif isinstance(K, Diagonal):
            out = torch.rand(data.shape, generator=draw).to(data) < HELD_OUT
            values = K.values.detach().expand_as(data)
            seen = (out & (values != 0)).to(data)
            if int(seen.sum(1).min()) < LEAST_HELD_OUT:
                return -1
            left = Diagonal(values * (1 - seen), trainable=False)
            results = self._results((data * (1 - seen)).reshape(y.shape), left, 0.0)
            target = data
        else:
            return -1
        images = [x.flatten(1) if K is None else K(x.flatten(1)) for x in results]
        errors = [float(((x - target).square() * seen).sum()) for x in images]
        return min(range(len(errors)), key=errors.__getitem__)


def check_measurement(measurement: Operator, data: Tensor) -> None:
    """Raise unless ``K`` maps images to images and ``|K| <= 1`` by power iteration."""
    check_operator(measurement)
    if not measurement.in_dim == measurement.out_dim == data.shape[1]:
        raise ShapeError(
            f"a measurement of shape {measurement.out_dim} x {measurement.in_dim}",
            f"{data.shape[1]} x {data.shape[1]}, the values of an image",
            "Build it for images of this size.",
        )
    v, norm = torch.cos(torch.arange(data.shape[1], device=data.device)).to(data), 1.0
    for _ in range(POWER_ITERATIONS):
        v = measurement.apply_adjoint(
            measurement(v / v.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny))
        )
        norm = float(v.norm(dim=-1).max()) ** 0.5 if v.numel() else 0.0
    if norm > 1 + tolerance(data.dtype, n=data.shape[1]):
        raise ConfigError(
            f"a measurement of norm {norm:.3g} or more",
            "|K| <= 1",
            "Divide K and the data by this norm.",
        )
