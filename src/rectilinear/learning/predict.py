"""What a prediction says.

The learning curve before training starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from rectilinear.checks import real_number
from rectilinear.errors import AssumptionError, DivergedError, InputError
from rectilinear.learning.deep_linear import LEFT, deep_mode
from rectilinear.learning.leaky_relu import growing_start, weight_error
from rectilinear.learning.linear_flow import imbalance, linear_descent, product, riccati
from rectilinear.learning.mirror import rows
from rectilinear.learning.network import read_network
from rectilinear.learning.reduce import Problem, band, is_small, reduce, strongest


@dataclass(frozen=True, eq=False)
class Prediction:
    """How a network will learn: what :func:`predict` returns. Tensors are of float64, on the CPU.

    ``maps`` are the linear maps that the network computes at these steps; its loss is half the mean
    square error, summed over outputs. ``final_loss`` is that of the best linear map, which no
    number of steps can beat.

    Attributes:
        steps: steps of gradient descent, ``(T,)``.
        loss: ``1/2 <|y - f|^2>`` at these steps, ``(T,)``.
        low: lower end of the band in which the loss is to be, ``(T,)``; the loss itself without an
            ``imbalance``.
        high: upper end, ``(T,)``.
        maps: effective maps at these steps, ``(T, o, d)``; with a bias, its column is the last.
        half_time: steps until the strongest mode has half its strength, None when that is later
            than the last step.
        plateau: steps until the loss has fallen by one percent of what that mode takes off, or None
            likewise.
        final_loss: loss of the best linear map.
        kind: ``"exact"`` where the theorem holds for these weights as they are, up to the size of
            the step; ``"estimated"`` where the even part that it has is neglected.
        method: how the curve was obtained.
        assumptions: what was checked and found to hold.
        step_error: relative error of times from finite steps, at most; 0 where the steps themselves
            were taken.
        delta: how uneven the two signs of a small unpaired start are, or None for others.
        weight_error: the relative distance from a linear network's weights that follows from
            ``delta``, or None.
        imbalance: how much more strength neurons of one sign have than the others, in [0, 1), on
            the way; None where no even part is neglected. The band follows from it.
    """

    steps: Tensor
    loss: Tensor
    low: Tensor
    high: Tensor
    maps: Tensor
    half_time: float | None
    plateau: float | None
    final_loss: float
    kind: Literal["exact", "estimated"]
    method: str
    assumptions: tuple[str, ...]
    step_error: float
    delta: float | None
    weight_error: float | None
    imbalance: float | None

    def to_json(self) -> dict[str, Any]:
        """Everything but the maps, as JSON values."""
        return {
            "half_time": self.half_time,
            "plateau": self.plateau,
            "loss_start": float(self.loss[0]),
            "loss_end": float(self.loss[-1]),
            "final_loss": self.final_loss,
            "kind": self.kind,
            "method": self.method,
            "assumptions": list(self.assumptions),
            "step_error": self.step_error,
            "delta": self.delta,
            "weight_error": self.weight_error,
            "imbalance": self.imbalance,
            "steps": [int(step) for step in self.steps],
            "loss": self.loss.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
        }

    def __str__(self) -> str:
        def at(value: float | None) -> str:
            return (
                f"after the last step, {int(self.steps[-1])}"
                if value is None
                else f"step {value:.0f}"
            )

        first, last = float(self.loss[0]), float(self.loss[-1])
        lines = [
            f"loss {first:.4g} -> {last:.4g} in {int(self.steps[-1])} steps (best linear map {self.final_loss:.4g})",
            f"plateau ends {at(self.plateau)}, half time {at(self.half_time)}",
            f"{self.kind}, by {self.method}",
        ]
        if self.imbalance is not None:
            ends = f"{float(self.low[-1]):.4g} to {float(self.high[-1]):.4g}"
            lines.append(
                f"at the end {ends}: the two signs of neurons differ by {100 * self.imbalance:.2g} %"
            )
        if self.weight_error is not None:
            lines.append(
                f"weights {100 * self.weight_error:.2g} % from a linear network's (delta {self.delta:.3g})"
            )
        return "\n".join([*lines, *(f"  holds: {assumption}" for assumption in self.assumptions)])


COARSE = 0.05  # above this product of learning rate and curvature the steps themselves are taken
POINTS = 301
WIDE = (
    20_000  # numbers in the weights, above which a small start is projected on the modes that grow
)
SAME = 1e-9


def predict(model: nn.Module, x: Tensor, y: Tensor, lr: float, steps: int) -> Prediction:
    r"""How ``model`` will learn by full-batch gradient descent on half the mean square error,
    without training it.

    Two layers without bias whose activation obeys ``sigma(z) - sigma(-z) = 2 kappa z`` (leaky ReLU,
    ReLU, GELU, SiLU, softplus, hardswish) learn data closed under ``(x, y) -> (-x, -y)`` like a
    linear network at ``kappa`` times the
    speed: exactly from neurons in antisymmetric pairs, and with one output nearly so from any start
    whose even part is small and whose neurons of both signs are there, with a band from how uneven
    the signs become on the way. Linear
    networks of any depth are predicted on any data, with a bias in the first layer too: it is the
    weight of one more input, the constant 1, and the last column of ``maps``; deep ReLU networks
    from a start in two blocks (:func:`two_blocks`). A closed form is used where there is one; else
    the steps of the equivalent linear network are taken, long stretches at once
    (:func:`linear_descent`).

    The loss is ``1/2 <|y - f(x)|^2>``, the sum over outputs and the mean over points.
    ``torch.nn.MSELoss`` with ``o`` outputs is ``2/o`` times that: give ``lr * 2/o``.

    Args:
        model: any module that does no more than such a chain of layers; it is read by what it does,
            and not changed.
        x: points ``(n, ...)``.
        y: targets ``(n,)`` or ``(n, o)``, floating.
        lr: learning rate.
        steps: number of steps.

    Raises:
        AssumptionError: where an assumption fails; ``error.assumption`` is one of ``"linear
            layers"``, ``"no bias"``, ``"odd part linear"``, ``"symmetric data"``, ``"small even
            part"``, ``"both signs of neurons"``, ``"paired neurons"``, ``"aligned start"``, ``"step
            size"``.
        InputError: for a learning rate or a number of steps that is not positive, or data that do
            not fit.

    Reference: Y. Zhang, A. Saxe, P. Latham, When are bias-free ReLU networks effectively linear
    networks?, TMLR 2025.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(500, 5)
        >>> x, y = torch.cat([x, -x]), torch.cat([x, -x]).sum(1)
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Linear(5, 50, bias=False), torch.nn.ReLU(), torch.nn.Linear(50, 1, bias=False)
        ... )
        >>> for p in model.parameters():
        ...     _ = torch.nn.init.normal_(p, std=1e-3)
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
            f"a model of type {type(model).__name__}", "a torch.nn.Module", "Pass a network."
        )
    points, targets = rows(x, y)
    network = read_network(model, x)
    if network.constant:
        points = torch.cat([points, torch.ones_like(points[:, :1])], dim=1)
    if (outputs := len(network.weights[-1])) != targets.shape[1]:
        raise InputError(
            f"a model of {outputs} outputs and {targets.shape[1]} targets a point",
            "as many targets as outputs",
        )
    even = _even_energy(model, x)
    whole = reduce(network, points, targets, even)
    problem = _narrow(whole)
    best = problem.data.optimum()
    at = torch.linspace(0, steps, min(steps + 1, POINTS), dtype=torch.float64).round().unique()
    maps, method, step_error = _solve(problem, at, lr)
    loss = problem.data.loss(maps).clamp(min=0)
    low, high, uneven = loss, loss, None
    if problem.neurons is not None:

        def solve(other: Problem) -> tuple[Tensor, float]:
            found, _, error = _solve(other, at, lr)
            return other.data.loss(found), max(error, step_error)

        start = float(whole.data.loss(product(whole.layers))) + even / 2
        low, high, uneven = band(network, problem, points, at, lr, loss, solve, start=start)
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
        delta=problem.delta,
        weight_error=None if problem.delta is None else weight_error(problem.delta),
        imbalance=uneven,
    )


