"""From a network and data to the linear network that learns alike, or the assumption that fails.

The band in which the loss stays when a network has more strength in neurons of one sign than of the
other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from rectilinear.errors import AssumptionError
from rectilinear.learning.deep_linear import two_blocks
from rectilinear.learning.leaky_relu import delta, stays_odd
from rectilinear.learning.linear_flow import linear_path
from rectilinear.learning.mirror import Moments, unmirrored
from rectilinear.learning.network import SMOOTH, Network

SMALL = (
    1e-3  # a start is small when its strength is below this part of the strength that is learned
)
# The largest even part of a start, as a part of the targets' energy, that leaves the curve within a
# few percent: PyTorch's own starts often have 0.5 to 5 %, and curves off by 1 to 6 % of their fall.
EVEN = 0.05


@dataclass(frozen=True, eq=False)
class Problem:
    """Linear layers that learn as the network does at ``rate`` times its learning rate.

    ``exact`` is False where an even part is neglected; ``holds`` says in words what was checked.
    Then ``neurons`` ``(h, k)`` turns the ``k`` hidden units of ``layers`` into those of the
    network, and ``uneven`` is how much more strength one sign of neurons has at the start, in [0,
    1].
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
    holds = (
        f"symmetric data, {len(x)} points",
        f"activation {network.activation}, kappa {network.kappa:g}",
    )
    if len(weights) == 2:
        return _two_layers(network, data, even, holds)
    directions, scale = _blocks(network)
    linear = [scale / 2**0.5 * a.outer(b) for b, a in pairwise(directions)]
    last = scale / 2**0.5 * directions[-1][None]
    return Problem(
        [*linear, last], data, 0.5, holds=(*holds, "weights in two blocks, positive and negative")
    )


def strongest(data: Moments) -> tuple[Tensor, Tensor, float, float]:
    """``u, v, s, lam``: the strongest mode of ``beta`` and the variance of the inputs along it."""
    u, s, vt = torch.linalg.svd(data.beta, full_matrices=False)
    return u[:, 0], vt[0], float(s[0]), float(vt[0] @ data.sigma @ vt[0])


