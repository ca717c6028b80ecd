"""Training of ensembles: thousands of deep linear networks at once, from sufficient statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike

from rectilinear.deeplinear import engine_numpy
from rectilinear.deeplinear.initialisation import (
    Initialisation,
    Layers,
    check_layers,
    initial_weights,
    parameters,
)
from rectilinear.deeplinear.statistics import LeastSquares, SufficientStatistics, column_norms
from rectilinear.errors import ConfigError, InputError, MissingDependencyError, ShapeError
from rectilinear.notebook import short_repr

Optimizer: TypeAlias = Literal["gd", "momentum", "adam"]
OPTIMIZERS: tuple[Optimizer, ...] = get_args(Optimizer)
BLOCK_RUNS = 1024  # trained together: their arrays stay in the cache
MAX_COMPILED_WIDTH = 32  # units: above, the matrix products of NumPy are as fast as the kernel
DIVERGED_FACTOR = 1e10  # times the larger of the first loss and that of predicting zero


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Checkpoints, outcomes and final weights of a batch of ``runs`` networks.

    Attributes:
        steps: ``(K,)``, the checkpoints, from 0 (the initial weights) to the last step.
        coef: ``(*runs, K, m, d)``, the end-to-end weights at the checkpoints.
        intercept: ``(*runs, K, m)``, the end-to-end intercepts.
        gap: ``(*runs, K)``, the optimality gap: loss minus that of the reference, ``|e R'|^2 +
            r^2`` with ``e`` the error of the weights, ``R'R`` the covariance of the inputs and
            ``r`` the error of the mean prediction.
        n_iter: ``(*runs,)``, the steps taken: fewer than asked for where a run was stopped or
            diverged. Later checkpoints repeat the last state.
        hit: ``(*runs,)``, the first step whose gap is at most ``tol``; -1 if there is none.
        diverged: ``(*runs,)``, whether the loss became infinite or grew ten billion times.
        weights: one ``(*runs, out, in)`` a layer, at the end.
        biases: one ``(*runs, out)`` a layer, at the end; empty without biases.
        reference: the least-squares solution, of the runs of the statistics; where a layer is
            narrower than inputs and outputs the best map of its rank, which is all that the
            network can represent.
        best: ``(*runs,)``, the step of ``weights`` and ``biases``: with ``keep_best`` that of the
            smallest gap, else the last.
    """

    steps: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    gap: np.ndarray
    n_iter: np.ndarray
    hit: np.ndarray
    diverged: np.ndarray
    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    reference: LeastSquares
    best: np.ndarray

    __repr__ = short_repr

    @property
    def loss(self) -> np.ndarray:
        """The mean square error over rows and outputs at the checkpoints, ``(*runs, K)``."""
        return self.gap + self.reference.loss[..., None]

    @property
    def converged(self) -> np.ndarray:
        """True if the gap reached ``tol``, ``(*runs,)``."""
        return self.hit >= 0

    @property
    def distance(self) -> np.ndarray:
        """``D`` ``(*runs, K)``: the summed absolute differences of weights and intercepts.

        They are those to the least-squares solution, at the checkpoints.
        """
        coef = np.abs(self.coef - self.reference.coef[..., None, :, :]).sum((-2, -1))
        return coef + np.abs(self.intercept - self.reference.intercept[..., None, :]).sum(-1)


