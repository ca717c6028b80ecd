"""Gaussian mixtures conditioned on linear measurements with Gaussian noise, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rectilinear.invertible import MixtureMap

_BLOCK_NUMBERS = 2**24  # rows x components x coordinates^2 held at a time
_COMPONENTS = 8  # of largest responsibility, that count for a row with a measurement of its own
_LEAST = 1e-5  # responsibility that counts where all rows share their measurement
_LEAST_MOMENTS = 1e-3  # responsibility that counts for the moments of a component
_SHARED_ROWS = 4096  # whose evidence or moments are computed together


@dataclass(frozen=True, eq=False)
class Information:
    """The likelihood of coordinates ``c``: ``log p(y | c) = base + h . c - c . G c / 2``.

    Attributes:
        gram: ``G``, ``(d, d)`` for all rows or ``(b, d, d)``.
        h: ``(b, d)``.
        base: ``(b,)``.
    """

    gram: Tensor
    h: Tensor
    base: Tensor


@dataclass(frozen=True, eq=False)
class Conditioned:
    """Mean of ``c`` ``(b, d)``, variances of ``V c`` ``(b, n)`` and log-evidence ``(b,)``."""

    mean: Tensor
    variances: Tensor
    log_evidence: Tensor


@dataclass(frozen=True, eq=False)
class Natural:
    """A mixture by its precisions ``P_k`` ``(K, d, d)``, ``P_k m_k`` ``(K, d)`` and constants.

    ``log w_k N(c; k) = constant_k + c . P_k m_k - c . P_k c / 2``, without ``log 2 pi``.
    """

    precisions: Tensor
    shifts: Tensor
    constants: Tensor

    @classmethod
    def of(cls, mixture: MixtureMap) -> Natural:
        """The natural parameters of a mixture, in float64."""
        means, d = mixture.means.detach().double(), mixture.dim
        i, j = torch.tril_indices(d, d, offset=-1, device=means.device)
        whitening = torch.diag_embed(mixture.log_scales.detach().double().exp())
        whitening[:, i, j] = mixture.lower.detach().double()
        precisions = whitening.mT @ whitening
        shifts = (precisions @ means[:, :, None])[..., 0]
        constants = mixture.log_weights.detach().double().log_softmax(0)
        constants = constants + mixture.log_scales.detach().double().sum(1)
        return cls(precisions, shifts, constants - 0.5 * (means * shifts).sum(1))


def condition(mixture: Natural, data: Information, axes: Tensor) -> Conditioned:
    """The posterior of ``c`` given data, and of ``V c`` with ``axes`` ``V`` ``(n, d)``.

    Where all rows share ``G``, components of responsibility below 1e-5 are left out; else those
    that are not among the eight of largest responsibility. The evidence counts all of them.
    """
    k, d = mixture.shifts.shape
    if data.gram.ndim == 2:
        rows, run = max(1, _BLOCK_NUMBERS // (k * d)), _shared
    else:
        rows, run = max(1, _BLOCK_NUMBERS // (k * d * d)), _each
    parts = []
    for first in range(0, len(data.h), rows):
        part = slice(first, first + rows)
        gram = data.gram if data.gram.ndim == 2 else data.gram[part]
        parts.append(run(mixture, Information(gram, data.h[part], data.base[part]), axes))
    if not parts:
        return Conditioned(data.h, data.h.new_zeros(0, len(axes)), data.base)
    return Conditioned(
        torch.cat([part.mean for part in parts]),
        torch.cat([part.variances for part in parts]),
        torch.cat([part.log_evidence for part in parts]),
    )


def log_evidence(mixture: Natural, data: Information) -> Tensor:
    """``log p(y)`` for rows that share ``G``, ``(b,)``."""
    roots, inverses = _factors(mixture, data.gram)
    parts = [
        _joint(mixture, roots, _whitened(mixture, inverses, h)).logsumexp(1)
        for h in data.h.split(_SHARED_ROWS)
    ]
    return torch.cat(parts) + data.base


def adapted(mixture: MixtureMap, data: Information, counts: float) -> MixtureMap:
    """The mixture after a step of expectation maximisation on rows that share ``G``.

    What is seen is the noisy data: a component's second moment is that of the posterior means of
    its rows plus the posterior covariance. It is drawn to ``mixture``, which counts for ``counts``
    rows in each component and in the weights.

    Reference: E. Luo, S. Chan, T. Nguyen, Adaptive image denoising by mixture adaptation, IEEE
    TIP 2016.
    """
    prior = Natural.of(mixture)
    centres, weights = mixture.means.detach().double(), mixture.log_weights.detach().double()
    covariances = torch.cholesky_inverse(torch.linalg.cholesky(prior.precisions))
    roots, inverses = _factors(prior, data.gram)
    count = weights.new_zeros(len(weights))
    first, second = torch.zeros_like(centres), torch.zeros_like(covariances)
    for h in data.h.split(_SHARED_ROWS):
        u = _whitened(prior, inverses, h)
        shares = _joint(prior, roots, u).softmax(1)
        for i in range(len(count)):
            rows = (shares[:, i] > _LEAST_MOMENTS).nonzero()[:, 0]
            if len(rows):
                share, away = shares[rows, i], u[rows, i] @ inverses[i] - centres[i]
                count[i] += share.sum()
                first[i] += share @ away
                second[i] += (away * share[:, None]).T @ away
    second = second + count[:, None, None] * (inverses.mT @ inverses)
    total = (count + counts)[:, None]
    shift = first / total
    spread = (second + counts * covariances) / total[..., None]
    spread = spread - shift[:, :, None] * shift[:, None, :]
    weights = (count + counts * weights.softmax(0)) / (count.sum() + counts)
    found = MixtureMap.from_moments(weights, centres + shift, spread, mixture.classes)
    return found.requires_grad_(requires_grad=False)


def _factors(mixture: Natural, gram: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factors of the posterior precisions of all components, and their inverses."""
    roots = torch.linalg.cholesky(mixture.precisions + gram)
    eye = torch.eye(len(gram), dtype=roots.dtype, device=roots.device)
    return roots, torch.linalg.solve_triangular(roots, eye.expand_as(roots), upper=False)


