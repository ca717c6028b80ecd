"""When a two-layer network learns like a linear one, and what a start that is not paired costs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from rectilinear.errors import InputError
from rectilinear.learning.mirror import unmirrored

ROUNDED = 1e-6  # weights may have been float32


def odd_slope(activation: object) -> float | None:
    r"""``kappa`` where ``sigma(z) - sigma(-z) = 2 kappa z`` for every ``z``, and None where that is
    false.

    ``(1 + alpha)/2`` for leaky ReLU, 1/2 for ReLU, GELU (both forms), SiLU, softplus and hardswish,
    1 for the identity. Measured on a grid, for any function of tensors.

    Example:
        >>> odd_slope(torch.nn.LeakyReLU(0.2)), odd_slope(torch.nn.functional.gelu), odd_slope(torch.tanh)
        (0.6, 0.5, None)
    """
    z = torch.logspace(-3, 1.5, 200, dtype=torch.float64)
    with torch.no_grad():
        odd = activation(z) - activation(-z)  # type: ignore[operator] # any callable, modules among them
    kappa = float(odd[-1] / (2 * z[-1]))
    return round(kappa, 12) if bool(((odd - 2 * kappa * z).abs() <= 1e-6 * z).all()) else None


def pair(w1: Tensor, w2: Tensor) -> tuple[Tensor, Tensor]:
    r"""The network with each neuron ``(w, a)`` joined by ``(-w, -a)``: ``(2 h, d)`` and ``(o, 2
    h)``.

    It computes ``2 kappa W2 W1 x`` for every ``x``, and on data closed under ``(x, y) -> (-x, -y)``
    training keeps the pairs. It learns like the linear network whose weights are ``sqrt(kappa)``
    times its own, or ``sqrt(2 kappa)`` times
    those of one half, at ``kappa`` times its learning rate: by gradient descent, with momentum,
    with ``1/kappa`` of its weight decay, on mirrored mini-batches, under any loss with ``l(-f, -y)
    = l(f, y)``; and by Adam with ``eps = 0``, at a learning rate scaled as the weights are.

    Example:
        >>> w1, w2 = pair(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]]))
        >>> w2 @ torch.relu(w1 @ torch.tensor([[1.0], [-1.0]]))
        tensor([[-3.]])
    """
    return torch.cat([w1, -w1]), torch.cat([w2, -w2], dim=1)


def stays_odd(w1: Tensor, w2: Tensor, *, homogeneous: bool = True) -> bool:
    r"""Whether a two-layer network is linear and stays so while it trains on symmetric data.

    True for neurons in antisymmetric pairs; and with leaky ReLU, which is ``homogeneous``, for
    layers of rank one and balanced, ``W1 = a r^T``, ``W2 = a^T``, whose positive and negative
    entries of ``a`` have equal norms.

    Example:
        >>> w1, w2 = torch.randn(2, 3), torch.randn(1, 2)
        >>> stays_odd(w1, w2), stays_odd(*pair(w1, w2))
        (False, True)
    """
    w1, w2 = w1.detach().double(), w2.detach().double()
    if not unmirrored(w1, w2.mT):
        return True
    if len(w2) > 1 or not homogeneous:
        return False
    a = w2[0]
    size = float(a.norm())
    r = a @ w1 / max(size, torch.finfo(a.dtype).tiny) ** 2
    rank_one = (
        float((w1 - a.outer(r)).norm()) <= ROUNDED * size and abs(float(r.norm()) - 1) <= ROUNDED
    )
    return rank_one and abs(float((a * a.abs()).sum())) <= ROUNDED * size**2


def growing_start(
    w1: Tensor, w2: Tensor, beta: Tensor, kappa: float = 1.0
) -> tuple[Tensor, Tensor]:
    r"""The balanced start ``(r, d)``, ``(o, r)`` of the linear network that small weights grow
    into.

    While the output is small, ``(W1^T; W2)`` grows along ``(v; u)/sqrt 2`` for the singular vectors
    of ``beta`` and shrinks or stays elsewhere; what is kept is that part, ``sqrt(kappa)`` times it.
    With one output the start is ``U0 beta/s``, ``U0 = kappa/4 sum_i (a_i + w_i . beta/s)^2``.

    Example:
        >>> w1, w2 = growing_start(torch.tensor([[0.1, 0.3]]), torch.tensor([[0.1]]), torch.tensor([[2.0, 0.0]]), 0.5)
        >>> w2 @ w1
        tensor([[0.0050, 0.0000]], dtype=torch.float64)
    """
    w1, w2, beta = w1.double(), w2.double(), beta.double()
    u, s, vt = torch.linalg.svd(beta, full_matrices=False)
    kept = s > 1e-12 * s[0]
    modes = (
        kappa**0.5 * (vt[kept] @ w1.mT + u[:, kept].mT @ w2) / 2
    )  # (modes, h): half of (v . w_i + u . a_i)
    # Hidden space turns freely: as many units as modes are enough.
    turned = torch.linalg.qr(modes.mT).R if modes.shape[1] > len(modes) else modes.mT
    return turned @ vt[kept], u[:, kept] @ turned.mT


def delta(w1: Tensor, w2: Tensor, beta: Tensor) -> float:
    r"""How uneven the two signs of a small random start are, in ``[-1, 1]``.

    With ``v_i = (a_i + w_i . beta/s)/sqrt 2``, ``delta = sum sgn(v_i) v_i^2 / sum v_i^2``. Over
    Gaussian starts its standard deviation is ``sqrt(3/h)``; for paired neurons it is zero.

    Raises:
        InputError: for more than one output.

    Example:
        >>> delta(torch.tensor([[1.0], [-3.0]]), torch.tensor([[1.0, -1.0]]), torch.tensor([[5.0]]))
        -0.6
    """
    if len(w2) != 1:
        raise InputError(
            f"{len(w2)} outputs", "one output", "The sign of a neuron is that of its one output."
        )
    v = w2.double()[0] + w1.double() @ normalize(beta.double(), dim=-1)[0]
    return round(float((v * v.abs()).sum() / v.square().sum()), 15)


def weight_error(delta: float) -> float:
    r"""Where the relative distance of the weights from those of the linear network tends: about
    ``|delta|/2``.

    ``sqrt(2 - sqrt(1 + delta) - sqrt(1 - delta))``, the same for every slope ``alpha < 1``: the
    neurons of each sign end with half of the strength, whatever they started with.

    Example:
        >>> round(weight_error(0.1), 4)
        0.0501
    """
    return max(2 - (1 + delta) ** 0.5 - (1 - delta) ** 0.5, 0.0) ** 0.5
