"""Two-layer networks: closed forms of their gradient flow, and when they learn like linear ones.

A network ``f(x) = W2 s(W1 x)`` with ``s(z) - s(-z) = 2 kappa z`` that is linear on symmetric data
learns like a linear network at ``kappa`` times its learning rate. With one output and balanced
weights of rank one, ``W2 = a^T``, ``W1 = a r^T``, ``|r| = 1``, it computes ``w = kappa |a|^2 r``
and stays balanced, so that the map tells the weights: ``W2 = a^T/|a| sqrt(|w|/kappa)``, ``W1 = W2^T
w^T/|w|``. With several outputs and white inputs it obeys a matrix Riccati equation. On orthogonal
and XOR-like points a ReLU network is several independent linear networks.

Time is the learning rate times the number of steps, ``beta = <y x^T>``, ``sigma = <x x^T>``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from rectilinear.errors import AssumptionError, InputError, ShapeError
from rectilinear.learning.gradient_flow import ascending
from rectilinear.learning.linear_network import Moments, linear_network_flow, rows
from rectilinear.learning.mirror import asymmetric_fraction

ROUNDING = 1e-6  # relative: weights may have been float32


def rank_one_solution(
    times: Tensor, s: float, u0: float, lam: float = 1.0, kappa: float = 1.0
) -> Tensor:
    r"""The strength ``U(t)`` of the map ``U beta/s`` along ``beta``, an eigenvector of ``sigma``.

    ``U(t) = s / (lam + (s/U0 - lam) exp(-2 kappa s t))``, the solution of ``U' = 2 kappa U (s - lam
    U)``. For leaky ReLU ``2 kappa = 1 + alpha``.

    Args:
        times: ``(T,)``: learning rate times steps.
        s: length of ``beta = <y x>``.
        u0: initial strength, positive.
        lam: eigenvalue of the covariance of the inputs along ``beta``.
        kappa: half the sum of the activation's slopes; 1 for a linear network.

    Reference: A. Saxe, J. McClelland, S. Ganguli, ICLR 2014; for leaky ReLU Y. Zhang, A. Saxe, P.
    Latham, When are bias-free ReLU networks effectively linear networks?, TMLR 2025.

    Example:
        >>> rank_one_solution(torch.tensor([0.0, 5.0]), s=2.0, u0=0.01)
        tensor([0.0100, 2.0000], dtype=torch.float64)
    """
    return s / (lam + (s / u0 - lam) * torch.exp(-2 * kappa * s * times.double()))


def white_input_solution(
    times: Tensor, beta: Tensor, w0: Tensor, lam: float = 1.0, kappa: float = 1.0
) -> Tensor:
    r"""The map ``w(t)``, ``(T, d)``, for white inputs, ``sigma = lam I``, from any initial ``w0``.

    With ``q = sqrt(|w|) (w/|w|, 1)``, ``T = kappa t``, ``e_+- = (beta/s, +-1)/sqrt 2``, and
    ``c_+-``, ``c_0`` the parts of ``q(0)`` along them and the rest, ``q(T) = p(T)/sqrt(D(T))``, ``p
    = exp(s T) c_+ e_+ + exp(-s T) c_- e_- + c_0``, ``D = 1 + lam [c_+^2 (exp(2 s T) - 1)/(2 s) +
    c_-^2 (1 - exp(-2 s T))/(2 s) + |c_0|^2 T]``.

    Args:
        times: ``(T,)``: learning rate times steps.
        beta: ``<y x>``, ``(d,)``.
        w0: the initial map, ``(d,)``, not zero.
        lam: variance of the inputs.
        kappa: half the sum of the activation's slopes; 1 for a linear network.

    Example:
        >>> beta, w0 = torch.tensor([0.0, 3.0]), torch.tensor([0.1, 0.0])
        >>> white_input_solution(torch.tensor([0.0, 9.0]), beta, w0).round(decimals=6)
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