def train_ensemble(
    statistics: SufficientStatistics,
    widths: Sequence[int] = (),
    *,
    init: Initialisation | Layers = "torch",
    scale: float = 1.0,
    optimizer: Optimizer = "gd",
    lr: ArrayLike = 1e-3,
    steps: int = 10_000,
    checkpoints: int | Sequence[int] = 50,
    tol: ArrayLike | None = None,
    early_stop: bool = True,
    keep_best: bool = False,
    bias: bool = True,
    runs: int | tuple[int, ...] = (),
    momentum: float = 0.9,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    seed: int | np.random.SeedSequence | np.random.Generator = 0,
    compiled: bool | None = None,
) -> Trajectory:
    """The trajectories of linear networks under full-batch descent, all runs at once, in float64.

    The loss is half the mean over rows of the squared error, summed over outputs, ``1/2 <|y -
    f(x)|^2>``, as everywhere in the package: a step of ``lr`` is that of
    :func:`rectilinear.learning.linear_network_descent`. ``torch.nn.MSELoss`` with ``m`` outputs is
    ``2/m`` times that, so its ``lr`` is ``2/m * lr`` here (Adam's is the same, and its ``eps`` is
    ``m/2`` times). The numbers are those of autograd on the rows, but come from the statistics
    alone: a step costs as much for a million rows as for ten. A call trains one architecture;
    ``statistics``, ``lr``, ``tol``, given initial weights and ``runs`` broadcast to the runs.

    Args:
        statistics: of the data; their inputs and outputs are those of the network.
        widths: units of each hidden layer; ``()``, none, is linear regression by descent.
        init: a name of :func:`~rectilinear.deeplinear.initial_weights`, or weights and biases as
            in :class:`Trajectory`.
        scale: factor of the weights that ``init`` names.
        optimizer: ``"gd"``, ``"momentum"`` or ``"adam"``, with the conventions of ``torch.optim``.
        lr: the step size; an array gives each run its own.
        steps: the number of steps.
        checkpoints: how many, on a logarithmic grid (:func:`log_grid`), or at which steps.
        tol: a gap, in the units of the loss; the first step that reaches it is ``hit``. ``None``
            for no such gap.
        early_stop: whether a run ends there.
        keep_best: whether the final weights and biases are those of the smallest gap of all
            steps, not of the last step.
        bias: whether every layer has one.
        runs: the shape of the batch, where it is larger than that of the other arguments.
        momentum: of ``"momentum"``.
        betas: of ``"adam"``.
        eps: of ``"adam"``.
        seed: of the initial weights.
        compiled: whether to use the kernel, which needs numba; ``None``: where numba is installed
            and no layer is wider than 32 units. A machine compiles it once, in seconds.

    Raises:
        ConfigError: for a number out of range or an unknown name.
        InputError: for targets whose squares overflow or vanish.
        MissingDependencyError: for ``compiled=True`` without numba.
        ShapeError: if runs do not broadcast or given weights have other shapes.

    Reference: Arora, Cohen and Hazan, "On the Optimization of Deep Networks: Implicit Acceleration
    by Overparameterization", 2018.

    Example:
        >>> from rectilinear.deeplinear.statistics import SufficientStatistics
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(200, 1))
        >>> y = 2 * X[:, 0] + 1 + 0.1 * rng.normal(size=200)
        >>> statistics = SufficientStatistics.from_data(X, y)
        >>> run = train_ensemble(statistics, (1, 1), init="zero_last", lr=0.05, tol=1e-12)
        >>> bool(run.converged), run.coef[-1].round(1), run.intercept[-1].round(1)
        (True, array([[2.]]), array([1.]))
    """
    sizes = (statistics.inputs, *map(int, widths), statistics.outputs)
    _check(sizes, optimizer, lr, steps, momentum, betas, eps)
    marks = checkpoint_steps(checkpoints, steps)
    shape = _shape(
        statistics.runs,
        (runs,) if isinstance(runs, int) else tuple(runs),
        np.shape(lr),
        np.shape(tol if tol is not None else 0.0),
        () if isinstance(init, str) else check_layers(init, sizes, bias=bias),
    )
    if isinstance(init, str):
        init = initial_weights(init, sizes, shape, bias=bias, scale=scale, seed=seed)
    theta = _flat(init, sizes, shape, bias=bias)
    reference = statistics.least_squares(bias=bias, rank=min(sizes))
    problem = _problem(statistics, reference, sizes, shape, tol, bias=bias)
    rule = engine_numpy.Rule(
        optimizer, np.broadcast_to(np.asarray(lr, float), shape).reshape(-1), momentum, betas, eps
    )
    run = _engine(compiled, sizes)
    record = _record(len(theta), len(marks), sizes, theta.shape[1])
    for at in range(0, len(theta), BLOCK_RUNS):
        rows = np.arange(at, min(at + BLOCK_RUNS, len(theta)))
        block = slice(at, at + BLOCK_RUNS)
        part = engine_numpy.Record(**{name: a[block] for name, a in vars(record).items()})
        block_rule = engine_numpy.Rule(optimizer, rule.lr[block], momentum, betas, eps)
        run(
            problem.take(rows),
            theta[block],
            block_rule,
            steps,
            marks,
            stop=early_stop,
            keep=keep_best,
            out=part,
        )
    weights, biases = engine_numpy.layers(record.theta, sizes, bias=bias)
    return Trajectory(
        marks,
        record.coef.reshape(*shape, *record.coef.shape[1:]),
        record.intercept.reshape(*shape, *record.intercept.shape[1:]),
        record.gap.reshape(*shape, -1),
        record.n_iter.reshape(shape),
        record.hit.reshape(shape),
        record.diverged.reshape(shape),
        tuple(w.reshape(*shape, *w.shape[1:]) for w in weights),
        tuple(b.reshape(*shape, b.shape[1]) for b in biases),
        reference,
        (record.best if keep_best else record.n_iter).reshape(shape),
    )


