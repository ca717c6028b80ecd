"""Measurement of one model on one block of trials: training, and every measure of a depth study."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rectilinear.deeplinear.diagnosis import diagnose, escape_time, largest_stable_step
from rectilinear.deeplinear.ensemble import log_grid, train_ensemble
from rectilinear.deeplinear.initialisation import INITIALISATIONS, initial_weights
from rectilinear.deeplinear.statistics import SufficientStatistics
from rectilinear.deeplinear.study.design import (
    MOMENTUM,
    OSCILLATING,
    Batch,
    Model,
    SyntheticTrials,
    TableTrials,
)

Columns = dict[str, np.ndarray]

STEP_SIZES = tuple(float(f"{lr:.0e}") for lr in np.geomspace(1e-4, 1.0, 9))
"""The grid that a step size is chosen from."""

UNSTABLE_SHARE = 0.25  # of trials, at most, for which a chosen step is above the stable one


@dataclass(frozen=True, eq=False)
class Chunk:
    """One model on one block of trials, as it is sent to a worker.

    Attributes:
        index: of the model among those of the study.
        model: with a step size, except for :func:`choose_step`.
        source: the trials.
        seed: of the initial weights.
        steps: the budget.
        tol: the training error above least squares at which a trial converged.
        checkpoints: their number, on a logarithmic grid of steps.
    """

    index: int
    model: Model
    source: SyntheticTrials | TableTrials
    seed: np.random.SeedSequence
    steps: int
    tol: float
    checkpoints: int

    @property
    def cost(self) -> float:
        """The relative time it takes: by layers, and by the rows that a ReLU network reads."""
        size = self.model.depth * self.model.width
        return size * (100 if self.model.kind == "relu" else 1) * self.model.trained


def measure_chunk(chunk: Chunk) -> Columns:
    """The columns of :func:`measure` for a chunk, after ``model``, ``trial`` and ``noise``."""
    batch = chunk.source.batch()
    columns = measure(
        chunk.model,
        batch,
        steps=chunk.steps,
        tol=chunk.tol,
        checkpoints=chunk.checkpoints,
        seed=chunk.seed,
    )
    return {
        "model": np.full(len(batch.trial), chunk.index),
        "trial": batch.trial,
        "noise": batch.noise,
        **columns,
    }


def choose_step(chunk: Chunk) -> float:
    """The step size of the grid with which most trials are within ``tol`` at the end.

    Of equal ones, that with the smallest median gap. Gradient descent takes none above
    ``stable_lr`` in more than a quarter of the trials: if few trials leave a saddle, those that
    oscillate could have the smallest gap.
    """
    model, batch = chunk.model, chunk.source.batch()
    stable = np.inf
    if model.kind == "deep_linear" and model.optimizer == "gd":
        stable = np.quantile(stable_step(model, batch.train), UNSTABLE_SHARE)
    if model.kind == "relu":
        gaps = np.stack(
            [measure_chunk(replace(chunk, model=replace(model, lr=lr)))["gap"] for lr in STEP_SIZES]
        )
    else:
        statistics, hidden = batch.train, (model.width,) * (model.depth - 1)
        run = train_ensemble(
            statistics,
            hidden,
            init=initial_weights(
                model.init,
                (statistics.inputs, *hidden, 1),
                statistics.runs,
                bias=model.bias,
                seed=initial_seed(model, chunk.seed),
            ),
            **model.rule(np.asarray(STEP_SIZES)[:, None]),
            steps=chunk.steps,
            checkpoints=2,
            tol=np.finfo(float).tiny,
            bias=model.bias,
        )
        gaps = np.where(run.diverged, np.inf, run.gap[..., -1])
    gaps = np.where(np.isnan(gaps), np.inf, gaps)
    share, middle = (gaps <= chunk.tol).mean(1), np.median(gaps, axis=1)
    order = np.lexsort((middle, -share)).tolist()
    return next((STEP_SIZES[i] for i in order if STEP_SIZES[i] <= stable), STEP_SIZES[0])


def measure(
    model: Model,
    batch: Batch,
    *,
    steps: int,
    tol: float,
    checkpoints: int,
    seed: np.random.SeedSequence,
) -> Columns:
    """Every measure of a model on each trial of a batch, as columns ``(trials,)``.

    =================  ============================================================================
    ``train_error``    mean square error on the training set
    ``test_error``     mean square error on the test set
    ``gap``            training error above least squares: ``|R e|^2``, whatever the level of noise
    ``distance``       ``D``, the summed absolute differences to the least-squares weights and
                       intercept
    ``ratio``          component along the least-squares weights: 1 at the solution, 0 at the
                       saddle
    ``steps``          until the gap was at most ``tol``; the budget where it never was
    ``reached``        whether it did
    ``success``        whether the gap is at most ``tol`` at the end
    ``state``          the state at the end, by :func:`~rectilinear.deeplinear.diagnosis.diagnose`,
                       or ``oscillating``, where the gap was within ``tol`` and is not any more, or
                       gradient descent takes steps above ``2 / largest`` of the Hessian or
                       ``stable_lr``
    ``curvature``      smallest eigenvalue of the Hessian at the end
    ``predicted``      steps to escape the saddle at zero, by
                       :func:`~rectilinear.deeplinear.diagnosis.escape_time`
    ``stable_lr``      largest stable step at a balanced solution, on the mean square error as the
                       model's ``lr``
    =================  ============================================================================

    and ``curve`` ``(trials, checkpoints)``, ``D`` against steps. A measure that a model does not
    have is NaN.

    Args:
        model: with a step size.
        batch: the trials.
        steps: the budget.
        tol: the training error above least squares at which a trial converged.
        checkpoints: their number, on a logarithmic grid of steps.
        seed: of the initial weights.
    """
    if model.kind == "relu":
        from rectilinear.deeplinear.study.relu import (
            measure_relu,  # the only model that needs torch
        )

        return measure_relu(
            model,
            batch,
            steps=steps,
            tol=tol,
            checkpoints=checkpoints,
            seed=initial_seed(model, seed),
        )
    if model.kind == "deep_linear":
        return _deep_linear(model, batch, steps, tol, checkpoints, seed)
    coef, intercept = closed_form(model, batch.train)
    columns = _of_map(batch, coef, intercept, bias=model.bias)
    trials, arrived = len(coef), columns["gap"] <= tol
    return {
        **columns,
        "steps": np.where(arrived, 0, steps),
        "reached": arrived,
        "success": arrived,
        "state": np.where(arrived, "converged", ""),
        **{name: np.full(trials, np.nan) for name in ("curvature", "predicted", "stable_lr")},
        "curve": np.full((trials, len(log_grid(steps, checkpoints))), np.nan),
    }


def initial_seed(model: Model, seed: np.random.SeedSequence) -> np.random.SeedSequence:
    """The seed of the initial weights, the same for all optimisers and step sizes."""
    key = (model.depth, model.width, INITIALISATIONS.index(model.init), model.kind == "relu")
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *map(int, key)))


def closed_form(model: Model, statistics: SufficientStatistics) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``(trials, 1, d)`` and intercepts ``(trials, 1)`` of least squares or ridge."""
    if model.kind == "least_squares":
        fit = statistics.least_squares(bias=model.bias)
        return fit.coef, fit.intercept
    gram, moment = (
        (statistics.cxx, statistics.cxy) if model.bias else (statistics.sxx, statistics.sxy)
    )
    penalty = (model.penalty / statistics.n)[..., None, None] * np.eye(statistics.inputs)
    coef = (np.linalg.pinv(gram + penalty, hermitian=True) @ moment).mT
    offset = statistics.mean_y - (coef @ statistics.mean_x[..., None])[..., 0]
    return coef, offset if model.bias else np.zeros_like(offset)


