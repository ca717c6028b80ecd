"""Denoising by similar patches: a Gaussian for each patch and the patches that are like it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, fold, pad, unfold

from rectilinear.projector.prior import NOISE_FLOOR, ImagePrior

_WINDOW = 10  # pixels on every side of a patch, in which similar ones are looked for
_SIMILAR = 48  # patches in a group
_BAND_PIXELS = 2**16  # of an image that are denoised together


@torch.no_grad()
def from_similar(prior: ImagePrior, y: Tensor, guide: Tensor, noise: float) -> Tensor:
    """The images behind ``y = x + N(0, noise^2)``, given estimates of them, ``(b, c, h, w)``.

    Each patch of a grid is grouped with the 48 patches of ``guide`` that are most like it, at most
    10 pixels off. With the group's mean ``m`` and covariance ``S`` in the coordinates of the prior,
    all patches of the group are restored as ``m + S (S + noise^2)^{-1} (y - m)``, and a pixel is
    their weighted mean. What lies off the prior's axes is shrunk as the prior says.

    Args:
        prior: of patches ``(c, p, p)``.
        y: noisy images.
        guide: images without most of the noise, of the same shape.
        noise: standard deviation of the noise.

    Reference: M. Lebrun, A. Buades, J.-M. Morel, A nonlocal Bayesian image denoising algorithm,
    SIAM J. Imaging Sciences 2013, its second step.
    """
    side = prior.shape[1]
    step = max(1, side // 2)
    h, w = y.shape[2:]
    extra = (0, -(w - side) % step, 0, -(h - side) % step)
    noisy, clean = (pad(z, extra, mode="replicate") for z in (y, guide))
    total, weights = torch.zeros_like(noisy), torch.zeros_like(noisy[:, :1])
    rows = noisy.shape[2]
    tall = step * max(1, _BAND_PIXELS // (noisy.shape[3] * step))
    for i in range(len(y)):
        for top in range(0, rows - side + 1, tall):
            first = max(0, top - _WINDOW)
            last = min(rows, top + tall - step + side + _WINDOW)
            band = slice(i, i + 1), slice(None), slice(first, last)
            end = min(top + tall, rows - side + 1)
            part, weight = _band(prior, noisy[band], clean[band], noise, (top - first, end - first))
            total[band] += part
            weights[band] += weight
    return (total / weights)[..., :h, :w]


def _band(
    prior: ImagePrior, y: Tensor, guide: Tensor, noise: float, tops: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Sums of weighted patches ``(1, c, h, w)`` and of weights, of groups in the rows ``tops``."""
    side, V = prior.shape[1], prior.axes.to(y)
    variance = max(noise, NOISE_FLOOR) ** 2
    tau2 = prior.residual.to(y).square()
    inner = variance + float(tau2.mean())  # of the noise in coordinates
    mean = prior.centre.to(y).flatten()
    centred = [unfold(z, side)[0].T - mean for z in (guide, y)]
    clean, noisy = (z @ V for z in centred)
    which, there = _groups(guide, side, tops)
    sums = torch.zeros_like(noisy)
    weights = y.new_zeros(len(noisy))
    eye = torch.eye(V.shape[1], dtype=y.dtype, device=y.device)
    for index, valid in zip(which.split(512), there.split(512), strict=True):
        share = valid / valid.sum(1, keepdim=True)
        group = clean[index]
        m = (share[..., None] * group).sum(1, keepdim=True)
        away = (group - m) * share.sqrt()[..., None]
        S = away.mT @ away
        gain = torch.cholesky_solve(S, torch.linalg.cholesky(S + inner * eye))
        restored = m + (noisy[index] - m) @ gain
        weight = valid / (1 + gain.diagonal(dim1=1, dim2=2).sum(1, keepdim=True))
        sums.index_add_(0, index.flatten(), (weight[..., None] * restored).flatten(0, 1))
        weights.index_add_(0, index.flatten(), weight.flatten())
    smooth = sums @ V.T
    ascribed = tau2 / (tau2 + variance)  # of what the axes leave, to the image
    patches = smooth + weights[:, None] * (mean + ascribed * centred[1]) - ascribed * smooth
    size = y.shape[2:]
    counts = weights.expand(1, side**2, -1)
    return fold(patches.T[None], size, side), fold(counts.contiguous(), size, side)


def _groups(x: Tensor, side: int, tops: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Indices ``(groups, m)`` of similar patches among all, and 1.0 where there is one."""
    w = x.shape[3]
    step, across = max(1, side // 2), w - side + 1
    top = torch.arange(tops[0], tops[1], step, device=x.device)
    left = torch.arange(0, across, step, device=x.device)
    wide = pad(x, (_WINDOW,) * 4, value=torch.inf)
    seen = x[..., tops[0] : int(top[-1]) + side, :]
    distances, offsets = [], []
    for dy in range(-_WINDOW, _WINDOW + 1):
        for dx in range(-_WINDOW, _WINDOW + 1):
            first = tops[0] + dy + _WINDOW
            moved = wide[..., first : first + seen.shape[2], dx + _WINDOW : dx + _WINDOW + w]
            squares = (moved - seen).square().sum(1, keepdim=True)
            distances.append(avg_pool2d(squares, side, step).flatten())
            offsets.append(dy * across + dx)
    distance = torch.stack(distances, 1)
    distance[:, len(offsets) // 2] = -1  # the patch itself, also among equal ones
    near = distance.topk(min(_SIMILAR, len(offsets)), 1, largest=False)
    own = (top[:, None] * across + left).flatten()[:, None]
    there = near.values.isfinite()
    index = own + torch.tensor(offsets, device=x.device)[near.indices]
    return torch.where(there, index, own), there.to(x)
