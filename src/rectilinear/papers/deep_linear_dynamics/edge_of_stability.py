"""Edge of stability: where gradient descent ends, against the sharpness where its flow ends.

``rectilinear reproduce deep_linear_dynamics edge_of_stability``

Gradient flow of a chain of four weights on one number ends at a minimum whose sharpness, the
largest eigenvalue of the Hessian, follows from the initial weights in closed form. Descent with the
step ``lr`` is stable where the sharpness is at most ``2 / lr``. From initialisations whose flow
would end below that, descent ends where the flow does; from the others it does not diverge but
moves to flatter minima, and ends at the edge, ``2 / lr``.

Panel a: each dot is one initialisation; dots on the diagonal end where flow does, dots on a dotted
line at the edge. Panels b and c: the first steps of three of them at the larger step size, coloured
by the sharpness where flow would end, .8, 1.1 and 1.5 times the edge. From below the edge sharpness
settles at once; from above it swings about ``2 / lr``, ever less, and the loss falls, though not at
every step.

References: Cohen et al., "Gradient descent on neural networks typically occurs at the edge of
stability", ICLR 2021; Kreisler et al., "Gradient descent monotonically decreases the sharpness of
gradient flow solutions in scalar networks and beyond", ICML 2023, figure 1.

Cost: small 10 seconds, full 30, on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize

from rectilinear import plots
from rectilinear.deeplinear import (
    Descent,
    chain_sharpness,
    descend,
    regression,
)
from rectilinear.papers import Claim
from rectilinear.plots import canvas
from rectilinear.plots.charts import ROLES, colour_bar

DEPTH, PRODUCT, SIZES, SPREAD = 4, 0.3, (0.3, 2.0), 0.4  # of the initial weights
RUNS = {"small": 200, "full": 1000}
STEP_SIZES = (0.25, 0.4)
STEPS, WAY_STEPS = 1500, 100
WAYS = (0.8, 1.1, 1.5)  # where the flow of those that are shown ends, over 2 / lr


@dataclass(frozen=True)
class Result:
    """Sharpness of flow in closed form, of flow and of descent, and the way of some."""

    predicted: np.ndarray
    flow: np.ndarray
    descent: dict[float, Descent]
    way: Descent
    shown: np.ndarray


def compute(
    preset: Literal["small", "full"], seed: int = 0, data_dir: Path | None = None
) -> Result:
    """Train chains from many initialisations, by flow and with two steps."""
    rng = np.random.default_rng(seed)
    w = rng.uniform(*SIZES, size=(RUNS[preset], DEPTH))
    w *= np.exp(SPREAD * rng.normal(size=w.shape))
    w *= (PRODUCT / w.prod(1, keepdims=True)) ** (1 / DEPTH)
    layers = [column.reshape(-1, 1, 1) for column in w.T]
    task, last = regression([[1.0]], [1.0]), ["loss", "sharpness"]
    few = [column[:20] for column in layers]
    flow = descend(task, few, optimizer="flow", lr=0.1, steps=300, checkpoints=2, measures=last)
    descents = {
        lr: descend(task, layers, lr=lr, steps=STEPS, checkpoints=2, measures=last)
        for lr in STEP_SIZES
    }
    predicted = chain_sharpness(w, 1.0)
    lr = STEP_SIZES[-1]
    over = np.where(descents[lr].diverged, np.inf, predicted * lr / 2)
    shown = np.abs(over - np.array(WAYS)[:, None]).argmin(1)
    way = descend(
        task, [column[shown] for column in layers], lr=lr, steps=WAY_STEPS,
        checkpoints=list(range(WAY_STEPS)), measures=last,
    )  # fmt: skip
    ends = flow.measure("sharpness")[:, -1]
    return Result(predicted, ends, descents, way, predicted[shown])


def draw(result: Result, path: Path) -> None:
    """Draw the sharpness of descent against that of flow, and the way of some."""
    figure, (ends, way, loss) = canvas(7.0, 2.6, columns=3, width_ratios=[1.2, 1, 1])
    for (lr, run), colour in zip(
        result.descent.items(), (ROLES["first"], ROLES["second"]), strict=True
    ):
        ends.plot(result.predicted, run.measure("sharpness")[:, -1], ".", color=colour,
                  markersize=3, label=f"lr {lr:g}")  # fmt: skip
        ends.axhline(2 / lr, color=colour, linestyle=":", lw=1)
    line = [result.predicted.min(), 2 / min(STEP_SIZES)]
    ends.plot(line, line, color=ROLES["muted"], lw=0.8)
    ends.set(xlabel="sharpness where flow ends", ylabel="where descent ends")
    ends.legend(frameon=False, labelcolor="linecolor", handlelength=0.6, fontsize=8)
    ends.set_title("end; dotted: 2/lr", loc="left", fontsize=9.5)
    tones = LinearSegmentedColormap.from_list("ends", [ROLES["third"], ROLES["second"], "#5b1a6e"])
    palette = ScalarMappable(Normalize(*sorted(result.shown)[:: len(WAYS) - 1]), tones)
    for i, end in reversed(list(enumerate(result.shown))):
        tone = palette.to_rgba(end)
        way.plot(result.way.steps, result.way.measure("sharpness")[i], color=tone, lw=1)
        loss.plot(result.way.steps, result.way.loss[i], color=tone, lw=1)
    edge = 2 / STEP_SIZES[-1]
    way.axhline(edge, color=ROLES["muted"], linestyle=":", lw=1)
    way.set(xlabel="steps", ylabel="sharpness")
    way.set_title(f"way, lr {STEP_SIZES[-1]:g}", loc="left", fontsize=9.5)
    loss.set(xlabel="steps", yscale="log")
    loss.set_title("loss on the way", loc="left", fontsize=9.5)
    colour_bar(figure, loss, palette, "sharpness where flow ends")
    plots.save(figure, path)


def claims(result: Result) -> list[Claim]:
    """The closed form of flow, descent below the edge, and descent at it."""
    found = [
        Claim.at_most(
            "sharpness of flow, relative error of the closed form, the largest",
            float(np.abs(result.flow / result.predicted[: len(result.flow)] - 1).max()),
            1e-4,
        )
    ]
    for lr, run in result.descent.items():
        share = run.measure("sharpness")[:, -1] * lr / 2
        flow = result.predicted * lr / 2
        below, above = flow < 0.7, flow > 1.2
        found += [
            Claim.at_most(f"lr {lr:g}, runs that diverge", float(run.diverged.mean()), 0.01),
            Claim.at_most(
                f"lr {lr:g}, sharpness over 2 / lr, the largest", float(np.nanmax(share)), 1.01
            ),
        ]
        if below.any():
            found.append(
                Claim.at_most(
                    f"lr {lr:g}, flow below .7 of the edge, relative difference, median",
                    float(np.nanmedian(np.abs(share / flow - 1)[below])),
                    0.05,
                )
            )
        if above.any():
            found.append(
                Claim.close(
                    f"lr {lr:g}, flow above 1.2 of the edge, sharpness over 2 / lr, median",
                    float(np.nanmedian(share[above])),
                    1.0,
                    0.03,
                )
            )
    return found
