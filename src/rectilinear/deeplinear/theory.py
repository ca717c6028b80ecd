"""How long gradient descent on a deep linear net takes, and how large its step may be: closed
forms.

Steps are on half the mean square error, as those of :func:`~rectilinear.deeplinear.train`; on the
mean square error itself, as ``torch.nn.MSELoss`` with one output, they are half as long and times
are halved, too.

For the product ``a`` of ``L`` weights and the loss ``l(a)``, gradient flow is ``a' = -sum_i (a /
w_i)^2 l'(a)``. With all ``|w_i|`` equal that is ``a' = -L |a|^(2 - 2/L) l'(a)``: below one the
factor slows down, above one it speeds up, and at zero it vanishes, which is the saddle.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rectilinear.deeplinear.statistics import SufficientStatistics
from rectilinear.errors import InputError, ShapeError

UNIFORM = 1 / np.e
"""The geometric mean of the size of weights that are uniform on (-1, 1), where chains of one unit
start.
"""


def escape_time(scale: ArrayLike, covariance: ArrayLike, depth: int) -> NDArray[np.float64]:
    """The time that a chain of one unit a layer spends at the saddle at zero before it can fit.

    ``t* = rho^-(L-2) / ((L-2) |S|)`` for ``L > 2``: the blow-up time of ``w' = |S| w^(L-1)`` from
    ``rho``, which is gradient flow while the product is small; ``log(1/rho) / |S|`` for two layers,
    and none for one. Divide by the step for a number of steps.

    Args:
        scale: ``rho``, the geometric mean of the sizes of the starting weights.
        covariance: ``S`` of input and target.
        depth: ``L``, the number of layers.

    Reference:
        Shamir, "Exponential convergence time of gradient descent for one-dimensional deep linear
        neural networks", COLT 2019, on the growth with depth.

    Example:
        >>> (escape_time(UNIFORM, 0.6745, depth=10) / 2e-3).round(-3)
        np.float64(276000.0)
    """
    _check_depth(depth)
    rho, pull = (
        np.asarray(scale, dtype=np.float64),
        np.abs(np.asarray(covariance, dtype=np.float64)),
    )
    if depth == 1:
        return np.zeros(np.broadcast_shapes(rho.shape, pull.shape))
    with np.errstate(
        divide="ignore"
    ):  # never, where nothing pulls or the start is the saddle itself
        if depth == 2:
            return np.maximum(-np.log(rho), 0) / pull
        return rho ** (2 - depth) / ((depth - 2) * pull)


def effective_step(lr: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """The step that gradient descent on the weights takes on their product: ``lr sum_i (a /
    w_i)^2``.

    Args:
        lr: the step on each weight.
        weights: ``(..., L)``, the last axis over layers.

    Reference:
        Arora, Cohen, Hazan, "On the optimization of deep networks: implicit acceleration by
        overparameterization", ICML 2018.

    Example:
        >>> effective_step(0.1, [2.0, 2.0]), effective_step(0.1, [0.5, 0.5, 0.5]).round(6)
        (np.float64(0.8), np.float64(0.01875))
    """
    w = np.asarray(weights, dtype=np.float64)
    others = np.stack([np.delete(w, i, axis=-1).prod(-1) for i in range(w.shape[-1])], axis=-1)
    return np.asarray(lr) * (others**2).sum(-1)


def largest_stable_step(
    statistics: SufficientStatistics, depth: int, *, bias: bool = True
) -> NDArray[np.float64]:
    """The step above which gradient descent cannot settle at the least-squares solution of a
    balanced net.

    ``2 / lambda_max(H)`` of half the mean square error at the balanced minimum ``w``, where ``H``
    has the non-zero eigenvalues of ``P C`` with ``C`` the second moments and ``P = |w|^(2-2/L) (I +
    (L-1) w w' / |w|^2)``: curvature grows with depth where ``|w| > 1``. In one dimension without
    bias it is ``2 / (L |w|^(2-2/L) C)``. A bias a layer adds ``sum_i |w|^(2i/L)``, ``i`` from 0 to
    ``L - 1``.

    Returns:
        ``(*runs,)``.

    Raises:
        ShapeError: for several outputs.

    Reference:
        Arora, Cohen, Hazan, ICML 2018, theorem 2, for ``P``.

    Example:
        >>> from rectilinear.deeplinear.statistics import SufficientStatistics
        >>> line = SufficientStatistics.from_data([[-1.0], [1.0]], [-2.0, 2.0])
        >>> largest_stable_step(line, 1, bias=False).round(6), largest_stable_step(line, 2, bias=False).round(6)
        (np.float64(2.0), np.float64(0.5))
    """
    _check_depth(depth)
    if statistics.outputs != 1:
        raise ShapeError(
            f"{statistics.outputs} outputs", "one output", "Study one column of y at a time."
        )
    w = statistics.least_squares(bias=bias).coef[..., 0, :]
    size = np.linalg.norm(w, axis=-1)
    moments, d = statistics.sxx, w.shape[-1]
    along = np.divide(w, size[..., None], out=np.zeros_like(w), where=size[..., None] > 0)
    metric = np.eye(d) + (depth - 1) * along[..., :, None] * along[..., None, :]
    metric = size[..., None, None] ** (2 - 2 / depth) * metric
    if bias:
        mean = statistics.mean_x
        moments = _bordered(moments, mean, np.ones(mean.shape[:-1]))
        layers = sum((size ** (2 * i / depth) for i in range(1, depth)), np.ones_like(size))
        metric = _bordered(metric, np.zeros_like(mean), layers)
    with np.errstate(divide="ignore"):  # a target without slope: any step is stable
        return 2 / np.linalg.eigvals(metric @ moments).real.max(-1)


def _bordered(matrix: np.ndarray, edge: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """``[[matrix, edge], [edge', corner]]``, over runs."""
    top = np.concatenate([matrix, edge[..., :, None]], axis=-1)
    return np.concatenate(
        [top, np.concatenate([edge, corner[..., None]], axis=-1)[..., None, :]], axis=-2
    )


def _check_depth(depth: int) -> None:
    if depth < 1:
        raise InputError(f"depth {depth}", "at least one layer")