def _deep_linear(
    model: Model,
    batch: Batch,
    steps: int,
    tol: float,
    checkpoints: int,
    seed: np.random.SeedSequence,
) -> Columns:
    statistics, hidden = batch.train, (model.width,) * (model.depth - 1)
    sizes = (statistics.inputs, *hidden, 1)
    layers = initial_weights(
        model.init, sizes, statistics.runs, bias=model.bias, seed=initial_seed(model, seed)
    )
    run = train_ensemble(
        statistics,
        hidden,
        init=layers,
        **model.rule(),
        steps=steps,
        checkpoints=checkpoints,
        tol=tol,
        early_stop=False,
        bias=model.bias,
    )
    found = diagnose(statistics, run.weights, run.biases, tol=tol)
    with np.errstate(over="ignore", invalid="ignore"):
        columns = _of_map(batch, run.coef[:, -1], run.intercept[:, -1], bias=model.bias)
    gone = run.diverged
    stable = stable_step(model, statistics)
    left = (found.state == "undertrained") & run.converged
    if model.optimizer == "gd" and model.lr is not None:
        most = np.fmin(stable, 2 / found.largest)
        left |= (found.state == "undertrained") & (model.lr > most)
    for name in ("train_error", "test_error", "gap", "distance"):
        columns[name] = np.where(gone, np.inf, columns[name])
    return {
        **columns,
        "steps": np.where(run.converged, run.hit, steps),
        "reached": run.converged,
        "success": (columns["gap"] <= tol) & ~gone,
        "state": np.where(gone, "diverged", np.where(left, OSCILLATING, found.state)),
        "curvature": np.where(gone, np.nan, found.smallest),
        "predicted": _predicted(model, statistics, layers[0]),
        "stable_lr": stable,
        "curve": run.distance,
    }