def general_covariance_solution(
    times: Tensor, sigma: Tensor, beta: Tensor, w0: Tensor, kappa: float = 1.0
) -> Tensor:
    r"""The map ``w(t)``, ``(T, d)``, for inputs of any covariance, by a differential equation.

    ``w' = kappa |w| (I + w w^T/|w|^2) (beta - sigma w)``, solved as a linear network of one hidden
    unit, where it has no singularity.

    Args:
        times: ascending, ``(T,)``: learning rate times steps.
        sigma: ``<x x^T>``, ``(d, d)``.
        beta: ``<y x>``, ``(d,)``.
        w0: the initial map, ``(d,)``, not zero.
        kappa: half the sum of the activation's slopes; 1 for a linear network.

    Example:
        >>> sigma, beta = torch.diag(torch.tensor([1.0, 4.0])), torch.tensor([2.0, 4.0])
        >>> general_covariance_solution(torch.tensor([0.0, 30.0]), sigma, beta, 1e-6 * beta)[-1]
        tensor([2.0000, 1.0000], dtype=torch.float64)
    """
    w0 = w0.double()
    size = w0.norm().sqrt()
    weights = [(w0 / size)[None], size.reshape(1, 1)]
    data = Moments(sigma.double(), beta.double()[None], 0.0)
    w1, w2 = linear_network_flow(kappa * times.double(), weights, data)
    return (w2 @ w1)[:, 0]


def riccati_solution(
    times: Tensor, w1: Tensor, w2: Tensor, beta: Tensor, lam: float = 1.0, balance: float = 0.0
) -> Tensor:
    r"""The map ``W2 W1 (t)``, ``(T, o, d)``, of two balanced linear layers on white inputs.

    Balanced are layers with ``W2^T W2 - W1 W1^T = b I``. With ``Q = (W1^T; W2)`` and ``F = [[-lam
    b/2 I, beta^T], [beta, lam b/2 I]]``, ``Q Q^T (t) = e^{F t} Q0 [I + lam Q0^T (int_0^t e^{2 F r}
    dr) Q0]^{-1} Q0^T e^{F t}``. It is evaluated in the eigenbasis of ``F`` and in the rank of
    ``Q0``, through a QR factorisation and in short spans of time, so that neither growing nor
    vanishing modes lose digits.

    Args:
        times: ascending, ``(T,)``: learning rate times steps.
        w1: initial first layer, ``(h, d)``.
        w2: initial second layer, ``(o, h)``.
        beta: ``<y x^T>``, ``(o, d)``.
        lam: variance of the inputs, ``sigma = lam I``.
        balance: ``b``.

    Raises:
        ShapeError: for layers that do not fit ``beta``.
        AssumptionError: for a ``b`` that is not zero where there are more hidden units than inputs
            and outputs.

    Reference: K. Fukumizu 1998; L. Braun et al., Exact learning dynamics of deep linear networks
    with prior knowledge, NeurIPS 2022; C. Domine et al., From lazy to rich, 2024.

    Example:
        >>> beta, small = torch.diag(torch.tensor([3.0, 1.0])), 1e-4 * torch.eye(2)
        >>> riccati_solution(torch.tensor([30.0]), small, small, beta)[0].diagonal()
        tensor([3.0000, 1.0000], dtype=torch.float64)
    """
    t = torch.from_numpy(ascending(times))
    w1, w2, beta = (value.detach().to("cpu", torch.float64) for value in (w1, w2, beta))
    (o, d), h = beta.shape, len(w1)
    if w1.shape != (h, d) or w2.shape != (o, h):
        raise ShapeError(
            f"layers of shape {tuple(w1.shape)} and {tuple(w2.shape)}",
            f"({h}, {d}) and ({o}, {h}) for beta of shape {(o, d)}",
        )
    if balance and h > max(d, o):
        raise AssumptionError(
            f"balance {balance:.3g} with {h} hidden units between {d} inputs and {o} outputs",
            "no more hidden units than inputs or outputs, or balance 0",
            "The difference of the layers cannot be a multiple of the identity here.",
            assumption="balanced layers",
        )
    corner = lam * balance / 2
    f = torch.cat(
        [
            torch.cat([-corner * torch.eye(d, dtype=beta.dtype), beta.mT], dim=1),
            torch.cat([beta, corner * torch.eye(o, dtype=beta.dtype)], dim=1),
        ]
    )
    rates, basis = torch.linalg.eigh(f)
    q = basis.mT @ torch.cat([w1.mT, w2])
    if h > d + o:
        q = torch.linalg.qr(q.mT).R.mT
    span = 3 / max(float(rates.abs().max()), torch.finfo(beta.dtype).tiny)
    anchors = [q]
    for _ in range(int(t[-1] / span)):
        anchors.append(_advance(anchors[-1], torch.tensor(span, dtype=beta.dtype), rates, lam))
    index = (t / span).floor().long().clamp(max=len(anchors) - 1)
    q = basis @ _advance(torch.stack(anchors)[index], t - index.double() * span, rates, lam)
    return q[:, d:] @ q[:, :d].mT


