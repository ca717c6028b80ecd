"""Problems in which depth helps: sparse recovery, matrix completion, ill-conditioned data.

``rectilinear reproduce lakkapragada2023_depth helps``

With more samples than dimensions and square loss, depth cannot change what is learned, only how
fast. It can change what is learned if the data leave a choice (the first two problems), and it can
speed up training (the third):

* sparse recovery, fewer samples than dimensions: ``w = u^L - v^L`` entry by entry from small
  initial weights finds sparse solutions,
* matrix completion from a part of the entries: a product of ``L`` matrices from small initial
  weights finds solutions of low rank,
* ill-conditioned data at one small step: depth speeds up where the solution is large. Tuning the
  step does the same.

References: Woodworth et al., "Kernel and rich regimes in overparametrized models", COLT 2020; Arora
et al., "Implicit regularization in deep matrix factorization", NeurIPS 2019; Arora, Cohen, Hazan,
"On the optimization of deep networks: implicit acceleration by overparameterization", ICML 2018.

Cost: small 30 seconds on one core (10 trials; full 100).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rectilinear import plots
from rectilinear.deeplinear import (
    SufficientStatistics,
    chain,
    completion,
    descend,
    diagonal,
    diagonal_init,
    regression,
    train_ensemble,
)
from rectilinear.deeplinear.descent.network import Network
from rectilinear.deeplinear.descent.task import Task
from rectilinear.papers import Claim
from rectilinear.plots import canvas
from rectilinear.plots.charts import ROLES

Errors = dict[int, NDArray[np.float64]]

DEPTHS = (1, 2, 3, 4)
TRIALS = {"small": 10, "full": 100}
SMALL_STEP = 0.01
STEP_SIZES = np.geomspace(1e-3, 1.0, 10)  # of which the best is chosen, on other trials


@dataclass(frozen=True)
class Result:
    """Test errors of recovery and completion, gaps at one step and the best, by depth and trial."""

    sparse: Errors
    completion: Errors
    one_step: Errors
    tuned: Errors


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Train all three problems at every depth, on the same trials."""
    sparse, completion, conditioned, tuning = np.random.SeedSequence(seed).spawn(4)
    trials = TRIALS[preset]
    one_step, tuned = {}, {}
    for depth in DEPTHS:
        one_step[depth] = ill_conditioned(depth, SMALL_STEP, trials, conditioned)
        candidates = [ill_conditioned(depth, lr, 10, tuning) for lr in STEP_SIZES]
        best = STEP_SIZES[int(np.argmin([np.median(gaps) for gaps in candidates]))]
        tuned[depth] = ill_conditioned(depth, best, trials, conditioned)
    return Result(
        sparse={depth: sparse_recovery(depth, trials, sparse) for depth in DEPTHS},
        completion={depth: matrix_completion(depth, trials, completion) for depth in DEPTHS},
        one_step=one_step,
        tuned=tuned,
    )


def sparse_recovery(
    depth: int,
    trials: int,
    seed: np.random.SeedSequence,
    *,
    dim: int = 60,
    rows: int = 30,
    nonzero: int = 4,
    init_scale: float = 1e-3,
    lr: float = 0.02,
    steps: int = 4000,
) -> NDArray[np.float64]:
    """Test errors ``|w - w*|^2`` of a sparse ``w*`` of signs, from too few noiseless rows."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(trials, rows, dim))
    truth = np.zeros((trials, dim))
    truth[:, :nonzero] = rng.choice([-1.0, 1.0], size=(trials, nonzero))
    y = (X @ truth[..., None])[..., 0]
    if depth == 1:  # from zero descent ends at the solution of smallest norm
        return np.square((np.linalg.pinv(X) @ y[..., None])[..., 0] - truth).sum(1)
    layers = diagonal_init(dim, [init_scale ** (1 / depth)] * trials)
    maps = _trained(regression(X, y), layers, 2 * lr, steps, diagonal(depth))
    return np.square(maps[:, 0] - truth).sum(1)


def matrix_completion(
    depth: int,
    trials: int,
    seed: np.random.SeedSequence,
    *,
    dim: int = 20,
    rank: int = 2,
    share: float = 0.5,
    init_scale: float = 1e-3,
    lr: float = 0.02,
    steps: int = 5000,
) -> NDArray[np.float64]:
    """Relative mean square errors on the unseen entries of matrices of low rank."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(trials, dim, rank)) @ rng.normal(size=(trials, rank, dim)) / rank**0.5
    seen = rng.random((trials, dim, dim)) < share
    factors = [
        init_scale ** (1 / depth) / dim**0.5 * rng.normal(size=(trials, dim, dim))
        for _ in range(depth)
    ]
    step = 2 * lr * seen.sum((1, 2)) / (share * dim)  # as if the mean were over a row of them
    maps = _trained(completion(truth, seen), factors, step, steps)
    wrong = np.square(maps - truth) * ~seen
    return wrong.sum((1, 2)) / (np.square(truth) * ~seen).sum((1, 2))