def stable_step(model: Model, statistics: SufficientStatistics) -> np.ndarray:
    """The largest stable step at a balanced solution ``(trials,)``, on the mean square error."""
    return largest_stable_step(statistics, model.depth, bias=model.bias) / 2


def _of_map(batch: Batch, coef: np.ndarray, intercept: np.ndarray, *, bias: bool) -> Columns:
    """The measures of a linear map, however it was found."""
    train = batch.train
    fit = train.least_squares(bias=bias)
    wrong, root = coef - fit.coef, train.root(bias=bias)
    offset = (
        (wrong @ train.mean_x[..., None])[..., 0] + intercept - fit.intercept if bias else intercept
    )
    fitted, spread = fit.coef @ root.mT, coef @ root.mT
    size, along = np.square(fitted).sum((-2, -1)), (fitted * spread).sum((-2, -1))
    return {
        "train_error": train.mean_square_error(coef, intercept),
        "test_error": batch.test.mean_square_error(coef, intercept),
        "gap": np.square(wrong @ root.mT).sum((-2, -1)) + np.square(offset[..., 0]),
        "distance": np.abs(wrong).sum((-2, -1)) + np.abs(intercept - fit.intercept).sum(-1),
        "ratio": np.divide(along, size, out=np.full_like(size, np.nan), where=size > 0),
    }


def _predicted(
    model: Model, statistics: SufficientStatistics, weights: tuple[np.ndarray, ...]
) -> np.ndarray:
    """Steps to escape the saddle of chains of one unit by gradient descent, else NaN."""
    chain = statistics.inputs == 1 and (model.width == 1 or model.depth == 1)
    if not chain or model.depth < 3 or model.optimizer == "adam":
        return np.full(statistics.runs, np.nan)
    assert model.lr is not None
    lr = model.lr / (1 - MOMENTUM) if model.optimizer == "momentum" else model.lr
    with np.errstate(divide="ignore"):
        sizes = [np.log(np.abs(weight[..., 0, 0])) for weight in weights]
        rho = np.broadcast_to(np.exp(np.mean(sizes, axis=0)), statistics.runs)
        steps = escape_time(rho, statistics.cxy[..., 0, 0], model.depth) / (2 * lr)
    return np.where(rho > 0, steps, np.nan)
