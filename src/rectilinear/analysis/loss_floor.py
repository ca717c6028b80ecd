"""The lower bound of the loss of networks without biases, of any width, on given data.

Two facts give bounds. A network without biases is positively homogeneous: along one ray it is one
number times the radius. And the odd part of a two-layer one is linear: its values at ``u`` and
``-u`` differ by ``2 m . u``. A wide network is free in everything else, so both bounds are infima.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog, minimize
from scipy.sparse.linalg import LinearOperator, lsqr
from scipy.special import entr, expit
from torch import Tensor

from rectilinear.checks import check_finite, check_floating
from rectilinear.errors import ConfigError, DivergedError, DtypeError, ShapeError
from rectilinear.learning.mirror import clusters, mirrored, sketch
from rectilinear.networks.batches import as_pair

HALVINGS = 200  # of the bracket of a ray's minimum: to the last bit


@dataclass(frozen=True)
class LossFloor:
    """A lower bound of the loss, and the data that cause it.

    Attributes:
        value: no network of the kind has a smaller mean loss.
        attained: the mean loss of the best network of the kind that was found; the floor up to
            optimisation.
        loss: "square" (half the square), "logistic" or "hinge".
        depth: 2, or "any".
        conflicts: rays that hold points of different labels.
        lines: lines through the origin with points on both sides.
        rows: how many points.
    """

    value: float
    attained: float
    loss: str
    depth: int | str
    conflicts: int
    lines: int
    rows: int


@dataclass(frozen=True, eq=False)
class _Rays:
    """Rows as ``r (s u_k)`` on the line ``k`` and its side ``s``.

    ``ray`` numbers line and side together.
    """

    u: NDArray[np.float64]
    line: NDArray[np.int64]
    side: NDArray[np.int64]
    r: NDArray[np.float64]

    @property
    def ray(self) -> NDArray[np.int64]:
        return np.asarray(2 * self.line + (self.side < 0), dtype=np.int64)

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums over the rows of each ray, ``(2 K, ...)``."""
        flat = values.reshape(len(values), -1)
        sums = [np.bincount(self.ray, column, 2 * len(self.u)) for column in flat.T]
        return np.stack(sums, 1).astype(np.float64).reshape(-1, *values.shape[1:])


def loss_floor(
    x: Any,
    y: Any,
    loss: Literal["square", "logistic", "hinge"] = "square",
    depth: Literal[2, "any"] = 2,
    *,
    homogeneous: bool = True,
) -> LossFloor:
    """The smallest mean loss of any bias-free network on the data: two-layer ones, or of any depth.

    With ``depth="any"`` one number ``c`` is free for each ray: ``min_c sum_i l(r_i c, y_i)``. With
    ``depth=2`` the two numbers of a line obey ``c(u) - c(-u) = 2 m . u`` with one vector ``m`` for
    all lines. On data closed under ``(x, y) -> (-x, -y)`` the second is the loss of the best linear
    map.

    Args:
        x: points ``(n, ...)``: a tensor, an array or a data frame.
        y: numbers ``(n,)`` or ``(n, O)`` for the square loss, half the square summed over outputs;
            else two values.
        loss: which loss; the mean over points is meant.
        depth: 2, or "any".
        homogeneous: whether ``f(c x) = c f(x)`` for ``c > 0``, as with ReLU; False for GELU, SiLU
            and softplus, which are bound at points and not along rays.

    Raises:
        ConfigError: for another loss or depth.
        ShapeError, DtypeError, NonFiniteError: for unusable points or labels.

    Reference: Y. Zhang, A. Saxe, P. Latham, When are bias-free ReLU networks effectively linear
    networks?, TMLR 2025.

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [-1.0], [-2.0]])
        >>> loss_floor(x, torch.tensor([1.0, 1.0, -1.0, -1.0])).value  # the best m x
        0.05
        >>> loss_floor(x, x.abs()).value, loss_floor(x, x.abs(), depth="any").value  # |x| is met
        (0.0, 0.0)
    """
    x, y = as_pair(x, y)
    _check(x, y, loss, depth)
    labels = y.detach().double().cpu().reshape(len(y), -1).numpy()
    rays = _rays(x.detach().reshape(len(x), -1), homogeneous)
    counts = rays.sums(np.ones(len(x)))
    both = (counts[::2] > 0) & (counts[1::2] > 0)
    if loss == "square":
        value = attained = _square(rays, labels, both, depth)
        spread = _spread(rays, labels)
    else:
        signs = np.where(labels[:, 0] > labels.mean(), 1.0, -1.0)
        value, attained = _margin(rays, signs, both, loss, depth)
        spread = _spread(rays, signs[:, None])
    least = 1e-14 * (
        float(np.square(labels).sum()) if loss == "square" else len(x)
    )  # what rounding leaves of zero
    value, attained = (float(v) if v > least else 0.0 for v in (value, attained))
    return LossFloor(
        value / len(x), attained / len(x), loss, depth, spread, int(both.sum()), len(x)
    )