def log_grid(steps: int, count: int = 50) -> np.ndarray:
    """Checkpoints: zero and about ``count`` steps up to ``steps``, on a logarithmic grid.

    Example:
        >>> log_grid(1000, 7)
        array([   0,    1,    3,   10,   32,  100,  316, 1000])
    """
    grid = np.geomspace(1, steps, max(count, 2)).round() if steps else np.zeros(1)
    return np.unique([0, *grid.astype(int)])


def _engine(compiled: bool | None, sizes: tuple[int, ...]) -> Callable[..., None]:
    """The compiled kernel or the NumPy code, by the installation and the architecture alone."""
    if compiled is False or (
        compiled is None and (max(sizes) > MAX_COMPILED_WIDTH or find_spec("numba") is None)
    ):
        return engine_numpy.run
    try:
        from rectilinear.deeplinear import engine_numba
    except ImportError as error:
        raise MissingDependencyError.of(
            "compiled=True", "numba", instead="leave compiled out"
        ) from error
    return engine_numba.run


def _problem(
    statistics: SufficientStatistics,
    reference: LeastSquares,
    sizes: tuple[int, ...],
    shape: tuple[int, ...],
    tol: ArrayLike | None,
    *,
    bias: bool,
) -> engine_numpy.Problem:
    """The problem of the engine, with the axis of runs in front."""
    d, m = sizes[0], sizes[-1]
    _check_targets(column_norms(statistics.factor[..., d:]))
    root = statistics.root(bias=bias)

    def rows(a: np.ndarray, *end: int) -> np.ndarray:
        if statistics.n.size == 1:
            return a.reshape(1, *end)
        return np.broadcast_to(a, (*shape, *a.shape[len(statistics.runs) :])).reshape(-1, *end)

    # The gap of predicting zero, e = -w and r = -mean y, is the unit of divergence.
    zero = np.square(reference.coef @ root.mT).sum((-2, -1)) + bias * np.square(
        statistics.mean_y
    ).sum(-1)
    tail = None
    if min(sizes) < min(d, m):
        tail = rows((statistics.least_squares(bias=bias).coef - reference.coef) @ root.mT, m, d)

    count = prod(shape)
    return engine_numpy.Problem(
        sizes,
        bias,
        rows(root, d, d),
        rows(statistics.mean_x, 1, d),
        rows(reference.coef, m, d),
        rows(reference.intercept, m, 1),
        np.broadcast_to(np.asarray(-np.inf if tol is None else tol, float), shape)
        .reshape(-1)
        .copy(),
        np.broadcast_to(rows(DIVERGED_FACTOR * (zero / m + reference.loss)), count).copy(),
        tail,
    )