def ill_conditioned(
    depth: int,
    lr: float,
    trials: int,
    seed: np.random.SeedSequence,
    *,
    dim: int = 8,
    rows: int = 200,
    condition: float = 1000.0,
    size: float = 5.0,
    steps: int = 1500,
) -> NDArray[np.float64]:
    """Training errors above least squares after a budget, infinite where training diverged.

    The step is on the mean square error, as in the other cases: twice as long on half of it.
    """
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(trials, rows, dim)) * np.geomspace(1, 1 / condition, dim) ** 0.5
    w = rng.normal(size=(trials, dim))
    w *= size / np.linalg.norm(w, axis=1, keepdims=True)
    y = (X @ w[..., None])[..., 0] + 0.1 * rng.normal(size=(trials, rows))
    statistics = SufficientStatistics.from_data(X, y)
    run = train_ensemble(
        statistics,
        (dim,) * (depth - 1),
        init="balanced",
        lr=2 * lr,
        steps=steps,
        checkpoints=2,
        seed=seed,
    )
    return np.where(run.diverged, np.inf, run.gap[:, -1])


def draw(result: Result, path: Path) -> None:
    """Draw medians with quartiles over depth, a panel a problem."""
    figure, panels = canvas(7.0, 2.5, columns=3)
    cases: list[dict[str, Errors]] = [
        {"test error": result.sparse},
        {"test error": result.completion},
        {f"step {SMALL_STEP:g}": result.one_step, "best step": result.tuned},
    ]
    titles = ("sparse recovery", "matrix completion", "ill-conditioned data")
    for axes, title, lines in zip(panels, titles, cases, strict=True):
        for (name, errors), colour in zip(
            lines.items(), (ROLES["first"], ROLES["second"]), strict=False
        ):
            low, middle, high = np.transpose(
                [np.quantile(errors[depth], (0.25, 0.5, 0.75)) for depth in DEPTHS]
            )
            axes.fill_between(DEPTHS, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(
                DEPTHS, middle, color=colour, marker="o", markersize=3.5, linewidth=1.2, label=name
            )
        axes.set(yscale="log", xlabel="layers", xticks=DEPTHS)
        axes.set_title(title, loc="left", fontsize=10)
        if len(lines) > 1:
            axes.legend(frameon=False, labelcolor="linecolor", handlelength=1.0, fontsize=8)
    panels[0].set_ylabel("test error")
    panels[2].set_ylabel("training gap")
    plots.save(figure, path)


def claims(result: Result) -> list[Claim]:
    """Two gains of depth, and one that a tuned step has too."""
    return [
        Claim.at_most(
            "sparse recovery, error with 3 layers over that with 1",
            _middle(result.sparse[3]) / _middle(result.sparse[1]),
            0.05,
        ),
        Claim.at_most(
            "matrix completion, relative error with 3 layers", _middle(result.completion[3]), 0.01
        ),
        Claim.at_least("the same with 1", _middle(result.completion[1]), 0.9),
        Claim.at_most(
            "ill-conditioned data, gap with 3 layers over that with 1, one step",
            _middle(result.one_step[3]) / _middle(result.one_step[1]),
            0.3,
        ),
        Claim.at_least(
            "the same with the best step each",
            _middle(result.tuned[3]) / _middle(result.tuned[1]),
            0.5,
        ),
    ]


def _middle(errors: NDArray[np.float64]) -> float:
    return float(np.median(errors))


def _trained(
    task: Task,
    layers: Sequence[NDArray[np.float64]],
    lr: ArrayLike,
    steps: int,
    network: Network = chain,
) -> NDArray[np.float64]:
    """The map of each trial after gradient descent."""
    run = descend(task, layers, network, lr=lr, steps=steps, checkpoints=2, measures=["loss"])
    return run.maps[:, -1]
