"""One model on one batch of trials: fit or train it, and take every measure of a study.

ReLU nets beside the linear ones: many at once, full batch, through torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rectilinear.deeplinear.diagnosis import diagnose
from rectilinear.deeplinear.ensemble import log_grid, train
from rectilinear.deeplinear.initialisation import STARTS, draw
from rectilinear.deeplinear.statistics import SufficientStatistics
from rectilinear.deeplinear.study.models import MOMENTUM, Model
from rectilinear.deeplinear.study.protocols import Batch
from rectilinear.deeplinear.theory import escape_time, largest_stable_step

Columns = dict[str, np.ndarray]


def measure(
    model: Model,
    batch: Batch,
    *,
    steps: int,
    tol: float,
    checkpoints: int,
    seed: np.random.SeedSequence,
) -> Columns:
    """Every measure of ``model`` on each trial of ``batch``, as columns ``(trials,)``.

    =================  ============================================================================
    ``train_error``    mean square error on the training set
    ``test_error``     mean square error on the test set
    ``gap``            training error above least squares: ``|R e|^2``, whatever the scale of the
                       noise
    ``distance``       ``D``, absolute differences to the least-squares weights and intercept,
                       added up
    ``ratio``          component along the least-squares weights: 1 at the solution, 0 at the
                       saddle
    ``steps``          until the gap came down to ``tol``; the budget where it did not
    ``reached``        whether it did
    ``success``        whether it is there at the end
    ``state``          what it came to, by :func:`~rectilinear.deeplinear.diagnosis.diagnose`
    ``curvature``      smallest eigenvalue of the Hessian at the end
    ``predicted``      steps to escape the saddle at zero, by
                       :func:`~rectilinear.deeplinear.theory.escape_time`
    ``stable_lr``      largest stable step at a balanced solution, on the mean square error as the
                       model's ``lr``
    =================  ============================================================================

    and ``curve`` ``(trials, checkpoints)``, ``D`` against steps. What a model does not have is NaN.
    """
    if model.kind == "relu":
        return measure_relu(
            model,
            batch,
            steps=steps,
            tol=tol,
            checkpoints=checkpoints,
            seed=start_seed(model, seed),
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


def start_seed(model: Model, seed: np.random.SeedSequence) -> np.random.SeedSequence:
    """The seed of the starting weights: one for all optimisers and steps, and whatever other models
    there are.
    """
    key = (model.depth, model.width, STARTS.index(model.start), model.kind == "relu")
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


def error(statistics: SufficientStatistics, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    """The mean square error of the maps on the data behind the statistics."""
    d = statistics.inputs
    spread = statistics.factor[..., :d] @ coef.mT - statistics.factor[..., d:]
    offset = (coef @ statistics.mean_x[..., None])[..., 0] + intercept - statistics.mean_y
    return (np.square(spread).sum((-2, -1)) + np.square(offset).sum(-1)) / statistics.outputs


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
    start = draw(model.start, sizes, statistics.runs, bias=model.bias, seed=start_seed(model, seed))
    run = train(
        statistics,
        hidden,
        start=start,
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
    for name in ("train_error", "test_error", "gap", "distance"):
        columns[name] = np.where(gone, np.inf, columns[name])
    return {
        **columns,
        "steps": np.where(run.converged, run.hit, steps),
        "reached": run.converged,
        "success": (columns["gap"] <= tol) & ~gone,
        "state": np.where(gone, "diverged", found.state),
        "curvature": np.where(gone, np.nan, found.smallest),
        "predicted": _predicted(model, statistics, start[0]),
        "stable_lr": largest_stable_step(statistics, model.depth, bias=model.bias) / 2,
        "curve": run.distance,
    }


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
        "train_error": error(train, coef, intercept),
        "test_error": error(batch.test, coef, intercept),
        "gap": np.square(wrong @ root.mT).sum((-2, -1)) + np.square(offset[..., 0]),
        "distance": np.abs(wrong).sum((-2, -1)) + np.abs(intercept - fit.intercept).sum(-1),
        "ratio": np.divide(along, size, out=np.full_like(size, np.nan), where=size > 0),
    }


def _predicted(
    model: Model, statistics: SufficientStatistics, weights: tuple[np.ndarray, ...]
) -> np.ndarray:
    """For chains of one unit that start off the saddle, by gradient descent; otherwise the formula
    says nothing.
    """
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


def measure_relu(
    model: Model,
    batch: Batch,
    *,
    steps: int,
    tol: float,
    checkpoints: int,
    seed: np.random.SeedSequence,
) -> Columns:
    """Train ReLU nets on the rows of each trial; measures as in
    :func:`~rectilinear.deeplinear.study.measure.measure`.

    Each trial is a slice of batched matrix products, and the optimiser works entry by entry: trials
    do not mix. Whether the training error came down to least squares is looked at on the
    checkpoints.
    """
    assert batch.rows is not None
    X, y, inside, outside = (torch.from_numpy(np.array(a, dtype=np.float64)) for a in batch.rows)
    sizes = (X.shape[-1], *(model.width,) * (model.depth - 1), 1)
    drawn = draw(model.start, sizes, (len(X),), bias=model.bias, seed=seed)
    weights, biases = (
        [torch.from_numpy(a.copy()).requires_grad_() for a in layer] for layer in drawn
    )
    optimizer = _optimizer(model, [*weights, *biases])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as every chunk: its sums do not depend on what else runs here
    reference, grid = batch.train.least_squares().loss, log_grid(steps, checkpoints)
    first, errors = np.full(len(X), -1), np.full(len(X), np.inf)
    for step in range(steps + 1):
        residual = (_forward(X, weights, biases) - y).square()
        loss = (residual * inside).sum(1) / inside.sum(1)
        if step in grid:
            errors = loss.detach().numpy()
            first = np.where((first < 0) & (errors - reference <= tol), step, first)
        if step < steps:
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
    torch.set_num_threads(threads)
    test = ((residual * outside).sum(1) / outside.sum(1)).detach().numpy()
    gone, nothing = ~np.isfinite(errors), np.full(len(X), np.nan)
    gap = np.where(gone, np.inf, errors - reference)
    return {
        "train_error": np.where(gone, np.inf, errors),
        "test_error": np.where(gone, np.inf, test),
        "gap": gap,
        "distance": nothing,
        "ratio": nothing,
        "steps": np.where(first >= 0, first, steps),
        "reached": first >= 0,
        "success": gap <= tol,
        "state": np.select([gone, gap <= tol], ["diverged", "converged"], ""),
        **dict.fromkeys(("curvature", "predicted", "stable_lr"), nothing),
        "curve": np.full((len(X), len(grid)), np.nan),
    }


def _forward(X: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """``(trials, n, d)`` to ``(trials, n)``."""
    for i, weight in enumerate(weights):
        X = X @ weight.mT
        if biases:
            X = X + biases[i][:, None]
        if i < len(weights) - 1:
            X = X.relu()
    return X[..., 0]


def _optimizer(model: Model, parameters: list[Tensor]) -> torch.optim.Optimizer:
    assert model.lr is not None
    if model.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=model.lr)
    return torch.optim.SGD(
        parameters, lr=model.lr, momentum=MOMENTUM if model.optimizer == "momentum" else 0.0
    )
