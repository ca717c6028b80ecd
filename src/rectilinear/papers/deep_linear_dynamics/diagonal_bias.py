"""Implicit bias of diagonal networks against the scale of their initialisation.

``rectilinear reproduce deep_linear_dynamics diagonal_bias``

With fewer rows than columns many maps fit. From ``u = v = alpha`` gradient flow on ``w = u^L -
v^L`` finds, of all of them, the minimiser of a function between the l1 norm (``alpha`` small, the
rich regime) and the l2 norm (large, lazy). :func:`~rectilinear.deeplinear.diagonal_limit` is that
minimiser in closed form, up to a convex function in as many variables as rows. The deeper the
network, the sharper is the transition in ``alpha^L``.

References: Woodworth et al., "Kernel and rich regimes in overparametrized models", COLT 2020,
theorems 1 and 3 and figure 1; Gunasekar et al., "Implicit bias of gradient descent on linear
convolutional networks", 2018.

Cost: small 10 seconds, full 30, on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rectilinear import plots
from rectilinear.deeplinear import (
    descend,
    diagonal,
    diagonal_init,
    diagonal_limit,
    references,
    regression,
    sparse_teacher,
)
from rectilinear.papers import Claim
from rectilinear.plots import canvas
from rectilinear.plots.charts import ROLES

DEPTHS = (2, 3)
COLUMNS, ROWS, NONZERO = 24, 12, 2
SIZES = {"small": 6, "full": 21}  # scales of initialisation
SMALLEST, LARGEST = 1e-4, 10.0  # alpha^L
TIME, CHECKPOINTS = 400.0, 2
MAX_LOSS = 1e-5


@dataclass(frozen=True)
class Result:
    """Scales ``alpha^L``, maps ``(depths, scales, d)`` found and predicted, and the references."""

    sizes: np.ndarray
    found: np.ndarray
    loss: np.ndarray
    predicted: np.ndarray
    truth: np.ndarray
    l1: np.ndarray
    l2: np.ndarray


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Train diagonal networks of two and three layers from every scale, side by side."""
    rng = np.random.default_rng(seed)
    X = np.linalg.qr(rng.normal(size=(COLUMNS, ROWS)))[0].T * ROWS**0.5
    w = sparse_teacher((1, COLUMNS), NONZERO, seed=seed)[0, 0]
    y, sizes = X @ w, np.geomspace(SMALLEST, LARGEST, SIZES[preset])
    task = regression(X, y)
    found, loss, predicted = [], [], []
    for depth in DEPTHS:
        alpha = sizes ** (1 / depth)
        # Time in units of the linearised dynamics, whose rate is alpha^(2 L - 2) L^2.
        rate = depth**2 * np.maximum(alpha, 1.0) ** (2 * depth - 2)
        run = descend(
            task,
            diagonal_init(COLUMNS, alpha),
            diagonal(depth),
            optimizer="flow",
            lr=TIME / rate,
            steps=1,
            checkpoints=CHECKPOINTS,
            measures=["loss"],
        )
        found.append(run.maps[:, -1, 0])
        loss.append(run.loss[:, -1])
        predicted.append([diagonal_limit(X, y, float(a), depth) for a in alpha])
    ends = references(task, ["minimum_norm", "l1"])
    return Result(
        sizes, np.array(found), np.array(loss), np.array(predicted), w,
        ends["l1"][0, 0], ends["minimum_norm"][0, 0],
    )  # fmt: skip


def draw(result: Result, path: Path) -> None:
    """Draw l1 norms and errors over the scale, dots trained, lines in closed form."""
    figure, (norm, error) = canvas(7.0, 2.7, columns=2)
    colours = (ROLES["first"], ROLES["second"])
    for i, (depth, colour) in enumerate(zip(DEPTHS, colours, strict=True)):
        found, line = result.found[i], result.predicted[i]
        for axes, of in ((norm, _l1), (error, lambda maps: _error(maps, result.truth))):
            axes.plot(result.sizes, of(line), color=colour, lw=1.2, label=f"{depth} layers")
            axes.plot(result.sizes, of(found), "o", color=colour, markersize=4)
    ends = (
        (result.l1, r"smallest $\ell_1$ norm", -1, "right"),
        (result.l2, r"smallest $\ell_2$ norm", 0, "left"),
    )
    for value, name, end, align in ends:  # where no curve is
        norm.axhline(np.abs(value).sum(), color=ROLES["muted"], linestyle=":", lw=1)
        norm.annotate(name, (result.sizes[end], np.abs(value).sum()), fontsize=8, va="bottom",
                      ha=align, color=ROLES["muted"])  # fmt: skip
    norm.set(xscale="log", xlabel="scale of the initial map, $α^L$", ylabel=r"$\ell_1$ norm")
    error.set(xscale="log", xlabel="scale of the initial map, $α^L$", ylabel="test error")
    norm.set_title("dots: trained, lines: closed form", loc="left", fontsize=9.5)
    error.set_title("error on new rows", loc="left", fontsize=9.5)
    error.legend(frameon=False, labelcolor="linecolor", handlelength=1.0, fontsize=8)
    plots.save(figure, path)


def claims(result: Result) -> list[Claim]:
    """The closed form at every scale, and both of its ends."""
    size = np.linalg.norm(result.predicted, axis=-1)
    apart = np.linalg.norm(result.found - result.predicted, axis=-1) / size
    rich, lazy = result.found[:, 0], result.found[:, -1]
    far = np.linalg.norm(result.l1 - result.l2)
    return [
        Claim.at_most("loss at the end, the largest", result.loss.max(), MAX_LOSS),
        *(
            Claim.at_most(
                f"{depth} layers, distance to the closed form, relative, the largest",
                apart[i].max(),
                0.01,
            )
            for i, depth in enumerate(DEPTHS)
        ),
        *(
            Claim.at_most(
                f"{depth} layers from {SMALLEST:g}, distance to the smallest l1 norm",
                float(np.linalg.norm(rich[i] - result.l1) / far),
                0.05,
            )
            for i, depth in enumerate(DEPTHS)
        ),
        *(
            Claim.at_most(
                f"{depth} layers from {LARGEST:g}, distance to the smallest l2 norm",
                float(np.linalg.norm(lazy[i] - result.l2) / far),
                0.05,
            )
            for i, depth in enumerate(DEPTHS)
        ),
        Claim.at_least(
            "test error of the lazy end over that of the rich one, two layers",
            float(_error(lazy[0], result.truth) / max(_error(rich[0], result.truth), 1e-12)),
            100.0,
        ),
    ]


def _l1(maps: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(maps).sum(-1))


def _error(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.asarray(np.square(maps - truth).sum(-1))