def _check(x: Tensor, y: Tensor, loss: str, depth: int | str) -> None:
    check_floating(x, "x")
    if x.ndim < 2 or not len(x):
        raise ShapeError(
            f"x of shape {tuple(x.shape)}",
            "rows (n, ...), at least one",
            "Put the batch axis first.",
        )
    check_finite(x, "x")
    if y.is_complex():
        raise DtypeError("complex labels", "real numbers", "Pass their real part.")
    if y.ndim == 0 or len(y) != len(x):
        raise ShapeError(
            f"labels of shape {tuple(y.shape)} for {len(x)} rows",
            "one label for each row",
            "Pass the labels of these rows.",
        )
    if loss not in ("square", "logistic", "hinge"):
        raise ConfigError(f"loss = {loss!r}", "'square', 'logistic' or 'hinge'")
    if depth not in (2, "any"):
        raise ConfigError(f"depth = {depth!r}", "2 or 'any'", "Deeper networks are bound by 'any'.")
    if y.is_floating_point():
        check_finite(y, "y")
    if loss != "square" and (y.reshape(len(y), -1).shape[1] > 1 or len(y.unique()) > 2):
        raise ShapeError(
            f"labels of shape {tuple(y.shape)} with {len(y.unique())} values",
            "signs: two values (n,)",
            "Pass two classes, or loss='square' for numbers.",
        )


def _rays(x: Tensor, homogeneous: bool) -> _Rays:
    """The lines of the rows.

    Without homogeneity, a "line" is a pair of points and its radius is one.

    The columns are brought to one size first, which changes no lower bound: in other units
    directions may agree to all but the last digits.
    """
    wide = x.dtype == torch.float64
    x = x.double() / x.double().abs().amax(0).clamp_min(torch.finfo(torch.float64).tiny)
    lengths = x.double().norm(dim=1)
    scale = (
        lengths.clamp_min(torch.finfo(torch.float64).tiny)
        if homogeneous
        else lengths.median().clamp_min(1e-300)
    )
    unit = x.double() / scale.reshape(-1, 1)
    seen = sketch(unit)
    line = clusters(mirrored(seen), 1e-9 if wide else 1e-5).numpy()
    side = np.where(seen[:, 0].numpy() < 0, -1, 1)
    _, first = np.unique(line, return_index=True)
    u = unit.cpu().numpy()[first] * side[first][:, None]
    return _Rays(u, line, side, lengths.cpu().numpy() if homogeneous else np.ones(len(x)))


def _spread(rays: _Rays, labels: NDArray[np.float64]) -> int:
    """Rays that hold different labels."""
    low, high = (
        np.full((2 * len(rays.u), labels.shape[1]), np.inf),
        np.full((2 * len(rays.u), labels.shape[1]), -np.inf),
    )
    np.minimum.at(low, rays.ray, labels)
    np.maximum.at(high, rays.ray, labels)
    return int((high > low).any(1).sum())


