"""Learning curves before training: prediction of the loss at every step, with a band.

The network is replaced by the linear network that learns alike; its gradient descent has a closed
form, or is summed over long stretches of steps from the moments of the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from rectilinear.checks import real_number
from rectilinear.errors import AssumptionError, DivergedError, InputError
from rectilinear.learning.deep_linear import PLATEAU_FRACTION, deep_mode_solution
from rectilinear.learning.equivalence import (
    LayerChain,
    LinearProblem,
    linear_problem,
    read_layers,
)
from rectilinear.learning.linear_network import (
    linear_descent_weights,
    linear_network_descent,
    product,
    rows,
)
from rectilinear.learning.two_layer import (
    growing_component,
    layer_imbalance,
    riccati_solution,
    weight_error,
)
from rectilinear.networks.batches import as_pair
from rectilinear.networks.forward_pass import pick
from rectilinear.notebook import short_repr

MAX_STEP_CURVATURE = 0.05  # learning rate times curvature from which on every step is taken
CURVE_POINTS = 301
MAX_WEIGHT_NUMBERS = 20_000  # from which on small weights are projected on the modes that grow
MODE_TOLERANCE = 1e-9
MAX_IMBALANCE = 0.9  # then the weaker sign of neurons has a twentieth of the strength: too little
LEARNED_ENERGY = 0.1  # part of the best map's energy from which on the path tells the imbalance
NEGLIGIBLE_EVEN_PART = 0.05  # of the odd part: less changes little, whatever the signs
BAND_STEPS = 31  # at which the even part is evaluated
BAND_ROWS = 2048  # points on which it is


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predicted learning curve, from :func:`predict`; tensors are float64 on the CPU.

    Attributes:
        steps: steps of gradient descent, ``(T,)``.
        loss: ``1/2 <|y - f|^2>`` at these steps, summed over outputs, ``(T,)``.
        low: lower end of the band in which the loss is to be, ``(T,)``; the loss itself without a
            ``strength_imbalance``.
        high: upper end, ``(T,)``.
        maps: linear maps that the network computes at these steps, ``(T, o, d)``; with a bias, its
            column is the last.
        half_time: steps until the strongest mode has half its strength, None when that is later
            than the last step.
        plateau_time: steps until the loss has fallen by one percent of what that mode takes off, or
            None likewise.
        final_loss: loss of the best linear map, which no number of steps can beat.
        kind: ``"exact"`` where the theorem holds for these weights as they are, up to the size of
            the step; ``"estimated"`` where the even part that it has is neglected.
        method: how the curve was obtained.
        assumptions: what was checked and found to hold.
        step_error: relative error of times from finite steps, at most; 0 where the steps themselves
            were taken.
        sign_imbalance: that of small unpaired initial weights, or None for others.
        weight_error: the relative distance from a linear network's weights that follows from
            ``sign_imbalance``, or None.
        strength_imbalance: how much more strength neurons of one sign have than the others while
            the network learns, in [0, 1); None where no even part is neglected. The band follows
            from it.
    """

    steps: Tensor = field(repr=False)
    loss: Tensor = field(repr=False)
    low: Tensor = field(repr=False)
    high: Tensor = field(repr=False)
    maps: Tensor = field(repr=False)
    half_time: float | None
    plateau_time: float | None
    final_loss: float
    kind: Literal["exact", "estimated"]
    method: str
    assumptions: tuple[str, ...]
    step_error: float
    sign_imbalance: float | None
    weight_error: float | None
    strength_imbalance: float | None

    __repr__ = short_repr

    def to_json(self) -> dict[str, Any]:
        """Everything but the maps, as JSON values."""
        return {
            "half_time": self.half_time,
            "plateau_time": self.plateau_time,
            "loss_start": float(self.loss[0]),
            "loss_end": float(self.loss[-1]),
            "final_loss": self.final_loss,
            "kind": self.kind,
            "method": self.method,
            "assumptions": list(self.assumptions),
            "step_error": self.step_error,
            "sign_imbalance": self.sign_imbalance,
            "weight_error": self.weight_error,
            "strength_imbalance": self.strength_imbalance,
            "steps": [int(step) for step in self.steps],
            "loss": self.loss.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
        }

    def __str__(self) -> str:
        end = int(self.steps[-1])

        def at(value: float | None) -> str:
            return f"after the last step, {end}" if value is None else f"step {value:.0f}"

        first, last, best = float(self.loss[0]), float(self.loss[-1]), self.final_loss
        lines = [
            f"loss {first:.4g} -> {last:.4g} in {end} steps (best linear map {best:.4g})",
            f"plateau ends {at(self.plateau_time)}, half time {at(self.half_time)}",
            f"{self.kind}, by {self.method}",
        ]
        if self.strength_imbalance is not None:
            lines.append(
                f"at the end {float(self.low[-1]):.4g} to {float(self.high[-1]):.4g}: the two signs"
                f" of neurons differ by {100 * self.strength_imbalance:.2g} %"
            )
        if self.weight_error is not None:
            lines.append(
                f"weights {100 * self.weight_error:.2g} % from a linear network's (sign imbalance"
                f" {self.sign_imbalance:.3g})"
            )
        return "\n".join([*lines, *(f"  holds: {assumption}" for assumption in self.assumptions)])