def strength(layers: list[Tensor]) -> float:
    """The strength that a map could have at most with weights of this size: ``mean |W_l|^2`` to the
    power ``L/2``.
    """
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
            "rectilinear.learning.pair makes pairs.",
            assumption="paired neurons",
        )
    if not even <= EVEN * data.power:
        raise AssumptionError(
            f"a start whose even part has {100 * even / max(data.power, 1e-300):.3g} % of the energy of the targets",
            f"{100 * EVEN:g} % or less, or neurons in pairs (w, a), (-w, -a)",
            "Scale the weights down, or pair them with rectilinear.learning.pair.",
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
        for w in reversed(
            weights[1:-1]
        ):  # from W_l and r_l, r_(l-1) up to its two parts' lengths, which are equal
            back = w.mT @ directions[0].clamp(min=0) + w.mT @ directions[0].clamp(max=0)
            directions.insert(0, torch.nn.functional.normalize(back, dim=0))
        directions.insert(0, torch.nn.functional.normalize(weights[0].mT @ directions[0], dim=0))
        try:
            blocks = two_blocks(directions, scale)
        except AssumptionError:
            blocks = []
        near = [
            float((a - b).norm()) <= 1e-6 * scale for a, b in zip(blocks, weights, strict=False)
        ]
        if near and all(near):
            return directions, scale
    raise AssumptionError(
        f"{len(weights)} layers with activation {network.activation} from a start of no known form",
        "two layers, linear layers, or ReLU weights in two blocks (rectilinear.learning.two_blocks)",
        "No closed form is known for a deep network that starts elsewhere: train it, or start there.",
        assumption="aligned start",
    )


UNEVEN = (
    0.9  # the weaker sign of neurons has less than a twentieth of the strength: it may never grow
)
LEARNED = (
    0.1  # part of the energy of the best map, from which on the path says how uneven the signs are
)
NEGLIGIBLE = 0.05  # an even part that is less than this part of the odd one changes little, whatever the signs
WATCHED, ROWS = 31, 2048  # steps at which the even part is evaluated, and points


def band(
    network: Network,
    problem: Problem,
    x: Tensor,
    at: Tensor,
    lr: float,
    loss: Tensor,
    solve: Callable[[Problem], tuple[Tensor, float]],
    *,
    start: float,
) -> tuple[Tensor, Tensor, float]:
    r"""``low``, ``high`` ``(T,)`` and the imbalance ``r`` of a two-layer network whose even part is
    neglected.

    On symmetric data ReLU neurons of each sign see their own half of the points, and each half
    learns like a linear network. Where the signs have shares ``(1 +/- r)/2`` of the strength, one
    half is ahead of the linear network and
    one behind: the loss lies between those of starts of ``1 +/- r`` times the strength. What the
    even part adds itself is evaluated along the path of the linear network. ``r`` is the root of
    the ratio of even to odd energy that this path reaches; of a small start it is ``|delta|``.

    Args:
        network: as it was read.
        problem: its linear problem, with ``neurons``.
        x: points ``(n, d)``.
        at: steps ``(T,)``.
        lr: learning rate of the network.
        loss: of the linear network at these steps.
        solve: the loss ``(T,)`` of another problem at these steps, and the relative error of times.
        start: the loss of the network at step 0: of a small start ``loss`` has only the modes that
            grow, and what the others add or take off decays.

    Raises:
        AssumptionError: where neurons of one sign are missing, or nearly so.
    """
    watched = at[torch.linspace(0, len(at) - 1, min(len(at), WATCHED)).round().long().unique()]
    even, odd = _energies(network, problem, x, watched, lr)
    total = problem.data.power - 2 * float(problem.data.loss(problem.data.optimum()))
    ratio = 1.0 if network.alpha is None else (1 - network.alpha) / (1 + network.alpha)
    r = _imbalance(even, odd, total, ratio * problem.uneven)
    share = (
        r / ratio
    )  # of a leaky ReLU the even part is this much smaller than the difference of the signs
    if problem.delta is not None:  # small neurons keep their signs while they grow
        share = max(share, problem.uneven)
    if not (share <= UNEVEN or r <= NEGLIGIBLE):
        raise AssumptionError(
            f"neurons of one sign that have {100 * (1 + min(share, 1)) / 2:.3g} % of the strength",
            f"at most {100 * (1 + UNEVEN) / 2:.3g} %: those of the other sign may never learn their half of the points",
            "Take a wider network or another seed, or pair neurons with rectilinear.learning.pair.",
            assumption="both signs of neurons",
        )
    curves, slack = [loss], 0.0
    for strength in (1 - r, 1 + r):
        curve, error = solve(replace(problem, layers=[strength**0.5 * w for w in problem.layers]))
        curves.append(curve)
        slack = max(slack, error)
    low, high = torch.stack(curves).min(0).values, torch.stack(curves).max(0).values
    if slack:
        low, high = _delayed(at, low, 1 + slack), _delayed(at, high, 1 - slack)
    added = np.interp(at.numpy(), watched.numpy(), _rising(even).numpy()) / 2
    rounding = 1e-9 * problem.data.power
    known = float(loss[0] + even[0] / 2)
    rest, most = abs(start - known), max(start, known)  # the loss does not rise
    high = (high + torch.from_numpy(added) + rest).clamp(max=most)
    return low - rest - rounding, torch.maximum(high, loss) + rounding, r


def _energies(
    network: Network, problem: Problem, x: Tensor, at: Tensor, lr: float
) -> tuple[Tensor, Tensor]:
    """Mean squares over points of the even and of the odd part along the path of the linear
    network, ``(T,)`` each.
    """
    assert problem.neurons is not None
    w1, w2 = linear_path(at.long().tolist(), problem.layers, problem.data, lr * problem.rate)
    maps = w2 @ w1
    odd = torch.einsum("tod,de,toe->t", maps, problem.data.sigma, maps)
    some = x[:: -(-len(x) // ROWS)]
    root = network.kappa**0.5
    even = []
    for first, last in zip(w1, w2, strict=True):
        z = some @ (problem.neurons @ first / root).mT
        if network.alpha is None:
            activation = SMOOTH[network.activation]
            parts = (activation(z) + activation(-z)) / 2
        else:
            parts = (1 - network.alpha) / 2 * z.abs()
        even.append((parts @ (last @ problem.neurons.mT / root).mT).square().sum(1).mean())
    return torch.stack(even), odd


def _imbalance(even: Tensor, odd: Tensor, total: float, start: float) -> float:
    """The largest even part against the best map; at the end, against the map that is learned, if
    one is.
    """
    if total <= 0:
        return start
    found = float((even.max() / total).sqrt())
    learned = float(odd[-1]) > LEARNED * total
    return max(found, float((even[-1] / odd[-1]).sqrt()) if learned else start)


def _rising(even: Tensor) -> Tensor:
    """The larger of the neighbours: between two steps that are watched neither is exceeded."""
    after = torch.cat([even[1:], even[-1:]])
    before = torch.cat([even[:1], even[:-1]])
    return torch.stack([before, even, after]).max(0).values


def _delayed(at: Tensor, curve: Tensor, factor: float) -> Tensor:
    """The curve at ``factor`` times each step."""
    return torch.from_numpy(np.interp(factor * at.numpy(), at.numpy(), curve.numpy()))