def orthogonal_points_solution(
    times: Tensor, x: Tensor, y: Tensor, u0: Tensor | float
) -> tuple[Tensor, Tensor]:
    r"""``(U, loss)``: strengths ``(T, n)`` and *summed* loss ``(T,)`` of one ReLU neuron a point.

    A neuron ``w = sqrt(U) x_j/|x_j|``, ``a = sgn(y_j) sqrt(U)`` that is inactive on all other
    points is a linear network on its own: ``U_j' = 2 |y_j||x_j| U_j - 2 |x_j|^2 U_j^2``, a sigmoid,
    and ``L = 1/2 sum_j (|y_j| - U_j |x_j|)^2``. Exact from the weights of
    :func:`orthogonal_points_init`. From random ones neurons active on several points of one sign
    merge, and the network is a few percent later.

    Args:
        times: ``(T,)``: learning rate times steps.
        x: points ``(n, d)`` with ``x_i . x_j <= 0`` for all pairs.
        y: targets ``(n,)``, not zero.
        u0: initial strengths, positive, ``(n,)`` or one for all.

    Raises:
        AssumptionError: for points of which one makes another's neuron active.
        InputError: for targets or strengths of zero.

    Reference: Y. Zhang, A. Saxe, P. Latham, TMLR 2025; E. Boursier, L. Pillaud-Vivien, N.
    Flammarion, Gradient flow dynamics of shallow ReLU networks for square loss and orthogonal
    inputs, NeurIPS 2022.

    Example:
        >>> times, y = torch.tensor([0.0, 20.0]), torch.tensor([1.0, -2.0])
        >>> u, loss = orthogonal_points_solution(times, torch.eye(2), y, 1e-3)
        >>> u[-1], loss[-1] < 1e-9
        (tensor([1.0000, 2.0000], dtype=torch.float64), tensor(True))
    """
    x, y, length = _check(x, y)
    start = torch.as_tensor(u0, dtype=x.dtype).expand(len(x))
    if bool((start <= 0).any()):
        raise InputError(
            "an initial strength of zero", "positive numbers", "A neuron at zero stays there."
        )
    s, lam = y.abs() * length, length**2
    t = torch.as_tensor(times).double()[:, None]
    u = s / (lam + (s / start - lam) * torch.exp(-2 * s * t))
    return u, (y.abs() - u * length).square().sum(1) / 2


def orthogonal_points_init(x: Tensor, y: Tensor, u0: Tensor | float) -> tuple[Tensor, Tensor]:
    """The weights ``(n, d)``, ``(1, n)`` that :func:`orthogonal_points_solution` is exact from.

    Raises:
        AssumptionError, InputError: as there.

    Example:
        >>> w1, w2 = orthogonal_points_init(torch.eye(2), torch.tensor([1.0, -2.0]), 4.0)
        >>> w2
        tensor([[ 2., -2.]], dtype=torch.float64)
    """
    x, y, length = _check(x, y)
    size = torch.as_tensor(u0, dtype=x.dtype).expand(len(x)).sqrt()
    return size[:, None] * x / length[:, None], (size * y.sign())[None]


