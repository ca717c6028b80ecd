"""Orthogonal and XOR-like points: a ReLU network that is several independent linear networks."""

from __future__ import annotations

import torch
from torch import Tensor

from rectilinear.dynamics.moments import rows
from rectilinear.errors import AssumptionError, InputError


def independent(times: Tensor, x: Tensor, y: Tensor, u0: Tensor | float) -> tuple[Tensor, Tensor]:
    r"""``(U, loss)``: strengths ``(T, n)`` and the *summed* loss ``(T,)`` of a ReLU network with one neuron a point.

    A neuron ``w = sqrt(U) x_j/|x_j|``, ``a = sgn(y_j) sqrt(U)`` that is inactive on all other points is a linear
    network on its own: ``U_j' = 2 |y_j||x_j| U_j - 2 |x_j|^2 U_j^2``, a sigmoid, and
    ``L = 1/2 sum_j (|y_j| - U_j |x_j|)^2``. Exact from such a start, :func:`independent_neurons`. From a random one
    neurons active on several points of one sign merge, and the network is a few percent later.

    Args:
        times: ``(T,)``: learning rate times steps.
        x: points ``(n, d)`` with ``x_i . x_j <= 0`` for all pairs.
        y: targets ``(n,)``, not zero.
        u0: strengths at the start, positive, ``(n,)`` or one for all.

    Raises:
        AssumptionError: for points of which one makes another's neuron active.
        InputError: for targets or strengths of zero.

    Reference: Y. Zhang, A. Saxe, P. Latham, TMLR 2025; E. Boursier, L. Pillaud-Vivien, N. Flammarion, Gradient flow
    dynamics of shallow ReLU networks for square loss and orthogonal inputs, NeurIPS 2022.

    Example:
        >>> u, loss = independent(torch.tensor([0.0, 20.0]), torch.eye(2), torch.tensor([1.0, -2.0]), 1e-3)
        >>> u[-1], loss[-1] < 1e-9
        (tensor([1.0000, 2.0000], dtype=torch.float64), tensor(True))
    """
    x, y, length = _check(x, y)
    start = torch.as_tensor(u0, dtype=x.dtype).expand(len(x))
    if bool((start <= 0).any()):
        raise InputError("a strength of zero at the start", "positive numbers", "A neuron at zero stays there.")
    s, lam = y.abs() * length, length**2
    t = torch.as_tensor(times).double()[:, None]
    u = s / (lam + (s / start - lam) * torch.exp(-2 * s * t))
    return u, (y.abs() - u * length).square().sum(1) / 2


def independent_neurons(x: Tensor, y: Tensor, u0: Tensor | float) -> tuple[Tensor, Tensor]:
    """The weights ``(n, d)``, ``(1, n)`` of the start of :func:`independent`.

    Raises:
        AssumptionError, InputError: as there.

    Example:
        >>> w1, w2 = independent_neurons(torch.eye(2), torch.tensor([1.0, -2.0]), 4.0)
        >>> w2
        tensor([[ 2., -2.]], dtype=torch.float64)
    """
    x, y, length = _check(x, y)
    size = torch.as_tensor(u0, dtype=x.dtype).expand(len(x)).sqrt()
    return size[:, None] * x / length[:, None], (size * y.sign())[None]


def _check(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points and targets in float64, and the lengths of the points."""
    x, targets = rows(x, y)
    y, length = targets[:, 0], x.norm(dim=1)
    if targets.shape[1] > 1 or bool((y == 0).any()) or bool((length == 0).any()):
        raise InputError("targets or points that are zero, or several targets a point", "one target y_j != 0 a point")
    angles = x @ x.mT / length.outer(length)
    largest = float(angles.fill_diagonal_(-1).max()) if len(x) > 1 else -1.0
    if largest > 1e-12:
        raise AssumptionError(
            f"points at an angle whose cosine is {largest:.3g}",
            "x_i . x_j <= 0 for all pairs",
            "The neuron of one point would see the other.",
            assumption="orthogonal points",
        )
    return x, y, length