def predict(model: nn.Module, x: Any, y: Any, lr: float, steps: int) -> Prediction:
    r"""The learning curve of ``model`` under full-batch gradient descent, without training it.

    Two layers without bias whose activation obeys ``s(z) - s(-z) = 2 kappa z`` (leaky ReLU, ReLU,
    GELU, SiLU, softplus, hardswish) learn data closed under ``(x, y) -> (-x, -y)`` like a linear
    network at ``kappa`` times the speed: exactly from neurons in antisymmetric pairs, and with one
    output nearly so from any weights whose even part is small and whose neurons of both signs are
    there, with a band from how uneven the signs become while it learns. Linear networks of any
    depth are predicted on any data, with a bias in the first layer too: it is the weight of one
    more input, the constant 1, and the last column of ``maps``; deep ReLU networks from weights in
    two blocks (:func:`two_block_init`). A closed form is used where there is one; else the steps of
    the equivalent linear network are taken, long stretches at once
    (:func:`linear_network_descent`).

    The loss is ``1/2 <|y - f(x)|^2>``, the sum over outputs and the mean over points.
    ``torch.nn.MSELoss`` with ``o`` outputs is ``2/o`` times that: give ``lr * 2/o``.

    Args:
        model: a module that is such a chain of layers; it is read by the operations that it does,
            and not changed.
        x: points ``(n, ...)``, floating: a tensor, an array or a data frame.
        y: targets ``(n,)`` or ``(n, o)``, likewise.
        lr: learning rate.
        steps: number of steps.

    Raises:
        AssumptionError: where an assumption fails; ``error.assumption`` is one of ``"linear
            layers"``, ``"no bias"``, ``"odd part linear"``, ``"symmetric data"``, ``"small even
            part"``, ``"both signs of neurons"``, ``"paired neurons"``, ``"aligned layers"``,
            ``"step size"``.
        InputError: for a learning rate or a number of steps that is not positive, or data that do
            not fit.

    Reference: Y. Zhang, A. Saxe, P. Latham, When are bias-free ReLU networks effectively linear
    networks?, TMLR 2025.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(500, 5)
        >>> x, y = torch.cat([x, -x]), torch.cat([x, -x]).sum(1)
        >>> model = nn.Sequential(
        ...     nn.Linear(5, 50, bias=False), nn.ReLU(), nn.Linear(50, 1, bias=False)
        ... )
        >>> for p in model.parameters():
        ...     _ = nn.init.normal_(p, std=1e-3)
        >>> prediction = predict(model, x, y, lr=0.01, steps=1500)
        >>> prediction.kind, bool(prediction.loss[0] > 2), bool(prediction.loss[-1] < 1e-3)
        ('estimated', True, True)
    """
    rate = real_number(lr, "lr")
    integer = isinstance(steps, int | np.integer) and not isinstance(steps, bool)
    if rate is None or not (rate > 0 and math.isfinite(rate) and integer and steps >= 1):
        raise InputError(
            f"lr = {lr!r}, steps = {steps!r}",
            "a positive learning rate and a whole number of steps, at least one",
        )
    lr, steps = rate, int(steps)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"a model of type {type(model).__name__}",
            "a torch.nn.Module",
            "Pass the network itself.",
        )
    x, y = as_pair(x, y)
    points, targets = rows(x, y)
    chain = read_layers(model, x)
    if chain.constant:
        points = torch.cat([points, torch.ones_like(points[:, :1])], dim=1)
    if (outputs := len(chain.weights[-1])) != targets.shape[1]:
        raise InputError(
            f"a model of {outputs} outputs and {targets.shape[1]} targets a point",
            "as many targets as outputs",
            "Pass targets (n, outputs), or change the last layer.",
        )
    even = _even_energy(model, x)
    whole = linear_problem(chain, points, targets, even)
    problem = _narrow(whole)
    best = problem.data.optimum()
    at = (
        torch.linspace(0, steps, min(steps + 1, CURVE_POINTS), dtype=torch.float64).round().unique()
    )
    maps, method, step_error = _solve(problem, at, lr)
    loss = problem.data.loss(maps).clamp(min=0)
    low, high, uneven = loss, loss, None
    if problem.neurons is not None:

        def solve(other: LinearProblem) -> tuple[Tensor, float]:
            found, _, error = _solve(other, at, lr)
            return other.data.loss(found), max(error, step_error)

        initial = float(whole.data.loss(product(whole.layers))) + even / 2
        low, high, uneven = _band(chain, problem, points, at, lr, loss, solve, initial=initial)
    return Prediction(
        steps=at.long(),
        loss=loss,
        low=low.clamp(min=0),
        high=high,
        maps=maps,
        **_times(problem, at, maps),
        final_loss=max(float(problem.data.loss(best)), 0.0),
        kind="exact" if problem.exact else "estimated",
        method=method,
        assumptions=problem.holds,
        step_error=step_error,
        sign_imbalance=problem.sign_imbalance,
        weight_error=None
        if problem.sign_imbalance is None
        else weight_error(problem.sign_imbalance),
        strength_imbalance=uneven,
    )