def _whitened(mixture: Natural, inverses: Tensor, h: Tensor) -> Tensor:
    """Posterior means times the factors, ``(b, K, d)``."""
    k, d = mixture.shifts.shape
    u = (h @ inverses.reshape(k * d, d).T).reshape(-1, k, d)
    return u + (inverses @ mixture.shifts[:, :, None])[..., 0]


def _shared(mixture: Natural, data: Information, axes: Tensor) -> Conditioned:
    """One matrix product for the evidence of all components, then the few that count."""
    roots, inverses = _factors(mixture, data.gram)
    u = _whitened(mixture, inverses, data.h)
    joint = _joint(mixture, roots, u)
    shares = joint.softmax(1)
    mean, second = torch.zeros_like(data.h), data.h.new_zeros(len(data.h), len(axes))
    for i in range(len(mixture.shifts)):
        rows = (shares[:, i] > _LEAST).nonzero()[:, 0]
        if len(rows):
            share, c = shares[rows, i : i + 1], u[rows, i] @ inverses[i]
            spread = (axes @ inverses[i].T).square().sum(1)
            mean.index_add_(0, rows, share * c)
            second.index_add_(0, rows, share * ((c @ axes.T).square() + spread))
    variances = (second - (mean @ axes.T).square()).clamp(min=0)
    return Conditioned(mean, variances, joint.logsumexp(1) + data.base)


def _each(mixture: Natural, data: Information, axes: Tensor) -> Conditioned:
    """A factorisation for every row and component."""
    roots = torch.linalg.cholesky(mixture.precisions + data.gram[:, None])
    rhs = (mixture.shifts + data.h[:, None])[..., None]
    u = torch.linalg.solve_triangular(roots, rhs, upper=False)[..., 0]
    joint = _joint(mixture, roots, u)
    top = joint.topk(min(_COMPONENTS, joint.shape[1]), 1)
    shares, rows = top.values.softmax(1), torch.arange(len(u), device=u.device)[:, None]
    roots, u = roots[rows, top.indices], u[rows, top.indices]
    c = torch.linalg.solve_triangular(roots.mT, u[..., None], upper=True)[..., 0]
    mean = (shares[..., None] * c).sum(1)
    away = c - mean[:, None]
    covariance = torch.cholesky_inverse(roots) + away[..., :, None] * away[..., None, :]
    covariance = (shares[..., None, None] * covariance).sum(1)
    variances = ((axes @ covariance) * axes).sum(2)
    return Conditioned(mean, variances.clamp(min=0), joint.logsumexp(1) + data.base)


def _joint(mixture: Natural, roots: Tensor, u: Tensor) -> Tensor:
    """``log w_k p(y | k)`` without the base, ``(b, K)``."""
    volume = roots.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return mixture.constants - volume + 0.5 * u.square().sum(-1)