def _square(
    rays: _Rays, y: NDArray[np.float64], both: NDArray[np.bool_], depth: int | str
) -> float:
    """Half the squares that are left.

    Those of each ray about its best number, and those of one linear map to the odd differences.
    """
    a = rays.sums(rays.r**2)
    b = rays.sums(rays.r[:, None] * y)
    best = b / np.where(a > 0, a, 1)[:, None]
    value = 0.5 * float(np.square(y - rays.r[:, None] * best[rays.ray]).sum())
    if depth == 2 and both.any():
        a, best, u = a.reshape(-1, 2)[both], best.reshape(-1, 2, y.shape[1])[both], rays.u[both]
        root = np.sqrt(4 * a[:, 0] * a[:, 1] / np.where(a.sum(1) > 0, a.sum(1), 1))[:, None]
        target = root * (best[:, 0] - best[:, 1]) / 2
        value += 0.5 * float(np.square(target - _projected(root * u, target)).sum())
    return value


def _projected(a: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.float64]:
    """The best linear fit of ``t`` by the columns of ``a``, whatever its rank."""
    if min(a.shape) == 0:
        return np.zeros_like(t)
    q, r = np.linalg.qr(a / np.maximum(np.linalg.norm(a, axis=0), np.finfo(float).tiny))
    u, s, _ = np.linalg.svd(r, full_matrices=False)
    q = q @ u[:, s > s[0] * max(a.shape) * np.finfo(float).eps]
    return q @ (q.T @ t)


def _margin(
    rays: _Rays, y: NDArray[np.float64], both: NDArray[np.bool_], loss: str, depth: int | str
) -> tuple[float, float]:
    """A bound from below and an attained value, for a loss of the margin."""
    coupled = both[rays.line] if depth == 2 else np.zeros(len(y), dtype=bool)
    alone = _each_ray(rays, y, ~coupled, loss)
    if not coupled.any():
        return alone, alone
    problem = _Coupled(rays, y, coupled)
    low, high = problem.logistic() if loss == "logistic" else problem.hinge()
    return alone + low, alone + high


def _each_ray(rays: _Rays, y: NDArray[np.float64], chosen: NDArray[np.bool_], loss: str) -> float:
    """The sum over rays of ``min_c sum_i l(y_i r_i c)``: only rays with both labels have one."""
    zero = chosen & (rays.r == 0)
    value = float(zero.sum()) * (np.log(2) if loss == "logistic" else 1.0)
    plus = rays.sums((chosen & ~zero & (y > 0)).astype(float)) > 0
    minus = rays.sums((chosen & ~zero & (y < 0)).astype(float)) > 0
    rows = np.flatnonzero(chosen & ~zero & (plus & minus)[rays.ray])
    _, ray = np.unique(rays.ray[rows], return_inverse=True)
    if not len(rows):
        return value
    a = y[rows] * rays.r[rows]
    if loss == "hinge":
        return value + sum(_hinge_of_ray(a[ray == k]) for k in range(ray.max() + 1))
    largest = 1 / np.abs(a).min()
    low, high = np.full(ray.max() + 1, -60 * largest), np.full(ray.max() + 1, 60 * largest)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        slope = np.bincount(ray, -a * expit(-a * middle[ray]))
        low, high = np.where(slope < 0, middle, low), np.where(slope < 0, high, middle)
    return value + float(np.logaddexp(0, -a * middle[ray]).sum())


def _hinge_of_ray(a: NDArray[np.float64]) -> float:
    """``min_c sum_i max(0, 1 - a_i c)``: at one of the kinks."""
    kinks = np.concatenate([[0.0], np.unique(1 / a)])
    return float(min(np.maximum(0, 1 - a * c).sum() for c in kinks))