@torch.no_grad()
def _even_energy(model: nn.Module, x: Tensor) -> float:
    """The mean square of ``(f(x) + f(-x))/2``, summed over outputs."""
    x = x.to(next(model.parameters()))
    even = (pick(model(x)) + pick(model(-x))).double() / 2
    return float(even.square().sum()) / len(x)


def _narrow(problem: LinearProblem) -> LinearProblem:
    """An equivalent problem with fewer hidden units, by a rotation of two linear layers."""
    if len(problem.layers) != 2:
        return problem
    w1, w2 = problem.layers
    (h, d), o = w1.shape, len(w2)
    if (not problem.exact or min(h, d + o) * (d + o) > MAX_WEIGHT_NUMBERS) and problem.is_small:
        first, last = growing_component(w1, w2, problem.data.beta)
        neurons = (
            None if problem.neurons is None else normalize(w1 @ first.mT + w2.mT @ last, dim=0)
        )
        holds = (*problem.holds, "small weights")
        return replace(problem, layers=[first, last], exact=False, neurons=neurons, holds=holds)
    if h > d + o:
        basis, turned = torch.linalg.qr(torch.cat([w1, w2.mT], dim=1))
        neurons = None if problem.neurons is None else basis
        return replace(problem, layers=[turned[:, :d], turned[:, d:].mT], neurons=neurons)
    return problem


def _solve(problem: LinearProblem, at: Tensor, lr: float) -> tuple[Tensor, str, float]:
    """Maps at these steps, how they were obtained, and the relative error of times."""
    lr = lr * problem.rate
    *_, s, lam = problem.data.strongest_mode()
    largest = float(torch.linalg.eigvalsh(problem.data.sigma)[-1])
    depth = len(problem.layers)

    def curvature(strength: float) -> float:
        return lr * depth * largest * strength ** (2 - 2 / depth)

    start = max(float(torch.linalg.matrix_norm(w, 2)) for w in problem.layers) ** depth
    closed = _closed_form(problem)
    if closed and max(curvature(s / lam if lam else 0.0), curvature(start)) <= MAX_STEP_CURVATURE:
        method, flow = closed
        # While a small start grows, a step multiplies it by 1 + lr s and not by exp(lr s).
        speed = math.log1p(lr * s) / (lr * s) if depth == 2 and s and problem.is_small else 1.0
        maps = flow(lr * speed * at)
        coarse = curvature(float(torch.linalg.matrix_norm(maps, 2).max()))
        if coarse <= MAX_STEP_CURVATURE:
            return maps, method, coarse / 2
    try:
        maps = linear_network_descent(at.long().tolist(), problem.layers, problem.data, lr)
    except DivergedError:
        raise AssumptionError(
            f"a learning rate {lr / problem.rate:.3g} at which gradient descent diverges",
            f"about {lr / problem.rate / curvature(max(s / lam, start)):.2g} or less",
            assumption="step size",
        ) from None
    return maps, "the steps of the equivalent linear network, from the moments of the data", 0.0


