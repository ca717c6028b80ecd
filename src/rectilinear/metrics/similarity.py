"""Similarity of two images: peak signal-to-noise ratio (PSNR) and structural similarity (SSIM)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from rectilinear.checks import check_batch
from rectilinear.errors import ConfigError, ShapeError

WINDOW_PIXELS, SIGMA_PIXELS, K1, K2 = 11, 1.5, 0.01, 0.03  # of SSIM, as published


def psnr(x: Tensor, y: Tensor, peak: float = 1.0, *, clip: bool = False) -> Tensor:
    """The peak signal-to-noise ratio of each sample in dB, ``10 log10(peak^2 / mse)``.

    Infinite where the samples are equal. Its mean is :func:`mean_psnr`; for the ratio of a batch as
    a whole pass it as one sample, ``x[None]``.

    Args:
        x: ``(b, ...)``.
        y: the same shape.
        peak: the range of the values.
        clip: clip both to ``[0, peak]`` first, as images are displayed.

    Returns:
        ``(b,)``.

    Raises:
        ShapeError: if shapes differ.
        ConfigError: if ``peak`` is not positive.

    Example:
        >>> psnr(torch.zeros(1, 4), torch.full((1, 4), 0.1))
        tensor([20.])
        >>> psnr(torch.zeros(1, 4), torch.full((1, 4), -0.1), clip=True)
        tensor([inf])
    """
    _check(x, y, peak)
    if clip:
        x, y = x.clamp(0, peak), y.clamp(0, peak)
    return 10 * torch.log10(peak**2 / (x - y).flatten(1).square().mean(1))


def mean_psnr(x: Tensor, y: Tensor, *, most: float, clip: bool = False) -> float:
    """The mean of :func:`psnr` over samples in dB, each counted as at most ``most`` dB.

    Args:
        x: ``(b, ...)``.
        y: the same shape.
        most: value in dB of samples that are equal, or nearly so.
        clip: clip both to ``[0, 1]`` first, as images are displayed.

    Example:
        >>> x, y = torch.zeros(2, 4), torch.tensor([[0.1], [0.0]]).expand(2, 4)
        >>> round(mean_psnr(x, y, most=120.0))
        70
    """
    return psnr(x, y, clip=clip).clamp(max=most).mean().item()


def ssim(x: Tensor, y: Tensor, peak: float = 1.0) -> Tensor:
    """The structural similarity of each pair of images, 1 for equal ones.

    The mean over channels and windows of ``l s`` with ``l = (2 m_x m_y + c_1) / (m_x^2 + m_y^2 +
    c_1)`` and ``s = (2 s_xy + c_2) / (s_x^2 + s_y^2 + c_2)``. Windows are Gaussian, of 11 x 11
    pixels and deviation 1.5, inside the image; ``c_1 = (0.01 peak)^2`` and ``c_2 = (0.03 peak)^2``.
    Images below 11 pixels get the largest odd window that fits.

    Args:
        x: ``(b, c, h, w)``.
        y: the same shape.
        peak: the range of the values.

    Returns:
        ``(b,)``.

    Raises:
        ShapeError: if shapes differ or are not ``(b, c, h, w)``.
        ConfigError: if ``peak`` is not positive.

    Reference: Z. Wang et al., Image quality assessment: from error visibility to structural
    similarity, IEEE TIP 2004.

    Example:
        >>> x = torch.rand(2, 1, 8, 8)
        >>> ssim(x, x)
        tensor([1., 1.])
    """
    _check(x, y, peak)
    if x.ndim != 4:
        raise ShapeError(
            f"images of shape {tuple(x.shape)}", "(b, c, h, w)", "Add the axes that lack."
        )
    window = _gaussian(min(WINDOW_PIXELS, *(side - 1 + side % 2 for side in x.shape[2:])), x)
    b, c, h, w = x.shape

    def blur(image: Tensor) -> Tensor:
        image = conv2d(image.reshape(b * c, 1, h, w), window[None, None, :, None])
        return conv2d(image, window[None, None, None, :]).reshape(b, -1)

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y, cov = (
        blur(x * x) - mean_x**2,
        blur(y * y) - mean_y**2,
        blur(x * y) - mean_x * mean_y,
    )
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * (2 * cov + c2) / (var_x + var_y + c2)).mean(1)


def _gaussian(size: int, like: Tensor) -> Tensor:
    offset = torch.arange(size, device=like.device, dtype=like.dtype) - size // 2
    weight = torch.exp(-0.5 * (offset / SIGMA_PIXELS) ** 2)
    return weight / weight.sum()


def _check(x: Tensor, y: Tensor, peak: float) -> None:
    check_batch(x, None, "the first batch")
    check_batch(y, tuple(x.shape[1:]), "the second batch")
    if len(x) != len(y):
        raise ShapeError(
            f"batches of {len(x)} and {len(y)}", "pairs", "Pass as many of one as of the other."
        )
    if peak <= 0:
        raise ConfigError(
            f"peak = {peak}", "a positive range of values", "Pass 1 for images in [0, 1]."
        )
