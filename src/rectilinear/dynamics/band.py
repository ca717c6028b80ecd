"""The band in which the loss stays when a network has more strength in neurons of one sign than of the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from rectilinear.dynamics.linear_flow import linear_path
from rectilinear.dynamics.network import SMOOTH
from rectilinear.errors import AssumptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from rectilinear.dynamics.network import Network
    from rectilinear.dynamics.reduce import Problem

UNEVEN = 0.9  # the weaker sign of neurons has less than a twentieth of the strength: it may never grow
LEARNED = 0.1  # part of the energy of the best map, from which on the path says how uneven the signs are
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
    r"""``low``, ``high`` ``(T,)`` and the imbalance ``r`` of a two-layer network whose even part is neglected.

    On symmetric data ReLU neurons of each sign see their own half of the points, and each half learns like a linear
    network. Where the signs have shares ``(1 +/- r)/2`` of the strength, one half is ahead of the linear network and
    one behind: the loss lies between those of starts of ``1 +/- r`` times the strength. What the even part adds itself
    is evaluated along the path of the linear network. ``r`` is the root of the ratio of even to odd energy that this
    path reaches; of a small start it is ``|delta|``.

    Args:
        network: as it was read.
        problem: its linear problem, with ``neurons``.
        x: points ``(n, d)``.
        at: steps ``(T,)``.
        lr: learning rate of the network.
        loss: of the linear network at these steps.
        solve: the loss ``(T,)`` of another problem at these steps, and the relative error of times.
        start: the loss of the network at step 0: of a small start ``loss`` has only the modes that grow, and what the
            others add or take off decays.

    Raises:
        AssumptionError: where neurons of one sign are missing, or nearly so.
    """
    watched = at[torch.linspace(0, len(at) - 1, min(len(at), WATCHED)).round().long().unique()]
    even, odd = _energies(network, problem, x, watched, lr)
    total = problem.data.power - 2 * float(problem.data.loss(problem.data.optimum()))
    ratio = 1.0 if network.alpha is None else (1 - network.alpha) / (1 + network.alpha)
    r = _imbalance(even, odd, total, ratio * problem.uneven)
    share = r / ratio  # of a leaky ReLU the even part is this much smaller than the difference of the signs
    if problem.delta is not None:  # small neurons keep their signs while they grow
        share = max(share, problem.uneven)
    if not (share <= UNEVEN or r <= NEGLIGIBLE):
        raise AssumptionError(
            f"neurons of one sign that have {100 * (1 + min(share, 1)) / 2:.3g} % of the strength",
            f"at most {100 * (1 + UNEVEN) / 2:.3g} %: those of the other sign may never learn their half of the points",
            "Take a wider network or another seed, or pair neurons with rectilinear.dynamics.pair.",
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


def _energies(network: Network, problem: Problem, x: Tensor, at: Tensor, lr: float) -> tuple[Tensor, Tensor]:
    """Mean squares over points of the even and of the odd part along the path of the linear network, ``(T,)`` each."""
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
    """The largest even part against the best map; at the end, against the map that is learned, if one is."""
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