def _flat(
    layers: Layers, sizes: tuple[int, ...], shape: tuple[int, ...], *, bias: bool
) -> np.ndarray:
    """The parameters of every run in a row."""
    theta = np.empty((prod(shape), parameters(sizes, bias=bias)))
    weights, biases = engine_numpy.layers(theta, sizes, bias=bias)
    for view, given in zip(weights, layers[0], strict=True):
        view[...] = np.broadcast_to(given, (*shape, *view.shape[1:])).reshape(view.shape)
    for view, given in zip(biases, layers[1], strict=True):
        view[...] = np.broadcast_to(given, (*shape, view.shape[1])).reshape(view.shape)
    return theta


def _record(count: int, marks: int, sizes: tuple[int, ...], width: int) -> engine_numpy.Record:
    """An empty record of ``count`` runs with ``width`` parameters each."""
    return engine_numpy.Record(
        np.empty((count, marks, sizes[-1], sizes[0])),
        np.empty((count, marks, sizes[-1])),
        np.empty((count, marks)),
        np.zeros(count, int),
        np.full(count, -1),
        np.zeros(count, bool),
        np.empty((count, width)),
        np.zeros(count, int),
    )


def checkpoint_steps(checkpoints: int | Sequence[int], steps: int) -> np.ndarray:
    """The steps of the checkpoints, the first and the last step among them."""
    if isinstance(checkpoints, int):
        return log_grid(steps, checkpoints)
    marks = np.unique([0, *checkpoints, steps])
    if marks[0] < 0 or marks[-1] > steps:
        raise ConfigError(
            f"checkpoints {list(checkpoints)}", f"steps from 0 to {steps}", "Leave out the others."
        )
    return marks


def _shape(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise ShapeError(
            got=f"runs {', '.join(map(str, shapes))} of statistics, runs, lr, tol and init",
            expected="shapes that broadcast",
            fix="Give each its own axis: lr of shape (5, 1) and 100 statistics are 500 runs.",
        ) from error


def _check_targets(spread: np.ndarray) -> None:
    """Raise where the squares of targets of these spreads overflow or vanish."""
    with np.errstate(over="ignore"):
        squares = np.square(spread)
    if not np.isfinite(squares).all() or ((squares < np.finfo(float).tiny) & (spread > 0)).any():
        raise InputError(
            got=f"targets that spread by {spread.min():.3g} to {spread.max():.3g}",
            expected="targets whose squares are floating-point numbers",
            fix="Train on statistics.standardized()[0], or divide the targets by their size.",
        )


def _check(
    sizes: tuple[int, ...],
    optimizer: str,
    lr: ArrayLike,
    steps: int,
    momentum: float,
    betas: tuple[float, float],
    eps: float,
) -> None:
    for name, given, expected, fine in (
        ("widths", sizes[1:-1], "positive integers", min(sizes) > 0),
        ("optimizer", optimizer, f"one of {', '.join(OPTIMIZERS)}", optimizer in OPTIMIZERS),
        ("lr", lr, "positive and finite", np.all(np.isfinite(lr)) and np.all(np.asarray(lr) > 0)),
        (
            "steps",
            steps,
            "an integer of at least 0",
            isinstance(steps, int | np.integer) and steps >= 0,
        ),
        ("momentum", momentum, "a number in [0, 1)", 0 <= momentum < 1),
        (
            "betas",
            betas,
            "two numbers in [0, 1)",
            len(betas) == 2 and all(0 <= beta < 1 for beta in betas),
        ),
        ("eps", eps, "a positive number", eps > 0),
    ):
        if not fine:
            raise ConfigError(f"{name} = {given!r}", expected)
