"""ReLU networks of a depth study, many at once, full batch, through torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rectilinear.deeplinear.ensemble import log_grid
from rectilinear.deeplinear.initialisation import initial_weights
from rectilinear.deeplinear.study.design import MOMENTUM, OSCILLATING, Batch, Model

Columns = dict[str, np.ndarray]


def measure_relu(
    model: Model,
    batch: Batch,
    *,
    steps: int,
    tol: float,
    checkpoints: int,
    seed: np.random.SeedSequence,
) -> Columns:
    """The columns of :mod:`~rectilinear.deeplinear.study.measure` for ReLU networks, from rows.

    Each trial is a slice of batched matrix products, and the optimiser works entry by entry: trials
    do not mix. Convergence to the training error of least squares is tested at the checkpoints.
    """
    assert batch.rows is not None
    X, y, inside, outside = (torch.from_numpy(np.array(a, dtype=np.float64)) for a in batch.rows)
    sizes = (X.shape[-1], *(model.width,) * (model.depth - 1), 1)
    drawn = initial_weights(model.init, sizes, (len(X),), bias=model.bias, seed=seed)
    weights, biases = (
        [torch.from_numpy(a.copy()).requires_grad_() for a in layer] for layer in drawn
    )
    optimizer = _optimizer(model, [*weights, *biases])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as every chunk: sums do not depend on what else runs here
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
        "state": np.select(
            [gone, gap <= tol, first >= 0], ["diverged", "converged", OSCILLATING], ""
        ),
        **dict.fromkeys(("curvature", "predicted", "stable_lr"), nothing),
        "curve": np.full((len(X), len(grid)), np.nan),
    }


def _forward(X: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """The outputs ``(trials, n)`` of ReLU networks for inputs ``(trials, n, d)``."""
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
