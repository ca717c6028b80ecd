"""Training of linear networks of any kind, many runs at once, with measures at checkpoints.

A :class:`~rectilinear.deeplinear.descent.task.Task` gives the loss of a map, a network makes the
map from layers, torch the gradient, a rule the step, and measures read the state at checkpoints.
Runs are independent, so thousands of networks train side by side, on a GPU as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rectilinear.checks import whole
from rectilinear.deeplinear.descent.flow import flow
from rectilinear.deeplinear.descent.lbfgs import lbfgs
from rectilinear.deeplinear.descent.measures import MEASURES, OF_ANY_NETWORK, Measure, State
from rectilinear.deeplinear.descent.network import Network, chain
from rectilinear.deeplinear.descent.result import Descent
from rectilinear.deeplinear.descent.task import Task
from rectilinear.deeplinear.ensemble import checkpoint_steps
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.random import check_seed
from rectilinear.scalars import is_within

Optimizer: TypeAlias = Literal["gd", "momentum", "adam", "lbfgs", "flow"]
OPTIMIZERS: tuple[Optimizer, ...] = get_args(Optimizer)


@dataclass(frozen=True)
class Rule:
    """Everything about the steps of :func:`descend`; the fields are its arguments."""

    optimizer: Optimizer
    lr: Tensor
    momentum: float
    betas: tuple[float, float]
    eps: float
    schedule: Callable[[int], float] | None
    batch: int | None
    label_noise: float


def descend(
    task: Task,
    layers: Sequence[ArrayLike],
    network: Network = chain,
    *,
    optimizer: Optimizer = "gd",
    lr: ArrayLike = 1e-2,
    steps: int = 1000,
    checkpoints: int | Sequence[int] = 50,
    measures: Sequence[str] | Mapping[str, Measure] | None = None,
    momentum: float = 0.9,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    schedule: Callable[[int], float] | None = None,
    batch: int | None = None,
    label_noise: float = 0.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Descent:
    """The training runs of linear networks from given layers, with measures at checkpoints.

    Args:
        task: of :func:`regression`, :func:`classification`, :func:`completion`, :func:`sensing`.
        layers: initial layers, each with an axis of runs in front or without; biases there are
            none. :func:`initial_weights`, :func:`factorised`, :func:`diagonal_init` make them.
        network: from layers to the map: :func:`chain`, :func:`diagonal`, or a function of one's
            own.
        optimizer: ``gd``, ``momentum`` or ``adam`` with the conventions of ``torch.optim``;
            ``lbfgs``, with a line search in each run; or ``flow``, gradient flow by an adaptive
            method of order five, where ``k`` steps are the time ``k lr``.
        lr: the step size; an array gives each run its own. Of ``lbfgs`` that of the first step.
        steps: their number.
        checkpoints: how many, on a logarithmic grid, or at which steps.
        measures: names of ``descent.measures.MEASURES``, or functions of a state by name; all for a
            chain by default, loss and sharpness for other networks.
        momentum: of ``momentum``.
        betas: of ``adam``.
        eps: of ``adam``.
        weight_decay: ``l``; ``l / 2 |theta|^2`` is added to the loss.
        schedule: factor of the step size at each step, such as ``lambda step: 0.1 ** (step //
            1000)``.
        batch: measurements a step, drawn again in each step and run, without replacement; all by
            default. A step computes all of them, so that this is about noise and not about time.
        label_noise: standard deviation of noise that is added to the targets, drawn again at each
            step.
        seed: of minibatches and label noise.
        dtype: of all numbers; in float32 a step takes half the memory.
        device: where it runs, such as ``"cuda"``.

    Raises:
        ConfigError: for a number out of range, an unknown name, or noise or a schedule where the
            optimizer has none.
        ShapeError: if layers, task and step sizes do not fit together.

    Example:
        >>> from rectilinear.deeplinear import completion, descend, factorised
        >>> task = completion(np.diag([2.0, 1.0]), np.ones((2, 2)))
        >>> run = descend(task, factorised(1e-3 * np.eye(2), [2]), lr=0.1, steps=500)
        >>> run.maps.shape, run.maps[0, -1].round(3)
        ((1, 42, 2, 2), array([[2., 0.],
               [0., 1.]]))
    """
    marks = checkpoint_steps(checkpoints, whole(steps, "steps"))
    theta, runs = _batch(task, layers, lr, dtype, device)
    _check(optimizer, lr, momentum, betas, eps, weight_decay, batch, label_noise, task)
    if optimizer in ("flow", "lbfgs") and (batch is not None or label_noise or schedule):
        raise ConfigError(
            f"minibatches, label noise or a schedule with optimizer='{optimizer}'",
            "none of them, or optimizer='gd'",
        )
    loss = task.on(dtype, device)
    size = torch.as_tensor(np.broadcast_to(np.asarray(lr, float), (runs,)).copy(), dtype=dtype)
    rule = Rule(optimizer, size.to(device), momentum, betas, eps, schedule, batch, label_noise)
    first = State(theta, network, loss, weight_decay)
    if (shape := tuple(first.map.shape)) != (runs, *task.shape):
        raise ShapeError(
            f"a map of shape {shape}", f"{(runs, *task.shape)}", "Give layers that fit the task."
        )
    chosen = _chosen(measures, network)
    found: dict[str, list[np.ndarray]] = {name: [] for name in chosen}
    maps, last = [], first
    if optimizer == "flow":
        states = _flow(first, rule, marks)
    elif optimizer == "lbfgs":
        states = _lbfgs(first, rule, marks)
    else:
        states = _steps(first, rule, marks, seed)
    for last in states:
        maps.append(_numpy(last.map))
        for name, values in _measured(last, chosen).items():
            found[name].append(values)
    return Descent(
        marks,
        np.stack(maps, 1),
        {name: np.stack(values, 1) for name, values in found.items()},
        tuple(_numpy(layer) for layer in last.layers),
        _numpy(size),
        ~np.isfinite(_numpy(loss(last.map))),
    )


def _steps(state: State, rule: Rule, marks: np.ndarray, seed: int) -> Iterator[State]:
    """The states at the checkpoints of descent in steps."""
    generator = torch.Generator(device=rule.lr.device).manual_seed(check_seed(seed))
    theta, slots = list(state.layers), [torch.zeros_like(layer) for layer in state.layers]
    squares = [torch.zeros_like(layer) for layer in theta]
    wanted = set(marks.tolist())
    for step in range(int(marks[-1]) + 1):
        if step in wanted:
            yield State(theta, state.network, state.loss, state.weight_decay)
        if step == marks[-1]:
            return
        slopes = _gradient(state, theta, *_noisy(state, rule, generator))
        lr = rule.lr if rule.schedule is None else rule.lr * rule.schedule(step)
        if rule.optimizer == "momentum":
            slopes = slots = [rule.momentum * v + g for v, g in zip(slots, slopes, strict=True)]
        elif rule.optimizer == "adam":
            b1, b2 = rule.betas
            slots = [b1 * v + (1 - b1) * g for v, g in zip(slots, slopes, strict=True)]
            squares = [b2 * q + (1 - b2) * g * g for q, g in zip(squares, slopes, strict=True)]
            c1, c2 = 1 - b1 ** (step + 1), 1 - b2 ** (step + 1)
            slopes = [
                v / c1 / ((q / c2).sqrt() + rule.eps) for v, q in zip(slots, squares, strict=True)
            ]
        theta = [w - _like(lr, w) * g for w, g in zip(theta, slopes, strict=True)]


def _flow(state: State, rule: Rule, marks: np.ndarray) -> Iterator[State]:
    """The states at the checkpoints of gradient flow, in units of steps."""

    def velocity(theta: Sequence[Tensor]) -> list[Tensor]:
        slopes = _gradient(state, theta, None, None)
        return [-_like(rule.lr, w) * g for w, g in zip(theta, slopes, strict=True)]

    for theta in flow(velocity, state.layers, marks.astype(float)):
        yield State(theta, state.network, state.loss, state.weight_decay)


def _lbfgs(state: State, rule: Rule, marks: np.ndarray) -> Iterator[State]:
    """The states at the checkpoints of L-BFGS."""

    def value(theta: Sequence[Tensor]) -> Tensor:
        squares = [layer.square().flatten(1).sum(1) for layer in theta]
        return state.loss(state.network(theta)) + state.weight_decay / 2 * torch.stack(squares).sum(
            0
        )

    def gradient(theta: Sequence[Tensor]) -> list[Tensor]:
        return _gradient(state, theta, None, None)

    wanted = set(marks.tolist())
    states = lbfgs(value, gradient, state.layers, rule.lr, int(marks[-1]))
    for step, theta in enumerate(states):
        if step in wanted:
            yield State(theta, state.network, state.loss, state.weight_decay)


def _gradient(
    state: State, theta: Sequence[Tensor], share: Tensor | None, target: Tensor | None
) -> list[Tensor]:
    """The gradients of the objective of every run; that of their sum, since runs do not mix."""
    leaves = [layer.detach().requires_grad_() for layer in theta]
    with torch.enable_grad():
        value = state.loss(state.network(leaves), share=share, target=target).sum()
        slopes = list(torch.autograd.grad(value, leaves))
    if state.weight_decay:
        slopes = [g + state.weight_decay * w for g, w in zip(slopes, theta, strict=True)]
    return slopes


def _noisy(
    state: State, rule: Rule, generator: torch.Generator
) -> tuple[Tensor | None, Tensor | None]:
    """The shares of a minibatch and the targets with noise, for one step of every run."""
    runs, loss = len(rule.lr), state.loss
    share = target = None
    options: dict[str, Any] = {
        "generator": generator,
        "device": rule.lr.device,
        "dtype": rule.lr.dtype,
    }
    if rule.batch is not None:
        full = loss.share.expand(runs, -1)
        key = torch.rand(full.shape, **options).where(full > 0, torch.inf)
        cut = key.kthvalue(rule.batch, 1).values[:, None]
        share = full * ((key <= cut) & (full > 0))
        share = share / share.sum(1, keepdim=True)
    if rule.label_noise:
        shape = (runs, *loss.target.shape[1:])
        target = loss.target + rule.label_noise * torch.randn(shape, **options)
    return share, target


def _measured(state: State, measures: Mapping[str, Measure]) -> dict[str, np.ndarray]:
    """The measures of all runs; NaN where a run has left the numbers."""
    sound = torch.stack([layer.flatten(1).isfinite().all(1) for layer in state.layers]).all(0)
    sound &= state.map.detach().flatten(1).isfinite().all(1)
    if not sound.all():
        safe = [
            torch.where(_like(sound, layer), layer, torch.ones_like(layer))
            for layer in state.layers
        ]
        state = State(safe, state.network, state.loss, state.weight_decay)
    found = {}
    for name, measure in measures.items():
        values = measure(state).detach().clone()
        values[~sound] = torch.nan
        found[name] = _numpy(values)
    return found


def _chosen(
    measures: Sequence[str] | Mapping[str, Measure] | None, network: Network
) -> Mapping[str, Measure]:
    if isinstance(measures, Mapping):
        return measures
    names = measures if measures is not None else MEASURES if network is chain else OF_ANY_NETWORK
    if unknown := [name for name in names if name not in MEASURES]:
        raise ConfigError(f"measures {unknown}", f"some of {', '.join(MEASURES)}")
    return {name: MEASURES[name] for name in names}


def _batch(
    task: Task,
    layers: Sequence[ArrayLike],
    lr: ArrayLike,
    dtype: torch.dtype,
    device: torch.device | str,
) -> tuple[list[Tensor], int]:
    """The layers with an axis of runs in front, and the number of runs."""
    try:
        arrays = [np.asarray(layer, dtype=float) for layer in layers]
    except ValueError:  # weights and biases, as initial_weights gives them with biases
        arrays = []
    if not arrays or len({a.ndim for a in arrays}) > 1 or not 1 <= arrays[0].ndim <= 3:
        raise ShapeError(
            f"layers of shapes {[a.shape for a in arrays]}",
            "(out, in) each, or (runs, out, in), the first layer first",
            "Leave biases out: initial_weights(..., bias=False)[0].",
        )
    single = (arrays[0].ndim == 2 and task.shape == _ends(arrays)) or arrays[0].ndim == 1
    arrays = [a[None] for a in arrays] if single else arrays
    try:
        (runs,) = np.broadcast_shapes((1,), task.runs, np.shape(lr), *(a.shape[:1] for a in arrays))
    except ValueError as error:
        raise ShapeError(
            f"runs {task.runs} of the task, {np.shape(lr)} of lr and {arrays[0].shape[:1]} of "
            "layers",
            "one number of runs, or one for all",
            "Cross layers and rates: np.repeat(layer, len(lr), 0) and np.tile(lr, len(layer))."
            if np.ndim(lr) == 1 and len(arrays[0]) > 1 and not any(n > 1 for n in task.runs)
            else "",
        ) from error
    return [
        torch.as_tensor(np.broadcast_to(a, (runs, *a.shape[1:])).copy(), dtype=dtype, device=device)
        for a in arrays
    ], runs


def _ends(arrays: Sequence[np.ndarray]) -> tuple[int, int]:
    return arrays[-1].shape[0], arrays[0].shape[-1]


def _check(
    optimizer: str,
    lr: ArrayLike,
    momentum: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    batch: int | None,
    label_noise: float,
    task: Task,
) -> None:
    sizes = np.asarray(lr, dtype=float)
    fewest = int((task.share > 0).sum(-1).min())
    for name, given, expected, fine in (
        ("optimizer", optimizer, f"one of {', '.join(OPTIMIZERS)}", optimizer in OPTIMIZERS),
        ("lr", lr, "positive and finite", bool((sizes > 0).all() and np.isfinite(sizes).all())),
        ("momentum", momentum, "0 <= momentum < 1", is_within(momentum, 0, 1)),
        ("betas", betas, "two numbers in [0, 1)", all(is_within(b, 0, 1) for b in betas)),
        ("eps", eps, "at least 0", is_within(eps, 0)),
        ("weight_decay", weight_decay, "at least 0", is_within(weight_decay, 0)),
        ("label_noise", label_noise, "at least 0", is_within(label_noise, 0)),
        ("batch", batch, f"1 to {fewest} measurements", batch is None or 1 <= batch <= fewest),
    ):
        if not fine:
            raise ConfigError(f"{name} = {given!r}", expected)
    if label_noise and task.loss != "square":
        raise ConfigError(
            f"label_noise with {task.loss} loss",
            "square loss",
            "Leave label_noise out, or make the task with regression(X, y).",
        )


def _like(values: Tensor, layer: Tensor) -> Tensor:
    """One number a run, of the shape of a layer."""
    return values.reshape(-1, *[1] * (layer.ndim - 1))


def _numpy(values: Tensor) -> np.ndarray:
    return np.asarray(values.detach().cpu().numpy())
