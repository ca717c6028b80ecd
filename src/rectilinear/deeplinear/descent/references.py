"""Solutions that training may find if there are many: of smallest norms, low rank, or sparse.

All are among the least-squares solutions of a task; which one a network finds depends on its
initialisation and depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linprog

from rectilinear.deeplinear.descent.task import Task
from rectilinear.errors import ConfigError, InputError

NORMS = ("minimum_norm", "nuclear_norm", "l1")
NUCLEAR_STEPS, NUCLEAR_TOL = 20_000, 1e-9  # of the method of multipliers


def references(task: Task, names: Sequence[str] = NORMS, *, rank: int | None = None) -> dict[
    str, np.ndarray
]:  # fmt: skip
    """Maps ``(runs, m, d)`` by name: the least-squares solutions of smallest norms.

    * ``minimum_norm``: of smallest Frobenius norm, by the pseudo-inverse,
    * ``nuclear_norm``: of the smallest sum of singular values,
    * ``l1``: of the smallest sum of absolute entries, by linear programming,
    * ``reduced_rank``, with ``rank``: the best map of at most this rank, for rows.

    Args:
        task: with square loss.
        names: of the norms.
        rank: of ``reduced_rank``.

    Raises:
        ConfigError: for another loss, an unknown name, or ``rank`` where it is not defined.
        InputError: where the nuclear norm is not found.

    References: Candes and Recht, "Exact matrix completion via convex optimization", 2009; Boyd et
    al., "Distributed optimization and statistical learning via the alternating direction method of
    multipliers", 2011; Izenman, "Reduced-rank regression for the multivariate linear model", 1975.

    Example:
        >>> from rectilinear.deeplinear import regression
        >>> found = references(regression([[1.0, 2.0]], [2.0]))
        >>> found["minimum_norm"].round(6), found["l1"].round(6)
        (array([[[0.4, 0.8]]]), array([[[0., 1.]]]))
    """
    if task.loss != "square":
        raise ConfigError(f"{task.loss} loss", "square loss", "The others have no such solutions.")
    if unknown := [name for name in names if name not in NORMS]:
        raise ConfigError(f"references {unknown}", f"some of {', '.join(NORMS)}")
    A, y = _system(task)
    inverse = np.linalg.pinv(A)
    least = (inverse @ y[..., None])[..., 0]
    found: dict[str, np.ndarray] = {}
    shape = (len(least), *task.shape)
    for name in names:
        if name == "minimum_norm":
            found[name] = least.reshape(shape)
        elif name == "nuclear_norm":
            found[name] = _nuclear(A, inverse, least, shape)
        else:
            found[name] = np.stack(
                [_sparse(a, a @ w) for a, w in zip(A, least, strict=True)]
            ).reshape(shape)
    if rank is not None:
        if task.kind != "rows":
            raise ConfigError(f"rank = {rank} of {task.kind}", "a task of rows", "Leave rank out.")
        found["reduced_rank"] = _reduced(task, least.reshape(shape), rank)
    return found


def diagonal_limit(X: ArrayLike, y: ArrayLike, scale: float, depth: int = 2) -> np.ndarray:
    """The map ``(d,)`` that gradient flow on a diagonal network converges to, to rounding.

    From ``u = v = scale`` the network ``w = u^L - v^L`` converges to ``w = alpha^L h(X' nu)`` that
    fits the data, with ``h(z) = 2 sinh(z)`` for two layers and ``(1 - z)^-p - (1 + z)^-p``, ``p = L
    / (L - 2)``, for more. ``nu`` minimises a convex function. For large ``scale`` it is the
    solution of smallest norm, for small ``scale`` that of the smallest sum of absolute values.

    Args:
        X: inputs ``(n, d)``, ``n < d``.
        y: targets ``(n,)``.
        scale: ``alpha``, of every weight.
        depth: ``L``, at least two.

    Raises:
        InputError: where no map fits the data, or Newton's method does not converge.

    Reference: Woodworth et al., "Kernel and rich regimes in overparametrized models", COLT 2020,
    theorems 1 and 3.

    Example:
        >>> X, y = np.array([[1.0, 2.0]]), np.array([2.0])
        >>> diagonal_limit(X, y, 10.0).round(2), diagonal_limit(X, y, 1e-6).round(2)
        (array([0.4, 0.8]), array([0., 1.]))
    """
    if depth < 2 or not scale > 0:
        raise InputError(
            f"depth {depth} and scale {scale}",
            "at least two, and above zero",
            "The limit of depth 1 is 'minimum_norm' in references(task), that of scale 0 is 'l1'.",
        )
    X, y = np.ascontiguousarray(X, np.float64), np.asarray(y, np.float64)
    size, nu = float(scale) ** depth, np.zeros(len(X))
    w, slope = _mirror(X.T @ nu, size, depth)
    for _ in range(500):
        residual = X @ w - y
        if np.abs(residual).max() <= 1e-11 * max(np.abs(y).max(), np.finfo(float).tiny):
            return w
        value = _dual(X, y, nu, size, depth)
        step = np.linalg.lstsq((X * slope) @ X.T, -residual, rcond=None)[0]
        for length in 0.5 ** np.arange(60):  # far away by the dual, near the end by the residual
            z = X.T @ (nu + length * step)
            if not np.isfinite(trial := _dual(X, y, nu + length * step, size, depth)):
                continue
            w, slope = _mirror(z, size, depth)
            fits = np.abs(X @ w - y).max() < np.abs(residual).max() / 2
            if fits or trial <= value + 1e-4 * length * (residual @ step):
                break
        nu = nu + length * step
    raise InputError(
        f"data that a map fits up to {np.abs(residual).max():.1g} only",
        "rows that a map fits exactly",
        "Check that there are fewer rows than columns.",
    )


def _mirror(z: np.ndarray, size: float, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """The map of a dual point, and its derivative."""
    if depth == 2:
        return 2 * size * np.sinh(z), 2 * size * np.cosh(z)
    p = depth / (depth - 2)
    return size * ((1 - z) ** -p - (1 + z) ** -p), size * p * (
        (1 - z) ** (-p - 1) + (1 + z) ** (-p - 1)
    )


def _dual(X: np.ndarray, y: np.ndarray, nu: np.ndarray, size: float, depth: int) -> float:
    """The convex function whose minimum makes the map fit the data; infinite outside."""
    z = X.T @ nu
    if depth == 2:
        with np.errstate(over="ignore"):
            return float((2 * size * np.cosh(z)).sum() - nu @ y)
    if (np.abs(z) >= 1).any():
        return np.inf
    q = 2 / (depth - 2)
    return float((size / q * ((1 - z) ** -q + (1 + z) ** -q)).sum() - nu @ y)


def _system(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """The measurements ``(runs, n, m d)`` that count, and their targets ``(runs, n)``."""
    A, y = task.operator(), task.target.reshape(*task.target.shape[:-2], -1)
    share = np.repeat(task.share, task.target.shape[-1], axis=-1)
    runs = task.runs or (1,)
    A = np.broadcast_to(A, (*runs, *A.shape[-2:]))
    y, share = (np.broadcast_to(a, (*runs, a.shape[-1])) for a in (y, share))
    seen = share > 0
    return A * seen[..., None], y * seen


def _nuclear(
    A: np.ndarray, inverse: np.ndarray, least: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Douglas and Rachford's splitting: shrink singular values, then project on the solutions."""
    z = least.reshape(shape)
    step = np.linalg.norm(z, ord=2, axis=(-2, -1))[:, None] / 2
    unit = np.maximum(np.linalg.norm(z, axis=(-2, -1)), np.finfo(float).tiny)
    for _ in range(NUCLEAR_STEPS):
        flat = z.reshape(len(z), -1)
        inside = flat + least - (inverse @ (A @ flat[..., None]))[..., 0]
        inside = inside.reshape(shape)
        u, s, vt = np.linalg.svd(2 * inside - z, full_matrices=False)
        shrunk = (u * np.maximum(s - step, 0)[..., None, :]) @ vt
        z = z + shrunk - inside
        if (np.linalg.norm(shrunk - inside, axis=(-2, -1)) <= NUCLEAR_TOL * unit).all():
            return np.asarray(inside)
    raise InputError(
        f"a nuclear norm that is not found in {NUCLEAR_STEPS:,} steps",
        "a task whose solution of smallest nuclear norm is unique",
        "Leave nuclear_norm out of the names.",
    )


def _sparse(A: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The solution of ``A w = y`` with the smallest sum of absolute values."""
    kept = A.any(1)
    found = linprog(
        np.ones(2 * A.shape[1]), A_eq=np.hstack([A, -A])[kept], b_eq=y[kept], method="highs"
    )
    if not found.success:
        raise InputError(
            f"no solution of smallest l1 norm: {found.message}",
            "a task that can be solved",
            "Scale X and y to about one, or leave 'l1' out of names.",
        )
    positive, negative = np.split(found.x, 2)
    return np.asarray(positive - negative)


def _reduced(task: Task, least: np.ndarray, rank: int) -> np.ndarray:
    """Least squares, projected on the leading directions of its predictions."""
    fitted = task.design @ least.mT
    v = np.linalg.svd(fitted, full_matrices=False)[2][..., :rank, :]
    return np.asarray(v.mT @ v @ least)


def sparse_teacher(
    shape: tuple[int, int], nonzero: int, *, runs: int = 1, seed: int = 0
) -> np.ndarray:
    """Maps ``(runs, *shape)`` with ``nonzero`` entries of 1 or -1 at random places, others zero.

    ``seed`` is that of the places and signs.

    Example:
        >>> np.abs(sparse_teacher((1, 9), 3, runs=2)).sum((1, 2))
        array([3., 3.])
    """
    rng, (m, d) = np.random.default_rng(seed), shape
    maps = np.zeros((runs, m * d))
    for run in range(runs):
        at = rng.choice(m * d, nonzero, replace=False)
        maps[run, at] = rng.choice([-1.0, 1.0], nonzero)
    return maps.reshape(runs, m, d)


def low_rank_teacher(
    shape: tuple[int, int], modes: Sequence[float], *, runs: int = 1, seed: int = 0
) -> np.ndarray:
    """Maps ``(runs, *shape)`` with the singular values ``modes`` and random singular vectors.

    ``seed`` is that of the singular vectors.

    Example:
        >>> np.linalg.svd(low_rank_teacher((3, 4), [2.0, 1.0]))[1].round(9) + 0.0
        array([[2., 1., 0.]])
    """
    rng, (m, d), rank = np.random.default_rng(seed), shape, len(modes)
    u = np.linalg.qr(rng.normal(size=(runs, m, rank)))[0]
    v = np.linalg.qr(rng.normal(size=(runs, d, rank)))[0]
    return np.asarray((u * np.asarray(modes, dtype=float)) @ v.mT)
