"""From a network and data to the linear network that learns alike, or the assumption that fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from rectilinear.dynamics.leaky_relu import delta, stays_odd
from rectilinear.dynamics.linear_deep import two_blocks
from rectilinear.dynamics.moments import Moments, unmirrored
from rectilinear.errors import AssumptionError

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear.dynamics.network import Network

SMALL = 1e-3  # a start is small when its strength is below this part of the strength that is learned
# The largest even part of a start, as a part of the targets' energy, that leaves the curve within a few percent:
# PyTorch's own starts often have 0.5 to 5 %, and curves off by 1 to 6 % of their fall.
EVEN = 0.05


@dataclass(frozen=True, eq=False)
class Problem:
    """Linear layers that learn as the network does at ``rate`` times its learning rate.

    ``exact`` is False where an even part is neglected; ``holds`` says in words what was checked. Then ``neurons``
    ``(h, k)`` turns the ``k`` hidden units of ``layers`` into those of the network, and ``uneven`` is how much more
    strength one sign of neurons has at the start, in [0, 1].
    """

    layers: list[Tensor]
    data: Moments
    rate: float = 1.0
    exact: bool = True
    delta: float | None = None
    neurons: Tensor | None = None
    uneven: float = 0.0
    holds: tuple[str, ...] = field(default=())


def reduce(network: Network, x: Tensor, y: Tensor, even: float) -> Problem:
    """The equivalent linear problem of ``network`` on points ``(n, d)`` and targets ``(n, o)``.

    ``even`` is the mean square of ``(f(x) + f(-x))/2``, summed over outputs.

    Raises:
        AssumptionError: where there is none.
    """
    data, weights = Moments.of(x, y), list(network.weights)
    if network.alpha == 1:
        return Problem(weights, data, holds=("linear layers",))
    if (lonely := unmirrored(x, y)) > 0:
        raise AssumptionError(
            f"data of which {100 * lonely:.3g} % have no mirror image (-x, -y)",
            "data closed under (x, y) -> (-x, -y)",
            "Append the mirror images, or train and look.",
            assumption="symmetric data",
        )
    holds = (f"symmetric data, {len(x)} points", f"activation {network.activation}, kappa {network.kappa:g}")
    if len(weights) == 2:
        return _two_layers(network, data, even, holds)
    directions, scale = _blocks(network)
    linear = [scale / 2**0.5 * a.outer(b) for b, a in pairwise(directions)]
    last = scale / 2**0.5 * directions[-1][None]
    return Problem([*linear, last], data, 0.5, holds=(*holds, "weights in two blocks, positive and negative"))


def strongest(data: Moments) -> tuple[Tensor, Tensor, float, float]:
    """``u, v, s, lam``: the strongest mode of ``beta`` and the variance of the inputs along it."""
    u, s, vt = torch.linalg.svd(data.beta, full_matrices=False)
    return u[:, 0], vt[0], float(s[0]), float(vt[0] @ data.sigma @ vt[0])


def strength(layers: list[Tensor]) -> float:
    """The strength that a map could have at most with weights of this size: ``mean |W_l|^2`` to the power ``L/2``."""
    return float(sum(w.square().sum() for w in layers) / len(layers)) ** (len(layers) / 2)


def is_small(layers: list[Tensor], data: Moments) -> bool:
    """Whether the start is small against the strength that the strongest mode reaches."""
    *_, s, lam = strongest(data)
    return strength(layers) * lam <= SMALL * s


def _two_layers(network: Network, data: Moments, even: float, holds: tuple[str, ...]) -> Problem:
    w1, w2 = network.weights
    kappa = network.kappa
    layers = [kappa**0.5 * w1, kappa**0.5 * w2]
    if stays_odd(w1, w2, homogeneous=network.alpha is not None):
        return Problem(layers, data, kappa, holds=(*holds, "neurons whose even parts cancel"))
    if len(w2) > 1:
        raise AssumptionError(
            f"{len(w2)} outputs and neurons that are not in antisymmetric pairs",
            "pairs (w, a), (-w, -a), or one output",
            "rectilinear.dynamics.pair makes pairs.",
            assumption="paired neurons",
        )
    if not even <= EVEN * data.power:
        raise AssumptionError(
            f"a start whose even part has {100 * even / max(data.power, 1e-300):.3g} % of the energy of the targets",
            f"{100 * EVEN:g} % or less, or neurons in pairs (w, a), (-w, -a)",
            "Scale the weights down, or pair them with rectilinear.dynamics.pair.",
            assumption="small even part",
        )
    start = delta(w1, w2, data.beta)
    neurons = torch.eye(len(w1), dtype=w1.dtype)
    share = f"even part {100 * even / data.power:.2g} % of the targets' energy"
    return Problem(
        layers,
        data,
        kappa,
        exact=False,
        delta=start if is_small(layers, data) else None,
        neurons=neurons,
        uneven=abs(start),
        holds=(*holds, share),
    )


def _blocks(network: Network) -> tuple[list[Tensor], float]:
    """The unit vectors and the scale from which :func:`two_blocks` makes these weights."""
    weights = network.weights
    if network.alpha == 0 and len(weights[-1]) == 1:
        scale = float(weights[-1].norm())
        directions = [weights[-1][0] / max(scale, torch.finfo(torch.float64).tiny)]
        for w in reversed(weights[1:-1]):  # from W_l and r_l, r_(l-1) up to its two parts' lengths, which are equal
            back = w.mT @ directions[0].clamp(min=0) + w.mT @ directions[0].clamp(max=0)
            directions.insert(0, torch.nn.functional.normalize(back, dim=0))
        directions.insert(0, torch.nn.functional.normalize(weights[0].mT @ directions[0], dim=0))
        try:
            blocks = two_blocks(directions, scale)
        except AssumptionError:
            blocks = []
        near = [float((a - b).norm()) <= 1e-6 * scale for a, b in zip(blocks, weights, strict=False)]
        if near and all(near):
            return directions, scale
    raise AssumptionError(
        f"{len(weights)} layers with activation {network.activation} from a start of no known form",
        "two layers, linear layers, or ReLU weights in two blocks (rectilinear.dynamics.two_blocks)",
        "No closed form is known for a deep network that starts elsewhere: train it, or start there.",
        assumption="aligned start",
    )