def _closed_form(problem: LinearProblem) -> tuple[str, Callable[[Tensor], Tensor]] | None:
    """The gradient flow of the linear layers, with its name, where a closed form is known."""
    layers, data = problem.layers, problem.data
    depth, lam, start = len(layers), data.variance, product(layers)
    if mode := _single_mode(layers, problem):
        name = "sigmoid" if depth == 2 else "hypergeometric function"
        unit = start / start.norm()
        return (
            f"closed form, the {name} of one aligned mode",
            lambda t: (deep_mode_solution(t, *mode) ** depth)[:, None, None] * unit,
        )
    if depth == 2 and lam is not None:
        w1, w2 = layers
        balance, error = layer_imbalance(w1, w2)
        if error <= MODE_TOLERANCE * (abs(balance) + float(w1.square().sum() + w2.square().sum())):
            name = "closed form, the matrix Riccati equation of balanced layers and white inputs"
            return name, lambda t: riccati_solution(t, w1, w2, data.beta, lam, balance)
    return None


def _single_mode(
    layers: list[Tensor], problem: LinearProblem
) -> tuple[float, float, int, float] | None:
    """``s, u0, depth, lam`` where every layer is the same mode of ``beta`` and ``sigma``."""
    data, start = problem.data, product(layers)
    norms = torch.stack([w.norm() for w in layers])
    s, size = float(data.beta.norm()), float(start.norm())
    if (
        len(layers) < 2
        or not s
        or not size
        or float((norms / norms[0] - 1).abs().max()) > MODE_TOLERANCE
    ):
        return None
    lam = float((start @ data.sigma * start).sum()) / size**2
    if (
        abs(size / float(norms.prod()) - 1) > MODE_TOLERANCE
        or abs(float((start * data.beta).sum()) / (size * s) - 1) > MODE_TOLERANCE**2 + 1e-14
        or float((start @ data.sigma - lam * start).norm()) > MODE_TOLERANCE * lam * size
    ):
        return None
    return s, float(norms[0]), len(layers), lam


def _times(problem: LinearProblem, at: Tensor, maps: Tensor) -> dict[str, Any]:
    """Half time and end of the plateau of the strongest mode."""
    u, v, s, lam = problem.data.strongest_mode()
    if not s or not lam:
        return {"half_time": None, "plateau_time": None}
    loss = problem.data.loss(maps)
    return {
        "half_time": _crossing(at, maps @ v @ u, s / lam / 2),
        "plateau_time": _crossing(at, loss[0] - loss, PLATEAU_FRACTION * s**2 / (2 * lam)),
    }


def _crossing(at: Tensor, values: Tensor, level: float) -> float | None:
    """The step at which ``values`` first reach ``level``, interpolated on a logarithmic scale."""
    above = (values >= level).nonzero()
    if not len(above):
        return None
    k = int(above[0])
    if k == 0:
        return float(at[0])
    low, high = float(values[k - 1]), float(values[k])
    part = math.log(level / low) / math.log(high / low) if low > 0 else (level - low) / (high - low)
    return float(at[k - 1] + part * (at[k] - at[k - 1]))