def antisymmetric_pairs(w1: Tensor, w2: Tensor) -> tuple[Tensor, Tensor]:
    r"""Weights ``(2 h, d)``, ``(o, 2 h)`` with each neuron ``(w, a)`` joined by ``(-w, -a)``.

    The network computes ``2 kappa W2 W1 x`` for every ``x``, and on data closed under ``(x, y) ->
    (-x, -y)`` training keeps the pairs. It learns like the linear network whose weights are
    ``sqrt(kappa)`` times its own, or ``sqrt(2 kappa)`` times those of one half, at ``kappa`` times
    its learning rate: by gradient descent, with momentum, with ``1/kappa`` of its weight decay, on
    mirrored mini-batches, under any loss with ``l(-f, -y) = l(f, y)``; and by Adam with ``eps =
    0``, at a learning rate scaled as the weights are.

    Args:
        w1: first layer, ``(h, d)``.
        w2: second layer, ``(o, h)``.

    Example:
        >>> w1, w2 = antisymmetric_pairs(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]]))
        >>> w2 @ torch.relu(w1 @ torch.tensor([[1.0], [-1.0]]))
        tensor([[-3.]])
    """
    return torch.cat([w1, -w1]), torch.cat([w2, -w2], dim=1)


def remains_linear(w1: Tensor, w2: Tensor, *, homogeneous: bool = True) -> bool:
    r"""True if a two-layer network is linear and stays so while it trains on symmetric data.

    True for neurons in antisymmetric pairs; and with leaky ReLU, which is ``homogeneous``, for
    layers of rank one and balanced, ``W1 = a r^T``, ``W2 = a^T``, whose positive and negative
    entries of ``a`` have equal norms.

    Example:
        >>> w1, w2 = torch.randn(2, 3), torch.randn(1, 2)
        >>> remains_linear(w1, w2), remains_linear(*antisymmetric_pairs(w1, w2))
        (False, True)
    """
    w1, w2 = w1.detach().double(), w2.detach().double()
    if not asymmetric_fraction(w1, w2.mT):
        return True
    if len(w2) > 1 or not homogeneous:
        return False
    a = w2[0]
    size = float(a.norm())
    r = a @ w1 / max(size, torch.finfo(a.dtype).tiny) ** 2
    rank_one = (
        float((w1 - a.outer(r)).norm()) <= ROUNDING * size and abs(float(r.norm()) - 1) <= ROUNDING
    )
    return rank_one and abs(float((a * a.abs()).sum())) <= ROUNDING * size**2


def growing_component(
    w1: Tensor, w2: Tensor, beta: Tensor, kappa: float = 1.0
) -> tuple[Tensor, Tensor]:
    r"""The part ``(r, d)``, ``(o, r)`` of small weights that grows: balanced linear layers.

    While the output is small, ``(W1^T; W2)`` grows along ``(v; u)/sqrt 2`` for the singular vectors
    of ``beta`` and shrinks or stays elsewhere; what is kept is that part, ``sqrt(kappa)`` times it.
    With one output its map is ``U0 beta/s``, ``U0 = kappa/4 sum_i (a_i + w_i . beta/s)^2``.

    Args:
        w1: first layer, ``(h, d)``.
        w2: second layer, ``(o, h)``.
        beta: ``<y x^T>``, ``(o, d)``.
        kappa: half the sum of the activation's slopes.

    Example:
        >>> w1, w2, beta = (torch.tensor(w) for w in ([[0.1, 0.3]], [[0.1]], [[2.0, 0.0]]))
        >>> w1, w2 = growing_component(w1, w2, beta, kappa=0.5)
        >>> w2 @ w1
        tensor([[0.0050, 0.0000]], dtype=torch.float64)
    """
    w1, w2, beta = w1.double(), w2.double(), beta.double()
    u, s, vt = torch.linalg.svd(beta, full_matrices=False)
    kept = s > 1e-12 * s[0]
    # (modes, h): half of v . w_i + u . a_i
    modes = kappa**0.5 * (vt[kept] @ w1.mT + u[:, kept].mT @ w2) / 2
    # Hidden space turns freely: as many units as modes are enough.
    turned = torch.linalg.qr(modes.mT).R if modes.shape[1] > len(modes) else modes.mT
    return turned @ vt[kept], u[:, kept] @ turned.mT