@torch.no_grad()
def _even_energy(model: nn.Module, x: Tensor) -> float:
    """The mean square of ``(f(x) + f(-x))/2``, summed over outputs."""
    x = x.to(next(model.parameters()))
    even = (model(x) + model(-x)).double() / 2
    return float(even.square().sum()) / len(x)


def _narrow(problem: Problem) -> Problem:
    """The same problem with fewer hidden units: two linear layers may be turned against each other."""
    if len(problem.layers) != 2:
        return problem
    w1, w2 = problem.layers
    (h, d), o = w1.shape, len(w2)
    if (not problem.exact or min(h, d + o) * (d + o) > WIDE) and is_small(
        problem.layers, problem.data
    ):
        first, last = growing_start(w1, w2, problem.data.beta)
        neurons = (
            None if problem.neurons is None else normalize(w1 @ first.mT + w2.mT @ last, dim=0)
        )
        holds = (*problem.holds, "small start")
        return replace(problem, layers=[first, last], exact=False, neurons=neurons, holds=holds)
    if h > d + o:
        basis, turned = torch.linalg.qr(torch.cat([w1, w2.mT], dim=1))
        neurons = None if problem.neurons is None else basis
        return replace(problem, layers=[turned[:, :d], turned[:, d:].mT], neurons=neurons)
    return problem