def _band(
    chain: LayerChain,
    problem: LinearProblem,
    x: Tensor,
    at: Tensor,
    lr: float,
    loss: Tensor,
    solve: Callable[[LinearProblem], tuple[Tensor, float]],
    *,
    initial: float,
) -> tuple[Tensor, Tensor, float]:
    r"""``low``, ``high`` ``(T,)`` and the imbalance ``r`` where an even part is neglected.

    On symmetric data ReLU neurons of each sign see their own half of the points, and each half
    learns like a linear network. Where the signs have shares ``(1 +/- r)/2`` of the strength, one
    half is ahead of the linear network and one behind: the loss lies between those of ``1 +/- r``
    times the initial strength. What the even part adds itself is evaluated along the path of the
    linear network. ``r`` is the root of the ratio of even to odd energy that this path reaches; of
    small initial weights it is the absolute sign imbalance.

    Args:
        chain: the network.
        problem: its linear problem, with ``neurons``.
        x: points ``(n, d)``.
        at: steps ``(T,)``.
        lr: learning rate of the network.
        loss: of the linear network at these steps.
        solve: the loss ``(T,)`` of another problem at these steps, and the relative error of times.
        initial: the loss of the network at step 0: of small weights ``loss`` has only the modes
            that grow, and what the others add or take off decays.
    """
    watched = at[torch.linspace(0, len(at) - 1, min(len(at), BAND_STEPS)).round().long().unique()]
    even, odd = _energies(chain, problem, x, watched, lr)
    total = problem.data.power - 2 * float(problem.data.loss(problem.data.optimum()))
    ratio = 1.0 if chain.alpha is None else abs(1 - chain.alpha) / (1 + chain.alpha)
    r = _imbalance(even, odd, total, ratio * problem.uneven)
    # Of a leaky ReLU the even part is this much smaller than the difference of the signs.
    share = r / ratio
    if problem.sign_imbalance is not None:  # small neurons keep their signs while they grow
        share = max(share, problem.uneven)
    if not (share <= MAX_IMBALANCE or r <= NEGLIGIBLE_EVEN_PART):
        raise AssumptionError(
            f"neurons of one sign that have {100 * (1 + min(share, 1)) / 2:.3g} % of the strength",
            f"at most {100 * (1 + MAX_IMBALANCE) / 2:.3g} %: those of the other sign may never"
            " learn their half of the points",
            "Take a wider network or another seed, or pair neurons with"
            " rectilinear.learning.antisymmetric_pairs.",
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
    rest, most = abs(initial - known), max(initial, known)  # the loss does not rise
    high = (high + torch.from_numpy(added) + rest).clamp(max=most)
    return low - rest - rounding, torch.maximum(high, loss) + rounding, r


def _energies(
    chain: LayerChain, problem: LinearProblem, x: Tensor, at: Tensor, lr: float
) -> tuple[Tensor, Tensor]:
    """Mean squares of the even and of the odd part along the path, ``(T,)`` each."""
    assert problem.neurons is not None
    w1, w2 = linear_descent_weights(
        at.long().tolist(), problem.layers, problem.data, lr * problem.rate
    )
    maps = w2 @ w1
    odd = torch.einsum("tod,de,toe->t", maps, problem.data.sigma, maps)
    some = x[:: -(-len(x) // BAND_ROWS)]
    root = chain.kappa**0.5
    even = []
    for first, last in zip(w1, w2, strict=True):
        z = some @ (problem.neurons @ first / root).mT
        parts = chain.activation.even(z)
        even.append((parts @ (last @ problem.neurons.mT / root).mT).square().sum(1).mean())
    return torch.stack(even), odd


def _imbalance(even: Tensor, odd: Tensor, total: float, initial: float) -> float:
    """The largest even part over the best map; at the end, over the learned map if there is one."""
    if total <= 0:
        return initial
    found = float((even.max() / total).sqrt())
    learned = float(odd[-1]) > LEARNED_ENERGY * total
    return max(found, float((even[-1] / odd[-1]).sqrt()) if learned else initial)


def _rising(even: Tensor) -> Tensor:
    """The larger of the neighbours: between two steps that are watched neither is exceeded."""
    after = torch.cat([even[1:], even[-1:]])
    before = torch.cat([even[:1], even[:-1]])
    return torch.stack([before, even, after]).max(0).values


def _delayed(at: Tensor, curve: Tensor, factor: float) -> Tensor:
    """The curve at ``factor`` times each step."""
    return torch.from_numpy(np.interp(factor * at.numpy(), at.numpy(), curve.numpy()))