class _Coupled:
    """Rows on lines with points on both sides.

    Margins ``y r (s m . u + e)``, with ``m`` shared and ``e`` of the line.

    Where each row has its mirror image with the opposite label, convexity gives ``e = 0``.
    """

    def __init__(self, rays: _Rays, y: NDArray[np.float64], chosen: NDArray[np.bool_]) -> None:
        _, self.line = np.unique(rays.line[chosen], return_inverse=True)
        self.u = rays.u[np.unique(rays.line[chosen])]
        self.odd = y[chosen] * rays.r[chosen] * rays.side[chosen]
        self.even = y[chosen] * rays.r[chosen]
        self.free = not self._closed()
        self.shape = (len(self.line), self.u.shape[1] + self.free * len(self.u))

    def _closed(self) -> bool:
        """True if the rows of each line come in mirrored pairs.

        Signed radii of ``odd`` occur once on each side.
        """
        order = np.lexsort((self.odd, self.line))
        sides = np.sign(self.even * self.odd)[order]
        pairs = self.odd[order], self.line[order]
        if len(order) % 2:
            return False
        same = np.isclose(pairs[0][::2], pairs[0][1::2], rtol=1e-6) & (
            pairs[1][::2] == pairs[1][1::2]
        )
        return bool(same.all() and (sides[::2] != sides[1::2]).all())

    def margins(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        m, e = theta[: self.u.shape[1]], theta[self.u.shape[1] :]
        out = self.odd * (self.u @ m)[self.line]
        return out + self.even * e[self.line] if self.free else out

    def adjoint(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        odd = np.bincount(self.line, self.odd * w, len(self.u)) @ self.u
        return (
            np.concatenate([odd, np.bincount(self.line, self.even * w, len(self.u))])
            if self.free
            else odd
        )

    def logistic(self) -> tuple[float, float]:
        """The dual and the primal value of the logistic loss.

        ``sum H(q_i)`` with ``q`` in ``[0, 1]`` and ``A^T q = 0`` bounds below.
        """

        def objective(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            z = self.margins(theta)
            return float(np.logaddexp(0, -z).sum()), -self.adjoint(expit(-z))

        scale = 1 / max(float(np.abs(self.even).max()), 1e-300)

        def scaled(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            value, slope = objective(scale * theta)
            return value, scale * slope

        found = minimize(
            scaled,
            np.zeros(self.shape[1]),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-9 * self.shape[0]},
        )
        return max(self._dual(expit(-self.margins(scale * found.x))), 0.0), float(found.fun)

    def _dual(self, q: NDArray[np.float64]) -> float:
        """The dual value at a feasible point near ``q``.

        Corrections are weighted by ``q (1 - q)``, to stay inside.
        """
        size = max(np.abs(self.even).max(), 1e-300) * len(q)
        for _ in range(10):
            gap = self.adjoint(q)
            if np.abs(gap).max() <= 1e-14 * size:
                return float((entr(q) + entr(1 - q)).sum())
            root = np.sqrt(q * (1 - q))
            operator = LinearOperator(
                self.shape[::-1],
                matvec=lambda w, root=root: self.adjoint(root * w),
                rmatvec=lambda theta, root=root: root * self.margins(theta),
                dtype=float,
            )
            q = np.clip(
                q - root * lsqr(operator, gap, atol=1e-15, btol=1e-15, iter_lim=2000)[0], 0, 1
            )
        return 0.0

    def hinge(self) -> tuple[float, float]:
        """The bound for the hinge loss: the value of a linear programme."""
        n, m = self.shape[0], self.u.shape[1]
        a = sparse.csr_matrix(self.odd[:, None] * self.u[self.line])
        if self.free:
            a = sparse.hstack(
                [a, sparse.csr_matrix((self.even, (np.arange(n), self.line)), (n, len(self.u)))]
            )
        constraints = sparse.hstack([-a, -sparse.identity(n)], format="csr")
        cost = np.concatenate([np.zeros(self.shape[1]), np.ones(n)])
        bounds = [(None, None)] * self.shape[1] + [(0, None)] * n
        found = linprog(cost, A_ub=constraints, b_ub=-np.ones(n), bounds=bounds, method="highs")
        if found.status:
            raise DivergedError(
                f"a linear programme in {m} dimensions that fails: {found.message}",
                "a solution",
                "Divide x by its largest number: the bound stays.",
            )
        return float(found.fun), float(found.fun)