def sign_imbalance(w1: Tensor, w2: Tensor, beta: Tensor) -> float:
    r"""The imbalance ``delta`` in ``[-1, 1]`` of neurons that grow to push the output up and down.

    With ``v_i = (a_i + w_i . beta/s)/sqrt 2``, ``delta = sum sgn(v_i) v_i^2 / sum v_i^2``. Of
    ``h`` Gaussian neurons its standard deviation is ``sqrt(3/h)``; of antisymmetric pairs it is
    zero.

    Args:
        w1: small initial first layer, ``(h, d)``.
        w2: small initial second layer, ``(1, h)``.
        beta: ``<y x^T>``, ``(1, d)``.

    Raises:
        InputError: for more than one output.

    Example:
        >>> w1, w2 = torch.tensor([[1.0], [-3.0]]), torch.tensor([[1.0, -1.0]])
        >>> sign_imbalance(w1, w2, torch.tensor([[5.0]]))
        -0.6
    """
    if len(w2) != 1:
        raise InputError(
            f"{len(w2)} outputs", "one output", "The sign of a neuron is that of its one output."
        )
    v = w2.double()[0] + w1.double() @ normalize(beta.double(), dim=-1)[0]
    return round(float((v * v.abs()).sum() / v.square().sum()), 15)


def weight_error(delta: float) -> float:
    r"""The relative distance to the weights of a linear network that training ends with.

    ``sqrt(2 - sqrt(1 + delta) - sqrt(1 - delta))``, about ``|delta|/2``, the same for every slope
    ``alpha < 1``: the neurons of each sign end with half of the strength, whatever they began with.

    Args:
        delta: the :func:`sign_imbalance` of the small initial weights.

    Example:
        >>> round(weight_error(0.1), 4)
        0.0501
    """
    return max(2 - (1 + delta) ** 0.5 - (1 - delta) ** 0.5, 0.0) ** 0.5


def layer_imbalance(w1: Tensor, w2: Tensor) -> tuple[float, float]:
    r"""``(b, error)``: the closest ``b I`` to ``W2^T W2 - W1 W1^T``, and its spectral distance.

    The difference is constant under gradient flow. With more hidden units than inputs and outputs
    ``b`` can only be 0.

    Example:
        >>> layer_imbalance(torch.eye(2), 2 * torch.eye(2))
        (3.0, 0.0)
    """
    w1, w2 = w1.double(), w2.double()
    values = torch.linalg.eigvalsh(w2.mT @ w2 - w1 @ w1.mT)
    b = float(values[0] + values[-1]) / 2 if len(w1) <= max(w1.shape[1], len(w2)) else 0.0
    return b, max(float(values[-1]) - b, b - float(values[0]))


def _phi(x: Tensor) -> Tensor:
    """``(exp(x) - 1)/x``, with its limit 1 at 0."""
    return torch.where(
        x == 0, torch.ones_like(x), torch.expm1(x) / torch.where(x == 0, torch.ones_like(x), x)
    )


def _advance(q: Tensor, t: Tensor, rates: Tensor, lam: float) -> Tensor:
    """A factor of ``Q Q^T`` after ``t``, from the factor ``q (..., n, r)`` in the eigenbasis.

    It is ``e^{f t} q R^{-1}`` with ``g = (e^{2 f t} - 1)/(2 f)`` and the triangle ``R`` of
    ``[sqrt(lam g) q; I]``.
    """
    x = t[..., None] * rates
    grown = torch.expm1(2 * x)
    g = torch.where(
        rates == 0, t[..., None].expand_as(x), grown / torch.where(rates == 0, 1.0, 2 * rates)
    )
    top = (lam * g).sqrt()[..., None] * q
    r = q.shape[-1]
    upper = torch.linalg.qr(
        torch.cat([top, torch.eye(r, dtype=q.dtype).expand(*q.shape[:-2], r, r)], dim=-2)
    ).R
    return torch.linalg.solve_triangular(upper.mT, (x.exp()[..., None] * q).mT, upper=False).mT


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