def _solve(problem: Problem, at: Tensor, lr: float) -> tuple[Tensor, str, float]:
    """Maps at these steps, how they were obtained, and the relative error of times."""
    lr = lr * problem.rate
    *_, s, lam = strongest(problem.data)
    largest = float(torch.linalg.eigvalsh(problem.data.sigma)[-1])
    depth = len(problem.layers)

    def curvature(strength: float) -> float:
        return lr * depth * largest * strength ** (2 - 2 / depth)

    start = max(float(torch.linalg.matrix_norm(w, 2)) for w in problem.layers) ** depth
    closed = _closed_form(problem)
    if closed and max(curvature(s / lam if lam else 0.0), curvature(start)) <= COARSE:
        method, flow = closed
        # While a small start grows, a step multiplies it by 1 + lr s and not by exp(lr s).
        speed = (
            math.log1p(lr * s) / (lr * s)
            if depth == 2 and s and is_small(problem.layers, problem.data)
            else 1.0
        )
        maps = flow(lr * speed * at)
        coarse = curvature(float(torch.linalg.matrix_norm(maps, 2).max()))
        if coarse <= COARSE:
            return maps, method, coarse / 2
    try:
        maps = linear_descent(at.long().tolist(), problem.layers, problem.data, lr)
    except DivergedError:
        raise AssumptionError(
            f"a learning rate {lr / problem.rate:.3g} at which gradient descent diverges",
            f"about {1 / problem.rate * lr / curvature(max(s / lam, start)):.2g} or less",
            assumption="step size",
        ) from None
    return maps, "the steps of the equivalent linear network, from the moments of the data", 0.0


def _closed_form(problem: Problem) -> tuple[str, Callable[[Tensor], Tensor]] | None:
    """The gradient flow of the linear layers, with its name, where a closed form is known."""
    layers, data = problem.layers, problem.data
    depth, lam, start = len(layers), data.variance, product(layers)
    if mode := _single_mode(layers, problem):
        name = "sigmoid" if depth == 2 else "hypergeometric function"
        unit = start / start.norm()
        return (
            f"closed form, the {name} of one aligned mode",
            lambda t: (deep_mode(t, *mode) ** depth)[:, None, None] * unit,
        )
    if depth == 2 and lam is not None:
        w1, w2 = layers
        balance, error = imbalance(w1, w2)
        if error <= SAME * (abs(balance) + float(w1.square().sum() + w2.square().sum())):
            name = "closed form, the matrix Riccati equation of balanced layers and white inputs"
            return name, lambda t: riccati(t, w1, w2, data.beta, lam, balance)
    return None


def _single_mode(layers: list[Tensor], problem: Problem) -> tuple[float, float, int, float] | None:
    """``s, u0, depth, lam`` where every layer is one and the same mode of ``beta``, an eigenvector
    of ``sigma``.
    """
    data, start = problem.data, product(layers)
    norms = torch.stack([w.norm() for w in layers])
    s, size = float(data.beta.norm()), float(start.norm())
    if len(layers) < 2 or not s or not size or float((norms / norms[0] - 1).abs().max()) > SAME:
        return None
    lam = float((start @ data.sigma * start).sum()) / size**2
    if (
        abs(size / float(norms.prod()) - 1) > SAME
        or abs(float((start * data.beta).sum()) / (size * s) - 1) > SAME**2 + 1e-14
        or float((start @ data.sigma - lam * start).norm()) > SAME * lam * size
    ):
        return None
    return s, float(norms[0]), len(layers), lam


def _times(problem: Problem, at: Tensor, maps: Tensor) -> dict[str, Any]:
    """Half time and end of the plateau of the strongest mode."""
    u, v, s, lam = strongest(problem.data)
    if not s or not lam:
        return {"half_time": None, "plateau": None}
    loss = problem.data.loss(maps)
    return {
        "half_time": _crossing(at, maps @ v @ u, s / lam / 2),
        "plateau": _crossing(at, loss[0] - loss, LEFT * s**2 / (2 * lam)),
    }


def _crossing(at: Tensor, values: Tensor, level: float) -> float | None:
    """When ``values`` first reach ``level``, interpolated on the scale on which they grow: a
    logarithmic one.
    """
    above = (values >= level).nonzero()
    if not len(above):
        return None
    k = int(above[0])
    if k == 0:
        return float(at[0])
    low, high = float(values[k - 1]), float(values[k])
    part = math.log(level / low) / math.log(high / low) if low > 0 else (level - low) / (high - low)
    return float(at[k - 1] + part * (at[k] - at[k - 1]))
