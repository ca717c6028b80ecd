"""Closed forms of two-layer networks with one output, from a start of rank one with balanced
layers.

The start is ``W2 = a^T``, ``W1 = a r^T`` with ``|r| = 1``; its effective map is ``w = kappa |a|^2
r``. Balance is
kept, so that the map tells the weights: ``W2 = a^T/|a| sqrt(|w|/kappa)``, ``W1 = W2^T w^T/|w|``.

Orthogonal and XOR-like points: a ReLU network that is several independent linear networks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rectilinear.errors import AssumptionError, InputError
from rectilinear.learning.linear_flow import linear_flow
from rectilinear.learning.mirror import Moments, rows


def aligned(times: Tensor, s: float, u0: float, lam: float = 1.0, kappa: float = 1.0) -> Tensor:
    r"""The strength ``U(t)`` of the map ``U beta/s`` that starts along ``beta``, an eigenvector of
    the covariance.

    ``U(t) = s / (lam + (s/U0 - lam) exp(-2 kappa s t))``, the solution of ``U' = 2 kappa U (s - lam
    U)``. For leaky ReLU ``2 kappa = 1 + alpha``.

    Args:
        times: ``(T,)``: learning rate times steps.
        s: length of ``beta = <y x>``.
        u0: strength at the start, positive.
        lam: eigenvalue of the covariance of the inputs along ``beta``.
        kappa: half the slopes' sum of the activation; 1 for a linear network.

    Reference: A. Saxe, J. McClelland, S. Ganguli, ICLR 2014; for leaky ReLU Y. Zhang, A. Saxe, P.
    Latham, When are bias-free ReLU networks effectively linear networks?, TMLR 2025.

    Example:
        >>> aligned(torch.tensor([0.0, 5.0]), s=2.0, u0=0.01)
        tensor([0.0100, 2.0000], dtype=torch.float64)
    """
    return s / (lam + (s / u0 - lam) * torch.exp(-2 * kappa * s * times.double()))


def white(times: Tensor, beta: Tensor, w0: Tensor, lam: float = 1.0, kappa: float = 1.0) -> Tensor:
    r"""The effective map ``w(t)``, ``(T, d)``, for white inputs ``sigma = lam I``, from any
    direction.

    With ``q = sqrt(|w|) (w/|w|, 1)``, ``T = kappa t``, ``e_+- = (beta/s, +-1)/sqrt 2``, and
    ``c_+-``, ``c_0`` the parts of ``q(0)`` along them and the rest, ``q(T) = p(T)/sqrt(D(T))``,
    ``p = exp(s T) c_+ e_+ + exp(-s T) c_- e_- + c_0``,
    ``D = 1 + lam [c_+^2 (exp(2 s T) - 1)/(2 s) + c_-^2 (1 - exp(-2 s T))/(2 s) + |c_0|^2 T]``.

    Args:
        times: ``(T,)``: learning rate times steps.
        beta: ``<y x>``, ``(d,)``.
        w0: the map at the start, ``(d,)``, not zero.
        lam: variance of the inputs.
        kappa: half the slopes' sum of the activation; 1 for a linear network.

    Example:
        >>> beta = torch.tensor([0.0, 3.0])
        >>> white(torch.tensor([0.0, 9.0]), beta, torch.tensor([0.1, 0.0])).round(decimals=6)
        tensor([[0.1000, 0.0000],
                [0.0000, 3.0000]], dtype=torch.float64)
    """
    beta, w0, rate = beta.double(), w0.double(), kappa * times.double()[:, None]
    s, length = beta.norm(), w0.norm()
    q = torch.cat([w0 / length.sqrt(), length.sqrt()[None]])
    axis = torch.nn.functional.normalize(beta, dim=0)
    ones = torch.stack([torch.ones_like(s), -torch.ones_like(s)])[:, None]
    plus, minus = torch.cat([axis.expand(2, -1), ones], dim=1) / 2**0.5
    c_plus, c_minus = plus @ q, minus @ q
    rest = q - c_plus * plus - c_minus * minus
    # Everything is divided by exp(s T), so that nothing overflows at late times.
    decay = torch.exp(-s * rate)
    p = c_plus * plus + decay**2 * c_minus * minus + decay * rest
    grown = rate * _phi(-2 * s * rate)  # (1 - exp(-2 s T)) / (2 s)
    d = decay**2 + lam * (
        c_plus**2 * grown + c_minus**2 * decay**2 * grown + rest @ rest * decay**2 * rate
    )
    return p[:, :-1] * p[:, -1:] / d


def any_covariance(
    times: Tensor, sigma: Tensor, beta: Tensor, w0: Tensor, kappa: float = 1.0
) -> Tensor:
    r"""The effective map ``w(t)``, ``(T, d)``, for inputs of any covariance, by an ordinary
    differential equation.

    ``w' = kappa |w| (I + w w^T/|w|^2) (beta - sigma w)``, solved as a linear network of one hidden
    unit, where it has no singularity.

    Args:
        times: ascending, ``(T,)``: learning rate times steps.
        sigma: ``<x x^T>``, ``(d, d)``.
        beta: ``<y x>``, ``(d,)``.
        w0: the map at the start, ``(d,)``, not zero.
        kappa: half the slopes' sum of the activation; 1 for a linear network.

    Example:
        >>> sigma, beta = torch.diag(torch.tensor([1.0, 4.0])), torch.tensor([2.0, 4.0])
        >>> any_covariance(torch.tensor([0.0, 30.0]), sigma, beta, 1e-6 * beta)[-1]
        tensor([2.0000, 1.0000], dtype=torch.float64)
    """
    w0 = w0.double()
    size = w0.norm().sqrt()
    start = [(w0 / size)[None], size.reshape(1, 1)]
    w1, w2 = linear_flow(
        kappa * times.double(), start, Moments(sigma.double(), beta.double()[None], 0.0)
    )
    return (w2 @ w1)[:, 0]


def _phi(x: Tensor) -> Tensor:
    """``(exp(x) - 1)/x``, with its limit 1 at 0."""
    return torch.where(
        x == 0, torch.ones_like(x), torch.expm1(x) / torch.where(x == 0, torch.ones_like(x), x)
    )


def independent(times: Tensor, x: Tensor, y: Tensor, u0: Tensor | float) -> tuple[Tensor, Tensor]:
    r"""``(U, loss)``: strengths ``(T, n)`` and the *summed* loss ``(T,)`` of a ReLU network with
    one neuron a point.

    A neuron ``w = sqrt(U) x_j/|x_j|``, ``a = sgn(y_j) sqrt(U)`` that is inactive on all other
    points is a linear
    network on its own: ``U_j' = 2 |y_j||x_j| U_j - 2 |x_j|^2 U_j^2``, a sigmoid, and
    ``L = 1/2 sum_j (|y_j| - U_j |x_j|)^2``. Exact from such a start, :func:`independent_neurons`.
    From a random one neurons active on several points of one sign merge, and the network is a few
    percent later.

    Args:
        times: ``(T,)``: learning rate times steps.
        x: points ``(n, d)`` with ``x_i . x_j <= 0`` for all pairs.
        y: targets ``(n,)``, not zero.
        u0: strengths at the start, positive, ``(n,)`` or one for all.

    Raises:
        AssumptionError: for points of which one makes another's neuron active.
        InputError: for targets or strengths of zero.

    Reference: Y. Zhang, A. Saxe, P. Latham, TMLR 2025; E. Boursier, L. Pillaud-Vivien, N.
    Flammarion, Gradient flow dynamics of shallow ReLU networks for square loss and orthogonal
    inputs, NeurIPS 2022.

    Example:
        >>> u, loss = independent(torch.tensor([0.0, 20.0]), torch.eye(2), torch.tensor([1.0, -2.0]), 1e-3)
        >>> u[-1], loss[-1] < 1e-9
        (tensor([1.0000, 2.0000], dtype=torch.float64), tensor(True))
    """
    x, y, length = _check(x, y)
    start = torch.as_tensor(u0, dtype=x.dtype).expand(len(x))
    if bool((start <= 0).any()):
        raise InputError(
            "a strength of zero at the start", "positive numbers", "A neuron at zero stays there."
        )
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
        raise InputError(
            "targets or points that are zero, or several targets a point",
            "one target y_j != 0 a point",
        )
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
