"""Two linear layers with any number of outputs, white inputs and balanced layers: a matrix Riccati equation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rectilinear.dynamics.gradient_flow import ascending
from rectilinear.errors import AssumptionError, ShapeError

if TYPE_CHECKING:
    from torch import Tensor


def imbalance(w1: Tensor, w2: Tensor) -> tuple[float, float]:
    r"""``(b, error)``: the ``b`` that comes closest to ``W2^T W2 - W1 W1^T = b I``, and how far it stays from it.

    The difference is constant under gradient flow; its distance is the spectral norm. With more hidden units than
    inputs and outputs ``b`` can only be 0.

    Example:
        >>> imbalance(torch.eye(2), 2 * torch.eye(2))
        (3.0, 0.0)
    """
    w1, w2 = w1.double(), w2.double()
    values = torch.linalg.eigvalsh(w2.mT @ w2 - w1 @ w1.mT)
    b = float(values[0] + values[-1]) / 2 if len(w1) <= max(w1.shape[1], len(w2)) else 0.0
    return b, max(float(values[-1]) - b, b - float(values[0]))


def riccati(times: Tensor, w1: Tensor, w2: Tensor, beta: Tensor, lam: float = 1.0, balance: float = 0.0) -> Tensor:
    r"""The map ``W2 W1 (t)``, ``(T, o, d)``, of a linear network with ``W2^T W2 - W1 W1^T = b I`` and white inputs.

    With ``Q = (W1^T; W2)`` and ``F = [[-lam b/2 I, beta^T], [beta, lam b/2 I]]``,
    ``Q Q^T (t) = e^{F t} Q0 [I + lam Q0^T (int_0^t e^{2 F r} dr) Q0]^{-1} Q0^T e^{F t}``.
    It is evaluated in the eigenbasis of ``F`` and in the rank of ``Q0``, through a QR factorisation and in short spans
    of time, so that neither growing nor vanishing modes lose digits.

    Args:
        times: ascending, ``(T,)``: learning rate times steps.
        w1: first layer at the start, ``(h, d)``.
        w2: second layer at the start, ``(o, h)``.
        beta: ``<y x^T>``, ``(o, d)``.
        lam: variance of the inputs, ``sigma = lam I``.
        balance: ``b``; :func:`imbalance` measures it.

    Raises:
        ShapeError: for layers that do not fit ``beta``.
        AssumptionError: for a ``b`` that is not zero where there are more hidden units than inputs and outputs.

    Reference: K. Fukumizu 1998; L. Braun et al., Exact learning dynamics of deep linear networks with prior knowledge,
    NeurIPS 2022; C. Domine et al., From lazy to rich, 2024.

    Example:
        >>> beta = torch.diag(torch.tensor([3.0, 1.0]))
        >>> riccati(torch.tensor([30.0]), 1e-4 * torch.eye(2), 1e-4 * torch.eye(2), beta)[0].diagonal()
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


def _advance(q: Tensor, t: Tensor, rates: Tensor, lam: float) -> Tensor:
    """A factor of ``Q Q^T`` after ``t``, from the factor ``q (..., n, r)`` in the eigenbasis.

    With ``g = (e^{2 f t} - 1)/(2 f)`` and the triangle ``R`` of ``[sqrt(lam g) q; I]`` it is ``e^{f t} q R^{-1}``.
    """
    x = t[..., None] * rates
    grown = torch.expm1(2 * x)
    g = torch.where(rates == 0, t[..., None].expand_as(x), grown / torch.where(rates == 0, 1.0, 2 * rates))
    top = (lam * g).sqrt()[..., None] * q
    r = q.shape[-1]
    upper = torch.linalg.qr(torch.cat([top, torch.eye(r, dtype=q.dtype).expand(*q.shape[:-2], r, r)], dim=-2)).R
    return torch.linalg.solve_triangular(upper.mT, (x.exp()[..., None] * q).mT, upper=False).mT
