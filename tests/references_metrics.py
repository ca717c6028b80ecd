"""Slow twins of the metrics, from their definitions."""

import numpy as np
import scipy.linalg


def frechet_distance(a, b):
    a, b = a.double().numpy(), b.double().numpy()
    cov_a, cov_b = np.atleast_2d(np.cov(a.T)), np.atleast_2d(np.cov(b.T))
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(cov_a + cov_b - 2 * root)


def covered(points, centres, k):
    """The share of points inside some ball, with loops."""
    inside = 0
    radii = []
    for i, c in enumerate(centres):
        others = sorted(float((c - o).norm()) for j, o in enumerate(centres) if j != i)
        radii.append(others[k - 1])
    for p in points:
        inside += any(float((p - c).norm()) <= r for c, r in zip(centres, radii, strict=True))
    return inside / len(points)


def wasserstein_1d(a, b, p):
    """By repeating each point until both samples are of one size."""
    a, b = np.sort(np.repeat(a, len(b))), np.sort(np.repeat(b, len(a)))
    return np.mean(np.abs(a - b) ** p) ** (1 / p)


def ssim(x, y, peak):
    """One channel pair, window by window."""
    size = min(11, *(s if s % 2 else s - 1 for s in x.shape))
    offsets = np.arange(size) - size // 2
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for i in range(x.shape[0] - size + 1):
        for j in range(x.shape[1] - size + 1):
            a, b = x[i : i + size, j : j + size], y[i : i + size, j : j + size]
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
            values.append(
                (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
            )
    return np.mean(values)
